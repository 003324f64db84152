"""The page in a real browser: drawn, silent, safe, readable on any screen."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import pytest

from perf._model.roles import REFERENCE
from perf._read.busy import Busy, Profiled
from perf._read.critical_path import Piece
from perf._read.recording import Sampled
from perf._read.what_if import Answer, Change
from perf.report.analysis import Report, SlowSpan, Straggler, analyse
from perf.report.page import as_page
from perf.report.words import findings
from tests.read.drawn import device, span, work
from tests.read.simulator import MAIN, MS
from tests.report.runs import TrainingRun, account, made, run_of, steps_alike
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


@pytest.fixture(scope="module")
def report() -> Report:
    """Of twelve steps that are all alike."""
    return analyse(steps_alike())


class Part:
    """What the page says of one recording, taken apart."""

    def __init__(self, report: Report, *, linked: bool = False) -> None:
        page = as_page([report], linked=linked)
        self.main = fromstring(page[page.index("<main>") : page.index("<footer>")])

    @property
    def titles(self) -> list[str]:
        """Of its sections."""
        return [each.text or "" for each in self.main.iter("h2")]

    def section(self, title: str) -> Element:
        """The section of that title, or one that begins so."""
        (found,) = [
            each
            for each in self.main.iter("section")
            if (each.findtext("h2") or "").startswith(title)
        ]
        return found

    def table(self, title: str, which: int = 0) -> list[list[str]]:
        """The cells of one of a section's tables; its head first."""
        table = list(self.section(title).iter("table"))[which]
        return [[text_of(cell) for cell in row] for row in table.iter("tr")]

    def notes(self, title: str) -> list[str]:
        """Below a section's tables."""
        return [
            text_of(each)
            for each in self.section(title).iter("p")
            if each.get("class") == "note"
        ]


def text_of(element: Element) -> str:
    """All of it, whatever its parts are."""
    return "".join(element.itertext())


def of_class(element: Element, css: str) -> list[Element]:
    """The parts of a class, in order."""
    return [each for each in element.iter() if each.get("class") == css]


def test_the_head_says_how_the_run_went(report):
    """In tiles, as far as it is known."""

    def tiles(of: Report) -> list[tuple[str | None, str | None]]:
        shown = of_class(Part(of).main, "tile")
        return [(tile.findtext("span"), tile.findtext("b")) for tile in shown]

    known = dataclasses.replace(
        report, mad_ns=MS, overlap_frac=0.25, samples_per_s=12.344, tokens_per_s=5e6
    )
    steps = [("step time (median)", "100 ms"), ("± (MAD)", "1 ms"), ("steps", "12")]
    assert [
        *steps,
        ("devices idle", "50 %"),
        ("rollout ∥ training", "25 %"),
        ("samples/s", "12.34"),
        ("tokens/s", "5e+06"),
    ] == tiles(known)
    assert steps == tiles(
        dataclasses.replace(
            known,
            account=account(),
            overlap_frac=None,
            samples_per_s=0,
            tokens_per_s=0,
        )
    )


def test_the_head_says_of_which_run_it_is(report):
    """What is known of it; all of that is at the end of the page."""
    run = {"command": "train.py", "pid": 7, "started": "today"}
    recording = dataclasses.replace(report.recording, path="/runs/a.pb", run=run)
    main = Part(dataclasses.replace(report, recording=recording)).main
    assert "a.pb" == main.findtext("header/h1")
    assert "train.py · today" == main.findtext("header/p")
    (details,) = main.iter("details")
    cells = [text_of(cell) for cell in details.iter("td")]
    assert ["command", "train.py", "pid", "7", "started", "today"] == cells
    assert not list(Part(report).main.iter("details"))


def test_a_trace_without_steps_has_words_alone(report):
    """There is nothing to draw."""
    recording = dataclasses.replace(report.recording, steps=[])
    part = Part(analyse(recording))
    assert [] == part.titles
    assert not of_class(part.main, "tile")
    assert "no whole step" in text_of(of_class(part.main, "words")[0])


@pytest.mark.parametrize("linked", [False, True])
def test_the_typical_step_is_nearest_to_the_median(linked):
    """A server has a link to it."""
    steps = [{"train": length} for length in (100, 150, 190, 199, 200)]
    report = analyse(run_of(*steps))
    part = Part(report, linked=linked)
    (title,) = [title for title in part.titles if title.startswith("A typical")]
    assert "A typical step: 2" == title
    (note,) = part.notes(title)
    assert note.startswith("Underlined: the critical path")
    assert note.endswith("waited for. " + "Show it in Perfetto." * linked)


