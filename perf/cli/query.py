"""`rlperf query`: answers SQL about traces."""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from perf.cli.arguments import add_traces
from perf.cli.traces import database

_TABLE_HINT = re.compile(r"(Table with name .* does not exist!)\nDid you mean .*")
_WIDEST = 60


def add_to(commands: Any) -> None:
    """Adds the command to the parser's subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "query",
        help="answer SQL about traces",
        description="Tables: spans, steps, tracks, counters, instants; times in "
        "nanoseconds. DESCRIBE spans lists a table's columns; docs/report.md says "
        "what they hold. Needs rlperf[query].",
    )
    add_traces(parser)
    parser.add_argument(
        "sql", metavar="SQL", help='"SELECT name, sum(dur) FROM spans …"'
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="print rows as CSV")
    form.add_argument("--json", action="store_true", help="print rows as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Answers; returns the exit code."""
    if os.path.exists(arguments.sql):
        raise ValueError(
            f"{arguments.sql}: expected a question in SQL, found a file: traces come "
            'first, as in rlperf query TRACE "SELECT …"'
        )
    with database(arguments.traces) as engine:
        import duckdb

        try:
            answer = engine.execute(arguments.sql)
        except duckdb.Error as error:
            raise ValueError(f"SQL: {_explained(str(error))}") from error
        if answer is None:
            raise ValueError("SQL: expected a question, found nothing")
        names = [column[0] for column in answer.description or ()]
        rows = answer.fetchall()
    if arguments.json:
        some = [dict(zip(names, row, strict=True)) for row in rows]
        print(json.dumps(some, default=str, indent=2))
    elif arguments.csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(names)
        writer.writerows(rows)
    else:
        _print_table(names, rows)
    return 0


def _explained(error: str) -> str:
    """Its hint may name a table of the engine's own: those of a trace are better."""
    from perf.report.tables import COLUMNS

    return _TABLE_HINT.sub(rf"\1\nTables: {', '.join(COLUMNS)}", error)


def _print_table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [
        min(_WIDEST, max([len(name), *(len(row[at]) for row in cells)]))
        for at, name in enumerate(names)
    ]
    is_number = [
        bool(rows) and all(isinstance(row[at], int | float | None) for row in rows)
        for at in range(len(names))
    ]

    def line(some: Sequence[str]) -> str:
        shown = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(some, widths, is_number, strict=True)
        ]
        return "  ".join(shown).rstrip()

    print(line(names))
    print(line(["─" * width for width in widths]))
    for row in cells:
        print(line(row))
    print(f"({len(rows)} rows)")


def _cell(value: Any) -> str:
    if value is None:
        return "NULL"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"
