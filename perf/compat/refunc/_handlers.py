"""Where lines go: to the console, into a file, at once or later."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Final

from perf import loggers
from perf.compat.refunc._formatters import JSONFormatter, MLFormatter
from perf.loggers.fanout import FanOut
from perf.loggers.naming import file_name
from perf.loggers.redaction import error_line
from perf.loggers.rotation import RotatingFile

_BURST: Final = 100
"""An `AsyncHandler` keeps so many buffers in a burst."""


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
        capacity = buffer_size * _BURST
        super().__init__(
            self.outputs, capacity=capacity, flush_interval_s=flush_interval
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


def log_file(
    log_dir: str | Path | None,
    name: str,
    json_lines: bool,
    max_file_size: str,
    max_files: int,
) -> list[logging.Handler]:
    """The file of a logger, or nothing: where it cannot be opened, that is logged."""
    suffix = ".jsonl" if json_lines else ".log"
    path = Path("logs" if log_dir is None else log_dir) / (file_name(name) + suffix)
    formatter = JSONFormatter() if json_lines else MLFormatter()
    try:
        return [RotatingFile(path, max_file_size, max_files, formatter)]
    except OSError as error:
        logging.getLogger("perf").warning(
            "no log file for %s: %s; the console goes on", name, error_line(error)
        )
        return []
