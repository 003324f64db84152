"""`jepa.config.config`: the typed configuration of logging."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from perf.loggers.config import checked, read_config, section

__all__ = ["LoggingConfig"]


class LoggingConfig:
    """The configuration of logging, each entry checked.

    Args:
        level: the lowest that is logged, for loggers that say no other.
        backends: the names of loggers.
        log_frequency: likewise: metrics of steps that are divisible by it are logged,
        save_frequency: and models of such steps are kept.
        **sections: by the name of a logger, its options.

    Raises:
        ConfigError: an entry that cannot be; the message names it.
    """

    def __init__(
        self,
        level: int | str = "INFO",
        backends: Sequence[str] | None = None,
        log_frequency: int = 1,
        save_frequency: int | None = None,
        **sections: Mapping[str, Any] | None,
    ) -> None:
        self.level = level
        self.backends = ["console"] if backends is None else backends
        self.log_frequency = log_frequency
        self.save_frequency = save_frequency
        checked("logging", vars(self), LoggingConfig)
        self.sections = {
            name: section(f"logging.{name}", content)
            for name, content in sections.items()
        }

    @classmethod
    def read(
        cls, source: str | os.PathLike[str] | Mapping[str, Any] | LoggingConfig
    ) -> LoggingConfig:
        """From a mapping or a YAML file, with or without the root `logging:`."""
        if isinstance(source, cls):
            return source
        # A subclass knows no other's instance; mypy cannot tell.
        return cls(**read_config(source))  # type: ignore[arg-type]

    def of(self, name: str) -> dict[str, Any]:
        """What a logger is to be made with: its section, and what holds for all."""
        return {
            "level": self.level,
            "log_frequency": self.log_frequency,
            "save_frequency": self.save_frequency,
            **self.sections.get(name, {}),
        }
