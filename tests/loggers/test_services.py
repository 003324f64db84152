"""Services as handlers, backends made when they are used."""

from __future__ import annotations

import atexit
import threading
from typing import Any

import pytest

from perf.loggers import ConfigError, MissingExtraError, register, registry
from perf.loggers.deferred import DeferredBackend
from perf.loggers.records import make_record
from perf.loggers.services import ServiceHandler, deferred_backend
from tests.loggers.sinks import Kept


class Service(Kept):
    """Counts what was made of it."""

    stall_timeout_s = 77.0
    made: list[Service]

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options
        self.thread = threading.current_thread().name
        self.made.append(self)

    def log_hparams(self, hparams: Any) -> None:
        """Keeps nothing."""


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Service]:
    """The services that were made."""
    monkeypatch.setattr(Service, "made", [], raising=False)
    monkeypatch.setattr(registry, "_entries", {**registry._entries})
    register("service", Service)
    return Service.made


def test_a_deferred_backend_is_made_when_it_is_called(made: list[Service]) -> None:
    """What it can do, and how patient one has to be, is known before."""
    backend = DeferredBackend(Service, {"key": 1})
    assert 77.0 == backend.stall_timeout_s
    assert hasattr(backend, "log_hparams")
    assert not hasattr(backend, "log_image")
    assert [] == made
    backend.log_scalar("loss", 0.5, step=1)
    backend.log_hparams({})
    [service] = made
    assert {"key": 1} == service.options
    assert [("loss", 0.5, 1)] == service.scalars
    backend.close()
    assert 1 == service.closed


def test_one_that_was_never_called_is_never_made(made: list[Service]) -> None:
    """Closing it does nothing."""
    DeferredBackend(Service, {}).close()
    assert [] == made


def test_making_it_puts_the_hook_last(
    made: list[Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is called before those that the backend's library has registered."""
    hooks: list[Any] = []
    monkeypatch.setattr(atexit, "register", hooks.append)
    monkeypatch.setattr(atexit, "unregister", hooks.remove)

    def close() -> None:
        pass

    backend = DeferredBackend(Service, {})
    hooks += [close, "of the library"]
    backend.close_at_exit(close)
    backend.log_scalar("loss", 0.5)
    assert ["of the library", close] == hooks


def test_a_deferred_service_is_reached_by_its_own_thread(made: list[Service]) -> None:
    """At once, and before the program goes on; arguments that are None are left out."""
    options = {"key": 1, "other": None}
    handler = ServiceHandler(deferred_backend("service", options), "service")
    [service] = made
    assert ("perf-metrics-service", {"key": 1}) == (service.thread, service.options)
    handler.handle(make_record({"loss": 0.5}, step=3))
    handler.close()
    assert ([("loss", 0.5, 3)], 1) == (service.scalars, service.closed)


def test_what_there_is_none_of_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name, or a library: at once, not when it is used."""
    with pytest.raises(ConfigError, match="fax: expected one of"):
        deferred_backend("fax", {})
    monkeypatch.setattr(registry, "available", lambda name: False)
    with pytest.raises(MissingExtraError, match="mlflow-skinny"):
        deferred_backend("mlflow", {})
