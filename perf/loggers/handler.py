"""A backend as a handler of `logging`, behind which its failures stay."""

from __future__ import annotations

import atexit
import copy
import dataclasses
import logging
import time
import weakref
from collections.abc import Callable
from typing import Any, Final

from perf._model.log import OnceLog
from perf.loggers.filters import own_record
from perf.loggers.levels import level_number
from perf.loggers.protocol import LoggingBackend
from perf.loggers.records import kind_of, step_of
from perf.loggers.redaction import error_line
from perf.loggers.values import is_gone

__all__ = ["BackendHandler", "HandlerStats"]

FAILURES_IN_A_ROW: Final = 3
"""After so many a backend is left out for a while."""
LEFT_OUT_S: Final = 60.0
"""How long."""

_OWN_LOGGER: Final = "perf"


@dataclasses.dataclass(slots=True)
class HandlerStats:
    """What became of the records that a handler was given."""

    delivered: int = 0
    failed: int = 0
    """The backend raised, or one of its filters."""
    dropped: int = 0
    """It never saw them: it was left out, or its queue was full."""


def filter_failure(name: str | None, error: Exception) -> str:
    """The log line on a filter of one backend that raised."""
    return (
        f"a filter of metrics backend {name} failed: {error_line(error)}; the backend "
        "does not get the record, the others do"
    )


def keep_open(handler: logging.Handler) -> None:
    """Takes a handler from the list of those that `logging` closes.

    `dictConfig` closes all on it, wherever they are attached: metrics would end as soon
    as a library configures its log. It holds the lock of `logging` meanwhile, which
    threads of ours need to deliver what it would wait for. And at exit `logging` waits
    for the lock of each, which a backend that hangs never lets go.
    """
    # There is no public way.
    logging._removeHandlerRef(weakref.ref(handler))  # type: ignore[attr-defined]


