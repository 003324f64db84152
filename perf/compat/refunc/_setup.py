"""One set-up for all loggers that are asked for by name."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perf.compat.refunc._entries import LogLevel
from perf.compat.refunc._integrations import IntegrationsManager, configured
from perf.compat.refunc._logger import MLLogger
from perf.loggers.levels import level_number

_lock = threading.Lock()
_settings: dict[str, Any] = {}
_integrations = IntegrationsManager()
_loggers: dict[str, MLLogger] = {}


def setup_logging(
    level: int | str = LogLevel.INFO,
    log_dir: str | Path | None = None,
    colored: bool = True,
    json_logging: bool = False,
    experiment_tracking: bool = True,
    integrations: Mapping[str, Any] | None = None,
) -> None:
    """Sets up all loggers of `get_logger`, later ones and those that there are.

    `integrations` are "mlflow", "prometheus", "slack", "wandb" with their arguments, or
    any name with an integration; they take the place of earlier ones, which are closed.
    For the others see `MLLogger`. What is wrong is an error that names it, and changes
    nothing.
    """
    global _integrations
    with _lock:
        level = level_number(level)
        before, _integrations = _integrations, configured(integrations or {})
        _settings.update(
            level=level,
            log_dir=log_dir,
            colored_output=colored,
            json_logging=json_logging,
            experiment_tracking=experiment_tracking,
        )
        for logger in _loggers.values():
            logger._configure(**_settings)
            for integration in before.values():
                logger.remove_handler(integration)
            logger.add_integrations(_integrations)
        before.close()


def get_logger(name: str = "refunc") -> MLLogger:
    """The logger of a name, always the same, as `setup_logging` has it."""
    with _lock:
        if name not in _loggers:
            _loggers[name] = MLLogger(name, **_settings)
            _loggers[name].add_integrations(_integrations)
        return _loggers[name]
