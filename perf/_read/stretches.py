"""Stretches of time: what is under way when."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Stretch = tuple[Any, ...]
"""Begin and end, in one unit."""


def united(stretches: Iterable[Stretch], begin_ns: int, end_ns: int) -> list[Stretch]:
    """By begin, as they were; cut to the window, and none over another."""
    found: list[Stretch] = []
    free_ns = begin_ns
    for begin, end in stretches:
        if begin < free_ns:
            begin = free_ns
        if end > end_ns:
            end = end_ns
        if begin < end:
            found.append((begin, end))
            free_ns = end
    return found


def common(first: list[Stretch], second: list[Stretch]) -> int:
    """How long both are under way."""
    total = 0
    rest, others = iter(first), iter(second)
    mine, other = next(rest, None), next(others, None)
    while mine and other:
        begin = max(other[0], mine[0])
        end = min(other[1], mine[1])
        if begin < end:
            total += end - begin
        if mine[1] < other[1]:
            mine = next(rest, None)
        else:
            other = next(others, None)
    return total
