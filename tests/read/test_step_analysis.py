"""Accounting and critical path while the training runs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf._model.roles import Roles
from perf._model.spans import OPEN, TimelineInfo, TimelineKind
from perf._read import step_analysis
from perf._read.accounting import Accountant
from perf._read.schedule import Schedule
from perf._read.step_analysis import (
    ALL,
    DEFAULT,
    LEVELS,
    OFF,
    StepAnalysis,
    StepAnomaly,
)
from perf._read.steps import from_records
from perf._read.stretches import united
from perf._record.store import Step
from tests.read.drawn import Timelines, device, span, work
from tests.read.simulator import MAIN, MS, Simulation

ROLES = Roles.of({"rollout": ["a"], "actor": ["b"]})


def analysis(level: str = DEFAULT, roles: Roles = ROLES) -> StepAnalysis:
    """Without the search for anomalies."""
    return StepAnalysis(roles, level, finds_anomalies=False)


def analysed(
    tested: StepAnalysis,
    records: Timelines,
    opened: Timelines,
    begin_ns: int,
    end_ns: int,
) -> tuple[dict[str, float], StepAnomaly | None]:
    """What it says of a step with these spans and this window."""
    closed = Step(0, begin_ns)
    closed.parts, closed.opened, closed.end_ns = records, opened, end_ns
    step = from_records(closed)
    step.begin = begin_ns
    return tested.step(step, records, opened)


@given(st.integers(0, 2000))
def test_default_and_full_agree(seed):
    """The quick way by unions and the whole accounting give the same fractions."""
    simulation = Simulation(seed)
    names = {"rollout": simulation.roles["rollout"], "actor": simulation.roles["actor"]}
    roles = Roles.of({role: [name] for role, name in names.items()})
    window = 0, simulation.end_ns
    # Compiling in a gap is no bubble; only the full accounting looks for it there.
    timelines = [
        (info, [r for r in some if r[0] != "compile"])
        for info, some in simulation.timelines()
    ]
    quick, _ = analysed(analysis(DEFAULT, roles), timelines, [], *window)
    schedule = Schedule(timelines, simulation.end_ns)
    full = Accountant(schedule).window(*window)
    assert pytest.approx(full.all.bubble_frac) == quick["perf/bubble_frac"]
    if len(set(names.values())) == 2 and set(names) <= set(schedule.roles):
        shared = set(schedule.roles["rollout"]) & set(schedule.roles["actor"])
        if not shared and full.overlap_frac is not None:
            assert pytest.approx(full.overlap_frac) == quick["perf/overlap_frac"]


@given(st.integers(0, 2000))
def test_more_metrics_change_none_of_the_others(seed):
    """A run whose level is switched has no jump in what both give."""
    simulation = Simulation(seed)
    roles = Roles.of({role: [name] for role, name in simulation.roles.items()})
    quick, full = [
        analysed(
            analysis(level, roles), simulation.timelines(), [], 0, simulation.end_ns
        )[0]
        for level in (DEFAULT, ALL)
    ]
    assert quick == {name: full[name] for name in quick}


def test_all_adds_up():
    """Buckets fill the devices' time, the path's stages the step."""
    simulation = Simulation(3)
    end = simulation.end_ns
    metrics, _ = analysed(analysis(ALL), simulation.timelines(), [], 0, end)
    account = sum(v for k, v in metrics.items() if k.startswith("perf/account/"))
    path = sum(v for k, v in metrics.items() if k.startswith("perf/critical_path/"))
    assert pytest.approx(len(simulation.lanes) * end / 1e9, rel=1e-12) == account
    assert pytest.approx(end / 1e9, rel=1e-12) == path


def test_work_in_flight_counts_to_the_export():
    """What a device runs when the step ends holds it; what waits does not."""
    queue = TimelineInfo("b_queue", TimelineKind.QUEUE, "b_queue")
    flying = [work("train", 4, OPEN, 2), work("train", 5, OPEN, 3)]
    closed: Timelines = [
        (MAIN, [span("train", 0, 1, 1)]),
        (device("b"), [work("train", 0, 6, 1)]),
    ]
    opened: Timelines = [(queue, [one]) for one in flying]
    for level in (DEFAULT, ALL):
        metrics, _ = analysed(analysis(level), closed, opened, 0, 10 * MS)
        assert pytest.approx(0.0) == metrics["perf/bubble_frac"]


def test_of_work_in_flight_only_the_first_is_on_the_device():
    """Two at once would be two stages that it does in one stretch of time."""
    queue = TimelineInfo("b_queue", TimelineKind.QUEUE, "b_queue")
    closed: Timelines = [(MAIN, [span("train", 0, 1, 1), span("eval", 1, 2, 2)])]
    flying: Timelines = [
        (queue, [work("eval", 1, OPEN, 2)]),
        (queue, [work("train", 0, OPEN, 1)]),
    ]
    metrics, _ = analysed(analysis(ALL), closed, flying, 0, 10 * MS)
    assert pytest.approx(0.01) == metrics["perf/account/occupied/train_s"]
    assert "perf/account/occupied/eval_s" not in metrics


@pytest.mark.parametrize("level", [DEFAULT, ALL])
def test_a_device_that_idles_for_a_whole_step_is_idle(level):
    """One that was seen before counts on; the trace's report says the same."""
    both: Timelines = [
        (MAIN, [span("rollout", 0, 4, 1), span("peft_train", 4, 8, 2)]),
        (device("a"), [work("rollout", 0, 4, 1)]),
        (device("b"), [work("peft_train", 4, 8, 2)]),
    ]
    one: Timelines = [
        (MAIN, [span("rollout", 8, 12, 3)]),
        (device("a"), [work("rollout", 8, 12, 3)]),
    ]
    none: Timelines = [(MAIN, [span("save", 12, 16, 4)])]
    tested = analysis(level)
    windows = [(both, 0, 8), (one, 8, 12), (none, 12, 16)]
    found = [
        analysed(tested, records, [], begin * MS, end * MS)[0]["perf/bubble_frac"]
        for records, begin, end in windows
    ]
    schedule = Schedule(both + one + none, 16 * MS)
    accountant = Accountant(schedule)
    reported = [
        accountant.window(begin * MS, end * MS).all.bubble_frac
        for _, begin, end in windows
    ]
    assert [0.5, 0.5, 1.0] == reported
    assert pytest.approx(reported) == found


