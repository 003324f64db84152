"""A service as one handler of `logging`, for any number of loggers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from perf.loggers.deferred import DeferredBackend
from perf.loggers.delivery import AsyncHandler
from perf.loggers.handler import BackendHandler
from perf.loggers.protocol import LoggingBackend
from perf.loggers.records import make_record
from perf.loggers.registry import backend_factory

__all__ = ["ServiceHandler", "deferred_backend"]

PATIENCE_S: Final = 30.0
"""So long a program waits for a service to be reached, before it goes on without."""


class ServiceHandler(AsyncHandler):
    """A backend behind a queue: what it does, raises or waits for delays nobody.

    One that is deferred is reached by its own thread, for which the first caller waits.

    Args:
        backend: anything with `log_scalar` and `close`.
        name: of the service, in log lines.
        texts: whether it is given texts.
        at_once: whether a deferred one is reached now, not with the first mapping.
    """

    def __init__(
        self,
        backend: LoggingBackend,
        name: str = "",
        *,
        texts: bool = False,
        at_once: bool = True,
    ) -> None:
        to = BackendHandler(backend, name=name, texts=texts)
        super().__init__(to, flush_interval_s=5.0)
        self._is_reached = not isinstance(backend, DeferredBackend)
        if isinstance(backend, DeferredBackend):
            backend.close_at_exit(self.close)
            if at_once:
                self.handle(make_record({}, "tags"))

    def emit(self, record: logging.LogRecord) -> None:
        """Queues a record. With the first mapping it is waited for the service."""
        super().emit(record)
        if not self._is_reached and isinstance(record.msg, Mapping):
            # At exit it would be too late: libraries cannot start then.
            self._is_reached = True
            self.flush(PATIENCE_S)


def deferred_backend(name: str, options: Mapping[str, Any]) -> DeferredBackend:
    """A backend by name that is made when it is first called.

    Args:
        name: one of `known_backends`, a class.
        options: its arguments; those that are None are left to its defaults.

    Raises:
        ConfigError: there is no such backend.
        MissingExtraError: its library is not installed.
    """
    given = {key: value for key, value in options.items() if value is not None}
    cls: Any = backend_factory(name)
    return DeferredBackend(cls, given)
