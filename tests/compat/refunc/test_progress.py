"""Progress of loops and of trainings."""

from __future__ import annotations

import contextlib
import sys

import pytest

from perf.compat.refunc.logging import (
    EpochTracker,
    LogEntry,
    MLLogger,
    ProgressTracker,
    TqdmProgressTracker,
    epoch_context,
    progress_context,
)
from tests.loggers.sinks import Rich

Capture = pytest.CaptureFixture[str]


def lines(logger: MLLogger, level: str = "PROGRESS") -> list[LogEntry]:
    """What was logged of progress."""
    return logger.get_log_entries(level=level)


@pytest.mark.row("R22")
def test_a_tracker_counts_and_says_so(logger: MLLogger) -> None:
    """Both forms of `update` count; the line at the end says 100 %."""
    tracker = ProgressTracker(total=4, description="Training", logger=logger)
    tracker.update(1, {"loss": 0.5})
    tracker.update({"loss": 0.25, "lr": 0.1})
    tracker.log_progress()
    tracker.update()
    tracker.update(1)
    tracker.finish()
    tracker.finish()
    half, whole = lines(logger)
    assert half.message.startswith("Training: 2/4 (50%) in ")
    assert {"loss": 0.25, "lr": 0.1} == half.metrics
    assert whole.message.startswith("Training: 4/4 (100%) in ")


@pytest.mark.row("R22")
def test_a_tracker_without_total_or_logger_has_lines_too(capsys: Capture) -> None:
    """They go to the standard error output."""
    tracker = ProgressTracker(description="Reading")
    tracker.update(3, {"files": 2})
    tracker.log_progress()
    assert "Reading: 3 in " in capsys.readouterr().err


def test_lines_come_by_themselves_but_rarely(logger: MLLogger) -> None:
    """One in ten seconds at most, however many updates there are."""
    seconds = [0.0]
    tracker = ProgressTracker(1000, "Training", logger, _clock=lambda: seconds[0])
    for _ in range(1000):
        seconds[0] += 1 / 16
        tracker.update(1)
    counts = [entry.message.partition("/")[0] for entry in lines(logger)]
    assert [f"Training: {count}" for count in range(160, 1000, 160)] == counts


@pytest.mark.row("R23")
def test_a_bar_shows_metrics(capsys: Capture) -> None:
    """Tqdm's bar ends at its total, with the latest metrics behind it."""
    with TqdmProgressTracker(total=1000, desc="Training") as bar:
        for _ in range(1000):
            bar.update(1, {"loss": 0.234567, "lr": 0.1})
    shown = capsys.readouterr().err
    assert "Training: 100%" in shown
    assert "1000/1000" in shown
    assert "loss=0.2346" in shown.rpartition("\r")[2]


@pytest.mark.row("R24")
def test_epochs_end_with_a_line(logger: MLLogger) -> None:
    """It has the latest metrics of the steps and those of the end."""
    sink = Rich()
    logger.add_integration(sink)
    tracker = EpochTracker(total_epochs=2, steps_per_epoch=3, logger=logger)
    for epoch in range(2):
        tracker.start_epoch(epoch)
        for step in range(3):
            tracker.update_step({"loss": 1.0 - step / 10})
        tracker.end_epoch({"val_accuracy": 0.9})
    first, second = lines(logger, "METRIC")
    assert ("Epoch 1/2: 3 steps", 0, 3) == (first.message, first.epoch, first.step)
    assert ("Epoch 2/2: 3 steps", 1, 6) == (second.message, second.epoch, second.step)
    assert {"loss": 0.8, "val_accuracy": 0.9} == second.metrics
    logger.flush()
    assert ("val_accuracy", 0.9, 6) in sink.scalars


@pytest.mark.row("R24")
def test_steps_of_an_epoch_cost_no_lines(logger: MLLogger) -> None:
    """A hundred thousand updates make the line of the epoch and few more."""
    tracker = EpochTracker(total_epochs=1, steps_per_epoch=100_000, logger=logger)
    tracker.start_epoch(0)
    for _ in range(100_000):
        tracker.update_step({"loss": 0.5})
    tracker.end_epoch()
    assert "Epoch 1/1: 100000 steps" == lines(logger, "METRIC")[0].message
    assert len(logger.get_log_entries()) < 10


def test_calls_outside_of_an_epoch_stop_nothing(logger: MLLogger) -> None:
    """There is nothing to count or to end."""
    tracker = EpochTracker(total_epochs=1, logger=logger)
    tracker.update_step({"loss": 0.5})
    tracker.log({"loss": 0.5})
    tracker.end_epoch()
    tracker.finish()
    assert [] == logger.get_log_entries()


@pytest.mark.row("R25")
def test_a_progress_context_finishes(logger: MLLogger, capsys: Capture) -> None:
    """With a logger it has lines, without one a bar; also where a loop is left."""
    with progress_context("Training", total=2, logger=logger) as tracker:
        tracker.update(1, {"step": 0})
        tracker.update({"step": 1})
    assert "Training: 2/2 (100%)" in lines(logger)[-1].message
    with contextlib.suppress(KeyError):
        with progress_context("Leaving", total=2) as tracker:
            tracker.update(1)
            raise KeyError
    shown = capsys.readouterr().err
    assert "Leaving:  50%" in shown
    assert shown.endswith("\n")


@pytest.mark.row("R25")
def test_an_epoch_context_iterates(logger: MLLogger, capsys: Capture) -> None:
    """Each epoch has what was logged in it; one that is left early, too."""
    seen = []
    with epoch_context(total_epochs=3, logger=logger) as epochs:
        for epoch in epochs:
            seen.append(epoch)
            epochs.log({"accuracy": epoch / 10})
            if epoch == 1:
                break
    assert [0, 1] == seen
    assert [{"accuracy": 0.0}, {"accuracy": 0.1}] == [
        entry.metrics for entry in lines(logger, "METRIC")
    ]
    with epoch_context(total_epochs=2) as epochs:
        for epoch in epochs:
            epochs.log({"accuracy": epoch / 10})
    assert "2/2" in capsys.readouterr().err


def test_lines_stand_above_a_bar(logger: MLLogger, capsys: Capture) -> None:
    """A line begins at the left, and the bar is drawn again below it."""
    with progress_context("Training", total=2) as tracker:
        logger.info("a line")
        tracker.update(1)
    shown = capsys.readouterr().err
    before, _, after = shown.partition("INFO")
    assert before.rpartition("\r")[2].startswith("20")  # the year, of a whole line
    assert "Training:" in after
    assert "tqdm" in sys.modules
