"""One step as a Gantt chart: a lane for every thread and device."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from perf._read.accounting import UNACCOUNTED
from perf._read.recording import Step
from perf.report.analysis import Report, StepReport
from perf.report.charts.shapes import WIDTH, rectangle, x_of
from perf.report.colours import Colours
from perf.report.figures import duration
from perf.report.markup import escape

_LANES: Final = 16
_SPANS: Final = 1_500
"""At most so many in a lane."""
_LEAST_WIDTH: Final = 0.7
"""Of what is too short to be seen."""


def gantt(report: Report, step: StepReport, colours: Colours) -> str:
    """The lanes of a step, its critical path underlined; "" if nothing was recorded."""
    window = step.step
    on_path = defaultdict(list)
    for piece in step.path.pieces:
        if piece.stage != UNACCOUNTED:
            on_path[piece.place].append((piece.begin_ns, piece.end_ns))

    def bar(
        begin: int, end: int, y: str, height: str, css: str, title: str = ""
    ) -> str:
        x = x_of(begin, window.begin_ns, window.end_ns)
        width = x_of(end, window.begin_ns, window.end_ns) - x
        return rectangle(x, y, max(width, _LEAST_WIDTH), height, css, title)

    shown = []
    for place, pieces in itertools.islice(_lanes(report, window, colours), _LANES):
        shapes = [
            bar(begin, end, "3", "16", colours.of_stage(stage), title)
            for begin, end, stage in pieces[:_SPANS]
            for title in [f"{stage}: {duration(end - begin)}"]
        ]
        shapes += [bar(*stretch, "20", "3", "path") for stretch in on_path[place]]
        shown.append(
            f"<div class='lane'><span title='{escape(place)}'>{escape(_short(place))}"
            f"</span><svg viewBox='0 0 {WIDTH} 24' preserveAspectRatio='none' "
            f"role='img' aria-label='{escape(place)}'>{''.join(shapes)}</svg></div>"
        )
    if not shown:
        return ""
    return (
        f"<div class='lanes'>{''.join(shown)}</div><div class='ends inset'>"
        f"<span>0</span><span>{duration(window.length_ns)}</span></div>"
    )


def _lanes(
    report: Report, window: Step, colours: Colours
) -> Iterator[tuple[str, list[tuple[int, int, str]]]]:
    """Threads and devices that did something, and what: begin, end, stage."""
    begin, end = window.begin_ns, window.end_ns
    for place, thread in report.schedule.threads.items():
        leaves = [(b, e, str(r[0])) for b, e, r in thread.innermost(begin, end)]
        if pieces := [leaf for leaf in leaves if leaf[2] in colours]:
            yield place, pieces
    for place, device in report.schedule.devices.items():
        records = device.between(begin, end)
        if work := [(max(r[1], begin), min(r[2], end), str(r[0])) for r in records]:
            yield place, work


def _short(place: str) -> str:
    """`host-1397 MainThread` is known by its second word."""
    head, _, rest = place.partition(" ")
    return rest if rest and head.startswith(("host-", "thread-")) else place
