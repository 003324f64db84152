"""The tracer of v1: spans in groups (drop-in for `tunix.perf.trace`).

tracer = PerfTracer(export_fn=export_fn)
with tracer.span_group("global_step"):
with tracer.span("rollout", mesh.devices) as span:
completions = generate(prompts)
span.device_end(completions)
metrics = tracer.export()
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from perf._exporting import attach, called
from perf._model.ids import QUEUE_SUFFIX, THREAD_PREFIX, device_id, device_ids
from perf._model.sequence import Sequencer
from perf._model.spans import RawRecord, Records, TimelineKind
from perf._model.tree import Span, SpanGroup, span_group_tostring
from perf._read.groups import GroupIndex
from perf._read.query import PerfSpanQuery
from perf._record import clock
from perf._record.noop import NOOP_SPAN, NoopSpan
from perf._record.noop import NoopTracer as _NoopTracer
from perf._record.span import Span as LiveSpan
from perf._record.store import KEEP_SPANS, KEEP_STEPS, Step
from perf._record.tracer import Tracer as _Tracer
from perf._record.waiting import Waiting
from perf.adapters.jax_devices import WAITING, when_ready
from perf.metrics import MetricsT

if TYPE_CHECKING:
    from perf._write.writer import TraceWriter

__all__ = [
    "BatchDeviceTimeline",
    "DeviceTimeline",
    "NoopTracer",
    "PerfTracer",
    "ThreadTimeline",
    "Timeline",
    "Tracer",
    "create_device_timeline_id",
    "create_device_timeline_ids",
    "create_thread_timeline_id",
]

create_device_timeline_id = device_id
create_device_timeline_ids = device_ids


def create_thread_timeline_id() -> str:
    """The timeline id of the calling thread: `thread-<ident>`."""
    return f"{THREAD_PREFIX}{threading.get_ident()}"


class NoopTracer(_NoopTracer):
    """Has the methods of `PerfTracer`; none of them does anything."""

    def span_group(self, name: str) -> NoopSpan:
        """Nothing."""
        return NOOP_SPAN


class PerfTracer(_Tracer):
    """Records spans in groups, on the timelines of threads and devices.

    Args:
        devices: devices whose timelines exist from the start, in any form.
        export_fn: from a `PerfSpanQuery` to metrics; called by `export()`. If it (or
            the owner of a bound method) has `attach(tracer)`, it is told of all that
            the tracer records.
        keep_steps, keep_spans: how much stays in memory for queries.

    Raises:
        ValueError: something in `devices` is no device.
    """

    def __init__(
        self,
        devices: Any = None,
        export_fn: Callable[[PerfSpanQuery], MetricsT] | None = None,
        *,
        keep_steps: int = KEEP_STEPS,
        keep_spans: int = KEEP_SPANS,
        _clock: Callable[[], int] = clock.now,
        _wait: Waiting = WAITING,
    ) -> None:
        self._index = GroupIndex()
        super().__init__(
            devices,
            host_prefix=THREAD_PREFIX,
            waiting=_wait,
            now=_clock,
            keep_steps=keep_steps,
            keep_spans=keep_spans,
            index=self._index,
        )
        self._export_fn = export_fn
        attach(self, export_fn, _make_writer)

    def span_group(self, name: str) -> LiveSpan | NoopSpan:
        """A group around a block; spans and groups opened in it are inside.

        Groups of the thread that made the tracer show on every timeline, those of
        other threads on their own.
        """
        return self._group(name)

    def export(self) -> MetricsT:
        """Closes a step and returns its metrics.

        Returns:
            What the export function makes of it; nothing without one, or if it
            fails, which is logged.
        """
        step = self._collector.close_step()
        if self._export_fn is None:
            return {}
        return called(self._export_fn, self._query(step.opened, step), self._log)

    def print(self) -> None:
        """Waits for the devices and prints the tree of each timeline."""
        self.synchronize()
        with self._collector.collected():
            pass  # what closed before is in the store
        query = self._query(self._collector.open_records())
        for timeline_id in query.get_timeline_ids():
            print(f"\n[{timeline_id}]")
            for root in query.timeline(timeline_id).get():
                print(span_group_tostring(root, clock.seconds(self._born_ns)))

    def _query(self, opened: Records, step: Step | None = None) -> PerfSpanQuery:
        timelines = StoredTimelines(self, opened)
        return PerfSpanQuery(timelines, self._main_log.info.id, _step=step)


Tracer = PerfTracer | NoopTracer


class StoredTimelines(Mapping[str, "Timeline"]):
    """All timelines of a tracer at one moment; a tree is made where somebody looks."""

    def __init__(self, tracer: PerfTracer, opened: Records) -> None:
        # No more than this: the training waits, and metrics need none of it.
        self.tracer = tracer
        self._open_now = opened

    @functools.cached_property
    def _opened(self) -> dict[str, list[RawRecord]]:
        opened: dict[str, list[RawRecord]] = {}
        for info, records in self._open_now:
            # Work in flight counts as open on the device itself.
            device = info.kind is TimelineKind.QUEUE
            key = info.id.removesuffix(QUEUE_SUFFIX) if device else info.id
            opened.setdefault(key, []).extend(records)
        return opened

    @functools.cached_property
    def _ids(self) -> dict[str, None]:
        tracer = self.tracer
        stored = [
            info.id
            for info in tracer._collector.store.timelines.values()
            if info.kind is not TimelineKind.QUEUE
        ]
        main_id = tracer._main_log.info.id
        return dict.fromkeys([main_id, *stored, *tracer.all_devices, *self._opened])

    def __getitem__(self, timeline_id: str) -> Timeline:
        if timeline_id not in self._ids:
            raise KeyError(timeline_id)
        tracer = self.tracer
        index = tracer._index
        if not index.is_filled:
            with tracer._collector.collected():
                index.fill(tracer._collector.store.kept())
        main_id = tracer._main_log.info.id
        root = index.tree(timeline_id, main_id, tracer._born_ns, self._opened)
        return Timeline(timeline_id, root.begin, [root])

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)


class Timeline:
    """A tree of spans and groups built by hand.

    Args:
        id: of the timeline.
        born: seconds; begin of the root.
        stack: groups open from the start, outermost first; a root by default.

    Attributes:
        root: the outermost group.
        stack: the groups open now, outermost first.
    """

    def __init__(
        self, id: str, born: float, stack: list[SpanGroup] | None = None
    ) -> None:
        self.id = id
        self.born = born
        if stack is None:
            stack = [SpanGroup("root")]
            stack[0].begin = born
        self.root = stack[0]
        self.stack = stack

    def span_group_begin(self, name: str, begin: float) -> SpanGroup:
        """Opens a group inside the innermost open one."""
        group = SpanGroup(name, self.stack[-1])
        group.begin = begin
        self.stack.append(group)
        return group

    def span_group_end(self, end: float) -> None:
        """Closes the innermost open group.

        Raises:
            ValueError: none is open.
        """
        if len(self.stack) == 1:
            raise ValueError(f"{self.id}: no more span groups to end")
        self.stack.pop().end = end


class ThreadTimeline(Timeline):
    """The timeline of a thread, built by hand; spans may nest."""

    def __init__(
        self, id: str, born: float, stack: list[SpanGroup] | None = None
    ) -> None:
        super().__init__(id, born, stack)
        self._open: list[Span] = []

    def span_begin(self, name: str, begin: float) -> Span:
        """Opens a span in the innermost open group."""
        span = Span(name, begin)
        self.stack[-1].inner.append(span)
        self._open.append(span)
        return span

    def span_end(self, end: float) -> None:
        """Closes the innermost open span.

        Raises:
            ValueError: none is open.
        """
        if not self._open:
            raise ValueError(f"{self.id}: no span to end")
        self._open.pop().end = end


class DeviceTimeline(Timeline):
    """The timeline of a device, built by hand."""

    def __init__(self, id: str, born: float) -> None:
        super().__init__(id, born)
        self._sequencer = Sequencer(float("-inf"))

    def device_span(
        self,
        name: str,
        *,
        thread_begin: float,
        end: float,
        group: SpanGroup | None = None,
    ) -> None:
        """Adds a span that begins at its launch, or where the one before it ended.

        Args:
            name: of the span.
            thread_begin: its launch, seconds.
            end: seconds.
            group: where it belongs; by default the innermost open group.
        """
        placed = self._sequencer.place(thread_begin, end)
        span = Span(name, placed.begin)
        span.end = placed.end
        (group or self.stack[-1]).inner.append(span)

    def span(self, name: str, thread_span_begin: float, waitlist: Any) -> None:
        """Adds a span that ends when the arrays are ready; returns at once.

        Args:
            name: of the span.
            thread_span_begin: its launch, seconds.
            waitlist: a pytree of arrays; an empty one ends the span now.
        """
        group = self.stack[-1]

        def ended(error: BaseException | None) -> None:
            now = clock.seconds(clock.now())
            self.device_span(name, thread_begin=thread_span_begin, end=now, group=group)

        when_ready(self, self.id, waitlist, ended)

    def wait_pending_spans(self) -> None:
        """Returns when all spans launched before are in the tree."""
        WAITING.settle(self)


class BatchDeviceTimeline:
    """Several device timelines that run the same work."""

    def __init__(self, timelines: list[DeviceTimeline]) -> None:
        self._timelines = timelines

    def span(self, name: str, thread_span_begin: float, waitlist: Any) -> None:
        """Adds the span to each of them; see `DeviceTimeline.span`."""
        for timeline in self._timelines:
            timeline.span(name, thread_span_begin, waitlist)


def _make_writer(folder: str) -> TraceWriter:
    from perf._write.layout import V1Layout
    from perf._write.writer import TraceWriter

    return TraceWriter(folder, V1Layout())
