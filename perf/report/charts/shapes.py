"""What charts have in common: a width, an axis of time, rectangles.

Charts have units of their own: the browser stretches them to the width of the page.
"""

from __future__ import annotations

from typing import Final

from perf.report.markup import escape

WIDTH: Final = 1000
"""Of every chart."""


def x_of(time_ns: float, begin_ns: float, end_ns: float) -> float:
    """Where a moment is on an axis of time from begin to end."""
    length_ns = (end_ns - begin_ns) or 1  # mutate: ok every moment is the first
    return WIDTH * (time_ns - begin_ns) / length_ns


def rectangle(
    x: float, y: str, width: float, height: str, css: str, title: str = ""
) -> str:
    """Of a class of the style sheet; the title shows where the pointer rests."""
    shape = (
        f"<rect x='{x:.2f}' y='{y}' width='{width:.2f}' height='{height}' class='{css}'"
    )
    return f"{shape}><title>{escape(title)}</title></rect>" if title else f"{shape}/>"
