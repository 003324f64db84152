"""`python -m benchmarks`: measures what the project costs, and against what goals."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from benchmarks.facts import FACTS
from benchmarks.report import as_json, as_markdown, as_text
from benchmarks.runner import ROOMS, Results, run


def main() -> None:
    """Measures and prints one table. A goal that is missed is no failure."""
    arguments = _parser().parse_args()
    rooms = [room for room in ROOMS if room.name in (arguments.only or room.name)]
    results: Results = {}
    begin_s = time.monotonic()
    for room, subject, found in run(rooms, with_peers=arguments.peers):
        for key, readings in found.items():
            results.setdefault(key, {}).update(readings)
        elapsed_s = time.monotonic() - begin_s
        print(f"{elapsed_s:5.0f} s  {room}, {subject}", file=sys.stderr)
    print(as_markdown(results) if arguments.markdown else as_text(results))
    measured = {room.name for room in rooms}
    for fact in FACTS:
        if fact.room in measured and fact.key not in results:
            print(f"not measured: {fact.key}", file=sys.stderr)
    if arguments.json is not None:
        text = json.dumps(as_json(results), indent=2, ensure_ascii=False)
        arguments.json.write_text(text + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        choices=[room.name for room in ROOMS],
        metavar="NAME",
        help="measure this alone; may be given again: %(choices)s",
    )
    parser.add_argument(
        "--peers",
        action="store_true",
        help="also google-tunix, jax.profiler, OpenTelemetry and viztracer, as far as "
        "they are installed; takes some minutes",
    )
    parser.add_argument(
        "--markdown", action="store_true", help="print the table as Markdown"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write all readings there"
    )
    return parser


if __name__ == "__main__":
    main()
