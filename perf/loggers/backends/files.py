"""Rotating files: lines for people, in files of a bounded size and number."""

from __future__ import annotations

import logging
import logging.handlers
import os
import re
from pathlib import Path
from typing import Final

from perf.loggers.config import ConfigError
from perf.loggers.filters import is_main_process
from perf.loggers.lines import LineBackend
from perf.loggers.naming import substitute_placeholders
from perf.loggers.records import make_message

__all__ = ["FilesBackend", "parse_size"]

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


class FilesBackend(LineBackend):
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
        if max_files < 1:
            raise ConfigError("max_files", "1 or more", str(max_files))
        size = parse_size(max_file_size)
        super().__init__(precision)
        self._handler: logging.handlers.RotatingFileHandler | None = None
        if is_main_process():
            self.path = Path(substitute_placeholders(os.fspath(path)))
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # With no file to rotate to, Python's handler would never cut this one.
            handler = logging.handlers.RotatingFileHandler(
                self.path, maxBytes=size, backupCount=max_files - 1, encoding="utf-8"
            )
            if max_files == 1:
                handler.rotator = _emptied
                handler.backupCount = 1
            handler.setFormatter(
                logging.Formatter("%(asctime)s %(levelname)s %(message)s")
            )
            self._handler = handler

    def notify(self, message: str, level: int) -> None:
        """Writes a line with its level."""
        handler = self._handler
        if handler is not None:
            record = make_message(message, level)
            # `handle` would print what goes wrong instead of raising it.
            if handler.shouldRollover(record):
                handler.doRollover()
            stream = handler.stream or handler._open()
            stream.write(handler.format(record) + "\n")
            stream.flush()

    def close(self) -> None:
        """Closes the file."""
        if self._handler is not None:
            self._handler.close()
            self._handler = None


def _emptied(source: str, target: str) -> None:
    os.remove(source)
