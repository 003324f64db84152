"""`rlperf diff`: says which stages explain a change of step time, and how surely."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from perf.cli.arguments import add_limits
from perf.cli.traces import reports_of

SLOWER = 3
"""Exit code: slower by more than `--fail-over`, and not by chance."""


def add_to(commands: Any) -> None:
    """Adds the command to the parser's subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "diff",
        help="say which stages explain a change of step time",
        description="Compares the steps of two traces. Exit codes: 0 compared; 1 the "
        "traces cannot be compared; 2 the arguments are wrong; "
        f"{SLOWER} with --fail-over: B is slower by more, and surely slower.",
    )
    parser.add_argument("before", metavar="A", type=Path, help="a trace, or its folder")
    parser.add_argument("after", metavar="B", type=Path, help="another one")
    parser.add_argument(
        "--fail-over",
        type=_share,
        metavar="5%",
        help=f"exit with {SLOWER} if B's steps are longer by more than that",
    )
    parser.add_argument("--json", action="store_true", help="print values as JSON")
    add_limits(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compares; returns the exit code."""
    from perf._read.recording import the_trace
    from perf.report.compare import as_text, as_values, compare

    before, after = (
        report
        for path in (arguments.before, arguments.after)
        for report in reports_of([the_trace(path)], arguments)
    )
    found = compare(before, after)
    if arguments.json:
        print(json.dumps(as_values(found), indent=2))
    else:
        print(as_text(found), end="")
    limit = arguments.fail_over
    if limit is not None and found.change.value > limit and found.change.low > 0:
        return SLOWER
    return 0


def _share(text: str) -> float:
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: expected 5% or 0.05") from error
    if not number >= 0 or (number >= 1 and not text.endswith("%")):
        raise argparse.ArgumentTypeError(f"{text}: expected 5% or 0.05")
    return number
