"""The curve of a counter."""

from __future__ import annotations

from typing import Final

from perf._read.recording import Sampled
from perf.report.charts.shapes import WIDTH, x_of
from perf.report.markup import escape

_POINTS: Final = 400
"""At most about so many in a curve; beyond that it skips some."""
_DRAWN: Final = 1e300  # mutate: ok any number of this size
"""Values from here on, infinities and those that are no number are left out."""


def curve(counter: Sampled) -> str:
    """A figure: name, last value with its unit, curve, least and greatest value.

    Args:
        counter: with two points or more.
    """
    points = counter.points
    step = -(-len(points) // _POINTS)
    some = [*points[::step], points[-1]]
    drawn = [(time_ns, value) for time_ns, value in some if abs(value) < _DRAWN]
    low = min((value for _, value in drawn), default=0.0)
    high = max((value for _, value in drawn), default=1.0)
    span = (high - low) or 1.0  # mutate: ok every value is the lowest
    begin, end = some[0][0], some[-1][0]
    line = " ".join(
        f"{x_of(time_ns, begin, end):.1f},{56 - 52 * (value - low) / span:.1f}"
        for time_ns, value in drawn
    )
    unit = f" {counter.unit}" if counter.unit else ""
    return (
        f"<figure><figcaption>{escape(counter.name)}"
        f"<b>{some[-1][1]:.4g}{escape(unit)}</b>"
        f"</figcaption><svg viewBox='0 0 {WIDTH} 60' preserveAspectRatio='none' "
        f"role='img' aria-label='{escape(counter.name)}'>"
        f"<polyline points='{line}'/></svg>"
        f"<small>{low:.4g} … {high:.4g}</small></figure>"
    )
