"""Progress of loops: lines for a logger, a bar for a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from perf.loggers.values import format_metrics

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from perf.compat.refunc._logger import MLLogger

LINE_EVERY_S: Final = 10.0
"""A tracker with a logger says how far it is so often, unasked."""


class ProgressTracker:
    """Counts how far a loop is, and says so.

    Args:
        total: what it counts up to, if that is known.
        description: what the loop does.
        logger: gets a line from time to time, and at the end; without one, lines that
            are asked for go to the standard error output.
    """

    def __init__(
        self,
        total: int | None = None,
        description: str = "Progress",
        logger: MLLogger | None = None,
        _clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = total
        self.description = description
        self.count = 0
        self.metrics: dict[str, Any] = {}
        """The latest value of each."""
        self._logger = logger
        self._clock = _clock
        self._began_s = self._said_s = _clock()
        self._finished = False

    def update(
        self,
        amount: int | Mapping[str, Any] = 1,
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        """Counts on.

        Args:
            amount: by how much; metrics alone count as one.
            metrics: what the loop is at.
        """
        if isinstance(amount, Mapping):
            amount, metrics = 1, amount
        self.count += amount
        if metrics:
            self.metrics.update(metrics)
        self._show(amount)

    def log_progress(self) -> None:
        """Says now how far it is."""
        self._said_s = self._clock()
        share = f"/{self.total} ({self.count / self.total:.0%})" if self.total else ""
        elapsed_s = self._said_s - self._began_s
        line = f"{self.description}: {self.count}{share} in {elapsed_s:.1f} s"
        if self._logger is not None:
            self._logger.progress(line, self.metrics)
        else:
            values = format_metrics(self.metrics).items()
            shown = ", ".join(f"{name}={value}" for name, value in values)
            print(line, shown, file=sys.stderr)

    def finish(self) -> None:
        """Says how far it came. Harmless when repeated."""
        if not self._finished:
            self._finished = True
            self._end()

    def _show(self, amount: int) -> None:
        if self._logger is not None and self._clock() - self._said_s >= LINE_EVERY_S:
            self.log_progress()

    def _end(self) -> None:
        self.log_progress()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.finish()


class TqdmProgressTracker(ProgressTracker):
    """Shows a bar of tqdm, with the latest metrics behind it.

    Args:
        total: what it counts up to, if that is known.
        desc: what stands before the bar.
    """

    def __init__(self, total: int | None = None, desc: str = "Progress") -> None:
        super().__init__(total, desc)
        from tqdm import tqdm

        self._bar = tqdm(total=total, desc=desc)

    def log_progress(self) -> None:
        """Draws the bar now."""
        self._bar.set_postfix(format_metrics(self.metrics), refresh=True)

    def _show(self, amount: int) -> None:
        # Metrics are put into words when the bar is drawn, not in each step.
        if self._bar.update(amount):
            self.log_progress()

    def _end(self) -> None:
        self.log_progress()
        self._bar.close()


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
        _clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total_epochs = total_epochs
        self.steps_per_epoch = steps_per_epoch
        self.epoch: int | None = None
        """The one that runs."""
        self.step = 0
        """Of all epochs."""
        self._logger = logger
        self._clock = _clock
        self._bar = None if logger else TqdmProgressTracker(total_epochs, "Epochs")
        self._metrics: dict[str, Any] = {}
        self._first_step = 0
        self._began_s = self._said_s = 0.0

    def start_epoch(self, epoch: int) -> None:
        """Begins an epoch, counted from 0."""
        self.epoch = epoch
        self._metrics = {}
        self._first_step = self.step
        self._began_s = self._said_s = self._clock()
        if self._logger is not None:
            self._logger.set_epoch(epoch)

    def update_step(self, metrics: Mapping[str, Any] | None = None) -> None:
        """Counts a step; its metrics are the latest."""
        self.step += 1
        self.log(metrics or {})
        if self._logger is not None and self._clock() - self._said_s >= LINE_EVERY_S:
            self._said_s = self._clock()
            steps = self.step - self._first_step
            share = f"/{self.steps_per_epoch}" if self.steps_per_epoch else ""
            self._logger.progress(f"{self._name}: step {steps}{share}", self._metrics)

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Takes metrics for the line of the epoch."""
        self._metrics.update(metrics)

    def end_epoch(self, metrics: Mapping[str, Any] | None = None) -> None:
        """Ends the epoch: its line has these metrics and the latest of its steps."""
        self.log(metrics or {})
        if self._bar is not None:
            self._bar.update(1, self._metrics)
        elif self._logger is not None:
            steps = self.step - self._first_step
            line = (
                f"{self._name}: {steps} steps in {self._clock() - self._began_s:.1f} s"
            )
            step = self.step if steps else None
            self._logger.metric(line, self._metrics, step=step)
        self.epoch = None

    def finish(self) -> None:
        """Ends the epoch that runs, and the bar. Harmless when repeated."""
        if self.epoch is not None:
            self.end_epoch()
        if self._bar is not None:
            self._bar.finish()

    def __iter__(self) -> Iterator[int]:
        for epoch in range(self.total_epochs):
            self.start_epoch(epoch)
            yield epoch
            self.end_epoch()

    @property
    def _name(self) -> str:
        number = "?" if self.epoch is None else self.epoch + 1
        return f"Epoch {number}/{self.total_epochs}"


@contextlib.contextmanager
def progress_context(
    description: str = "Progress",
    total: int | None = None,
    logger: MLLogger | None = None,
) -> Iterator[ProgressTracker]:
    """A tracker that is finished at the end: lines for the logger, or a bar."""
    tracker = (
        TqdmProgressTracker(total, description)
        if logger is None
        else ProgressTracker(total, description, logger)
    )
    with tracker:
        yield tracker


@contextlib.contextmanager
def epoch_context(
    total_epochs: int,
    steps_per_epoch: int | None = None,
    logger: MLLogger | None = None,
) -> Iterator[EpochTracker]:
    """An `EpochTracker` to iterate over; finished at the end."""
    tracker = EpochTracker(total_epochs, steps_per_epoch, logger)
    try:
        yield tracker
    finally:
        tracker.finish()
