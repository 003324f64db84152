"""Backends by name: which there are, which can be made here, making one."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import os
from collections.abc import Callable, Mapping
from typing import Any

from perf._model.log import logger
from perf.loggers.config import ConfigError, MissingExtraError, checked
from perf.loggers.protocol import LoggingBackend

__all__ = [
    "auto_configure_integrations",
    "available",
    "backend_factory",
    "create_backend",
    "known_backends",
    "register",
]

_Maker = Callable[..., LoggingBackend]
"""A class or function whose parameters are the keys of a backend's section."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Entry:
    make: str | _Maker
    """A class or function, or where it is: "module:Class"."""
    library: str = ""
    """The module that it needs; empty for none."""
    package: str = ""
    """What that module is called to pip, if not the same."""


def _own(module: str, name: str, library: str = "", package: str = "") -> _Entry:
    return _Entry(f"perf.loggers.backends.{module}:{name}", library, package)


_entries: dict[str, _Entry] = {
    "clu": _own("clu", "CluBackend", "clu"),
    "console": _own("console", "ConsoleBackend", "rich"),
    "files": _own("files", "FilesBackend"),
    "jsonl": _own("jsonl", "JsonlBackend"),
    "mlflow": _own("mlflow", "MLflowBackend", "mlflow", "mlflow-skinny"),
    "opentelemetry": _own(
        "opentelemetry",
        "OpenTelemetryBackend",
        "opentelemetry.metrics",
        "opentelemetry-sdk",
    ),
    "prometheus": _own(
        "prometheus", "PrometheusBackend", "prometheus_client", "prometheus-client"
    ),
    "slack": _own("slack", "SlackBackend", "slack_sdk", "slack-sdk"),
    "tensorboard": _own("tensorboard", "TensorboardBackend", "tensorboardX"),
    "wandb": _own("wandb", "WandbBackend", "wandb"),
    "webhook": _own("webhook", "WebhookBackend"),
}


def register(name: str, factory: _Maker) -> None:
    """Makes an own backend known by name, to configurations too.

    Args:
        name: replaces one of the same name.
        factory: a class or function; its parameters are the keys of its section.
    """
    if not callable(factory):
        raise TypeError(
            f"backend {name!r}: expected a class or a function, found "
            f"{type(factory).__name__}"
        )
    _entries[name] = _Entry(factory)


def known_backends() -> list[str]:
    """The names, sorted."""
    return sorted(_entries)


def available(name: str) -> bool:
    """Whether the library that a backend needs is installed."""
    library = _entry(name).library
    if not library:
        return True
    try:
        spec = importlib.util.find_spec(library)
    except (ImportError, ValueError):  # A parent is missing, or is no package.
        return False
    # A folder without modules can be imported too, such as W&B's folder of runs.
    return spec is not None and spec.origin is not None


def create_backend(
    name: str, options: Mapping[str, Any] | None = None
) -> LoggingBackend:
    """Makes a backend.

    Args:
        name: one of `known_backends`.
        options: the arguments of its constructor.

    Raises:
        ConfigError: there is no such backend, or an argument is wrong.
        MissingExtraError: its library is not installed.
    """
    make = backend_factory(name)
    return make(**checked(name, options or {}, make))


def backend_factory(name: str) -> _Maker:
    """What makes a backend: a class or a function.

    Raises:
        ConfigError: there is no such backend.
        MissingExtraError: its library is not installed.
    """
    entry = _entry(name)
    if not available(name):
        raise MissingExtraError(name, entry.package or entry.library)
    make = entry.make
    if isinstance(make, str):
        module, _, attribute = make.partition(":")
        make = getattr(importlib.import_module(module), attribute)
    assert callable(make)
    return make


def skipped(name: str) -> None:
    """Says that a backend which nobody asked for by name is left out."""
    entry = _entry(name)
    logger.warning(
        "%s metrics are skipped: %s is not installed (pip install 'rlperf[%s]')",
        name,
        entry.package or entry.library,
        name,
    )


def auto_configure_integrations() -> dict[str, dict[str, Any]]:
    """The services that the environment names and installed packages allow.

    Returns:
        Backend names with the options for `create_backend`. MLFLOW_TRACKING_URI gives
        mlflow, WANDB_API_KEY wandb. A package that is missing is one line in the log.
    """
    found = {}
    for variable, name in (
        ("MLFLOW_TRACKING_URI", "mlflow"),
        ("WANDB_API_KEY", "wandb"),
    ):
        if not os.environ.get(variable):
            continue
        if available(name):
            found[name] = dict[str, Any]()
        else:
            skipped(name)
    return found


def _entry(name: str) -> _Entry:
    if name not in _entries:
        raise ConfigError(name, f"one of {', '.join(known_backends())}", "no backend")
    return _entries[name]
