"""Stretches of time: what is under way when."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Stretch = tuple[Any, ...]
"""Begin and end, in one unit."""


def united(
    stretches: Iterable[Stretch], window_begin: float, window_end: float
) -> list[Stretch]:
    """By begin, as they were; cut to the window, and those that touch are one."""
    found: list[Stretch] = []
    since = until = window_begin
    for begin, end in stretches:
        if begin < window_begin:  # mutate: ok if equal
            begin = window_begin
        if end > window_end:  # mutate: ok if equal
            end = window_end
        if begin > until:
            if since < until:
                found.append((since, until))
            since, until = begin, end
        elif end > until:  # mutate: ok if equal
            until = end
    if since < until:
        found.append((since, until))
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