def test_devices_with_the_same_records_are_looked_at_once(monkeypatch):
    """A mesh of many devices costs what one does."""
    looked_at = []

    def counted(stretches, begin_ns, end_ns):
        some = [*stretches]
        looked_at.append(len(some))
        return united(some, begin_ns, end_ns)

    monkeypatch.setattr(step_analysis, "united", counted)
    meshes = {"rollout": ["a", "b", "c"], "actor": ["d", "e", "f"]}
    rollouts = [work("rollout", at, at + 1, at + 1) for at in (0, 2, 4)]
    trainings = [work("peft_train", at, at + 1, at + 1) for at in (1, 3)]
    records: Timelines = [
        *[(device(name), [*rollouts]) for name in meshes["rollout"]],
        *[(device(name), [*trainings]) for name in meshes["actor"]],
    ]
    metrics, _ = analysed(analysis(DEFAULT, Roles.of(meshes)), records, [], 0, 5 * MS)
    assert [3, 2] == looked_at, "each mesh, which is a side of the overlap, too"
    assert pytest.approx(1 - (3 * 3 + 3 * 2) / 30) == metrics["perf/bubble_frac"]
    assert 0.0 == metrics["perf/overlap_frac"]


def test_both_fractions_are_of_the_step():
    """Wherever in the run it lies, not of the time since its begin."""
    records: Timelines = [
        (device("a"), [work("rollout", 10, 16, 1)]),
        (device("b"), [work("peft_train", 14, 20, 2)]),
    ]
    metrics, _ = analysed(analysis(), records, [], 10 * MS, 20 * MS)
    assert pytest.approx(0.4) == metrics["perf/bubble_frac"]
    assert pytest.approx(0.2) == metrics["perf/overlap_frac"]


