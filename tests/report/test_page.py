"""The page in a real browser: drawn, silent, safe, readable on any screen."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from perf.report.analysis import analyse
from perf.report.page import as_page
from tests.report.runs import TrainingRun
from tools.perfetto import chromium
from tools.perfetto.chromium import Chromium

needs_browser = pytest.mark.skipif(
    chromium.find() is None and "RLPERF_REQUIRE_BROWSER" not in os.environ,
    reason=f"needs a browser on the PATH, one of {', '.join(chromium.NAMES)}",
)
HOSTILE = (
    "<script>document.title='owned'</script>\"'><img src=x onerror=alert(1)>\ud800"
)
SECTIONS = [
    "Step time, by what the step waited for",
    "Occupancy and bubble by role",
    "Accounting of device time",
    "Critical path",
    "Slowest and most unusual steps",
    "Stragglers",
    "Counters",
]


class _Outline(HTMLParser):
    """Tags and links of a page; balanced or not."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href"):
                self.links.append(value or "")


def outline(page: str) -> _Outline:
    """Of a page."""
    parser = _Outline()
    parser.feed(page)
    return parser


LOADED = """
(async () => {
  while (document.readyState !== 'complete' || !document.querySelector('h1'))
    await new Promise(requestAnimationFrame);
})()
"""
"""Waits until the page is there."""


@pytest.fixture(scope="module")
def page() -> str:
    """Of a run with a hostile name among its stages."""
    run = TrainingRun(9, rename={"reward": HOSTILE})
    report = analyse(run.recording())
    steps = [dataclasses.replace(report.steps[0], deviation=9.0), *report.steps[1:]]
    return as_page([dataclasses.replace(report, steps=steps)])


def test_nothing_runs_and_nothing_is_loaded(page):
    """No script, image or style from elsewhere, and no link."""
    found = outline(page)
    assert not {"script", "img", "link", "iframe"} & set(found.tags)
    assert not found.links
    page.encode()


def test_links_lead_to_the_steps_beside_the_page():
    """Where a server shows the trace: each to the time of its step."""
    report = analyse(TrainingRun(9).recording())
    found = outline(as_page([report], linked=True))
    step = report.steps[0].step
    assert f"./?visStart={step.begin_ns}&visEnd={step.end_ns}" in found.links
    assert all(link.startswith("./?visStart=") for link in found.links)


@pytest.fixture
def browser(page: str, tmp_path: Path) -> Iterator[Any]:
    """A browser that shows the page and counts what it complains of."""
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    with Chromium(width=1100, height=900, timeout_s=120) as found:
        found.call("Page.navigate", url=path.as_uri())
        found.evaluate(LOADED)
        yield found


@needs_browser
def test_every_chart_is_drawn(browser):
    """Each section is there, each picture has shapes with a size."""
    titles = browser.evaluate(
        "[...document.querySelectorAll('h2')].map(h => h.innerText)"
    )
    assert set(SECTIONS) <= set(titles)
    assert any(title.startswith("A typical step") for title in titles)
    empty = browser.evaluate(
        "[...document.querySelectorAll('main svg')].filter(svg =>"
        " ![...svg.querySelectorAll('rect, polyline')].some(s =>"
        " s.getBoundingClientRect().width > 0)).length"
    )
    assert 0 == empty
    bars = "document.querySelectorAll('.chart rect').length"
    assert 9 <= browser.evaluate(bars)


@needs_browser
def test_rows_have_the_cells_of_their_heads(browser):
    """Every cell of a table stands below the head of its column."""
    shifted = browser.evaluate(
        "[...document.querySelectorAll('table')].filter(t => t.tHead).flatMap(t =>"
        " [...t.tBodies[0].rows].flatMap(row => [...row.cells].filter((cell, n) =>"
        " Math.abs(cell.getBoundingClientRect().left -"
        " t.tHead.rows[0].cells[n].getBoundingClientRect().left) > 1))).length"
    )
    assert 0 == shifted


@needs_browser
def test_hostile_names_are_text(browser):
    """A name that is HTML is shown as it is, and does nothing."""
    assert "owned" not in browser.evaluate("document.title")
    text = browser.evaluate("document.body.innerText")
    assert "<script>document.title='owned'</script>" in text
    assert 0 == browser.evaluate("document.querySelectorAll('img').length")


@needs_browser
@pytest.mark.parametrize("width", [1100, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_any_screen(browser, width, scheme):
    """Nothing is wider than the screen; text stands out from its ground."""
    browser.call(
        "Emulation.setEmulatedMedia",
        features=[{"name": "prefers-color-scheme", "value": scheme}],
    )
    browser.call(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=800,
        deviceScaleFactor=1,
        mobile=False,
    )
    assert width >= browser.evaluate("document.documentElement.scrollWidth")
    contrast = browser.evaluate(
        """(() => {
          const light = (text) => {
            const [r, g, b] = text.match(/[0-9.]+/g).map(Number).map((v) => {
              v /= 255;
              return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
            });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const style = getComputedStyle(document.querySelector('.first'));
          const ground = getComputedStyle(document.querySelector('section'));
          const [a, b] = [light(style.color), light(ground.backgroundColor)];
          return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        })()"""
    )
    assert 7 <= contrast
