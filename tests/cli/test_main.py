"""What all commands have in common."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from perf.__main__ import main
from tests.report.runs import TrainingRun


def test_who_reads_may_stop(tmp_path: Path) -> None:
    """As `head` does; that is no failure to tell of."""
    TrainingRun(6).write(tmp_path / "a.pb")
    there, here = os.pipe()
    os.close(there)
    done = subprocess.run(
        [sys.executable, "-m", "perf", "report", "--text", str(tmp_path / "a.pb")],
        stdout=here,
        stderr=subprocess.PIPE,
        timeout=120,
        check=False,
    )
    os.close(here)
    assert (1, b"") == (done.returncode, done.stderr)


def test_an_unknown_option_is_told_with_the_command_s_usage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Not with that of all commands."""
    with pytest.raises(SystemExit) as left:
        main(["report", "--bogus", "a.pb"])
    assert 2 == left.value.code
    said = capsys.readouterr().err
    assert said.startswith("usage: rlperf report ")
    assert "rlperf report: error: unrecognized arguments: --bogus" in said
