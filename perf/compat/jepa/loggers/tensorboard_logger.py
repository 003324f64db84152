"""`jepa.loggers.tensorboard_logger`."""

from __future__ import annotations

from perf.compat.jepa.loggers.base_logger import BaseLogger, LoggerRegistry

__all__ = ["TensorBoardLogger"]


class TensorBoardLogger(BaseLogger):
    """Writes event files.

    Args:
        config: `log_dir` ("logs/tensorboard"), `log_frequency`, `log_images`,
            `log_histograms`.
    """

    _backend = "tensorboard"
    _defaults = {"log_dir": "logs/tensorboard"}  # noqa: RUF012


LoggerRegistry.register("tensorboard", TensorBoardLogger)
