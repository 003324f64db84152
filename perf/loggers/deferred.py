"""A backend that is made when it is first called, by the thread that calls it."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Mapping
from typing import Any

from perf.loggers.protocol import OPTIONAL_METHODS

__all__ = ["DeferredBackend"]


class DeferredBackend:
    """Stands for a backend; behind an `AsyncHandler` nobody waits until it is made.

    A service that does not answer is then a failure like others: it is logged, the
    training begins without it, and it is tried again.

    Args:
        cls: of the backend. What it can do is asked of the class.
        options: its arguments.
    """

    def __init__(self, cls: type[Any], options: Mapping[str, Any]) -> None:
        self._cls = cls
        self._options = options
        self._backend: Any = None
        self._hook: Callable[[], object] | None = None

    def close_at_exit(self, close: Callable[[], object]) -> None:
        """Has a function called at exit, before the library of the backend ends.

        Hooks run in reverse: that of a library that is used only later would come
        before one that stands already, and end the service under its hands.
        """
        self._hook = close

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._cls, name)
        if name not in OPTIONAL_METHODS or not callable(found):
            return found
        return lambda *args, **kwargs: getattr(self._made(), name)(*args, **kwargs)

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Logs tags, if it can; none at all only have the backend made."""
        log_tags = getattr(self._made(), "log_tags", None)
        if tags and log_tags is not None:
            log_tags(tags)

    def log_scalar(self, event: str, value: Any, **kwargs: Any) -> None:
        """Logs one value."""
        self._made().log_scalar(event, value, **kwargs)

    def close(self) -> None:
        """Closes the backend, if there is one."""
        if self._backend is not None:
            self._backend.close()

    def _made(self) -> Any:
        if self._backend is None:
            self._backend = self._cls(**self._options)
            if self._hook is not None:
                atexit.unregister(self._hook)
                atexit.register(self._hook)
        return self._backend
