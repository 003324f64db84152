"""The spans of one step that its metrics are computed from."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from perf._model.ids import QUEUE_SUFFIX
from perf._model.names import GLOBAL_STEP, MEASURED
from perf._model.spans import DEVICE, OPEN, RawRecord, TimelineInfo, TimelineKind
from perf._model.tree import Span, SpanGroup

_INF = float("inf")


Interval = tuple[Any, ...]
"""When something ran: begins with name, begin, end and id, as records do.

The end is inf while it runs; the id is the same on all devices that it ran on. At every
export the training waits for its metrics: records are taken as they are.
"""
NAME, BEGIN, END, ID = range(4)
TAGS = 6
"""Of an interval that was recorded; one of a tree built by hand has none."""


@dataclasses.dataclass(frozen=True, slots=True)
class StepSpans:
    """What ran in one step of the trainer.

    Attributes:
        per_second: how many units of its times are a second.
        begin: of the step's window: the global step's group or span, or the first span
            that any thread began after the export before.
        end: of the window: the export.
        global_step: the group or span of that name, if there is one.
        main: spans and groups of the trainer's thread, by begin.
        hosts: spans and groups of the other threads.
        devices: what ran on each device, by timeline id; by begin.

    Of the threads, names that no metric asks for may be left out.
    """

    per_second: float
    begin: float
    end: float
    global_step: Interval | None
    main: list[Interval]
    hosts: list[Interval]
    devices: Mapping[str, list[Interval]]


def from_records(
    records: Iterable[tuple[TimelineInfo, list[RawRecord]]],
    opened: Collection[tuple[TimelineInfo, list[RawRecord]]],
    begin_ns: int,
    end_ns: int,
) -> StepSpans:
    """From what closed in a step and what is open at its end.

    Args:
        records: closed between the export before and this one.
        opened: open now; on a queue timeline device work in flight, of which a device
            runs the first, from when it was free.
        begin_ns: the export before.
        end_ns: this export.
    """
    main: list[Interval] = []
    hosts: list[Interval] = []
    devices: dict[str, list[Interval]] = {}
    begins_ns: list[int] = []
    for info, some in chain(records, on_devices(records, opened)):
        kind = info.kind
        if kind is TimelineKind.DEVICE:
            devices.setdefault(info.id, []).extend(some)
        elif kind is not TimelineKind.QUEUE:
            (main if info.is_main else hosts).extend(
                [r for r in some if r[NAME] in MEASURED and r[5] <= DEVICE]
            )
        # What was recorded by hand on a named track may be of another clock's day.
        if kind is TimelineKind.HOST:
            begins_ns += [r[1] for r in some if r[5] < DEVICE]  # mutate: ok no work
    if opened:
        for some in (main, hosts, *devices.values()):
            some[:] = [
                i if i[END] != OPEN else (i[NAME], i[BEGIN], _INF, *i[ID:])
                for i in some
            ]
    # Of any thread: a framework may roll out on one of its own while the trainer waits
    # outside of all spans. Where none began, what had begun before was still at work.
    first_ns = begin_ns if begins_ns else end_ns
    if begins_ns:
        first_ns = min([b for b in begins_ns if b >= begin_ns], default=first_ns)
    return assembled(1e9, main, hosts, devices, first_ns, end_ns)


def on_devices(
    records: Iterable[tuple[TimelineInfo, list[RawRecord]]],
    opened: Iterable[tuple[TimelineInfo, list[RawRecord]]],
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
    if not first:
        return
    free_ns = dict.fromkeys(first, 0)
    for info, some in records:
        if info.kind is TimelineKind.DEVICE and info.id in first:
            free_ns[info.id] = max([free_ns[info.id], *(r[END] for r in some)])
    for device, record in first.items():
        info = TimelineInfo(device, TimelineKind.DEVICE, device)
        begin_ns = max(record[BEGIN], free_ns[device])
        yield info, [(record[NAME], begin_ns, *record[END:])]


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
    on_devices = {name: inside(root) for name, root in devices.items()}
    ends = [
        i[END]
        for some in (of_main, *on_devices.values())
        for i in some
        if i[END] < _INF
    ]
    of_hosts = [i for root in hosts for i in inside(root)]
    first = min((i[BEGIN] for i in of_main), default=0.0)
    return assembled(1.0, of_main, of_hosts, on_devices, first, max(ends, default=0.0))


def _walk(node: Span | SpanGroup) -> Iterator[Interval]:
    yield node.name, node.begin, node.end, id(node)
    if isinstance(node, SpanGroup):
        for child in node.inner:
            yield from _walk(child)


def assembled(
    per_second: float,
    main: list[Interval],
    hosts: list[Interval],
    devices: dict[str, list[Interval]],
    first: float,
    end: float,
) -> StepSpans:
    """From what ran where; finds the step's window.

    Args:
        per_second: how many units of the times are a second.
        main: on the trainer's thread.
        hosts: on the other threads.
        devices: by device.
        first: begin of the first span.
        end: of the window.
    """
    for some in (main, hosts, *devices.values()):
        some.sort(key=_begin)  # of those that begin together, the inner one comes first
    step = next((i for i in reversed(main) if i[NAME] == GLOBAL_STEP), None)
    begin = first if step is None else step[BEGIN]
    return StepSpans(per_second, begin, end, step, main, hosts, devices)


_begin = operator.itemgetter(BEGIN)
