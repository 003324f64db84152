"""`jepa.loggers.console_logger`."""

from __future__ import annotations

from perf.compat.jepa.loggers.base_logger import BaseLogger, LoggerRegistry

__all__ = ["ConsoleLogger"]


class ConsoleLogger(BaseLogger):
    """Prints a line for each call to the standard error output.

    Args:
        config: `level`, `format` (as for `logging.Formatter`), `colored`, `precision`.
    """

    _backend = "console"
    # A line is printed when the call returns, unless printing hangs.
    _defaults = {"patience_s": 0.25}  # noqa: RUF012


LoggerRegistry.register("console", ConsoleLogger)
