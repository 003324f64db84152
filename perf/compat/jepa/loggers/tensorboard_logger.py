"""`jepa.loggers.tensorboard_logger`."""

from __future__ import annotations

from typing import ClassVar

from perf.compat.jepa.loggers.base_logger import BaseLogger, LoggerRegistry

__all__ = ["TensorBoardLogger"]


class TensorBoardLogger(BaseLogger):
    """Writes event files.

    Args:
        config: `log_dir` ("logs/tensorboard"), `log_frequency`, `log_images`,
            `log_histograms`.
    """

    _backend = "tensorboard"
    _defaults: ClassVar = {"log_dir": "logs/tensorboard"}


LoggerRegistry.register("tensorboard", TensorBoardLogger)
