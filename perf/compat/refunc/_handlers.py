"""Where lines go: to the console, into files that take turns, at once or later."""

from __future__ import annotations

import logging
import logging.handlers
import re
import sys
from pathlib import Path
from typing import Final, TextIO

from perf import loggers
from perf.compat.refunc._formatters import ColoredFormatter, JSONFormatter, MLFormatter
from perf.loggers.backends.files import rotating_file
from perf.loggers.fanout import FanOut
from perf.loggers.redaction import error_line
from perf.loggers.sharing import Shared

_BURST: Final = 100
"""An `AsyncHandler` keeps as many buffers in a burst."""

_files: Final[Shared[logging.Handler]] = Shared()
"""By path: of two loggers that turn one file each would write into the other's old."""


class AsyncHandler(loggers.AsyncHandler):
    """Has a thread write a logger's lines: `logger.add_handler(AsyncHandler())`.

    What the logger wrote to before, it writes to through this. Integrations have
    threads of their own and do not pass here.

    Args:
        buffer_size: of records. A hundred times as many may wait; beyond that the
            oldest give way, counted in `stats`.
        flush_interval: seconds after which what was written is flushed.
    """

    def __init__(self, buffer_size: int = 1000, flush_interval: float = 5.0) -> None:
        self.outputs = FanOut()
        super().__init__(
            self.outputs, capacity=buffer_size * _BURST, flush_interval_s=flush_interval
        )


class BufferedHandler(loggers.BufferedHandler):
    """Writes a logger's lines many at a time: `logger.add_handler(BufferedHandler())`.

    What the logger wrote to before, it writes to through this.

    Args:
        buffer_size: so many records are written together.
        auto_flush: whether an error has all written at once.
    """

    def __init__(self, buffer_size: int = 100, auto_flush: bool = True) -> None:
        self.outputs = FanOut()
        flush_level = logging.ERROR if auto_flush else sys.maxsize
        super().__init__(self.outputs, buffer_size, flush_level)


class Console(logging.StreamHandler[TextIO]):
    """Writes to the standard error output, whatever that is at the time."""

    def __init__(self, *, colored: bool) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(ColoredFormatter() if colored else MLFormatter())
        self.handleError = _raise  # type: ignore[method-assign]

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line, above a bar of tqdm if there is one."""
        self.stream = sys.stderr
        tqdm = sys.modules.get("tqdm")
        if tqdm is None:
            super().emit(record)
            return
        with tqdm.tqdm.external_write_mode(file=sys.stderr):
            super().emit(record)


class LogFile(logging.Handler):
    """A share in a rotating file.

    A file that cannot be opened is said once, and nothing is written.
    """

    def __init__(
        self,
        log_dir: Path,
        name: str,
        *,
        json_lines: bool,
        max_file_size: int | str,
        max_files: int,
    ) -> None:
        super().__init__()
        suffix = ".jsonl" if json_lines else ".log"
        self.path = log_dir / (re.sub(r"[^\w.+=-]", "_", name) + suffix)
        self._key = str(self.path.absolute())
        self._file: logging.Handler | None = None

        def opened() -> logging.Handler:
            handler = rotating_file(self._key, max_file_size, max_files)
            handler.setFormatter(JSONFormatter() if json_lines else MLFormatter())
            handler.handleError = _raise  # type: ignore[method-assign]
            return handler

        try:
            self._file = _files.take(self._key, opened)
        except OSError as error:
            logging.getLogger("perf").warning(
                "no log file for %s: %s; the console goes on", name, error_line(error)
            )

    def handle(self, record: logging.LogRecord) -> bool:
        """Writes a record; the file has the lock."""
        return self._file is not None and bool(self._file.handle(record))

    def flush(self) -> None:
        """Writes what is pending."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """The last to close closes the file."""
        if self._file is not None:
            self._file = None
            _files.release(self._key, lambda handler: handler.close())
        super().close()


def _raise(record: logging.LogRecord) -> None:
    """In place of a traceback for each line: the fan-out says it once."""
    raise
