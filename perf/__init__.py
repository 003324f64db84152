"""rlperf: the tracer that a reinforcement-learning run leaves on for its whole life.

Importing this package loads neither jax nor protobuf nor a logging backend; the
names below load what they need when they are used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perf._model.errors import PerfError
    from perf._model.stats import TracerStats
    from perf._record.default import get_tracer, set_tracer
    from perf.export import PerfMetricsExport
    from perf.loggers.protocol import LoggingBackend
    from perf.metrics import (
        MetricsT,
        PerfMetricsConfig,
        PerfMetricsOptions,
        PerfSpanQuery,
    )
    from perf.metrics_logger import MetricsLogger, MetricsLoggerOptions
    from perf.trace import NoopTracer, PerfTracer

__version__ = "0.1.0"

_HOMES = {
    "LoggingBackend": "perf.loggers.protocol",
    "MetricsLogger": "perf.metrics_logger",
    "MetricsLoggerOptions": "perf.metrics_logger",
    "MetricsT": "perf.metrics",
    "NoopTracer": "perf.trace",
    "PerfError": "perf._model.errors",
    "PerfMetricsConfig": "perf.metrics",
    "PerfMetricsExport": "perf.export",
    "PerfMetricsOptions": "perf.metrics",
    "PerfSpanQuery": "perf.metrics",
    "PerfTracer": "perf.trace",
    "TracerStats": "perf._model.stats",
    "get_tracer": "perf._record.default",
    "set_tracer": "perf._record.default",
}

__all__ = [
    "LoggingBackend",
    "MetricsLogger",
    "MetricsLoggerOptions",
    "MetricsT",
    "NoopTracer",
    "PerfError",
    "PerfMetricsConfig",
    "PerfMetricsExport",
    "PerfMetricsOptions",
    "PerfSpanQuery",
    "PerfTracer",
    "TracerStats",
    "get_tracer",
    "set_tracer",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'perf' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
