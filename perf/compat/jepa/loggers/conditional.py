"""`jepa.loggers.conditional`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from perf.compat.jepa.loggers.base_logger import BaseLogger
from perf.loggers import Gate
from perf.loggers.config import ConfigError, checked, section

__all__ = ["ConditionalLogger"]


class ConditionalLogger(BaseLogger):
    """Hands on a part of the calls. Which part depends on nothing random.

    Args:
        config: `base_logger`, a logger or the name of one; `conditions`: `min_step`,
            the first that passes; `max_frequency`, the share of calls that does, 0 … 1;
            `level_filter`, the lowest level that does: `log_metrics` has a `level`.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self._make(**checked("conditional", self.config, self._make))

    def _make(self, base_logger: Any, conditions: Mapping[str, Any]) -> None:
        given = section("conditions", conditions)
        gate = _gate(**checked("conditions", given, _gate))
        self._hand_on_to(base_logger, {}, gate)


def _gate(
    min_step: int = 0,
    max_frequency: float = 1.0,
    level_filter: int | str = logging.NOTSET,
) -> Gate:
    try:
        return Gate(min_step=min_step, max_fraction=max_frequency, level=level_filter)
    except ConfigError as error:
        key = {"max_fraction": "max_frequency", "level": "level_filter"}[error.key]
        raise ConfigError(f"conditions.{key}", error.expected, error.found) from None
