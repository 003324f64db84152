"""No service is to be reached from a test, and no file to be left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from perf.compat.refunc import _setup
from perf.compat.refunc.logging import MLLogger, setup_logging
from tests.compat.servers import Answer, Loopback
from tests.loggers.conftest import _alone

__all__ = ["_alone"]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where many tests run at once W&B takes its time."""
    monkeypatch.setattr("perf.loggers.services.PATIENCE_S", 300.0)


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Loopback]]:
    """Starts servers that stop with the test."""
    started = []

    def start(answer: Answer) -> Loopback:
        started.append(Loopback(answer))
        return started[-1]

    yield start
    for server in started:
        server.close()


# Loggers are closed before the servers that they log to: hence `serve` in both.
@pytest.fixture(autouse=True)
def _forgetful(monkeypatch: pytest.MonkeyPatch, serve: object) -> Iterator[None]:
    """`get_logger` begins anew with each test."""
    monkeypatch.setattr(_setup, "_loggers", {})
    monkeypatch.setattr(_setup, "_settings", {})
    yield
    setup_logging()  # closes what the test had set up
    for logger in _setup._loggers.values():
        logger.close()


@pytest.fixture
def new_logger(serve: object) -> Iterator[Callable[..., MLLogger]]:
    """Makes loggers that are closed with the test."""
    made = []

    def make(*args: Any, **kwargs: Any) -> MLLogger:
        made.append(MLLogger(*args, **kwargs))
        return made[-1]

    yield make
    for logger in made:
        logger.close()


@pytest.fixture
def logger(new_logger: Callable[..., MLLogger]) -> MLLogger:
    """A logger that logs all."""
    return new_logger("training", level="TRACE")
