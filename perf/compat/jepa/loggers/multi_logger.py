"""`jepa.loggers.multi_logger`: several loggers as one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from perf.compat.jepa.config.config import LoggingConfig
from perf.compat.jepa.loggers.base_logger import BaseLogger, LoggerRegistry
from perf.loggers.config import section

__all__ = ["MultiLogger", "create_logger"]


class MultiLogger(BaseLogger):
    """Logs to several loggers at once; what one of them raises stops no other.

    Args:
        config: names and options, `[("console", {"level": "INFO"}), …]`; or `backends`,
            a list of names, and a section of options by name, see `LoggingConfig`.
            `enabled: false` in the options leaves a logger out.

    Raises:
        ConfigError: an entry that cannot be; the message names it.
        MissingExtraError: the library of a logger is not installed.
    """

    def __init__(
        self,
        config: Iterable[tuple[str, Mapping[str, Any]]]
        | Mapping[str, Any]
        | LoggingConfig,
    ) -> None:
        if isinstance(config, Mapping | LoggingConfig):
            parsed = LoggingConfig.read(config)
            for name in parsed.sections:  # a misspelled key is one too
                LoggerRegistry.maker(name)
            pairs = [(name, parsed.of(name)) for name in parsed.backends]
        else:
            pairs = [(name, section(name, options)) for name, options in config]
        super().__init__({"backends": [name for name, _ in pairs], **dict(pairs)})
        try:
            for name, options in pairs:
                self._hand_on_to(name, options)
        except BaseException:
            self.finish()
            raise


def create_logger(
    config: str | os.PathLike[str] | Mapping[str, Any] | LoggingConfig,
) -> MultiLogger:
    """Makes the logger that a configuration, or a YAML file with one, describes.

    Raises:
        ConfigError: an entry that cannot be; the message names it.
        MissingExtraError: the library of a logger is not installed.
        OSError: the file cannot be read.
    """
    return MultiLogger(LoggingConfig.read(config))
