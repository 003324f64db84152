"""The curve of a counter: from its first to its last point, from least to greatest."""

from __future__ import annotations

import math
from xml.etree.ElementTree import Element

import pytest

from perf._read.recording import Sampled
from perf.report.charts.curves import curve
from tests.report.charts.shapes import parsed


def points_of(figure: Element) -> list[tuple[float, float]]:
    """Of its line."""
    (line,) = figure.iter("polyline")
    return [
        (float(x), float(y))
        for x, y in (point.split(",") for point in line.attrib["points"].split())
    ]


def figure_of(*points: tuple[int, float], unit: str = "") -> Element:
    """Of a counter."""
    return parsed(curve(Sampled("reward", unit, points)))


def test_a_curve_fills_its_figure():
    """The greatest value is at the top, the least at the bottom, by time in between."""
    figure = figure_of((1000, 1.5), (1500, 3.5), (3000, -0.5), unit="ms")
    assert [(0, 30), (250, 4), (1000, 56)] == points_of(figure)[:3]
    assert "reward-0.5 ms" == "".join(next(figure.iter("figcaption")).itertext())
    assert "-0.5 … 3.5" == figure.findtext("figure/small")


def test_a_counter_that_never_changes_is_a_line_at_the_bottom():
    """There is no scale; without a unit none is named."""
    figure = figure_of((0, 2.0), (10, 2.0))
    assert {56} == {y for _, y in points_of(figure)}
    assert "2 … 2" == figure.findtext("figure/small")
    assert "2" == figure.findtext("figure/figcaption/b")


def test_what_is_no_number_is_left_out():
    """Neither do values that only an error can be shrink the rest to a line."""
    odd = [math.nan, math.inf, -math.inf, 1e300, -1e300]
    some = [(10 * n, value) for n, value in enumerate(odd, 1)]
    figure = figure_of((0, 1.0), *some, (100, 2.0))
    assert {(0, 56), (1000, 4)} == set(points_of(figure))
    assert "1 … 2" == figure.findtext("figure/small")
    nothing = figure_of((0, math.nan), (5, math.nan))
    assert [] == points_of(nothing)
    assert "0 … 1" == nothing.findtext("figure/small")


@pytest.mark.parametrize(("count", "drawn"), [(400, 401), (401, 202), (4000, 401)])
def test_long_curves_skip_points(count, drawn):
    """The last one is always there."""
    figure = figure_of(*[(n, float(n)) for n in range(count)])
    assert drawn == len(points_of(figure))
    assert (1000, 4) == points_of(figure)[-1]
    assert f"{count - 1}" == figure.findtext("figure/figcaption/b")