def test_a_typical_step_of_which_nothing_is_known_is_not_drawn():
    """It would be an empty picture."""
    report = analyse(made([(MAIN, [span("train", 0, 5, 1)])], [(10, 20)]))
    assert not [title for title in Part(report).titles if "typical" in title]


def test_a_roles_time_is_a_bar_of_what_its_devices_did(report):
    """Work first, the longest of a kind before the others, then all kinds of idle."""
    held = {
        "unaccounted": 1000,
        "wait_a": 1000,
        "wait_z": 1,
        "host_b": 1000,
        "host_c": 1500,
        "compile": 1000,
        "sync": 1000,
        "occupied_peft_train": 1000,
        "occupied_rollout": 1490,
    }
    roles = {"rollout": account(**held), "actor": account()}
    roles["rollout"].held["other role", ""] = 1009
    part = Part(dataclasses.replace(report, roles=roles))
    actor, rollout = of_class(part.section("Occupancy"), "role")
    assert ["actortpu1", "rollouttpu0"] == [
        text_of(each[0]) for each in (actor, rollout)
    ]
    assert ["0.0 % idle", "45 % idle"] == [
        text_of(each[2]) for each in (actor, rollout)
    ]
    assert [] == list(actor.iter("i"))
    assert [
        ("c0", "flex:0.1490", "occupied/rollout: 15 %"),
        ("c1", "flex:0.1000", "occupied/peft_train: 10 %"),
        ("other", "flex:0.1009", "other role: 10 %"),
        ("sync", "flex:0.1000", "sync: 10 %"),
        ("compile", "flex:0.1000", "compile: 10 %"),
        ("host", "flex:0.1500", "host/c: 15 %"),
        ("host", "flex:0.1000", "host/b: 10 %"),
        ("wait", "flex:0.1000", "wait/a: 10 %"),
        ("wait", "flex:0.0005", "wait/z: 0.0 %"),
        ("unaccounted", "flex:0.1000", "unaccounted: 10 %"),
    ] == [
        (each.get("class"), each.get("style"), each.get("title"))
        for each in rollout.iter("i")
    ]
    without = Part(dataclasses.replace(report, roles={}))
    assert not [title for title in without.titles if title.startswith("Occupancy")]


@pytest.mark.parametrize(
    ("count", "shown"), [(3, "tpu0, tpu1, tpu2"), (4, "tpu0 … tpu3")]
)
def test_many_devices_of_a_role_are_told_by_the_first_and_the_last(count, shown):
    """Three have room."""
    timelines = [(MAIN, [span("train", 0, 10, 1)])]
    timelines += [(device(f"tpu{n}"), [work("train", 0, 10, 1)]) for n in range(count)]
    (role,) = of_class(Part(analyse(made(timelines, [(0, 10)]))).main, "role")
    assert [shown] == [each.text for each in role[0]]


def test_the_accounts_are_told_of_all_devices_and_of_each_role(report):
    """In the order of all; roles' own rows come after."""
    whole = account(occupied_a=500 * MS, wait_b=300 * MS)
    whole.held["wait/b", "blocked"] = 100 * MS
    whole.held["wait/c", "inferred"] = 300 * MS
    roles = {
        "rollout": account(occupied_a=10, wait_b=30),
        REFERENCE: account(unaccounted=10),
    }
    roles["rollout"].held["other role", ""] = 60
    between = account(occupied_a=180 * MS, host_x=60 * MS, wait_y=50 * MS, sync=10 * MS)
    told = dataclasses.replace(
        report,
        account=whole,
        roles=roles,
        outside=between,
    )
    head, *rows = Part(told).table("Accounting")
    assert [
        "bucket",
        "a step, of all devices",
        "share",
        "reference",
        "rollout",
        "evidence",
    ] == head
    assert [
        ["occupied/a", "41.7 ms", "42 %", "", "10 %", ""],
        ["wait/b", "33.3 ms", "33 %", "", "30 %", "flow 75 %, blocked 25 %"],
        ["wait/c", "25 ms", "25 %", "", "", "inferred"],
        ["unaccounted", "", "", "100 %", "", ""],
        ["other role", "", "", "", "60 %", ""],
    ] == rows
    assert [
        "Between steps, kept apart: 20 % of the devices' time (occupied/a 60 %, host/x "
        "20 %, wait/y 17 %)."
    ] == Part(told).notes("Accounting")


