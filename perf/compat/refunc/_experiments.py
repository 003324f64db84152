"""Experiments: what is known of one run, and which run a call belongs to."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any


@dataclasses.dataclass
class ExperimentContext:
    """What is known of one run of an experiment.

    Beside the fields it has `step` and `epoch`, the counters, None until they are set.

    Attributes:
        experiment_id: the same for all runs of an experiment.
        experiment_name: what the experiment is called.
        run_id: of this run alone.
        run_name: what the run is called.
        start_time: seconds since the epoch.
        end_time: likewise; None while it runs.
        status: "running", and then "completed", "failed", or what else was said.
        parameters: hyperparameters.
        metrics: the latest value of each.
        tags: what it is to be found by.
        artifacts: paths.
        metadata: of results, by their names.
    """

    experiment_id: str
    experiment_name: str
    run_id: str
    run_name: str | None = None
    start_time: float = dataclasses.field(default_factory=time.time)
    end_time: float | None = None
    status: str = "running"
    parameters: dict[str, Any] = dataclasses.field(default_factory=dict)
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    artifacts: list[str] = dataclasses.field(default_factory=list)
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        # No fields: these move while the others stay what they are.
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
    return ExperimentContext(
        experiment_id, experiment_name, uuid.uuid4().hex[:12], run_name
    )


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
    except BaseException:
        context.end("failed")
        raise
    finally:
        context.end("completed")
        _open.remove(context)
        _inside.reset(token)


def experiment_inside() -> ExperimentContext | None:
    """The run of the innermost `experiment_context` around the caller, if it runs."""
    context = _inside.get()
    if context is None:
        # A thread begins without context variables, but here there is no doubt.
        opened = tuple(_open)
        context = opened[0] if len(opened) == 1 else None
    return context if context is not None and context.is_running else None
