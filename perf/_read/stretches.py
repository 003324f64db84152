"""Stretches of time: what is under way when."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Stretch = tuple[Any, ...]
"""Begin and end, in one unit."""


def united(
    stretches: Iterable[Stretch], begin_ns: float, end_ns: float
) -> list[Stretch]:
    """By begin, as they were; cut to the window, and none over another."""
    found: list[Stretch] = []
    free_ns = begin_ns
    for begin, end in stretches:
        if begin < free_ns:  # mutate: ok if equal
            begin = free_ns
        if end > end_ns:  # mutate: ok if equal
            end = end_ns
        if begin < end:
            found.append((begin, end))
            free_ns = end
    return found


def common(first: list[Stretch], second: list[Stretch]) -> int:
    """How long both are under way."""
    total = at = 0
    count = len(second)
    for begin, end in first:
        while at < count:
            since, until = second[at]
            if until > begin:  # mutate: ok if equal
                if since >= end:  # mutate: ok if equal
                    break
                if since < begin:  # mutate: ok if equal
                    since = begin
                if until > end:  # mutate: ok if equal
                    total += end - since
                    break  # it goes on into what comes next
                total += until - since
            at += 1
    return total