def test_the_accounts_of_one_role_are_those_of_all_devices(report):
    """They have no column of their own."""
    one = dataclasses.replace(report, roles={"rollout": account(occupied_a=1)})
    head, *_ = Part(one).table("Accounting")
    assert ["bucket", "a step, of all devices", "share", "evidence"] == head
    assert [] == Part(one).notes("Accounting")


def test_what_a_device_profile_says_has_a_column(report):
    """Of the buckets of which it says something."""
    busy = Busy(Counter({"occupied/a": 10}), Counter({"occupied/a": 4}))
    some = dataclasses.replace(
        report,
        roles={},
        account=account(occupied_a=50, wait_b=50),
        profiled=Profiled(145 * MS, {"tpu0": busy}, ()),
    )
    head, *rows = Part(some).table("Accounting")
    assert "busy" == head[3]
    assert ["40 %", ""] == [row[3] for row in rows]
    (note,) = Part(some).notes("Accounting")
    assert note.endswith("by a device profile, which covers 145 ms of the run.")


def test_the_longest_rows_of_a_table_are_shown(report):
    """No page is longer for a trace of a thousand names."""
    held = {f"occupied_s{n}": 100 - n for n in range(30)}
    path = Counter({f"s{n}": 100 - n for n in range(30)})
    long = Part(dataclasses.replace(report, account=account(**held), path=path))
    assert 1 + 28 == len(long.table("Accounting"))
    assert 1 + 14 == len(long.table("Critical path"))


def test_a_trace_without_devices_has_no_accounts(report):
    """It says so."""
    none = Part(dataclasses.replace(report, account=account(), roles={}))
    told = ["The trace has no timeline of a device."]
    assert told == none.notes("Accounting")


def test_the_critical_path_is_told_by_stage(report):
    """As means over the steps, with a bar for each share."""
    part = Part(report)
    assert [
        ["stage", "a step", "share", ""],
        ["rollout", "60 ms", "60 %", ""],
        ["peft_train", "30 ms", "30 %", ""],
        ["reference_inference", "10 ms", "10 %", ""],
    ] == part.table("Critical path")
    bars = of_class(part.section("Critical path"), "bar thin")
    assert [("c0", "width:60.00%"), ("c1", "width:30.00%"), ("c2", "width:10.00%")] == [
        (each[0].get("class"), each[0].get("style")) for each in bars
    ]
    assert not any("carried in" in note for note in part.notes("Critical path"))


def test_work_from_before_a_step_is_told(report):
    """It is on the path, and no part of the step."""
    before = Piece(0, 5 * MS, "rollout", "rollout", "tpu0")
    first, second, *others = report.steps
    begun = [
        dataclasses.replace(s, path=dataclasses.replace(s.path, carried_in=before))
        for s in (first, second)
    ]
    part = Part(dataclasses.replace(report, steps=[*begun, *others]))
    assert (
        "In 2 of 12 steps the path begins with work carried in from before, 10 ms in "
        "all, which is no part of the steps."
    ) == part.notes("Critical path")[0]


def test_what_ifs_are_told_or_why_there_are_none(report):
    """Each with the change of the step time."""
    answers = [Answer(Change(stage, 2.0), [80], [100]) for stage in ("a", "b")]

    def told(**changes: Any) -> tuple[int, list[str]]:
        part = Part(dataclasses.replace(report, **changes))
        tables = list(part.section("Critical path").iter("table"))
        return len(tables), part.notes("Critical path")

    asked = Part(dataclasses.replace(report, answers=answers, refused=""))
    assert [
        ["change", "step time"],
        ["a 2 times faster", "−20 %"],
        ["b 2 times faster", "−20 %"],
    ] == asked.table("Critical path", 1)
    assert (1, []) == told(answers=[], refused="")
    assert (1, ["rollouts run ahead"]) == told(answers=[], refused="rollouts run ahead")
    count, notes = told(answers=answers, refused="not all")
    assert (2, "not all") == (count, notes[-1])
    count, notes = told(answers=answers, account=account(unaccounted=1))
    assert 1 == count
    assert ["No what-ifs: too much of the time is unaccounted for."] == notes


