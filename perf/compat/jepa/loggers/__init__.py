"""`jepa.loggers`: loggers that take one mapping as their configuration."""

from __future__ import annotations

from perf.compat.jepa.loggers.base_logger import BaseLogger, LoggerRegistry
from perf.compat.jepa.loggers.console_logger import ConsoleLogger
from perf.compat.jepa.loggers.multi_logger import MultiLogger, create_logger
from perf.compat.jepa.loggers.tensorboard_logger import TensorBoardLogger
from perf.compat.jepa.loggers.wandb_logger import WandbLogger

__all__ = [
    "BaseLogger",
    "ConsoleLogger",
    "LoggerRegistry",
    "MultiLogger",
    "TensorBoardLogger",
    "WandbLogger",
    "create_logger",
]
