"""What makes a logger write its lines later."""

from __future__ import annotations

import logging
import sys

from perf import loggers
from perf.loggers.fanout import FanOut


class AsyncHandler(loggers.AsyncHandler):
    """Has a thread write a logger's lines: `logger.add_handler(AsyncHandler())`.

    Integrations have threads of their own and do not pass here.

    Args:
        buffer_size: of records. A hundred times as many may wait; beyond that the
            oldest give way, counted in `stats`.
        flush_interval: seconds after which what was written is flushed.
    """

    def __init__(self, buffer_size: int = 1000, flush_interval: float = 5.0) -> None:
        self.outputs = FanOut()
        capacity, interval_s = 100 * buffer_size, flush_interval
        super().__init__(self.outputs, capacity=capacity, flush_interval_s=interval_s)


class BufferedHandler(loggers.BufferedHandler):
    """Writes a logger's lines many at a time: `logger.add_handler(BufferedHandler())`.

    Args:
        buffer_size: so many records are written together.
        auto_flush: whether an error has all written at once.
    """

    def __init__(self, buffer_size: int = 100, auto_flush: bool = True) -> None:
        self.outputs = FanOut()
        flush_level = logging.ERROR if auto_flush else sys.maxsize
        super().__init__(self.outputs, buffer_size, flush_level)
