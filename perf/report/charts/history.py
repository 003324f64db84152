"""The history of a run's steps: a bar for each, stacked by what its end waited for."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from perf.report.analysis import Report, StepReport
from perf.report.charts.shapes import WIDTH, rectangle
from perf.report.colours import Colours
from perf.report.figures import duration
from perf.report.markup import escape

_BARS: Final = 240
"""At most so many; beyond that each is the mean of some steps."""
_HEIGHT: Final = 300
_FILLED: Final = 0.86
"""Part of its place that a bar fills."""
_IN_LEGEND: Final = 14


def history(report: Report, colours: Colours) -> str:
    """Bars, legend and notes of a report with steps."""
    steps_each = -(-len(report.steps) // _BARS)
    bars = list(_binned(report.steps, steps_each))
    top = max(sum(stages.values()) for _, stages, _ in bars)
    order = [stage for stage, _ in report.path.most_common()]
    place = WIDTH / len(bars)
    width = place * _FILLED
    shapes = []
    for number, (label, stages, is_unusual) in enumerate(bars):
        x, y = number * place, float(_HEIGHT)
        whole = duration(sum(stages.values()))
        for stage in order:
            if ns := stages.get(stage, 0):
                height = _HEIGHT * ns / top
                y -= height
                css = colours.of_stage(stage)
                title = f"{label}: {stage} {duration(ns)} of {whole}"
                shapes.append(
                    rectangle(x, f"{y:.2f}", width, f"{height:.2f}", css, title)
                )
        if is_unusual:
            mark_y, title = f"{max(y - 7, 0):.2f}", f"{label}: unusual"
            shapes.append(rectangle(x, mark_y, width, "4", "mark", title))
    grid = "".join(
        f"<line x1='0' x2='{WIDTH}' y1='{y}' y2='{y}' class='grid'/>"
        for y in (_HEIGHT // 2, 0.5)
    )
    first_label, last_label = bars[0][0], bars[-1][0]
    return (
        f"<div class='chart'><div class='axis'><span>{duration(top)}</span>"
        f"<span>{duration(top / 2)}</span><span>0</span></div>"
        f"<svg viewBox='0 0 {WIDTH} {_HEIGHT}' preserveAspectRatio='none' role='img' "
        "aria-label='Step time history, stages stacked'>"
        f"{grid}{''.join(shapes)}</svg></div>"
        f"<div class='ends'><span>{escape(first_label)}</span>"
        f"<span>{escape(last_label)}</span></div>{_legend(order, colours)}"
        f"<p class='note'>{escape(_note(report, steps_each))}</p>"
    )


def _binned(
    steps: Sequence[StepReport], size: int
) -> Iterator[tuple[str, Mapping[str, float], bool]]:
    """Label, mean nanoseconds by stage, and whether one of the steps is unusual."""
    for first in range(0, len(steps), size):
        some = steps[first : first + size]
        stages: defaultdict[str, float] = defaultdict(float)
        for each in some:
            for stage, ns in each.by_stage.items():
                stages[stage] += ns / len(some)
        label = f"step {some[0].step.number}"
        if len(some) > 1:
            label += f"–{some[-1].step.number}"
        yield label, stages, any(each.is_unusual for each in some)


def _legend(stages: Iterable[str], colours: Colours) -> str:
    items = "".join(
        f"<li><i class='{colours.of_stage(stage)}'></i>{escape(stage)}</li>"
        for stage in itertools.islice(stages, _IN_LEGEND)
    )
    return f"<ul class='legend'>{items}</ul>"


def _note(report: Report, steps_each: int) -> str:
    note = ""
    if report.warm_up:
        first = report.warm_up[0].step
        note = (
            f"Step {first.number} ({duration(first.length_ns)}) compiles and "
            "loads: it is left out everywhere. "
        )
    if steps_each > 1:
        note += f"Each bar is the mean of about {steps_each} steps. "
    return f"{note}A mark above a bar: the step is unusual."
