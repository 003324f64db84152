"""The spans of one step that its metrics are computed from."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from perf._model.ids import QUEUE_SUFFIX
from perf._model.names import GLOBAL_STEP, MEASURED, Stage
from perf._model.spans import (
    DEVICE,
    NO_PARENT,
    SPAN,
    RawRecord,
    Records,
    TimelineInfo,
    TimelineKind,
)
from perf._model.tree import Span, SpanGroup

_INF = float("inf")


Interval = tuple[Any, ...]
"""When something ran: laid out as a record.

The end is inf while it runs; the id is the same on all devices that it ran on. At every
export the training waits for its metrics: records are taken as they are.
"""
NAME, BEGIN, END, ID, _PARENT, _KIND, TAGS = range(7)

_DEVICE, _QUEUE = TimelineKind.DEVICE, TimelineKind.QUEUE

ByStage = dict[Stage, list[Interval]]
"""What metrics are computed from, by the constants of `names`; each by begin."""


@dataclasses.dataclass(slots=True)
class StepSpans:
    """What ran in one step of the trainer.

    Attributes:
        per_second: how many units of its times are a second.
        begin: of the step's window: the global step's group or span, or the first span
            that any thread began after the export before.
        end: of the window: the export.
        global_step: the group or span of that name, if there is one.
        main: spans and groups of the trainer's thread.
        hosts: spans and groups of the other threads.
        devices: what ran on each device, by timeline id; by begin.
    """

    per_second: float
    begin: float
    end: float
    global_step: Interval | None
    main: ByStage
    hosts: ByStage
    devices: Mapping[str, list[Interval]]


class ClosedStep(Protocol):
    """What closed between two exports."""

    @property
    def parts(self) -> Records:
        """Its records."""
        ...

    @property
    def opened(self) -> Records:
        """What was open at its end.

        On a queue timeline device work in flight, of which a device runs the first,
        from when it was free.
        """
        ...

    @property
    def begin_ns(self) -> int:
        """The export before."""
        ...

    @property
    def end_ns(self) -> int:
        """Its own export."""
        ...


def from_records(step: ClosedStep) -> StepSpans:
    """From what closed in a step and what is open at its end."""
    opened, begin_ns, end_ns = step.opened, step.begin_ns, step.end_ns
    main: ByStage = {}
    hosts: ByStage = {}
    devices: dict[str, list[Interval]] = {}
    parts = step.parts
    if opened:
        parts = [*parts]
        for info, some in on_devices(step.parts, opened):
            parts.append((info, [(i[NAME], i[BEGIN], _INF, *i[ID:]) for i in some]))
    stage_of = MEASURED.get
    for info, some in parts:
        kind = info.kind
        if kind is _DEVICE:
            if info.id in devices:
                devices[info.id] += some
            else:
                devices[info.id] = some.copy()
        elif kind is not _QUEUE:
            into = main if info.is_main else hosts
            for record in some:
                stage = stage_of(record[0])
                # Of a device's work there is none here.
                if stage is not None and record[5] < DEVICE:  # mutate: ok none
                    mine = into.get(stage)
                    if mine is None:
                        into[stage] = [record]
                    else:
                        mine.append(record)

    def first() -> int:
        # Of any thread: a framework may roll out on one of its own while the trainer
        # waits outside of all spans. What was recorded by hand on a named track may be
        # of another clock's day.
        begins_ns = [
            r[BEGIN]
            for info, some in parts
            if info.kind is TimelineKind.HOST
            for r in some
            if r[5] < DEVICE  # mutate: ok no work
        ]
        # Where none began, what had begun before was still at work.
        before_ns = begin_ns if begins_ns else end_ns
        return min([b for b in begins_ns if b >= begin_ns], default=before_ns)

    return assembled(1e9, main, hosts, devices, first, end_ns)


def on_devices(
    records: Records, opened: Records
) -> Iterator[tuple[TimelineInfo, list[RawRecord]]]:
    """What is open, device work where it is: a device runs the first that waits."""
    first: dict[str, RawRecord] = {}
    for info, some in opened:
        if info.kind is not TimelineKind.QUEUE:
            yield info, some
            continue
        device = info.id.removesuffix(QUEUE_SUFFIX)
        for record in some:  # none, where it ended meanwhile
            if record[ID] <= first.get(device, record)[ID]:
                first[device] = record
    free_ns = {device: record[BEGIN] for device, record in first.items()}
    for info, some in records:
        if info.kind is _DEVICE and info.id in free_ns:
            for before in some:
                if before[END] > free_ns[info.id]:  # mutate: ok if equal
                    free_ns[info.id] = before[END]
    for device, record in first.items():
        info = TimelineInfo(device, TimelineKind.DEVICE, device)
        yield info, [(record[NAME], free_ns[device], *record[END:])]


def from_trees(
    main: SpanGroup | None, hosts: Iterable[SpanGroup], devices: Mapping[str, SpanGroup]
) -> StepSpans:
    """From v1's trees: the last global step and everything inside it.

    Args:
        main: root of the trainer's thread.
        hosts: roots of the other threads.
        devices: roots by device; of devices that ran the same spans only one, since
            nothing in a tree tells that they are the same.
    """

    def inside(root: SpanGroup | None) -> list[Interval]:
        step = None if root is None else root.find_last_inner_group(GLOBAL_STEP)
        return [] if step is None else list(_walk(step))

    of_main = inside(main)
    of_hosts = [i for root in hosts for i in inside(root)]
    on_devices = {name: inside(root) for name, root in devices.items()}
    ends = [
        i[END]
        for some in (of_main, *on_devices.values())
        for i in some
        if i[END] < _INF
    ]
    last = max(ends, default=0.0)
    return assembled(
        1.0, by_stage(of_main), by_stage(of_hosts), on_devices, lambda: 0.0, last
    )


def _walk(node: Span | SpanGroup) -> Iterator[Interval]:
    yield interval(node.name, node.begin, node.end, id(node))
    if isinstance(node, SpanGroup):
        for child in node.inner:
            yield from _walk(child)


def interval(
    name: str, begin: float, end: float, span_id: int, tags: Any = None
) -> Interval:
    """Of a span that was built by hand."""
    return name, begin, end, span_id, NO_PARENT, SPAN, tags, None


def by_stage(intervals: Iterable[Interval]) -> ByStage:
    """Those that metrics are computed from."""
    found: ByStage = {}
    for some in intervals:
        stage = MEASURED.get(some[NAME])
        if stage is not None:
            found.setdefault(stage, []).append(some)
    return found


def assembled(
    per_second: float,
    main: ByStage,
    hosts: ByStage,
    devices: dict[str, list[Interval]],
    first: Callable[[], float],
    end: float,
) -> StepSpans:
    """From what ran where, in any order; finds the step's window.

    Args:
        per_second: how many units of the times are a second.
        main: on the trainer's thread.
        hosts: on the other threads.
        devices: by device.
        first: gives the begin of the first span; asked if there is no global step.
        end: of the window.
    """
    for some in (*main.values(), *hosts.values(), *devices.values()):
        # Of those that begin together, the inner one comes first.
        some.sort(key=_begin)
    step = main[GLOBAL_STEP][-1] if GLOBAL_STEP in main else None
    begin = first() if step is None else step[BEGIN]
    return StepSpans(per_second, begin, end, step, main, hosts, devices)


_begin = operator.itemgetter(BEGIN)
