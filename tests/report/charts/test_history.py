"""The history of steps: bars as high as their steps are long, whatever they hold."""

from __future__ import annotations

import dataclasses
import itertools
from xml.etree.ElementTree import Element

from perf.report.analysis import Report, analyse
from perf.report.charts.history import history
from perf.report.colours import Colours
from tests.read.drawn import span
from tests.read.simulator import MAIN, MS
from tests.report.charts.shapes import about, parsed, rectangles
from tests.report.runs import made, run_of


def chart_of(report: Report) -> Element:
    """Its history."""
    return parsed(history(report, Colours(report)))


def texts(chart: Element, css: str) -> list[str]:
    """In a part of the chart."""
    return [
        "".join(each.itertext())
        for part in chart.iter()
        if part.get("class") == css
        for each in part
    ]


def note_of(chart: Element) -> str:
    """Below the chart."""
    (note,) = [p.text for p in chart.iter("p")]
    return note or ""


def test_bars_are_stacks_as_high_as_their_steps_are_long():
    """The run's longest stage is at the bottom; the longest step fills the chart."""
    steps = [{"rollout": 10, "train": 30}, {"rollout": 10, "train": 70}]
    chart = chart_of(analyse(run_of(*steps)))
    assert [
        (
            0,
            about(300 - 112.5),
            430,
            about(112.5),
            "c0",
            "step 0: train 30 ms of 40 ms",
        ),
        (0, 150, 430, about(37.5), "c1", "step 0: rollout 10 ms of 40 ms"),
        (500, about(37.5), 430, about(262.5), "c0", "step 1: train 70 ms of 80 ms"),
        (500, 0, 430, about(37.5), "c1", "step 1: rollout 10 ms of 80 ms"),
    ] == rectangles(chart)
    assert ["80 ms", "40 ms", "0"] == texts(chart, "axis")
    assert ["150", "0.5"] == [line.get("y1") for line in chart.iter("line")]
    assert ["step 0", "step 1"] == texts(chart, "ends")
    assert ["train", "rollout"] == texts(chart, "legend")
    assert ["c0", "c1"] == [each.get("class") for each in chart.iter("i")]
    assert "A mark above a bar: the step is unusual." == note_of(chart)


def test_an_unusual_step_has_a_mark_above_its_bar():
    """That of the highest bar is not cut off."""
    report = analyse(run_of({"train": 40}, {"train": 60}, {"train": 80}))
    steps = [dataclasses.replace(s, deviation=9.0) for s in report.steps[1:]]
    odd = dataclasses.replace(report, steps=[report.steps[0], *steps])
    marks = [each for each in rectangles(chart_of(odd)) if each.css == "mark"]
    assert [
        (about(1000 / 3), about(75 - 7), about(286.67), 4, "mark", "step 1: unusual"),
        (about(2000 / 3), 0, about(286.67), 4, "mark", "step 2: unusual"),
    ] == marks


def test_of_many_steps_each_bar_is_the_mean_of_some():
    """It says so, is labelled with its first and last step, and is marked for one."""
    whole = analyse(run_of(*[{"train": 10}] * 240))
    assert 240 == len(rectangles(chart_of(whole)))
    assert "mean" not in note_of(chart_of(whole))
    report = analyse(run_of(*[{"train": 10}, {"train": 14}] * 120, {"eval": 10}))
    steps = [
        dataclasses.replace(s, deviation=-9.0 * (s.step.number == 3))
        for s in report.steps
    ]
    chart = chart_of(dataclasses.replace(report, steps=steps))
    bars = rectangles(chart)
    assert 1 + 121 == len(bars)
    assert "step 0–1: train 12 ms of 12 ms" == bars[0].title
    assert "step 2–3: unusual" == bars[2].title
    assert "step 240: eval 10 ms of 10 ms" == bars[-1].title
    assert {300, 250} == {round(each.height) for each in bars if each.css != "mark"}
    assert ["step 0–1", "step 240"] == texts(chart, "ends")
    assert note_of(chart).startswith("Each bar is the mean of about 2 steps. ")


def test_a_bar_of_three_steps_is_labelled_with_the_first_and_the_last():
    """Of 481 steps the bars are of three each, but for the last."""
    chart = chart_of(analyse(run_of(*[{"train": 10}] * 481)))
    bars = rectangles(chart)
    assert 161 == len(bars)
    assert "step 0–2: train 10 ms of 10 ms" == bars[0].title
    assert ["step 0–2", "step 480"] == texts(chart, "ends")
    assert note_of(chart).startswith("Each bar is the mean of about 3 steps. ")


def test_the_step_that_is_left_out_is_told():
    """With how long it took."""
    steps = [{"train": 90}, *[{"train": 10}] * 4]
    chart = chart_of(analyse(run_of(*steps)))
    assert 4 == len(rectangles(chart))
    assert note_of(chart).startswith("Step 0 (90 ms) compiles and loads: ")


def test_the_legend_names_fourteen_stages():
    """Those that are longest on the critical path."""
    stages = {f"stage {n}": 40 - n for n in range(20)}
    chart = chart_of(analyse(run_of(stages)))
    assert list(itertools.islice(stages, 14)) == texts(chart, "legend")


def test_steps_without_a_length_are_drawn():
    """There is nothing to be seen of them."""
    report = analyse(made([(MAIN, [span("train", 5, 5, 1)])], [(5, 5)]))
    chart = chart_of(report)
    assert [] == rectangles(chart)
    assert ["0 ns", "0 ns", "0"] == texts(chart, "axis")
    assert 5 * MS == report.steps[0].step.begin_ns
    assert ["step 0", "step 0"] == texts(chart, "ends")
