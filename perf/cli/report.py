"""`rlperf report`: says in words, tables and pictures where the time went."""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perf.cli.arguments import add_traces, at_least, not_negative

if TYPE_CHECKING:
    from perf.report.analysis import Progress, Report

_DEFAULT = "report.html"
_EVERY_S = 0.2


def add_to(commands: Any) -> None:
    """Adds the command to the parser's subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "report",
        help="say where the time of a trace went, and what would help",
        description="Reads traces (.pb of rlperf, or Chrome's JSON) and writes one "
        "page that works offline.",
    )
    add_traces(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help=f"the page to write (default: {_DEFAULT}; with --text or --json none)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--text", action="store_true", help="print a page of text")
    form.add_argument("--json", action="store_true", help="print values as JSON")
    add_limits(parser)
    parser.set_defaults(run=run)


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Adds what a trace does not tell."""
    parser.add_argument(
        "--queue-capacity",
        type=at_least(1),
        metavar="N",
        help="rollouts made ahead of training; for what-ifs of asynchronous runs",
    )
    parser.add_argument(
        "--staleness-limit",
        type=at_least(0),
        metavar="N",
        help="steps that a rollout's policy may be old; likewise",
    )
    parser.add_argument(
        "--error-bound-us",
        type=not_negative,
        default=0.0,
        metavar="US",
        help="how late an end may have been seen: shorter pieces are unaccounted",
    )


def run(arguments: argparse.Namespace) -> int:
    """Reads and reports; returns the exit code."""
    from perf.report.plain import as_text, as_values, printable

    reports = reports_of(arguments.traces, arguments)
    output = arguments.output
    if arguments.text:
        print("\n".join(as_text(report) for report in reports), end="")
    if arguments.json:
        values = [as_values(report) for report in reports]
        print(json.dumps(values[0] if len(values) == 1 else values, indent=2))
    if output is None and not (arguments.text or arguments.json):
        output = Path(_DEFAULT)
    if output is not None:
        from perf.report.page import as_page
        from perf.report.words import findings

        output.write_text(as_page(reports), encoding="utf-8")
        if not arguments.json:
            for report in reports:
                print(printable(findings(report)[0].text))
            print(output)
    return 0


def reports_of(paths: Sequence[Path], arguments: argparse.Namespace) -> list[Report]:
    """Reads and analyses traces, with a line of progress if it takes long."""
    from perf._read.recording import read_recording
    from perf.report.analysis import analyse

    found = []
    for file in files_of(paths):
        with long_work(file.name) as progress:
            recording = read_recording(file, functools.partial(progress, "reading"))
            found.append(
                analyse(
                    recording,
                    error_bound_ns=round(arguments.error_bound_us * 1e3),
                    queue_capacity=arguments.queue_capacity,
                    staleness_limit=arguments.staleness_limit,
                    progress=progress,
                )
            )
    return found


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Files as they are, and of folders the traces in them."""
    from perf._read.recording import folder_traces

    return [
        file
        for path in paths
        for file in (folder_traces(path) if path.is_dir() else [path])
    ]


@contextlib.contextmanager
def long_work(name: str) -> Iterator[Progress]:
    """A progress line on a terminal; nothing where nobody looks.

    Records are millions of tuples without a cycle: the garbage collector would look
    through them again and again, so it rests meanwhile.
    """
    collects = gc.isenabled()
    gc.disable()
    shown_s = time.monotonic()
    written = False

    def progress(what: str, share: float) -> None:
        nonlocal shown_s, written
        now_s = time.monotonic()
        if sys.stderr.isatty() and now_s - shown_s > _EVERY_S:
            shown_s, written = now_s, True
            print(
                f"\r{name}: {what} {share:4.0%} ", end="", file=sys.stderr, flush=True
            )

    try:
        yield progress
    finally:
        if collects:
            gc.enable()
        if written:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
