"""`rlperf check`: says whether trace files are sound, and why not."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import perf
from perf._read.check import MEANINGS, TrackCounts, Verdict, check_trace
from perf.cli.arguments import add_traces
from perf.cli.messages import message

SOUND, UNSOUND, UNREADABLE = 0, 1, 2
_TRACKS_SHOWN: Final = 40
_EPILOG: Final = """\
exit status:
  0  every trace is sound
  1  at least one is not
  2  at least one cannot be read: no trace of rlperf, a folder without any,
     missing, too large
"""


def add_to(commands: Any) -> None:
    """Adds the command to the parser's subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "check",
        help="say whether trace files are sound, and why not",
        description="Looks for what is damaged, cut off or lost in traces of rlperf, "
        "also where Perfetto would show them without a word.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_traces(parser)
    parser.add_argument(
        "--json", action="store_true", help="print one JSON array, a verdict a trace"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Checks the traces; returns the exit status."""
    status = SOUND
    found = []
    for path in itertools.chain.from_iterable(map(_files, arguments.traces)):
        try:
            verdict = check_trace(path)
        except (perf.PerfError, OSError) as error:
            status = UNREADABLE
            found.append({"path": str(path), "sound": None, "error": message(error)})
            if not arguments.json:
                print(f"rlperf: {message(error)}", file=sys.stderr)
            continue
        if not verdict.is_sound:
            status = max(status, UNSOUND)
        if arguments.json:
            found.append(_as_json(verdict))
        else:
            print("\n".join(_lines(verdict)))
    if arguments.json:
        print(json.dumps(found, indent=2))
    return status


def _files(path: Path) -> list[Path]:
    """A file as it is, and of a folder all traces: damage may be in any.

    A folder without one is returned itself, for what is said when it is read.
    """
    return sorted(path.glob("*.pb")) or [path]


def _as_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "path": verdict.path,
        "sound": verdict.is_sound,
        "size_bytes": verdict.size_bytes,
        "has_ended": verdict.has_ended,
        "open_slices": verdict.open_slices,
        "problems": [
            dataclasses.asdict(problem) | {"meaning": MEANINGS[problem.kind]}
            for problem in verdict.problems
        ],
        "tracks": [dataclasses.asdict(track) for track in verdict.tracks],
    }


def _lines(verdict: Verdict) -> Iterator[str]:
    slices = sum(track.slices for track in verdict.tracks)
    size = f"{verdict.size_bytes / 1e3:,.0f} kB, {slices:,} slices"
    yield f"{verdict.path}: {'sound' if verdict.is_sound else 'UNSOUND'} ({size})"
    for problem in verdict.problems:
        meaning = MEANINGS[problem.kind]
        yield f"  {problem.kind} {problem.count:,}: {meaning}; first: {problem.first}"
    if verdict.open_slices:
        yield f"  {verdict.open_slices:,} slices were open when the file was closed"
    if not verdict.has_ended:
        yield "  not closed by its writer: the run goes on, or was killed"
    yield from map(_row, verdict.tracks[:_TRACKS_SHOWN])
    if len(verdict.tracks) > _TRACKS_SHOWN:
        more = len(verdict.tracks) - _TRACKS_SHOWN
        yield f"  … and {more:,} more tracks; --json has them all"


def _row(track: TrackCounts) -> str:
    counts = [
        f"{count:,} {what if count > 1 else what.removesuffix('s')}"
        for what in ("slices", "instants", "samples")
        if (count := getattr(track, what))
    ]
    # The first name is the process's, the same on every line.
    return f"{', '.join(counts):>20}  {' > '.join(track.path[1:] or track.path)}"