class BackendHandler(logging.Handler):
    """Hands records to a backend; what the backend raises goes no further.

    The first failure is logged, all are counted. After `FAILURES_IN_A_ROW` the backend
    is left out for `LEFT_OUT_S` seconds, then tried again. It is closed when the
    interpreter exits.

    Args:
        backend: anything with `log_scalar` and `close`; see `OPTIONAL_METHODS`.
        name: of the backend, in log lines; its class otherwise.
        texts: whether it is given texts: they may hold prompts and completions.
    """

    def __init__(
        self,
        backend: LoggingBackend,
        *,
        name: str = "",
        texts: bool = False,
        level: int | str = logging.NOTSET,
        _clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not isinstance(backend, LoggingBackend):
            raise TypeError(
                f"{type(backend).__name__} is no backend: expected the methods "
                "log_scalar(event, value, **kwargs) and close()"
            )
        super().__init__(level_number(level))
        keep_open(self)
        self.backend = backend
        self.texts = texts
        self.name = name or type(backend).__name__
        self.stats = HandlerStats()
        # A configuration may give them as numbers.
        self._secrets = tuple(map(str, getattr(backend, "secrets", ())))
        self._with_wall_time = getattr(backend, "takes_wall_time", False)
        self._texts_together = texts and getattr(backend, "texts_with_metrics", False)
        self._clock = _clock
        self._log = OnceLog()
        self._failures = 0
        self._out_until: float | None = None
        self._closed = False
        # After the backend was made: hooks run in reverse, and those of its library
        # would close it under our hands.
        atexit.register(self.close)

    def handle(self, record: logging.LogRecord) -> bool:
        """Emits a record that passes the filters; middleware gets one of its own."""
        try:
            return bool(super().handle(own_record(record, self.filters)))
        except Exception as error:  # of a filter: `emit` raises none
            self.stats.failed += 1
            self._log.say("filter", filter_failure(self.name, error))
            return False

    def emit(self, record: logging.LogRecord) -> None:
        """Hands a record over. Never raises."""
        # Our own complaints would come back to the backend that they are about.
        if self._closed or record.name == _OWN_LOGGER:
            return
        if self._out_until is not None and self._clock() < self._out_until:
            self.stats.dropped += 1
            return
        readable = self._readable(record)
        if readable is None:
            self.stats.failed += 1
        elif self.attempt("log", lambda: self._deliver(readable)):
            self.stats.delivered += 1

    def flush(self) -> None:
        """Has the backend write what is pending, if it can."""
        flush = getattr(self.backend, "flush", None)
        if callable(flush) and not self._closed and self._out_until is None:
            self.attempt("flush", flush)

    def close(self) -> None:
        """Closes the backend, once; nothing reaches it afterwards."""
        atexit.unregister(self.close)
        if not self._closed:
            self._closed = True
            self.attempt("close", self.backend.close)
        super().close()

    def attempt(self, what: str, call: Callable[[], object]) -> bool:
        """Whether a call of the backend went well; if not, that is logged once."""
        try:
            call()
        except Exception as error:
            self.failed(what, error)
            return False
        self._failures = 0
        self._out_until = None
        return True

    def failed(self, what: str, error: BaseException) -> None:
        """Counts a failure of the backend, and logs the first."""
        self._failures += 1
        self.stats.failed += what == "log"
        if self._failures >= FAILURES_IN_A_ROW:
            self._out_until = self._clock() + LEFT_OUT_S
        self._log.say(
            "failed",
            f"metrics backend {self.name} failed to {what}: "
            f"{error_line(error, self._secrets)}; the others go on, and it is left "
            f"out for {LEFT_OUT_S:.0f} s after {FAILURES_IN_A_ROW} failures in a row",
        )

    def _readable(self, record: logging.LogRecord) -> logging.LogRecord | None:
        """A record without what cannot be read any more; None if nothing is left.

        That is no fault of the backend, which would be left out for it.
        """
        try:
            step_of(record)
        except Exception as error:  # it is no number, or its memory was given away
            self._log.say("step", f"metrics without a step: {error_line(error)}")
            return None
        if kind_of(record) == "message":
            return record
        values: Any = record.msg
        gone = [name for name, value in values.items() if is_gone(value)]
        if not gone:
            return record
        self._log.say(
            "gone",
            f"metrics are left out, {gone[0]!r} first: their memory was given away "
            "before they were read. Log what a jitted function returns, or a copy.",
        )
        if len(gone) == len(values):
            return None
        record = copy.copy(record)
        record.msg = {name: value for name, value in values.items() if name not in gone}
        return record

    def _deliver(self, record: logging.LogRecord) -> None:
        kind, backend = kind_of(record), self.backend
        if kind == "message":
            if notify := getattr(backend, "notify", None):
                notify(self.format(record), record.levelno)
            return
        values: Any = record.msg
        if kind in ("hparams", "tags"):
            if method := getattr(backend, f"log_{kind}", None):
                method(values)
            return
        kwargs = dict(getattr(record, "options", {}))
        step = step_of(record)
        if step is not None:
            kwargs["step"] = step
        if self._with_wall_time:
            kwargs["wall_time"] = record.created
        if kind == "result" and (method := getattr(backend, "log_result", None)):
            method(values, **kwargs)
        elif kind in ("metrics", "result"):
            self._deliver_metrics(values, kwargs)
        elif (kind != "text" or self.texts) and (
            method := getattr(backend, f"log_{kind}", None)
        ):
            for name, value in values.items():
                method(name, value, **kwargs)

    def _deliver_metrics(self, values: Any, kwargs: dict[str, Any]) -> None:
        backend = self.backend
        numbers = {}
        for name, value in values.items():
            if self._texts_together or not isinstance(value, str):
                numbers[name] = value
            elif self.texts and (method := getattr(backend, "log_text", None)):
                method(name, value, **kwargs)
        if not numbers:
            return
        if method := getattr(backend, "log_metrics", None):
            method(numbers, **kwargs)
        else:
            for name, value in numbers.items():
                backend.log_scalar(name, value, **kwargs)
