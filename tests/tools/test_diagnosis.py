"""The harness of known faults: it leaves the demo as it was, and takes more."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tests.report.runs import TrainingRun
from tools import diagnosis
from tools.demo_runs import Demo
from tools.diagnosis import FAULTS, Fault


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_put_in_and_taken_out(fault):
    """Outside of its context manager the demo is what it was."""
    from perf.demo import experience, stages, task, train

    places = [experience, stages.Stages, task.SortTask, train]
    places.append(experience.ExperienceMaker)
    before = [dict(vars(place)) for place in places]
    with fault.put_in(Demo(SimpleNamespace())):
        pass
    assert before == [dict(vars(place)) for place in places]
    re.compile(fault.said)


def test_names_are_unique():
    """Each can be asked for on the command line."""
    assert len(FAULTS) == len({fault.name for fault in FAULTS}) >= 12


def test_faults_can_come_from_outside(monkeypatch, capsys):
    """A module's FAULTS are run like the others; the first sentence decides."""
    outside = ModuleType("outside")
    compiles = Fault("compiles", "^Recompilation", diagnosis.nothing)
    nothing = Fault("other", "no such words", diagnosis.nothing)
    outside.FAULTS = [compiles, nothing]  # type: ignore[attr-defined]  # as given
    monkeypatch.setitem(sys.modules, "outside", outside)

    def run(_, arguments):
        (folder,) = [a for a in arguments if a.startswith("--run-into=")]
        TrainingRun(6).write(Path(folder.removeprefix("--run-into=")) / "a.pb")
        return ""

    monkeypatch.setattr("tools.diagnosis.in_a_process", run)
    assert 0 == diagnosis.main(["compiles", "--faults", "outside"])
    assert "✓ compiles: " in capsys.readouterr().out
    assert 1 == diagnosis.main(["compiles", "other", "--faults", "outside"])
    assert "1 of 2 causes named first" in capsys.readouterr().out
