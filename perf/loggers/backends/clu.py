"""CLU's metric writers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from perf.loggers.filters import is_main_process
from perf.loggers.values import as_float, step_or_zero

__all__ = ["CluBackend"]


class CluBackend:
    """Writes through CLU's default writer. That one needs TensorFlow.

    Args:
        logdir: the folder.
        log_dir: likewise; one of both.
    """

    def __init__(
        self,
        logdir: str | os.PathLike[str] = "",
        *,
        log_dir: str | os.PathLike[str] = "",
    ) -> None:
        self._writer: Any = None
        if is_main_process():
            from clu import metric_writers

            folder = os.fspath(logdir or log_dir)
            self._writer = metric_writers.create_default_writer(logdir=folder)

    def log_scalar(self, event: str, value: float | np.ndarray, **kwargs: Any) -> None:
        """Writes a scalar; what is no single number is left out."""
        number = as_float(value)
        if self._writer is not None and number is not None:
            self._writer.write_scalars(step_or_zero(kwargs), {event: number})

    def log_text(self, name: str, text: str, **kwargs: Any) -> None:
        """Writes a text."""
        if self._writer is not None:
            self._writer.write_texts(step_or_zero(kwargs), {name: text})

    def log_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Writes hyperparameters."""
        if self._writer is not None:
            self._writer.write_hparams(dict(hparams))

    def flush(self) -> None:
        """Writes what is pending."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Writes what is pending and closes the files."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()
