"""The spans of one step that its metrics are computed from."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from perf._model.ids import QUEUE_SUFFIX
from perf._model.names import GLOBAL_STEP, MEASURED
from perf._model.spans import DEVICE, OPEN, RawRecord, TimelineInfo, TimelineKind
from perf._model.tree import Span, SpanGroup

_INF = float("inf")


class Interval(NamedTuple):
    """When something ran, in seconds; `end` is inf while it runs."""

    name: str
    begin: float
    end: float
    id: int
    """The span's; the same on all devices that it ran on."""


@dataclasses.dataclass(frozen=True, slots=True)
class StepSpans:
    """What ran in one step of the trainer.

    Attributes:
        begin: of the step's window, seconds: the global step's group or span, or the
            first span that the trainer began after the export before.
        end: of the window: the export.
        global_step: the group or span of that name, if there is one.
        main: spans and groups of the trainer's thread, by begin.
        hosts: spans and groups of the other threads.
        devices: what ran on each device, by timeline id.

    Names that no metric asks for may be left out.
    """

    begin: float
    end: float
    global_step: Interval | None
    main: list[Interval]
    hosts: list[Interval]
    devices: Mapping[str, list[Interval]]


def from_records(
    records: Iterable[tuple[TimelineInfo, list[RawRecord]]],
    opened: Iterable[tuple[TimelineInfo, list[RawRecord]]],
    begin_ns: int,
    end_ns: int,
) -> StepSpans:
    """From what closed in a step and what is open at its end.

    Args:
        records: closed between the export before and this one.
        opened: open now; on a queue timeline device work in flight.
        begin_ns: the export before.
        end_ns: this export.
    """
    main: list[Interval] = []
    hosts: list[Interval] = []
    devices: dict[str, list[Interval]] = {}
    begins_ns: list[int] = []
    for info, some in [*records, *opened]:
        if info.kind is TimelineKind.DEVICE:
            into = devices.setdefault(info.id, [])
        elif info.kind is TimelineKind.QUEUE:
            # Of the queue only work in flight counts, since its launch: the waits
            # have a name of their own.
            into = devices.setdefault(info.id.removesuffix(QUEUE_SUFFIX), [])
        elif info.is_main:
            into = main
            begins_ns += [r[1] for r in some if r[5] < DEVICE]  # mutate: ok no work
        else:
            into = hosts
        into += [
            Interval(name, begin / 1e9, _INF if end == OPEN else end / 1e9, span_id)
            for name, begin, end, span_id, _, kind, _, _ in some
            if name in MEASURED and kind <= DEVICE
        ]
    # A trainer that began nothing was at work in what it had begun before.
    idle_ns = begin_ns if begins_ns else end_ns
    first_ns = min((b for b in begins_ns if b >= begin_ns), default=idle_ns)
    return assembled(main, hosts, devices, first_ns / 1e9, end_ns / 1e9)


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
        i.end for some in (of_main, *on_devices.values()) for i in some if i.end < _INF
    ]
    of_hosts = [i for root in hosts for i in inside(root)]
    first = min((i.begin for i in of_main), default=0.0)
    return assembled(of_main, of_hosts, on_devices, first, max(ends, default=0.0))


def _walk(node: Span | SpanGroup) -> Iterator[Interval]:
    yield Interval(node.name, node.begin, node.end, id(node))
    if isinstance(node, SpanGroup):
        for child in node.inner:
            yield from _walk(child)


def assembled(
    main: list[Interval],
    hosts: list[Interval],
    devices: dict[str, list[Interval]],
    first: float,
    end: float,
) -> StepSpans:
    """From what ran where; finds the step's window.

    Args:
        main: on the trainer's thread.
        hosts: on the other threads.
        devices: by device.
        first: begin of the trainer's first span, seconds.
        end: of the window, seconds.
    """
    for some in (main, hosts, *devices.values()):
        some.sort(key=_begin)
    step = next((i for i in reversed(main) if i.name == GLOBAL_STEP), None)
    begin = first if step is None else step.begin
    return StepSpans(begin, end, step, main, hosts, devices)


_begin = operator.attrgetter("begin", "end")