def test_the_most_unusual_steps_are_told(report):
    """Eight of them, the most unusual first, whether slow or fast."""
    deviations = [0.5, -9.0, 4.0, *[0.1 * n for n in range(1, 10)]]
    steps = [
        dataclasses.replace(s, deviation=d, reason="train", reason_ns=round(d * MS))
        for s, d in zip(report.steps, deviations, strict=True)
    ]
    odd = dataclasses.replace(report, steps=steps, median_ns=99 * MS)
    part = Part(odd)
    head, *rows = part.table("Slowest")
    assert ["step", "time", "deviation", "stage that differs", "by"] == head
    assert [
        ["1", "100 ms", "−9.0", "train", "−9 ms"],
        ["2", "100 ms", "+4.0", "train", "+4 ms"],
        ["11", "100 ms", "+0.9", "train", "+900 µs"],
    ] == rows[:3]
    assert 8 == len(rows)
    marked = of_class(part.section("Slowest"), "odd")
    assert ["1", "2"] == [text_of(row[0]) for row in marked]
    assert "rlperf view --report a.pb shows this" in part.notes("Slowest")[0]
    linked = Part(odd, linked=True)
    head, first, *_ = linked.table("Slowest")
    assert ("look", "Perfetto") == (head[-1], first[-1])
    assert "rlperf view" not in linked.notes("Slowest")[0]


def test_nothing_gained_has_no_sign(report):
    """A step as usual differs by nothing, another by a nanosecond."""
    first, *others = report.steps
    steps = [dataclasses.replace(first, reason_ns=1), *others]
    _, *rows = Part(dataclasses.replace(report, steps=steps)).table("Slowest")
    assert [["+0.0", "+1 ns"], ["+0.0", "0 ns"]] == [[r[2], r[4]] for r in rows[:2]]


def test_stragglers_are_told_or_that_there_are_none(report):
    """Or that there was nothing to compare."""
    (note,) = Part(report).notes("Stragglers")
    assert "No role has timelines of two devices: nothing is compared." == note
    late = Straggler("tpu3", "train", "actor", 4 * MS, 0.25, 0.9)
    part = Part(dataclasses.replace(report, stragglers=[late]))
    assert [
        ["device", "stage", "late by", "of its work", "last in"],
        ["tpu3", "train", "4 ms", "25 %", "90 %"],
    ] == part.table("Stragglers")
    assert [] == part.notes("Stragglers")
    timelines = [
        (MAIN, [span("train", 0, 10, 1)]),
        *[(device(name), [work("train", 0, 10, 1)]) for name in ("a", "b")],
    ]
    (note,) = Part(analyse(made(timelines, [(0, 10)]))).notes("Stragglers")
    assert "No device is behind the others of its launches." == note


def test_slow_spans_are_told_with_their_tags(report):
    """Eight of them with six tags."""
    tags = {f"t{n}": n for n in range(7)}
    slow = [SlowSpan("reward", n, 60 * MS, 5 * MS, tags, 55 * MS) for n in range(9)]
    part = Part(dataclasses.replace(report, slow_spans=slow))
    head, first, *others = part.table("Stragglers")
    assert ["span", "step", "took", "others", "tags"] == head
    shown = "t0=0, t1=1, t2=2, t3=3, t4=4, t5=5"
    assert ["reward", "0", "60 ms", "5 ms", shown] == first
    assert 7 == len(others)


def test_counters_with_a_course_are_drawn(report):
    """Those of one point have none; of very many some are left out."""

    def figures(*counters: Sampled) -> list[str | None]:
        recording = dataclasses.replace(report.recording, counters=counters)
        main = Part(dataclasses.replace(report, recording=recording)).main
        return [each.text for each in main.iter("figcaption")]

    points = [(0, 1.0), (MS, 2.0)]
    assert ["b"] == figures(Sampled("a", "", points[:1]), Sampled("b", "", points))
    many = [Sampled(f"c{n}", "", points) for n in range(25)]
    assert [f"c{n}" for n in range(24)] == figures(*many)
    assert "Counters" not in Part(report).titles


def test_words_come_first_with_their_kind(report):
    """The first stands out."""
    words = of_class(Part(report).main, "words")[0]
    said = findings(report)
    assert f"first {said[0].kind}" == words[0].get("class")
    assert [f.text for f in said] == [
        text_of(each) for each in (words[0], *words.iter("li"))
    ]
    assert [f.kind for f in said[1:]] == [li.get("class") for li in words.iter("li")]


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
