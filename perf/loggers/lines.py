"""What backends for people have in common: each call is a line of text."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from perf.loggers.values import format_metrics, joined

__all__ = ["LineBackend"]


class LineBackend:
    """Makes a line of each call, for `notify` to put where it belongs.

    Args:
        precision: digits after the point.
    """

    texts_with_metrics = True

    def __init__(self, precision: int) -> None:
        self._precision = precision

    def log_scalar(self, event: str, value: float | np.ndarray, **kwargs: Any) -> None:
        """Writes one value."""
        self.log_metrics({event: value}, **kwargs)

    def log_metrics(self, metrics: Mapping[str, Any], **kwargs: Any) -> None:
        """Writes all values of a call on one line."""
        self._write("", metrics, kwargs)

    def log_text(self, name: str, text: str, **kwargs: Any) -> None:
        """Writes a text."""
        self._write("", {name: text}, kwargs)

    def log_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Writes hyperparameters."""
        self._write("hyperparameters: ", hparams, {})

    def log_result(self, results: Mapping[str, Any], **kwargs: Any) -> None:
        """Writes results."""
        self._write("results: ", results, kwargs)

    def notify(self, message: str, level: int) -> None:
        """Writes a line of text with its level."""
        raise NotImplementedError  # Each of the two that write lines has its own.

    def _write(
        self, what: str, values: Mapping[str, Any], kwargs: Mapping[str, Any]
    ) -> None:
        step = kwargs.get("step")
        at = "" if step is None else f"step={step} "
        line = joined(format_metrics(values, self._precision))
        self.notify(f"{at}{what}{line}", logging.INFO)
