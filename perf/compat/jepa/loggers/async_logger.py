"""`jepa.loggers.async_logger`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perf.compat.jepa.loggers.base_logger import BaseLogger
from perf.loggers.config import checked

__all__ = ["AsyncLogger"]


class AsyncLogger(BaseLogger):
    """Logs through a thread of its own; so do all loggers here, with other numbers.

    Args:
        config: `backend`, the name of a logger, and under that name its options;
            `buffer_size`: a hundred times so many calls may wait, beyond that the
            oldest give way; `flush_interval`, in seconds.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self._make(**checked("async", self.config, self._make))

    def _make(
        self,
        backend: Any,
        buffer_size: int = 1000,
        flush_interval: float = 30.0,
        **sections: Any,
    ) -> None:
        options = sections.pop(backend, {}) if isinstance(backend, str) else {}
        checked("async", sections, lambda: None)
        queue = {"capacity": 100 * buffer_size, "flush_interval_s": flush_interval}
        self._hand_on_to(backend, options, delivery="async", patience_s=0.0, **queue)
