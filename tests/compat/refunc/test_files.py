"""The console and the log files of `MLLogger`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from perf.compat.refunc.logging import MLLogger

NewLogger = Callable[..., MLLogger]


@pytest.mark.row("R2")
def test_files_are_in_logs_by_default(new_logger: NewLogger, tmp_path: Path) -> None:
    """The file is `./logs/<name>.log`, and each line is there at once."""
    new_logger("training").info("hello")
    text = (tmp_path / "logs" / "training.log").read_text()
    assert text.endswith("INFO       training: hello\n")


@pytest.mark.row("R2")
def test_log_dir_and_name_make_the_path(new_logger: NewLogger, tmp_path: Path) -> None:
    """A name that is no file's becomes one."""
    new_logger("a/b c", log_dir="./experiments/logs").info("hello")
    assert (tmp_path / "experiments" / "logs" / "a_b_c.log").exists()


@pytest.mark.row("R3")
@pytest.mark.parametrize("most", [1, 3])
def test_files_take_turns(most: int, new_logger: NewLogger, tmp_path: Path) -> None:
    """At most so many files, none larger than the limit; the latest line is there."""
    logger = new_logger("big", max_log_files=most, max_file_size="1MB")
    line = "x" * 100_000
    for _ in range(12 * (most + 1)):
        logger.info(line)
    logger.info("the end")
    files = list((tmp_path / "logs").iterdir())
    assert most == len(files)
    assert all(0 < file.stat().st_size <= 2**20 for file in files)
    assert "the end" in (tmp_path / "logs" / "big.log").read_text()


@pytest.mark.row("R3")
def test_loggers_of_one_name_turn_one_file(
    new_logger: NewLogger, tmp_path: Path
) -> None:
    """No line of either is lost, and the limits hold for both together."""
    first, second = (
        new_logger("same", max_log_files=9, max_file_size="10KB") for _ in range(2)
    )
    for number in range(200):
        first.info(f"first {number:03} {'x' * 60}")
        second.info(f"second {number:03} {'x' * 60}")
    first.close()
    second.info("goes on")
    files = list((tmp_path / "logs").iterdir())
    assert all(file.stat().st_size <= 10 * 1024 for file in files)
    lines = [line for file in files for line in file.read_text().splitlines()]
    assert 401 == len(lines)


@pytest.mark.row("R4")
def test_json_files_have_an_object_a_line(
    new_logger: NewLogger, tmp_path: Path
) -> None:
    """Each line of `<name>.jsonl` is an object with message, level and metrics."""
    logger = new_logger("training", json_logging=True)
    logger.info("first\nof two lines")
    logger.log_metrics({"loss": 0.5, "nan": float("nan")}, step=3)
    lines = (tmp_path / "logs" / "training.jsonl").read_text().splitlines()
    first, second = map(json.loads, lines)
    assert ("INFO", "first\nof two lines") == (first["level"], first["message"])
    assert ({"loss": 0.5, "nan": "NaN"}, 3) == (second["metrics"], second["step"])


@pytest.mark.row("R5")
@pytest.mark.parametrize("colored", [True, False])
def test_colours_can_be_switched_off(
    colored: bool, new_logger: NewLogger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Escape bytes are on the console if it is coloured, and never in the file."""
    logger = new_logger("training", colored_output=colored)
    logger.error("red")
    logger.log_metrics({"loss": 0.5})
    output = capsys.readouterr().err
    assert "loss=0.5000" in output
    assert colored == ("\x1b[" in output)
    assert "\x1b" not in Path("logs/training.log").read_text()


def test_a_folder_that_cannot_be_made_stops_nothing(
    new_logger: NewLogger,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged once; the console goes on."""
    (tmp_path / "taken").write_text("a file")
    logger = new_logger("training", log_dir=tmp_path / "taken")
    logger.info("still there")
    assert 1 == len(caplog.records)
    assert "no log file: " in caplog.text
    assert "still there" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
def test_a_full_disk_stops_nothing(
    new_logger: NewLogger,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What the file raises is logged once; the console goes on."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "training.log").symlink_to("/dev/full")
    logger = new_logger("training")
    logger.info("first")
    logger.info("second")
    assert 1 == len(caplog.records)
    assert "No space left" in caplog.text
    assert "second" in capsys.readouterr().err