def test_off_gives_nothing():
    """Neither does a step without devices by default, or without any time."""
    closed: Timelines = [(device("b"), [work("train", 0, 6, 1)])]
    assert ({}, None) == analysed(analysis(OFF), closed, [], 0, 10 * MS)
    assert ({}, None) == analysed(analysis(DEFAULT), closed, [], 5, 5)
    assert ({}, None) == analysed(analysis(DEFAULT), [(MAIN, [])], [], 0, 10 * MS)


def test_an_unknown_level_is_refused():
    """The message says which there are."""
    with pytest.raises(ValueError, match=f"expected one of {', '.join(LEVELS)}"):
        analysis("some")


def steps_of(lengths: list[int]) -> list[Any]:
    """What is unusual about steps whose stage `load` takes so long."""
    found = []
    tested = StepAnalysis(ROLES, OFF, finds_anomalies=True)
    at = 0
    for number, length in enumerate(lengths):
        records = [span("load", at, at + length, number + 1)]
        _, anomaly = analysed(
            tested, [(MAIN, records)], [], at * MS, (at + length) * MS
        )
        found.append(anomaly)
        at += length
    return found


def test_a_step_that_leaves_its_history_is_told_in_words():
    """With the stage that is longer, and by how much; the first eight are history."""
    found = steps_of([100, 300, *[100, 101, 99] * 4, 180, 100])
    assert [None] * 14 == found[:14]
    anomaly = found[14]
    assert ("load", 0.18, 0.1) == (anomaly.stage, anomaly.seconds, anomaly.median_s)
    assert pytest.approx(0.08, abs=0.002) == anomaly.stage_s
    assert "took 0.18 s instead of 0.1 s; load is 0.08 s longer" in anomaly.text
    assert found[15] is None


def test_the_first_steps_are_history():
    """Eight of them, as long as they may be."""
    assert not any(steps_of([*[100, 101] * 3, 100, 180]))
    assert steps_of([*[100, 101] * 4, 180])[-1] is not None


def test_a_step_that_is_a_little_longer_is_no_anomaly():
    """However alike those before it were."""
    assert not any(steps_of([*[100, 101, 99] * 4, 110]))
    assert steps_of([*[100, 101, 99] * 4, 111])[-1] is not None


def test_the_stage_that_grew_is_named_and_not_one_that_shrank():
    """Both changed."""
    tested = StepAnalysis(ROLES, OFF, finds_anomalies=True)
    anomaly = None
    for number, (load, save) in enumerate([*[(20, 80)] * 8, (140, 20)]):
        begin, end = 1000 * number, 1000 * number + load + save
        main = [
            span("load", begin, begin + load, 2 * number + 1),
            span("save", begin + load, end, 2 * number + 2),
        ]
        window = begin * MS, end * MS
        _, anomaly = analysed(tested, [(MAIN, main)], [], *window)
    assert anomaly is not None
    assert ("load", 0.12) == (anomaly.stage, anomaly.stage_s)


def test_samples_and_tokens_are_told_per_second_of_the_step():
    """Those that spans are tagged with, and nothing where none is."""
    records: Timelines = [
        (MAIN, [span("rollout", 10, 18, 1, samples=4), span("x", 18, 19, 2, samples=2)])
    ]
    metrics, _ = analysed(analysis(ALL), records, [], 10 * MS, 20 * MS)
    assert pytest.approx(6 / 0.01, rel=1e-12) == metrics["perf/samples_per_s"]
    assert "perf/tokens_per_s" not in metrics


def test_a_shorter_step_is_no_anomaly():
    """Only what takes longer needs somebody."""
    assert not any(steps_of([100] * 12 + [50, 104]))
