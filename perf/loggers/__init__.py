"""Metrics logging: one pipeline, and backends by name.

    with create_pipeline({"backends": ["tensorboard", "jsonl"], ...}) as pipeline:
        pipeline.log_metrics({"loss": 0.5}, step=1)

A call becomes one `logging.LogRecord` whose message is a mapping; it passes filters of
`logging` and reaches every backend through a queue of its own. A backend is anything
with `log_scalar` and `close`. Importing this loads the library of no backend.
"""

from __future__ import annotations

from perf.loggers.config import ConfigError, MissingExtraError
from perf.loggers.delivery import AsyncHandler, BufferedHandler
from perf.loggers.filters import Gate, IsMappingFilter, IsRank0Filter, Middleware
from perf.loggers.handler import BackendHandler, HandlerStats
from perf.loggers.pipeline import Pipeline, create_pipeline
from perf.loggers.protocol import LoggingBackend
from perf.loggers.registry import (
    auto_configure_integrations,
    available,
    create_backend,
    known_backends,
    register,
)
from perf.loggers.values import add_prefix, flatten_metrics, format_metrics

__all__ = [
    "AsyncHandler",
    "BackendHandler",
    "BufferedHandler",
    "ConfigError",
    "Gate",
    "HandlerStats",
    "IsMappingFilter",
    "IsRank0Filter",
    "LoggingBackend",
    "Middleware",
    "MissingExtraError",
    "Pipeline",
    "add_prefix",
    "auto_configure_integrations",
    "available",
    "create_backend",
    "create_pipeline",
    "flatten_metrics",
    "format_metrics",
    "known_backends",
    "register",
]
