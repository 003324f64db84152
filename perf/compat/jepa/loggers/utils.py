"""`jepa.loggers.utils`: metrics for display, flat, and under a prefix."""

from __future__ import annotations

from perf.loggers import add_prefix, flatten_metrics, format_metrics

__all__ = ["add_prefix", "flatten_metrics", "format_metrics"]
