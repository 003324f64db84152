"""The readings as one table: for a terminal, for Markdown, for machines."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Final

from benchmarks.facts import FACTS, Fact
from benchmarks.runner import Results
from benchmarks.subjects import OURS
from benchmarks.timing import Reading

_OWN: Final = (*OURS, "ours")
_HEAD: Final = ("what", "floor", "ours (v1 / v2)", "× floor", "goal", "met")


def as_text(results: Results) -> str:
    """Columns for a terminal."""
    head, *rows = _table(results)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [_line(row, widths) for row in (head, *rows)]
    return "\n".join([lines[0], "─" * len(lines[0]), *lines[1:]])


def as_markdown(results: Results) -> str:
    """The same table in Markdown."""
    head, *rows = _table(results)
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


def as_json(results: Results) -> dict[str, Any]:
    """All readings with their goals, for machines."""
    found: dict[str, Any] = {}
    for fact in FACTS:
        if fact.key in results:
            subjects = results[fact.key]
            found[fact.key] = {
                **dataclasses.asdict(fact),
                "met": _is_met(fact, subjects),
                "readings": {n: dataclasses.asdict(r) for n, r in subjects.items()},
            }
    return found


def _table(results: Results) -> list[list[str]]:
    peers = list(
        dict.fromkeys(n for some in results.values() for n in some if n not in _OWN)
    )
    rows = [
        [*_row(fact, results[fact.key], peers)] for fact in FACTS if fact.key in results
    ]
    return [[*_HEAD, *peers], *rows]


def _row(fact: Fact, subjects: dict[str, Reading], peers: list[str]) -> Iterator[str]:
    own = [subjects[name] for name in _OWN if name in subjects]
    yield f"{fact.what}, {fact.unit}" if fact.unit else fact.what
    yield _joined([own[0].floor] if own else [])
    yield _joined([reading.value for reading in own])
    yield _joined([_times_floor(fact, reading) for reading in own])
    yield fact.goal_text
    yield {None: "", True: "yes", False: "no"}[_is_met(fact, subjects)]
    for name in peers:
        at_floor = own[0].floor if own else None
        yield _joined([_as_if(subjects[name], at_floor)] if name in subjects else [])


def _as_if(reading: Reading, floor: float | None) -> float | None:
    """The value a peer would have had where the floor costs this: machines drift."""
    if reading.value is None or not reading.floor or not floor:
        return reading.value
    return reading.value * floor / reading.floor


def _times_floor(fact: Fact, reading: Reading) -> float | None:
    """How many times what the floor costs."""
    if not reading.floor or not reading.value:
        return None
    ratio = reading.value / reading.floor
    return 1 / ratio if fact.more_is_better else ratio


def _is_met(fact: Fact, subjects: dict[str, Reading]) -> bool | None:
    """Whether all of ours reach the goal."""
    own = [subjects[name] for name in _OWN if name in subjects]
    met = [
        fact.is_met(reading.value, reading.floor)
        for reading in own
        if reading.value is not None
    ]
    return None if None in met or not met else all(met)


def _joined(values: list[float | None]) -> str:
    return " / ".join(_number(value) for value in values if value is not None)


def _number(value: float) -> str:
    """Three digits, without an exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def _line(row: list[str], widths: list[int]) -> str:
    first, *others = row
    cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
    return "  ".join([first.ljust(widths[0]), *cells]).rstrip()
