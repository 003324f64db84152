"""`rlperf report`: says in words, tables and pictures where the time went."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from perf.cli.arguments import add_device_profile, add_limits, add_traces
from perf.cli.traces import reports_of

_DEFAULT = "report.html"


def add_to(commands: Any) -> None:
    """Adds the command to the parser's subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "report",
        help="say where the time of a trace went, and what would help",
        description="Reads traces (.pb of rlperf, or Chrome's JSON) and writes one "
        "page that works offline. Exit codes: 0 reported; 1 a trace cannot be read, or "
        "of --device-profile nothing fits, which the report is without; 2 the "
        "arguments are wrong.",
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
    add_device_profile(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Reads and reports; returns the exit code.

    Raises:
        ValueError: the device profile that was asked for fits no trace.
    """
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
                whose = f"{report.recording.path}: " if len(reports) > 1 else ""
                print(printable(whose + findings(report)[0].text))
                for note in report.notes:
                    print(printable(f"Note: {note}."))
            print(output)
    place = arguments.device_profile
    if place is not None and not any(report.profiled.devices for report in reports):
        raise ValueError(
            f"{place}: no device profile there tells of the devices of a trace; the "
            "report is without it, and its notes say why"
        )
    return 0
