"""Levels of `logging`, from however they are written."""

from __future__ import annotations

import logging

__all__ = ["level_number"]


def level_number(level: int | str) -> int:
    """A level as a number.

    Args:
        level: a number, or a name in any case.

    Raises:
        ValueError: there is none of that name.
    """
    if isinstance(level, int):
        return int(level)
    names = logging.getLevelNamesMapping()
    if level.upper() not in names:
        known = ", ".join(sorted(names, key=lambda name: names[name]))
        raise ValueError(f"level={level!r}: expected one of {known}")
    return names[level.upper()]
