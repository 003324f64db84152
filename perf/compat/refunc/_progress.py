"""Progress of trainings, in epochs and steps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from perf.compat.refunc._logger import MLLogger
from perf.loggers.progress import ProgressTracker, TqdmProgressTracker


class EpochTracker:
    """Follows a training through epochs and their steps.

    Args:
        total_epochs: how many there will be.
        steps_per_epoch: likewise.
        logger: gets a line of metrics for each epoch, and the number of the epoch for
            its other entries. Without one there is a bar.
    """

    def __init__(
        self,
        total_epochs: int,
        steps_per_epoch: int | None = None,
        logger: MLLogger | None = None,
    ) -> None:
        self.total_epochs = total_epochs
        self._steps_per_epoch = steps_per_epoch
        self._logger = logger
        self._bar = None if logger else TqdmProgressTracker(total_epochs, "Epochs")
        self._steps: ProgressTracker | None = None
        """Of the epoch that runs."""
        self._past_steps = 0

    def start_epoch(self, epoch: int) -> None:
        """Begins an epoch, counted from 0."""
        name = f"Epoch {epoch + 1}/{self.total_epochs}"
        self._steps = ProgressTracker(self._steps_per_epoch, name, self._logger)
        if self._logger is not None:
            self._logger.set_epoch(epoch)

    def update_step(self, metrics: Mapping[str, Any] | None = None) -> None:
        """Counts a step; its metrics are the latest."""
        if self._steps is not None:
            self._steps.update(1, metrics)

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Takes metrics for the line of the epoch."""
        if self._steps is not None:
            self._steps.metrics.update(metrics)

    def end_epoch(self, metrics: Mapping[str, Any] | None = None) -> None:
        """Ends the epoch: its line has these metrics and the latest of its steps."""
        steps, self._steps = self._steps, None
        if steps is None:
            return
        steps.metrics.update(metrics or {})
        self._past_steps += steps.count
        if self._bar is not None:
            self._bar.update(1, steps.metrics)
        elif self._logger is not None:
            step = self._past_steps if steps.count else None
            line = f"{steps.description}: {steps.count} steps"
            self._logger.metric(line, steps.metrics, step=step)

    def finish(self) -> None:
        """Ends the epoch that runs, and the bar. Harmless when repeated."""
        self.end_epoch()
        if self._bar is not None:
            self._bar.finish()

    close = finish

    def __iter__(self) -> Iterator[int]:
        for epoch in range(self.total_epochs):
            self.start_epoch(epoch)
            yield epoch
            self.end_epoch()


def progress_context(
    description: str = "Progress",
    total: int | None = None,
    logger: MLLogger | None = None,
) -> ProgressTracker:
    """A tracker for a `with`: lines for the logger, or without one a bar."""
    if logger is None:
        return TqdmProgressTracker(total, description)
    return ProgressTracker(total, description, logger)


def epoch_context(
    total_epochs: int,
    steps_per_epoch: int | None = None,
    logger: MLLogger | None = None,
) -> contextlib.closing[EpochTracker]:
    """An `EpochTracker` to iterate over in a `with`; finished at the end."""
    return contextlib.closing(EpochTracker(total_epochs, steps_per_epoch, logger))
