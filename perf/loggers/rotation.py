"""Files that take turns: of a bounded size and number."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import re
from pathlib import Path
from typing import Final

from perf._model.log import logger
from perf.loggers.config import ConfigError
from perf.loggers.filters import passed
from perf.loggers.handler import keep_open
from perf.loggers.naming import substitute_placeholders
from perf.loggers.redaction import error_line
from perf.loggers.sharing import Shared

__all__ = ["RotatingFile", "parse_size"]

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


class RotatingFile(logging.Handler):
    """Writes lines into files that take turns.

    Those of one process with the same path are shares in one file: each on its own,
    they would turn it under each other's hands. Raises what goes wrong.

    Args:
        path: of the current file; older ones have a number at the end. `{rank}`,
            `{time}` and the like are filled in.
        max_file_size: of one, "100MB".
        max_files: how many there are, the current one included.
        formatter: of the lines.

    Raises:
        ConfigError: a size that is none, or no file at all.
        OSError: it cannot be opened.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        max_file_size: int | str = "100MB",
        max_files: int = 10,
        formatter: logging.Formatter | None = None,
    ) -> None:
        if max_files < 1:
            raise ConfigError("max_files", "1 or more", str(max_files))
        size = parse_size(max_file_size)
        super().__init__()
        keep_open(self)
        self.path = Path(substitute_placeholders(os.fspath(path)))
        self.formatter = formatter
        self._key = str(self.path.absolute())
        self._file: logging.handlers.RotatingFileHandler | None
        self._file = _files.take(self._key, lambda: _opened(self._key, size, max_files))

    def handle(self, record: logging.LogRecord) -> bool:
        """Writes a record that passes the filters. The lock is that of the file."""
        file, taken = self._file, passed(self, record)
        if taken is not None and file is not None:
            line = logging.makeLogRecord({"msg": self.format(taken)})
            with file.lock or contextlib.nullcontext():
                if file.stream is None:  # `dictConfig` closes all files
                    file.stream = file._open()
                # `handle` would print what goes wrong instead of raising it.
                if file.shouldRollover(line):
                    file.doRollover()
                file.stream.write(file.format(line) + "\n")
                file.stream.flush()
        return taken is not None

    def close(self) -> None:
        """The last to close closes the file."""
        if self._file is not None:
            self._file = None
            _files.release(self._key, lambda file: file.close())
        super().close()


def open_or_say(
    path: str | os.PathLike[str],
    max_file_size: int | str,
    max_files: int,
    formatter: logging.Formatter,
) -> RotatingFile | None:
    """A `RotatingFile`, or None: one that cannot be opened is a line in the log.

    Raises:
        ConfigError: a size that is none, or no file at all.
    """
    try:
        return RotatingFile(path, max_file_size, max_files, formatter)
    except OSError as error:
        logger.warning("no log file: %s; the console goes on", error_line(error))
        return None


_files: Final[Shared[logging.handlers.RotatingFileHandler]] = Shared()


def _opened(
    path: str, size: int, max_files: int
) -> logging.handlers.RotatingFileHandler:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    # With no file to rotate to, Python's handler would never cut this one.
    file = logging.handlers.RotatingFileHandler(
        path, maxBytes=size, backupCount=max(max_files - 1, 1), encoding="utf-8"
    )
    if max_files == 1:
        file.rotator = _emptied
    return file


def _emptied(source: str, target: str) -> None:
    os.remove(source)
