"""Integrations: services that get what loggers log, each through its own thread."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from perf import loggers
from perf.loggers.config import ConfigError, checked
from perf.loggers.delivery import close_together
from perf.loggers.services import ServiceHandler, deferred_backend


class MLflowIntegration(ServiceHandler):
    """Logs into a run of MLflow, on a server or in a store: MLFLOW_TRACKING_URI's."""

    def __init__(
        self, tracking_uri: str | None = None, experiment_name: str = "refunc"
    ) -> None:
        options = {"tracking_uri": tracking_uri, "experiment_name": experiment_name}
        super().__init__(deferred_backend("mlflow", options), "mlflow")


class WandBIntegration(ServiceHandler):
    """Logs into a run of Weights & Biases; without a key it stays on disk.

    `config` is that of the run; `settings` are for `wandb.init`.
    """

    def __init__(
        self,
        project: str = "refunc",
        entity: str | None = None,
        config: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        settings |= {"project": project, "entity": entity, "config": config}
        super().__init__(deferred_backend("wandb", settings), "wandb")


class PrometheusIntegration(ServiceHandler):
    """Shows the latest value of each metric at `/metrics`, to this machine only.

    With port 0 that is one that is free; the attribute `port` is the one in use.
    """

    def __init__(self, port: int = 8000, namespace: str = "ml_training") -> None:
        options = {"port": port, "namespace": namespace}
        backend: Any = loggers.create_backend("prometheus", options)
        self.port: int = backend.port
        super().__init__(backend, "prometheus")


class SlackIntegration(ServiceHandler):
    """Posts errors and results to a webhook of Slack, which decides on the channel."""

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


_SERVICES: dict[str, Any] = {
    "mlflow": MLflowIntegration,
    "prometheus": PrometheusIntegration,
    "slack": SlackIntegration,
    "wandb": WandBIntegration,
}


class IntegrationsManager(dict[str, ServiceHandler]):
    """Integrations by name, closed together."""

    def add_integration(self, name: str, integration: Any) -> None:
        """Adds one; see `MLLogger.add_integration`."""
        self[name] = as_integration(integration, name)

    def close(self) -> None:
        """Delivers what is pending and closes them. Harmless when repeated."""
        close_together(self.values())


integration_context = contextlib.closing
"""The manager for a `with`, closed at the end."""


def auto_configure_integrations() -> IntegrationsManager:
    """Those of MLFLOW_TRACKING_URI and WANDB_API_KEY, if their packages are there."""
    return configured(loggers.auto_configure_integrations())


def configured(settings: Mapping[str, Any]) -> IntegrationsManager:
    """Integrations from their arguments, or as they are; ConfigError names the key."""
    manager = IntegrationsManager()
    try:
        for name, given in settings.items():
            if isinstance(given, Mapping):
                if (make := _SERVICES.get(name)) is None:
                    known = ", ".join(_SERVICES)
                    raise ConfigError(name, f"one of {known}", "no integration")
                given = make(**checked(name, given, make))
            manager.add_integration(name, given)
    except BaseException:
        manager.close()
        raise
    return manager


def as_integration(integration: Any, name: str = "") -> ServiceHandler:
    """An integration as it is, or one for a backend."""
    is_one = isinstance(integration, ServiceHandler)
    return integration if is_one else ServiceHandler(integration, name)
