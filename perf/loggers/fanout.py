"""Several handlers of `logging` as one, behind which their failures stay."""

from __future__ import annotations

import logging
from collections.abc import Callable

from perf._model.log import OnceLog
from perf.loggers.filters import passed
from perf.loggers.handler import HandlerStats, keep_open
from perf.loggers.redaction import error_line

__all__ = ["FanOut"]


class FanOut(logging.Handler):
    """Hands records to any number of handlers; one that raises stops no other.

    Each handler keeps its own level, filters, formatter and lock. What a handler raises
    is counted, and logged the first time.
    """

    def __init__(self, *handlers: logging.Handler) -> None:
        super().__init__()
        keep_open(self)
        self.stats = HandlerStats()
        self.name = "handlers"
        self._handlers: tuple[logging.Handler, ...] = handlers
        """Replaced, never changed."""
        self._log = OnceLog()

    @property
    def handlers(self) -> tuple[logging.Handler, ...]:
        """Those that records are handed to."""
        return self._handlers

    def add(self, handler: logging.Handler) -> None:
        """Adds a handler, once."""
        if not any(each is handler for each in self._handlers):
            self._handlers += (handler,)

    def remove(self, handler: logging.Handler) -> None:
        """Takes a handler away, as it is."""
        self._handlers = tuple(each for each in self._handlers if each is not handler)

    def handle(self, record: logging.LogRecord) -> bool:
        """Hands on a record that passes the filters."""
        taken = passed(self, record)
        if taken is not None:
            self.emit(taken)
        return taken is not None

    def emit(self, record: logging.LogRecord) -> None:
        """Hands a record to the handlers whose level it has. Never raises."""
        for handler in self._handlers:
            if record.levelno >= handler.level and self._attempt(
                handler, "log", handler.handle, record
            ):
                self.stats.delivered += 1

    def flush(self) -> None:
        """Has all of them write what is pending."""
        for handler in self._handlers:
            self._attempt(handler, "flush", handler.flush)

    def close(self) -> None:
        """Closes all of them; nothing reaches them afterwards."""
        handlers, self._handlers = self._handlers, ()
        for handler in handlers:
            self._attempt(handler, "close", handler.close)
        super().close()

    def failed(self, what: str, error: BaseException) -> None:
        """Counts a failure, and logs the first."""
        self._say(self, what, error)

    def _attempt(
        self,
        handler: logging.Handler,
        what: str,
        call: Callable[..., object],
        *arguments: object,
    ) -> bool:
        try:
            call(*arguments)
        except Exception as error:
            self._say(handler, what, error)
            return False
        return True

    def _say(self, handler: logging.Handler, what: str, error: BaseException) -> None:
        self.stats.failed += 1
        self._log.say(
            f"{id(handler)}",
            f"{type(handler).__name__} failed to {what}: {error_line(error)}; the "
            "others go on",
        )
