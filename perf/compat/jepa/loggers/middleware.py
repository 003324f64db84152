"""`jepa.loggers.middleware`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["LoggerMiddleware"]


class LoggerMiddleware:
    """Changes metrics on their way; for `add_middleware` of any logger."""

    def process_metrics(
        self, metrics: dict[str, Any], step: int | None = None
    ) -> tuple[Mapping[str, Any], int | None]:
        """From metrics and step to metrics and step; without metrics nothing is logged.

        Metrics are dropped if it raises: what it failed to take out may be private.
        """
        return metrics, step
