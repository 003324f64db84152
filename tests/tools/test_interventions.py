"""The harness of interventions: really made, and honestly compared."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from perf._read.recording import folder_traces, read_recording
from perf._read.what_if import Change, WhatIf, WhatIfError
from tests.report.runs import TrainingRun
from tools import interventions
from tools.demo_runs import Demo, trace_demo
from tools.interventions import (
    INTERVENTIONS,
    RUNS,
    WARM_UP,
    Intervention,
    asynchronous,
    taking,
)


@pytest.mark.parametrize("intervention", INTERVENTIONS, ids=lambda each: each.name)
@pytest.mark.parametrize("which", RUNS)
def test_an_intervention_is_made_and_unmade(intervention, which):
    """Outside of its context manager the demo is what it was."""
    from perf.demo import experience, task, train

    places = [experience, experience.ExperienceMaker, task.SortTask, train]
    before = [dict(vars(place)) for place in places]
    with getattr(intervention, which)(Demo(None)):
        assert before != [dict(vars(place)) for place in places]
    assert before == [dict(vars(place)) for place in places]


def test_five_are_made_and_one_is_asynchronous():
    """Each can be asked for on the command line."""
    names = {each.name for each in INTERVENTIONS}
    assert len(INTERVENTIONS) == len(names) == 5
    assert 1 == sum(bool(each.limits) for each in INTERVENTIONS)


def test_an_asynchronous_demo_can_be_asked_about(tmp_path):
    """Its rollouts go on across steps, no launch is lost, and its replay is exact."""
    waits = dict.fromkeys(("rollout", "reference", "reward", "training", "sync"), 0.002)
    put_in = asynchronous(**{**waits, "rollout": 0.02})
    config = {"steps": 21, "mini_batches": 1, "micro_batches": 2}
    trace_demo(tmp_path, put_in, config, "all-apart")
    (path,) = folder_traces(tmp_path)
    recording = read_recording(path)
    schedule = recording.schedule()
    assert all(launch.host for launch in schedule.launches.values())
    steps = [(step.begin_ns, step.end_ns) for step in recording.steps]
    limits = {"queue_capacity": 4, "staleness_limit": 2}
    with pytest.raises(WhatIfError, match="at least 20 steps are needed, found 19"):
        WhatIf(schedule, steps[2:], **limits)
    with pytest.raises(WhatIfError, match="queue's capacity"):
        WhatIf(schedule, steps)
    run = WhatIf(schedule, steps, **limits)
    answer = run.answer(Change("rollout", 1.0))
    assert answer.recorded_ns == answer.steps_ns
    answer = run.answer(Change("rollout", 2.0))
    assert sum(answer.steps_ns) < sum(answer.recorded_ns)


@pytest.mark.parametrize(("times_faster", "status"), [(1.0, 0), (3.0, 1)])
def test_a_wrong_prediction_fails(monkeypatch, capsys, times_faster, status):
    """Two runs alike: that nothing changes is right, that much does is wrong."""
    change = Change("rollout", times_faster)
    same = Intervention("same", change, taking(), taking())
    monkeypatch.setattr(interventions, "INTERVENTIONS", [same])
    monkeypatch.setattr(interventions, "in_a_process", _written)
    assert status == interventions.main([])
    printed = capsys.readouterr().out
    assert "rollout" in printed
    assert (", worst 0.0%" in printed) is (status == 0)


def _written(_: str, arguments: list[str]) -> str:
    folder = Path(arguments[-1].removeprefix("--keep="))
    TrainingRun(WARM_UP + 8).write(folder / "a.pb")
    return ""


def test_a_run_that_fails_is_told(monkeypatch, capsys):
    """Then nothing was shown, and the status says so."""
    monkeypatch.setattr(interventions, "in_a_process", lambda *_: "the run failed")
    assert 1 == interventions.main(["reward"])
    assert "reward, before: the run failed" in capsys.readouterr().out


def test_an_unknown_name_is_refused(capsys):
    """The message says which there are."""
    with pytest.raises(SystemExit):
        interventions.main(["nope"])
    assert "nope: expected some of reward, reference, " in capsys.readouterr().err


def test_an_error_is_a_part_of_what_was_measured():
    """Too short a prediction has a negative one."""
    outcome = interventions.Outcome(Change("rollout", 2.0), 100e6, 45e6, 50e6)
    assert -0.1 == pytest.approx(outcome.error)
    assert -0.0 == dataclasses.replace(outcome, measured_ns=45e6).error
    assert str(outcome).split()[-4:] == ["100.0", "45.0", "50.0", "-10.0%"]
