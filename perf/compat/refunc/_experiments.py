"""Experiments: what is known of one run, and which run a call belongs to."""

from __future__ import annotations

import contextlib
import contextvars
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class ExperimentContext:
    """What is known of one run of an experiment.

    `metrics` has the latest value of each; `metadata` is that of results, by their
    names. Beside the fields there are `step` and `epoch`, counters, None until set.
    """

    experiment_id: str
    experiment_name: str
    run_id: str
    run_name: str | None = None
    start_time: float = field(default_factory=time.time)
    end_time: float | None = None
    status: str = "running"
    parameters: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.step: int | None = None
        self.epoch: int | None = None

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.end_time is None

    def end(self, status: str, final_metrics: Mapping[str, Any] | None = None) -> None:
        """Ends the run; what has ended stays as it is."""
        if self.is_running:
            self.metrics.update(final_metrics or {})
            self.status = status
            self.end_time = time.time()


def new_run(experiment_name: str, run_name: str | None = None) -> ExperimentContext:
    """A run that starts now."""
    experiment_id = uuid.uuid5(uuid.NAMESPACE_OID, experiment_name).hex[:12]
    run_id = uuid.uuid4().hex[:12]
    return ExperimentContext(experiment_id, experiment_name, run_id, run_name)


_inside: contextvars.ContextVar[ExperimentContext | None] = contextvars.ContextVar(
    "experiment", default=None
)
_open: list[ExperimentContext] = []
"""Of all threads."""


@contextlib.contextmanager
def experiment_context(
    experiment_name: str, run_name: str | None = None
) -> Iterator[ExperimentContext]:
    """A run of an experiment that all loggers belong to inside the `with`.

    Tasks see the run that they were started in; so do threads, while only one is open.
    It ends as "completed", or as "failed" if an exception leaves the block.
    """
    context = new_run(experiment_name, run_name)
    token = _inside.set(context)
    _open.append(context)
    try:
        yield context
        context.end("completed")
    finally:
        context.end("failed")
        _open.remove(context)
        _inside.reset(token)


def experiment_inside() -> ExperimentContext | None:
    """The run of the innermost `experiment_context` around the caller, if it runs."""
    context, opened = _inside.get(), tuple(_open)
    if context is None and len(opened) == 1:
        context = opened[0]  # A thread begins without, but here there is no doubt.
    return context if context is not None and context.is_running else None
