"""`jepa.loggers.console_logger`."""

from __future__ import annotations

from typing import ClassVar

from perf.compat.jepa.loggers.base_logger import BaseLogger, LoggerRegistry

__all__ = ["ConsoleLogger"]


class ConsoleLogger(BaseLogger):
    """Prints a line for each call to the standard error output.

    Args:
        config: `level`, `format` (as for `logging.Formatter`), `colored`, `precision`.
    """

    _backend = "console"
    # A line is printed when the call returns, unless printing hangs.
    _defaults: ClassVar = {"patience_s": 0.25}


LoggerRegistry.register("console", ConsoleLogger)
