"""Where lines go: the console, files that take turns, and later instead of now."""

from __future__ import annotations

import logging
import logging.handlers
import re
import sys
from pathlib import Path
from typing import Any, Final, TextIO

from perf.compat.refunc._formatters import JSONFormatter, MLFormatter
from perf.loggers import delivery
from perf.loggers.backends.files import rotating_file
from perf.loggers.redaction import error_line
from perf.loggers.sharing import Shared

_BUFFERS: Final = 100
"""So many times its size an `AsyncHandler` keeps in a burst."""

_files: Final[Shared[logging.Handler]] = Shared()
"""By path: two loggers of one name turn one file, not each other's."""


class Outputs(logging.Handler):
    """Hands records to any number of handlers; what one raises stops no other."""

    def __init__(self) -> None:
        super().__init__()
        self._handlers: tuple[logging.Handler, ...] = ()
        """Replaced, never changed."""
        self._said: set[int] = set()

    def add(self, handler: logging.Handler) -> None:
        """Adds a handler, once."""
        if handler not in self._handlers:
            self._handlers += (handler,)

    def remove(self, handler: logging.Handler) -> None:
        """Takes a handler away."""
        self._handlers = tuple(each for each in self._handlers if each is not handler)

    def handle(self, record: logging.LogRecord) -> bool:
        """Hands a record on. Each handler has a lock of its own."""
        for handler in self._handlers:
            if record.levelno >= handler.level:
                try:
                    handler.handle(record)
                except Exception as error:
                    self._failed(handler, error)
        return True

    def flush(self) -> None:
        """Has all handlers write what is pending."""
        for handler in self._handlers:
            try:
                handler.flush()
            except Exception as error:
                self._failed(handler, error)

    def close(self) -> None:
        """Closes all handlers. Harmless when repeated."""
        for handler in self._handlers:
            try:
                handler.close()
            except Exception as error:
                self._failed(handler, error)
        super().close()

    def failed(self, what: str, error: BaseException) -> None:
        """Says that the handlers failed, once: for `AsyncHandler`."""
        self._failed(self, error)

    @property
    def stats(self) -> Any:
        """None is kept: for `AsyncHandler`."""
        return delivery.HandlerStats()

    def _failed(self, handler: logging.Handler, error: BaseException) -> None:
        if id(handler) not in self._said:
            self._said.add(id(handler))
            logging.getLogger("perf").warning(
                "%s failed: %s; the others go on (said once)", handler, error_line(error)
            )
