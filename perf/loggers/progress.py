"""Progress of loops: lines for a logger, a bar for a terminal, and both at once."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TextIO

from perf.loggers.values import format_metrics

__all__ = ["ConsoleHandler", "ProgressLogger", "ProgressTracker", "TqdmProgressTracker"]

LINE_EVERY_S: Final = 10.0
"""A tracker with a logger says how far it is so often, unasked."""


class ProgressLogger(Protocol):
    """What a tracker gives its lines to."""

    @property
    def progress(self) -> Callable[..., None]:
        """Takes a line, metrics, and as `step` the count."""


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
        logger: ProgressLogger | None = None,
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
        """Counts on, by an amount; metrics alone count as one."""
        count, given = (1, amount) if isinstance(amount, Mapping) else (amount, metrics)
        self.count += count
        self.metrics.update(given or {})
        self._show(count)

    def log_progress(self) -> None:
        """Says now how far it is."""
        self._said_s = self._clock()
        share = f"/{self.total} ({self.count / self.total:.0%})" if self.total else ""
        elapsed_s = self._said_s - self._began_s
        line = f"{self.description}: {self.count}{share} in {elapsed_s:.1f} s"
        if self._logger is not None:
            self._logger.progress(line, self.metrics, step=self.count)
        else:
            sys.stderr.write(f"{line} {format_metrics(self.metrics)}\n")

    def finish(self) -> None:
        """Says how far it came. Harmless when repeated."""
        if not self._finished:
            self._finished = True
            self._end()

    def _show(self, count: int) -> None:
        if self._logger is not None and self._clock() - self._said_s >= LINE_EVERY_S:
            self.log_progress()

    def _end(self) -> None:
        self.log_progress()

    def __enter__(self) -> ProgressTracker:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.finish()


class TqdmProgressTracker(ProgressTracker):
    """Shows a bar of tqdm, with the latest metrics behind it."""

    def __init__(self, total: int | None = None, desc: str = "Progress") -> None:
        from tqdm import tqdm

        super().__init__(total, desc)
        self._bar = tqdm(total=total, desc=desc)

    def log_progress(self) -> None:
        """Draws the bar now."""
        self._bar.set_postfix(format_metrics(self.metrics))

    def _show(self, count: int) -> None:
        # Metrics are put into words when the bar is drawn, not in each step.
        if self._bar.update(count):
            self.log_progress()

    def _end(self) -> None:
        self.log_progress()
        self._bar.close()


class ConsoleHandler(logging.StreamHandler[TextIO]):
    """Writes lines to the standard error output, whatever that is at the time.

    Bars of tqdm stay below the lines.

    Args:
        formatter: of the lines.
    """

    def __init__(self, formatter: logging.Formatter | None = None) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line."""
        self.stream = sys.stderr
        if (tqdm := sys.modules.get("tqdm")) is None:
            super().emit(record)
        else:
            with tqdm.tqdm.external_write_mode(file=sys.stderr):
                super().emit(record)
