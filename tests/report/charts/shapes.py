"""Charts taken apart again."""

from __future__ import annotations

from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, fromstring

import pytest


class Rectangle(NamedTuple):
    """As it is drawn; numbers in the units of its chart."""

    x: float
    y: float
    width: float
    height: float
    css: str
    title: str


def parsed(markup: str) -> Element:
    """A part of a page."""
    return fromstring(f"<div>{markup}</div>")


def rectangles(chart: Element) -> list[Rectangle]:
    """In the order in which they are drawn."""
    found = []
    for each in chart.iter("rect"):
        x, y, width, height = (
            float(each.attrib[name]) for name in ("x", "y", "width", "height")
        )
        title = each.findtext("title") or ""
        found.append(Rectangle(x, y, width, height, each.attrib["class"], title))
    return found


def about(value: float) -> Any:
    """Charts are drawn to a hundredth."""
    return pytest.approx(value, abs=0.011)
