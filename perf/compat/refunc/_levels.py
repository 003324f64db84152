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
