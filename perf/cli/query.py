"""`rlperf query`: answers SQL about traces."""

from __future__ import annotations

import argparse
import csv
import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perf.cli import report as report_command
from perf.cli.arguments import add_traces

if TYPE_CHECKING:
    from perf._read.recording import Recording

_WIDEST = 60


def add_to(commands: Any) -> None:
    """Adds the command to the parser's subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "query",
        help="answer SQL about traces",
        description="Tables: spans, steps, tracks, counters, instants; times in "
        "nanoseconds. DESCRIBE spans lists a table's columns. Needs rlperf[query].",
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
    with database(arguments.traces) as engine:
        import duckdb

        try:
            answer = engine.execute(arguments.sql)
        except duckdb.Error as error:
            raise ValueError(f"SQL: {error}") from error
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


def database(paths: Sequence[Path]) -> Any:
    """An engine that holds the tables of some traces.

    Raises:
        ValueError: the engine is not installed.
    """
    try:
        import duckdb  # noqa: F401  # Asked before long work.
    except ImportError as error:
        raise ValueError(
            "this needs DuckDB, which is not installed: pip install 'rlperf[query]'"
        ) from error
    from perf._read.recording import read_recording

    recordings = []
    for file in report_command.files_of(paths):
        with report_command.long_work(file.name) as progress:
            tell = functools.partial(progress, "reading")
            recordings.append(read_recording(file, tell))
    return holding(recordings)


def holding(recordings: Sequence[Recording]) -> Any:
    """An engine that holds the tables of recordings."""
    import duckdb

    from perf.report.tables import COLUMNS, tables

    engine = duckdb.connect()
    parts = tables(recordings)
    for name, columns in COLUMNS.items():
        engine.execute(f"CREATE TABLE {name} ({columns})")
        for part in parts[name]:
            engine.register("part", part)
            listed = ", ".join(part)
            engine.execute(f"INSERT INTO {name} ({listed}) SELECT {listed} FROM part")
            engine.unregister("part")
    return engine


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
