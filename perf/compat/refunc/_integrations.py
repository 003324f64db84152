"""Integrations: services that get what loggers log, each through its own thread."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from perf import loggers
from perf.loggers.backends.mlflow import MLflowBackend
from perf.loggers.backends.wandb import WandbBackend
from perf.loggers.config import ConfigError, checked
from perf.loggers.deferred import DeferredBackend
from perf.loggers.records import make_record

PATIENCE_S: Final = 10.0
"""So long a program waits for a service to be reached, before it goes on without."""


class Integration(loggers.AsyncHandler):
    """A service behind a queue: what it does, raises or waits for delays nobody.

    Args:
        backend: anything with `log_scalar` and `close`.
        name: of the service, in log lines.
    """

    def __init__(self, backend: loggers.LoggingBackend, name: str = "") -> None:
        # Patient at the end: a service may only be starting when the program ends.
        super().__init__(
            loggers.BackendHandler(backend, name=name),
            flush_interval_s=5.0,
            stall_timeout_s=15.0,
        )
        if isinstance(backend, DeferredBackend):
            backend.close_at_exit(self.close)
            # Reached at once, by its own thread: at exit it would be too late.
            self.handle(make_record({}, "tags"))
            self.flush(PATIENCE_S)


class MLflowIntegration(Integration):
    """Logs into a run of MLflow.

    Args:
        tracking_uri: a server or store; by default MLFLOW_TRACKING_URI.
        experiment_name: made if there is none of that name.
    """

    def __init__(
        self, tracking_uri: str | None = None, experiment_name: str = "refunc"
    ) -> None:
        options = {"tracking_uri": tracking_uri, "experiment_name": experiment_name}
        super().__init__(_deferred("mlflow", MLflowBackend, options), "mlflow")


class WandBIntegration(Integration):
    """Logs into a run of Weights & Biases; without a key it stays on disk.

    Args:
        project: the project.
        entity: a user or a team.
        config: of the run.
        **settings: for `wandb.init`.
    """

    def __init__(
        self,
        project: str = "refunc",
        entity: str | None = None,
        config: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        settings |= {"project": project, "entity": entity, "config": config}
        given = {name: value for name, value in settings.items() if value is not None}
        super().__init__(_deferred("wandb", WandbBackend, given), "wandb")


class PrometheusIntegration(Integration):
    """Shows the latest value of each metric at `/metrics`, to this machine only.

    Args:
        port: 0 for one that is free; `port` is the one in use.
        namespace: what the names begin with.
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


class IntegrationsManager(dict[str, Integration]):
    """Integrations by name, closed together."""

    def add_integration(self, name: str, integration: Any) -> None:
        """Adds one; see `MLLogger.add_integration`."""
        self[name] = as_integration(integration, name)

    def close(self) -> None:
        """Delivers what is pending and closes them. Harmless when repeated."""
        # They end side by side: it takes as long as the slowest.
        for integration in self.values():
            integration.begin_close()
        for integration in self.values():
            integration.close()


@contextlib.contextmanager
def integration_context(manager: IntegrationsManager) -> Iterator[IntegrationsManager]:
    """The manager, closed at the end."""
    with contextlib.closing(manager):
        yield manager


def auto_configure_integrations() -> IntegrationsManager:
    """The services that the environment names and installed packages allow.

    MLFLOW_TRACKING_URI gives MLflow, WANDB_API_KEY gives W&B.
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


def _deferred(name: str, cls: type, options: Mapping[str, Any]) -> DeferredBackend:
    if not loggers.available(name):
        loggers.create_backend(name, options)  # which says what is missing
    return DeferredBackend(cls, options)
