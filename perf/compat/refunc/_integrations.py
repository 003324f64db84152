"""Integrations: services that get what loggers log, each through its own thread."""

from __future__ import annotations

import atexit
import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from perf import loggers
from perf.loggers.backends.mlflow import MLflowBackend
from perf.loggers.backends.wandb import WandbBackend
from perf.loggers.config import ConfigError, checked
from perf.loggers.protocol import OPTIONAL_METHODS


class Integration(loggers.AsyncHandler):
    """A service behind a queue: what it does, raises or waits for delays nobody.

    Args:
        backend: anything with `log_scalar` and `close`.
        name: of the service, in log lines.
    """

    def __init__(self, backend: loggers.LoggingBackend, name: str = "") -> None:
        super().__init__(
            loggers.BackendHandler(backend, name=name),
            flush_interval_s=5.0,
            stall_timeout_s=15.0,
        )
        if isinstance(backend, _WhenUsed):
            backend.when_made = self._close_before_its_library

    def _close_before_its_library(self) -> None:
        # Hooks run in reverse: that of a library that is used only now would come
        # before ours, and close the service under our hands.
        atexit.unregister(self.close)
        atexit.register(self.close)


class _WhenUsed:
    """A backend that is made when it is first called, by the thread that calls it.

    A server that does not answer then costs no waiting when the training begins.
    """

    def __init__(self, cls: Any, options: Mapping[str, Any]) -> None:
        self._cls = cls
        self._options = options
        self._backend: Any = None
        self.when_made: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        # What it can do is asked of the class.
        found = getattr(self._cls, name)
        return getattr(self._made(), name) if name in OPTIONAL_METHODS else found

    def log_scalar(self, event: str, value: Any, **kwargs: Any) -> None:
        self._made().log_scalar(event, value, **kwargs)

    def close(self) -> None:
        if self._backend is not None:
            self._backend.close()

    def _made(self) -> Any:
        if self._backend is None:
            self._backend = self._cls(**self._options)
            self.when_made()
        return self._backend


class MLflowIntegration(Integration):
    """Logs into a run of MLflow.

    Args:
        tracking_uri: a server or store; by default MLFLOW_TRACKING_URI.
        experiment_name: made if there is none of that name.

    Raises:
        MissingExtraError: MLflow is not installed.
    """

    def __init__(
        self, tracking_uri: str | None = None, experiment_name: str = "refunc"
    ) -> None:
        options = {"tracking_uri": tracking_uri, "experiment_name": experiment_name}
        super().__init__(_when_used("mlflow", MLflowBackend, options), "mlflow")


class WandBIntegration(Integration):
    """Logs into a run of Weights & Biases; without a key it stays on disk.

    Args:
        project: the project.
        entity: a user or a team.
        config: of the run.
        **settings: for `wandb.init`.

    Raises:
        MissingExtraError: W&B is not installed.
    """

    def __init__(
        self,
        project: str = "refunc",
        entity: str | None = None,
        config: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        given = {"entity": entity, "config": config and dict(config), **settings}
        options = {name: value for name, value in given.items() if value is not None}
        options["project"] = project
        super().__init__(_when_used("wandb", WandbBackend, options), "wandb")


class PrometheusIntegration(Integration):
    """Shows the latest value of each metric at `/metrics`, to this machine only.

    Args:
        port: 0 for one that is free; `port` is the one in use.
        namespace: what the names begin with.

    Raises:
        ConfigError: the port is taken.
        MissingExtraError: prometheus-client is not installed.
    """

    def __init__(self, port: int = 8000, namespace: str = "ml_training") -> None:
        options = {"port": port, "namespace": namespace}
        backend: Any = loggers.create_backend("prometheus", options)
        self.port: int = backend.port
        super().__init__(backend, "prometheus")


class SlackIntegration(Integration):
    """Posts errors and results to a webhook of Slack.

    Args:
        webhook_url: a secret.
        channel: named in the message; the webhook itself decides.
        error_notifications: whether errors are sent.
        completion_notifications: whether results are sent.

    Raises:
        ConfigError: no address.
        MissingExtraError: slack-sdk is not installed.
    """

    def __init__(
        self,
        webhook_url: str,
        channel: str = "",
        error_notifications: bool = True,
        completion_notifications: bool = True,
    ) -> None:
        options = {
            "webhook_url": webhook_url,
            "channel": channel,
            "error_notifications": error_notifications,
            "completion_notifications": completion_notifications,
        }
        super().__init__(loggers.create_backend("slack", options), "slack")


_SERVICES = {
    "mlflow": MLflowIntegration,
    "prometheus": PrometheusIntegration,
    "slack": SlackIntegration,
    "wandb": WandBIntegration,
}


class IntegrationsManager:
    """Integrations by name, closed together."""

    def __init__(self) -> None:
        self._integrations: dict[str, Integration] = {}

    def add_integration(self, name: str, integration: Any) -> None:
        """Adds one: an `Integration`, or anything with `log_scalar` and `close`.

        Raises:
            ValueError: there is one of that name.
            TypeError: it cannot be one.
        """
        if name in self._integrations:
            raise ValueError(f"integration {name!r}: there is one of that name")
        self._integrations[name] = as_integration(integration, name)

    def get_integration(self, name: str) -> Integration | None:
        """The one of a name."""
        return self._integrations.get(name)

    def __iter__(self) -> Iterator[Integration]:
        return iter(tuple(self._integrations.values()))

    def __len__(self) -> int:
        return len(self._integrations)

    def flush(self) -> None:
        """Waits until all that was logged is delivered."""
        for integration in self:
            integration.flush()

    def close(self) -> None:
        """Delivers what is pending and closes them. Harmless when repeated."""
        # They end side by side: it takes as long as the slowest.
        for integration in self:
            integration.begin_close()
        for integration in self:
            integration.close()


@contextlib.contextmanager
def integration_context(manager: IntegrationsManager) -> Iterator[IntegrationsManager]:
    """The manager, closed at the end."""
    try:
        yield manager
    finally:
        manager.close()


def auto_configure_integrations() -> IntegrationsManager:
    """The services that the environment names and installed packages allow.

    MLFLOW_TRACKING_URI gives MLflow, WANDB_API_KEY gives W&B. A package that is missing
    is one line in the log.
    """
    return configured(loggers.auto_configure_integrations())


def configured(settings: Mapping[str, Any]) -> IntegrationsManager:
    """Integrations made from their arguments, or as they are.

    Raises:
        ConfigError: a name or argument that there is none of; nothing is left open.
        MissingExtraError: the library of one is not installed.
    """
    manager = IntegrationsManager()
    try:
        for name, given in settings.items():
            if isinstance(given, Mapping):
                if name not in _SERVICES:
                    known = ", ".join(_SERVICES)
                    raise ConfigError(name, f"one of {known}", "no integration")
                make: Any = _SERVICES[name]
                given = make(**checked(name, given, make))
            manager.add_integration(name, given)
    except BaseException:
        manager.close()
        raise
    return manager


def as_integration(integration: Any, name: str = "") -> Integration:
    """An integration as it is, or one for a backend."""
    if isinstance(integration, Integration):
        return integration
    return Integration(integration, name)


def _when_used(name: str, cls: Any, options: Mapping[str, Any]) -> _WhenUsed:
    if not loggers.available(name):
        loggers.create_backend(name, options)  # which says what is missing
    return _WhenUsed(cls, options)
