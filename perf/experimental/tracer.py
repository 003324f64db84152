"""The tracer of v2: spans with tags (drop-in for `tunix.perf.experimental.tracer`).

tracer = PerfTracer(export_fn=PerfMetricsExport(trace_dir=…).export_metrics)
with tracer.span("rollout", mesh.devices, tags={"step": step}) as span:
completions = generate(prompts)
span.async_end(completions)
metrics = tracer.export()
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from perf._exporting import attach, called
from perf._model.ids import HOST_PREFIX
from perf._model.spans import DEVICE, OPEN, QUEUED, SPAN, RawRecord, Records
from perf._read.steps import StepSpans, from_records
from perf._record import clock
from perf._record.noop import NoopTracer as _NoopTracer
from perf._record.store import KEEP_SPANS, KEEP_STEPS
from perf._record.store import Step as _Step
from perf._record.tracer import Tracer as _Tracer
from perf._record.waiting import Waiting
from perf.adapters.jax_devices import WAITING
from perf.experimental.timeline import Span, Step, Timeline
from perf.metrics import MetricsT

if TYPE_CHECKING:
    from perf._write.writer import TraceWriter

__all__ = ["AsyncWaitlist", "NoopTracer", "PerfTracer", "Timeline", "Tracer"]


class AsyncWaitlist:
    """Gathers the arrays that a device span waits for."""

    def __init__(self) -> None:
        self._waitlist: list[Any] = []

    def async_end(self, waitlist: Any) -> None:
        """Adds a pytree of arrays."""
        self._waitlist.append(waitlist)

    @property
    def waitlist(self) -> list[Any]:
        """What was added so far."""
        return self._waitlist


class NoopTracer(_NoopTracer):
    """Has the methods of `PerfTracer`; none of them does anything."""

    def process_and_commit_timelines(self) -> None:
        """Nothing."""


class PerfTracer(_Tracer):
    """Records spans with tags, on the timelines of threads and devices.

    Args:
        devices: devices whose timelines exist from the start, in any form.
        export_fn: from a mapping of timeline ids to `Timeline` to metrics; called by
            `export()`. If it (or the owner of a bound method) has `attach(tracer)`,
            it is told of all that the tracer records.
        collect_on_first_device_per_mesh: a span on several devices is recorded on the
            first alone.
        concurrent_device_spans: a name or names of device spans that may overlap, or
            "all"; others are made sequential, their waits on `<device>_queue`.
        keep_steps, keep_spans: how much stays in memory for queries.

    Raises:
        ValueError: something in `devices` is no device.
    """

    def __init__(
        self,
        devices: Any = None,
        export_fn: Callable[[Mapping[str, Timeline]], MetricsT] | None = None,
        *,
        collect_on_first_device_per_mesh: bool = True,
        concurrent_device_spans: Sequence[str] | str | None = None,
        keep_steps: int = KEEP_STEPS,
        keep_spans: int = KEEP_SPANS,
        _clock: Callable[[], int] = clock.now,
        _wait: Waiting = WAITING,
    ) -> None:
        concurrent: str | frozenset[str] = "all"
        if concurrent_device_spans != "all":
            names = concurrent_device_spans or ()
            concurrent = frozenset([names] if isinstance(names, str) else names)
        super().__init__(
            devices,
            host_prefix=HOST_PREFIX,
            waiting=_wait,
            now=_clock,
            first_device_only=collect_on_first_device_per_mesh,
            concurrent=concurrent,
            keep_steps=keep_steps,
            keep_spans=keep_spans,
        )
        self._export_fn = export_fn
        attach(self, export_fn, _make_writer)

    def process_and_commit_timelines(self) -> None:
        """Closes a step without exporting it."""
        self._collector.close_step()

    def export(self) -> MetricsT:
        """Closes a step and returns its metrics.

        Returns:
            What the export function makes of it; nothing without one, or if it
            fails, which is logged.
        """
        step = self._collector.close_step()
        if self._export_fn is None:
            return {}
        return called(self._export_fn, StoredTimelines(self, step), self._log)

    def print(self) -> None:
        """Waits for the devices and prints each timeline."""
        self.synchronize()
        with self._collector.collected():
            timelines = StoredTimelines(self, None)
        for timeline_id, timeline in timelines.items():
            print(f"\n[{timeline_id}]\n{timeline}")


Tracer = PerfTracer | NoopTracer


class StoredTimelines(Mapping[str, Timeline]):
    """All timelines of a tracer at one moment; spans are made where somebody looks.

    Args:
        tracer: whose.
        step: the step being exported, if there is one.
    """

    def __init__(self, tracer: PerfTracer, step: _Step | None) -> None:
        # No more than this: the training waits, and metrics need none of the steps
        # before.
        collector = tracer._collector
        self.tracer = tracer
        self._step = step
        self._opened = collector.open_records() if step is None else step.opened
        self._current = collector.store.current

    @functools.cached_property
    def _steps(self) -> list[_Step]:
        closed = list(self.tracer._collector.store.closed)
        return [step for step in closed if step.index < self._current.index]

    @functools.cached_property
    def _ids(self) -> dict[str, None]:
        # Device work in flight has no timeline of its own until it ends: it is on
        # the queue's.
        known = [self.tracer._main_log.info.id]
        for step in (*self._steps, self._current):
            known += step.timelines
        for line in list(self.tracer._devices.lines.values()):
            known += [line.info.id, line.queue_info.id]
        return dict.fromkeys([*known, *(info.id for info, _ in self._opened)])

    def __getitem__(self, timeline_id: str) -> Timeline:
        if timeline_id not in self._ids:
            raise KeyError(timeline_id)
        opened = [
            r for info, some in self._opened if info.id == timeline_id for r in some
        ]
        steps = [step.of(timeline_id) for step in self._steps]
        current = [*self._current.of(timeline_id), *opened]
        forgotten = self._steps[0].index if self._steps else 0
        born = clock.seconds(self.tracer._born_ns)
        return _StoredTimeline(timeline_id, born, steps, current, forgotten)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def spans(self) -> StepSpans | None:
        """The spans of the step being exported."""
        return None if self._step is None else from_records(self._step)

    def records(self) -> tuple[Records, Records]:
        """All that closed in the step being exported, and what is open at its end."""
        return [] if self._step is None else self._step.parts, self._opened


class _StoredTimeline(Timeline):
    """A timeline over stored records."""

    def __init__(
        self,
        id: str,
        born: float,
        steps: Sequence[Sequence[RawRecord]],
        current: Sequence[RawRecord],
        forgotten_steps: int,
    ) -> None:
        super().__init__(id, born)
        self._forgotten_steps = forgotten_steps
        self._steps = _LazySteps(steps)
        self._current = _spans(current)

    @property
    def committed_steps(self) -> Sequence[Step]:
        """The steps that are kept, oldest first."""
        return self._steps


class _LazySteps(Sequence[Step]):
    """Steps whose spans are made when one is looked at."""

    def __init__(self, steps: Sequence[Sequence[RawRecord]]) -> None:
        self._records = steps
        self._made: dict[int, Step] = {}

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        if position not in self._made:
            self._made[position] = _spans(self._records[position])
        return self._made[position]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __repr__(self) -> str:
        return repr(list(self))


def _spans(records: Sequence[RawRecord]) -> dict[int, Span]:
    """Spans by id, in the order of opening."""
    own = {record[3] for record in records}
    spans = {}
    for name, begin_ns, end_ns, span_id, parent_id, kind, tags, _ in sorted(
        records, key=lambda record: record[3]
    ):
        if kind not in (SPAN, DEVICE, QUEUED):
            continue
        # Parents of device spans are on a host timeline.
        known = parent_id and (kind == SPAN or parent_id in own)
        span = Span(
            name,
            clock.seconds(begin_ns),
            id=span_id,
            parent_id=parent_id if known else None,
            tags=tags,
        )
        if end_ns != OPEN:
            span.end = clock.seconds(end_ns)
        spans[span_id] = span
    return spans


def _make_writer(folder: str) -> TraceWriter:
    from perf._write.layout import V2Layout
    from perf._write.writer import TraceWriter

    return TraceWriter(folder, V2Layout())
