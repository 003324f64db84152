"""Levels of logging, with those of machine learning between INFO and WARNING."""

from __future__ import annotations

import enum
import logging


class LogLevel(enum.IntEnum):
    """The levels, in order; each is a number that `logging` takes."""

    TRACE = 5
    DEBUG = logging.DEBUG
    INFO = logging.INFO
    METRIC = 21
    PROGRESS = 22
    EXPERIMENT = 23
    RESULT = 24
    WARNING = logging.WARNING
    ERROR = logging.ERROR
    CRITICAL = logging.CRITICAL


for _level in LogLevel:
    logging.addLevelName(_level, _level.name)


def level_number(level: int | str) -> int:
    """A level as a number; ValueError if there is none of that name."""
    if isinstance(level, int):
        return int(level)
    names = logging.getLevelNamesMapping()
    if level.upper() not in names:
        known = ", ".join(sorted(names, key=lambda name: names[name]))
        raise ValueError(f"level={level!r}: expected one of {known}")
    return names[level.upper()]
