"""`refunc.logging`: the names of its document; see `docs/compat/refunc.md`."""

from __future__ import annotations

from perf.compat.refunc._entries import LogEntry, LogLevel
from perf.compat.refunc._experiments import ExperimentContext, experiment_context
from perf.compat.refunc._formatters import ColoredFormatter, JSONFormatter, MLFormatter
from perf.compat.refunc._handlers import AsyncHandler, BufferedHandler
from perf.compat.refunc._integrations import (
    IntegrationsManager,
    MLflowIntegration,
    PrometheusIntegration,
    SlackIntegration,
    WandBIntegration,
    auto_configure_integrations,
    integration_context,
)
from perf.compat.refunc._logger import MLLogger
from perf.compat.refunc._progress import EpochTracker, epoch_context, progress_context
from perf.compat.refunc._setup import get_logger, setup_logging
from perf.compat.refunc._tracker import ExperimentTracker
from perf.loggers.progress import ProgressTracker, TqdmProgressTracker
from perf.loggers.services import ServiceHandler as Integration

__all__ = [
    "AsyncHandler",
    "BufferedHandler",
    "ColoredFormatter",
    "EpochTracker",
    "ExperimentContext",
    "ExperimentTracker",
    "Integration",
    "IntegrationsManager",
    "JSONFormatter",
    "LogEntry",
    "LogLevel",
    "MLFormatter",
    "MLLogger",
    "MLflowIntegration",
    "ProgressTracker",
    "PrometheusIntegration",
    "SlackIntegration",
    "TqdmProgressTracker",
    "WandBIntegration",
    "auto_configure_integrations",
    "epoch_context",
    "experiment_context",
    "get_logger",
    "integration_context",
    "progress_context",
    "setup_logging",
]
