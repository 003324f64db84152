"""Rotating files: lines for people, in files of a bounded size and number."""

from __future__ import annotations

import logging
import logging.handlers
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from perf.loggers.config import ConfigError
from perf.loggers.filters import is_main_process
from perf.loggers.naming import substitute_placeholders
from perf.loggers.values import format_metrics

__all__ = ["FilesBackend", "parse_size", "rotating_file"]

_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kMGT]?)(i?)B?\s*", re.IGNORECASE)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_size(size: int | str, key: str = "max_file_size") -> int:
    """Bytes of a size: "100MB" and "100 MiB" are both 100 × 1024² bytes.

    Raises:
        ConfigError: it is no size.
    """
    match = _SIZE.fullmatch(str(size))
    found = 0 if match is None else float(match[1]) * 1024 ** _POWERS[match[2].lower()]
    if found < 1:
        raise ConfigError(key, 'a size such as "100MB"', repr(size))
    return int(found)


def rotating_file(
    path: str | os.PathLike[str], max_file_size: int | str, max_files: int
) -> logging.handlers.RotatingFileHandler:
    """A handler that writes lines into files that take turns.

    Args:
        path: of the current file; older ones have a number at the end. `{rank}`,
            `{time}` and the like are filled in.
        max_file_size: of one, "100MB".
        max_files: how many there are, the current one included.

    Raises:
        ConfigError: a size that is none, or no file at all.
        OSError: it cannot be opened.
    """
    if max_files < 1:
        raise ConfigError("max_files", "1 or more", str(max_files))
    whole = Path(substitute_placeholders(os.fspath(path)))
    size = parse_size(max_file_size)
    whole.parent.mkdir(parents=True, exist_ok=True)
    # With no file to rotate to, Python's handler would never cut this one.
    handler = logging.handlers.RotatingFileHandler(
        whole, maxBytes=size, backupCount=max(max_files - 1, 1), encoding="utf-8"
    )
    if max_files == 1:
        handler.rotator = _emptied
    return handler


class FilesBackend:
    """Writes a line for each call into files that take turns.

    Args:
        path: of the current file; older ones have a number at the end. `{rank}`,
            `{time}` and the like are filled in.
        max_file_size: of one, "100MB".
        max_files: how many there are, the current one included.
        precision: digits after the point.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] = "metrics.log",
        max_file_size: int | str = "100MB",
        max_files: int = 10,
        precision: int = 4,
    ) -> None:
        self._precision = precision
        self._handler: logging.handlers.RotatingFileHandler | None = None
        if is_main_process():
            handler = rotating_file(path, max_file_size, max_files)
            handler.setFormatter(
                logging.Formatter("%(asctime)s %(levelname)s %(message)s")
            )
            self.path = Path(handler.baseFilename)
            self._handler = handler

    def log_scalar(self, event: str, value: float | np.ndarray, **kwargs: Any) -> None:
        """Writes one value."""
        self.log_metrics({event: value}, **kwargs)

    def log_metrics(self, metrics: Mapping[str, Any], **kwargs: Any) -> None:
        """Writes all values of a call on one line."""
        values = format_metrics(metrics, self._precision)
        line = ", ".join(f"{name}={value}" for name, value in values.items())
        step = kwargs.get("step")
        self.notify(line if step is None else f"step={step} {line}", logging.INFO)

    def log_text(self, name: str, text: str, **kwargs: Any) -> None:
        """Writes a text."""
        self.notify(f"{name}: {text}", logging.INFO)

    def log_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Writes hyperparameters."""
        self.notify(f"hyperparameters: {dict(hparams)}", logging.INFO)

    def notify(self, message: str, level: int) -> None:
        """Writes a line with its level."""
        handler = self._handler
        if handler is not None:
            record = logging.LogRecord("metrics", level, "", 0, message, None, None)
            # `handle` would print what goes wrong instead of raising it.
            if handler.shouldRollover(record):
                handler.doRollover()
            stream = handler.stream or handler._open()
            stream.write(handler.format(record) + "\n")

    def flush(self) -> None:
        """Hands what is pending to the operating system."""
        if self._handler is not None:
            self._handler.flush()

    def close(self) -> None:
        """Closes the file."""
        if self._handler is not None:
            self._handler.close()
            self._handler = None


def _emptied(source: str, target: str) -> None:
    os.remove(source)
