"""A step's lanes: who did what when, and which of it the step waited for."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from perf._model.spans import TimelineInfo, TimelineKind
from perf.report.analysis import analyse
from perf.report.charts.gantt import gantt
from perf.report.colours import Colours
from tests.read.drawn import Timelines, device, span, work
from tests.report.charts.shapes import Rectangle, about, parsed, rectangles
from tests.report.runs import made

THREAD = TimelineInfo("host-1 MainThread", TimelineKind.HOST, "MainThread", True)
"""As it is read from a file."""


def chart_of(timelines: Timelines, window: tuple[int, int]) -> Element:
    """The only step of a recording."""
    report = analyse(made(timelines, [window]))
    return parsed(gantt(report, report.steps[0], Colours(report)))


def lanes(chart: Element) -> dict[str, list[Rectangle]]:
    """What is drawn, by the names of threads and devices."""
    return {
        each.findtext("span") or "": rectangles(each)
        for each in chart.iter()
        if each.get("class") == "lane"
    }


def test_work_is_drawn_where_and_when_it_was_done():
    """A lane for each thread and device, cut to the step; the path is underlined."""
    timelines: Timelines = [
        (THREAD, [span("train", 90, 140, 1), span("eval", 140, 220, 2)]),
        (device("tpu0"), [work("train", 90, 140, 1)]),
        (device("tpu1"), [work("score", 120, 130, 3), work("score", 180, 230, 4)]),
    ]
    chart = chart_of(timelines, (100, 200))
    assert ["0", "100 ms"] == [
        each.text for each in chart.iter("span") if each.get("title") is None
    ]
    drawn = lanes(chart)
    assert ["MainThread", "tpu0", "tpu1"] == list(drawn)
    assert [
        (0, 3, 400, 16, "c1", "train: 40 ms"),
        (400, 3, 600, 16, "c0", "eval: 60 ms"),
        (400, 20, 600, 3, "path", ""),
    ] == drawn["MainThread"]
    assert [
        (0, 3, 400, 16, "c1", "train: 40 ms"),
        (0, 20, 400, 3, "path", ""),
    ] == drawn["tpu0"]
    assert [
        (200, 3, 100, 16, "c2", "score: 10 ms"),
        (800, 3, 200, 16, "c2", "score: 20 ms"),
    ] == drawn["tpu1"]


def test_what_was_not_recorded_is_not_underlined():
    """A step may wait for what nobody knows."""
    chart = chart_of([(THREAD, [span("train", 0, 10, 1)])], (0, 20))
    assert [(0, 3, 500, 16), (0, 20, 500, 3)] == [
        each[:4] for each in lanes(chart)["MainThread"]
    ]


def test_what_is_short_can_be_seen():
    """A millionth of a step would be no line at all."""
    chart = chart_of(
        [(THREAD, [span("eval", 0, 5000, 1), span("train", 5000, 5001, 2)])],
        (0, 10_000),
    )
    assert [(0, 500), (500, about(0.7))] == [
        (each.x, each.width)
        for each in lanes(chart)["MainThread"]
        if each.css != "path"
    ]


def test_threads_that_did_nothing_of_note_have_no_lane():
    """Nor have devices that did nothing in the step; an empty step has no chart."""
    idle = TimelineInfo("host-7 logger", TimelineKind.HOST, "logger")
    timelines: Timelines = [
        (THREAD, [span("train", 0, 10, 1)]),
        (idle, [span("log", 2, 3, 2)]),
        (device("tpu0"), [work("train", 20, 30, 3)]),
    ]
    assert ["MainThread"] == list(lanes(chart_of(timelines, (0, 10))))
    report = analyse(made(timelines, [(12, 15)]))
    assert "" == gantt(report, report.steps[0], Colours(report))


def test_a_thread_is_known_by_its_name_and_a_device_by_all_of_its_id():
    """The whole id is where the pointer rests."""
    timelines: Timelines = [
        (
            TimelineInfo("host-1 a b", TimelineKind.HOST, "a b", True),
            [span("x", 0, 9, 1)],
        ),
        (device("tpu 0"), [work("x", 0, 9, 1)]),
    ]
    chart = chart_of(timelines, (0, 9))
    names = {
        each.text: each.get("title") for each in chart.iter("span") if each.get("title")
    }
    assert {"a b": "host-1 a b", "tpu 0": "tpu 0"} == names


def test_sixteen_lanes_of_fifteen_hundred_spans_are_drawn():
    """A step of a large run does not make a page that no browser shows."""
    many = [work("train", n, n + 1, n + 10) for n in range(1501)]
    timelines: Timelines = [(THREAD, [span("train", 0, 1600, 1)])]
    timelines += [(device(f"tpu{n}"), many) for n in range(16)]
    drawn = lanes(chart_of(timelines, (0, 1600)))
    assert ["MainThread", *[f"tpu{n}" for n in range(15)]] == list(drawn)
    assert 1500 == sum(each.css != "path" for each in drawn["tpu3"])
