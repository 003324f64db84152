"""`rlperf export`: writes traces as Parquet, for any larger engine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from perf.cli.arguments import add_traces
from perf.cli.traces import database


def add_to(commands: Any) -> None:
    """Adds the command to the parser's subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "export",
        help="write traces as Parquet files",
        description="Writes a file for each table (spans, steps, tracks, counters, "
        "instants). Several traces become one data set, told apart by the columns "
        "trace, host and process. Needs rlperf[query].",
    )
    add_traces(parser)
    parser.add_argument(
        "--parquet", required=True, type=Path, metavar="DIR", help="where to write"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Writes; returns the exit code."""
    from perf.report.tables import COLUMNS

    folder: Path = arguments.parquet
    with database(arguments.traces) as engine:
        folder.mkdir(parents=True, exist_ok=True)
        for name in COLUMNS:
            path = folder / f"{name}.parquet"
            quoted = str(path).replace("'", "''")
            engine.execute(f"COPY {name} TO '{quoted}' (FORMAT parquet)")
            print(path)
    return 0
