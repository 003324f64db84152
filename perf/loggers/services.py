"""A service as one handler of `logging`, for any number of loggers."""

from __future__ import annotations

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

    One that is deferred is reached at once, by its own thread.

    Args:
        backend: anything with `log_scalar` and `close`.
        name: of the service, in log lines.
    """

    def __init__(self, backend: LoggingBackend, name: str = "") -> None:
        super().__init__(BackendHandler(backend, name=name), flush_interval_s=5.0)
        if isinstance(backend, DeferredBackend):
            backend.close_at_exit(self.close)
            # At exit it would be too late: libraries cannot start then.
            self.handle(make_record({}, "tags"))
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
