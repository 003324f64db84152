"""One call that opens a stage of the training on both tracers.

The two tracers differ in names and call shapes; a training loop should not show it.
Copy this file into a training of your own, or keep the half you need.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from perf.experimental.tracer import Tracer as TracerV2
from perf.metrics import MetricsT
from perf.trace import Tracer

_V1_NAMES = {
    "reference_inference": "refer_inference",
    "peft_train": "peft_train_step",
}
"""v1's names where they differ from v2's."""


class Stage(NamedTuple):
    """A stage that is open, or was, on both tracers."""

    v1: Any  # What a tracer's `span` gives: a live span, or one that does nothing.
    v2: Any

    def ends_with(self, arrays: Any) -> None:
        """Says which arrays the devices are done with this stage when they are ready.

        JAX returns before the work is done. The tracers wait for it; the caller does
        not.
        """
        self.v1.device_end(arrays)
        self.v2.async_end(arrays)


class Stages:
    """Opens stages, groups and counters on a v1 and a v2 tracer at once.

    Args:
        perf: A tracer of v1; a `perf.trace.NoopTracer` for none.
        perf_v2: A tracer of v2; a `perf.experimental.tracer.NoopTracer` for none.
    """

    def __init__(self, perf: Tracer, perf_v2: TracerV2) -> None:
        self._perf = perf
        self._perf_v2 = perf_v2

    @contextlib.contextmanager
    def span(
        self,
        name: str,
        devices: Any = None,
        *,
        tags: Mapping[str, Any],
        after: Iterable[Stage] = (),
    ) -> Iterator[Stage]:
        """Opens a stage.

        Args:
            name: v2's name of it.
            devices: The devices that do the work (a mesh's `devices`); None if it is
                the host alone.
            tags: Which step, mini-batch, micro-batch and role it belongs to.
            after: The stages whose results it uses.
        """
        after = list(after)
        with (
            self._perf.span(
                _V1_NAMES.get(name, name), devices, after=[s.v1 for s in after]
            ) as v1,
            self._perf_v2.span(
                name, devices, tags=dict(tags), after=[s.v2 for s in after]
            ) as v2,
        ):
            yield Stage(v1, v2)

    @contextlib.contextmanager
    def global_step(self, step: int) -> Iterator[None]:
        """Opens a global step: a group in v1, a span in v2."""
        with (
            self._perf.span_group("global_step"),
            self._perf_v2.span("global_step", tags={"step": step}),
        ):
            yield

    def group(self, name: str) -> contextlib.AbstractContextManager[Any]:
        """Opens a group. v2 has none: there the tags say what belongs together."""
        return self._perf.span_group(name)

    def counter(self, name: str, value: float, unit: str = "") -> None:
        """Draws one more point of a curve."""
        self._perf.counter(name, value, unit)
        self._perf_v2.counter(name, value, unit)

    def export(self) -> tuple[MetricsT, MetricsT]:
        """Ends the step on both tracers and returns the metrics of each."""
        return self._perf.export(), self._perf_v2.export()
