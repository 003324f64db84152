"""Console: a line for each call, in colour where there is a terminal."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from perf.loggers.filters import is_main_process
from perf.loggers.values import format_metrics

__all__ = ["ConsoleBackend"]


class ConsoleBackend:
    """Prints metrics through rich.

    Args:
        format: of a line, as for `logging.Formatter`; by default rich's own columns for
            time and level are around the message.
        colored: None leaves it to rich, which looks whether there is a terminal.
        precision: digits after the point.
        file: where to; the standard error output by default.
    """

    def __init__(
        self,
        format: str = "",
        colored: bool | None = None,
        precision: int = 4,
        file: IO[str] | None = None,
    ) -> None:
        self._precision = precision
        self._handler: logging.Handler | None = None
        if is_main_process():
            from rich.console import Console
            from rich.logging import RichHandler

            console = Console(
                file=file,
                stderr=file is None,
                force_terminal=True if colored else None,
                no_color=colored is False,
                soft_wrap=True,
            )
            self._handler = RichHandler(
                console=console,
                show_path=False,
                show_time=not format,
                show_level=not format,
            )
            self._handler.setFormatter(logging.Formatter(format or "%(message)s"))

    def log_scalar(self, event: str, value: float | np.ndarray, **kwargs: Any) -> None:
        """Prints one value."""
        self.log_metrics({event: value}, **kwargs)

    def log_metrics(self, metrics: Mapping[str, Any], **kwargs: Any) -> None:
        """Prints all values of a call on one line."""
        values = format_metrics(metrics, self._precision)
        line = ", ".join(f"{name}={value}" for name, value in values.items())
        step = kwargs.get("step")
        self.notify(line if step is None else f"step {step}: {line}", logging.INFO)

    def log_text(self, name: str, text: str, **kwargs: Any) -> None:
        """Prints a text."""
        self.notify(f"{name}: {text}", logging.INFO)

    def log_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Prints hyperparameters."""
        self.notify(f"hyperparameters: {dict(hparams)}", logging.INFO)

    def log_result(self, results: Mapping[str, Any], **kwargs: Any) -> None:
        """Prints results."""
        values = format_metrics(results, self._precision)
        line = ", ".join(f"{name}={value}" for name, value in values.items())
        self.notify(f"result: {line}", logging.INFO)

    def notify(self, message: str, level: int) -> None:
        """Prints a line."""
        if self._handler is not None:
            record = logging.LogRecord("metrics", level, "", 0, message, None, None)
            self._handler.handle(record)

    def close(self) -> None:
        """Prints nothing any more."""
        self._handler = None
