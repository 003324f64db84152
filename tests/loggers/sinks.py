"""Backends for tests: one that keeps, one that raises, one that waits."""

from __future__ import annotations

import threading
from typing import Any

from perf.metrics_logger import MetricsLoggerOptions


class Kept:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.scalars: list[tuple[str, Any, int | None]] = []
        self.closed = 0

    def log_scalar(self, event: str, value: Any, **kwargs: Any) -> None:
        """Keeps a value."""
        self.scalars.append((event, value, kwargs.get("step")))

    def close(self) -> None:
        """Counts."""
        self.closed += 1


class Rich(Kept):
    """Also keeps everything that a backend may be told."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []
        for name in ("text", "image", "histogram", "artifact"):
            setattr(self, f"log_{name}", self._keeping(name))
        for name in ("hparams", "result", "tags"):
            setattr(self, f"log_{name}", self._keeping(name))
        self.notify = self._keeping("notify")
        self.flush = self._keeping("flush")

    def _keeping(self, name: str) -> Any:
        return lambda *args, **kwargs: self.calls.append((name, *args, kwargs))


class Raising(Kept):
    """Raises, and counts how often it was tried."""

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__()
        self.error: BaseException | None = error or OSError("no space left")
        self.tries = 0

    def log_scalar(self, event: str, value: Any, **kwargs: Any) -> None:
        """Raises the error, if there is one."""
        self.tries += 1
        if self.error is not None:
            raise self.error
        super().log_scalar(event, value, **kwargs)


class Waiting(Kept):
    """Hangs in each call until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.go_on = threading.Event()

    def log_scalar(self, event: str, value: Any, **kwargs: Any) -> None:
        """Hangs."""
        self.entered.set()
        self.go_on.wait(60)
        super().log_scalar(event, value, **kwargs)


class Patient(Waiting):
    """Hangs likewise, and wants to be waited for."""

    stall_timeout_s = 60.0


class Ending(Kept):
    """Says when it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = threading.Event()

    def close(self) -> None:
        """Says so."""
        super().close()
        self.ended.set()


def options(*backends: Any, **more: Any) -> MetricsLoggerOptions:
    """Options with factories for live backends."""
    factories = [lambda backend=backend: backend for backend in backends]
    return MetricsLoggerOptions("logs", backend_factories=factories, **more)
