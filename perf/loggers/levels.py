"""Levels of `logging`, from however they are written."""

from __future__ import annotations

import logging

from perf.loggers.config import ConfigError

__all__ = ["level_number"]


def level_number(level: int | str, key: str = "level") -> int:
    """A level as a number.

    Args:
        level: a number, or a name in any case.
        key: what it was given as, for the error.

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(level, int):
        return int(level)
    names = logging.getLevelNamesMapping()
    is_text = isinstance(level, str)
    if not is_text or level.upper() not in names:
        known = ", ".join(sorted(names, key=lambda name: names[name]))
        found = "another name" if is_text else type(level).__name__
        raise ConfigError(key, f"a number or one of {known}", found)
    return names[level.upper()]
