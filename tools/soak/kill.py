"""Kills a recording process at random moments; what it flushed must be in its files."""

from __future__ import annotations

import dataclasses
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from perf._model.errors import TraceFormatError
from perf._model.spans import OPEN
from perf._read.load import load
from tools.perfetto.trace_processor import TraceProcessor, TraceProcessorError

_LONGEST_S: Final = 0.4
"""At most so long after the first flush comes the kill."""


@dataclasses.dataclass(frozen=True)
class Flushed:
    """What a process said before it died."""

    made: int = 0
    """The spans numbered below were opened; those that are not open were closed."""
    opened: frozenset[int] = frozenset()


def trial(folder: Path, times: int, seed: int) -> list[str]:
    """Kills so many processes; what did not hold, each with its seed."""
    faults = []
    flushed = 0
    for number in range(times):
        place = folder / str(number)
        place.mkdir()
        said = killed(place, seed + number)
        faults += [f"seed {seed + number}: {fault}" for fault in lost(place, said)]
        flushed += said.made
        for path in place.iterdir():
            path.unlink()
    print(f"{times} kills, {flushed} spans flushed before")
    return faults


def killed(folder: Path, seed: int) -> Flushed:
    """Has a process record into a folder, and kills it.

    Returns:
        What its last whole line told.
    """
    draw = random.Random(seed)
    child = subprocess.Popen(
        [sys.executable, "-m", "tools.soak.victim", str(folder), str(seed)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    lines = [child.stdout.readline()]
    time.sleep(draw.random() * _LONGEST_S)
    child.kill()
    rest, _ = child.communicate()
    lines += rest.splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"\n")]
    if not whole:
        raise RuntimeError(f"the victim ended by itself with {child.returncode}")
    last = json.loads(whole[-1])
    return Flushed(last["made"], frozenset(last["open"]))


def lost(folder: Path, said: Flushed) -> list[str]:
    """What is not in the files of a folder as it was said to be."""
    faults = []
    begun, ended, unfinished = set[int](), set[int](), set[str]()
    for path in sorted(folder.iterdir()):
        try:
            trace = load(path)
        except TraceFormatError as error:
            if path.stat().st_size > 1_000:  # it had just begun
                faults.append(f"not read: {error}")
            continue
        for piece in trace.slices:
            if piece.end_ns == OPEN:
                unfinished.add(piece.name)
            if "n" in piece.tags:
                begun.add(piece.tags["n"])
                if piece.end_ns != OPEN:
                    ended.add(piece.tags["n"])
        about = len(trace.runs) + trace.has_ended
        drawn = len(trace.slices) + len(trace.instants) + about
        faults += _seen_by_perfetto(path, drawn)
    closed = set(range(said.made)) - said.opened
    faults += [
        f"{what} are lost: {sorted(some)[:5]} and more, {len(some)} in all"
        for what, some in (("closed", closed - ended), ("open", said.opened - begun))
        if some
    ]
    if not {"run", "rollout"} <= unfinished:
        faults.append(f"unfinished are {sorted(unfinished)}: run and rollout should be")
    return faults


def _seen_by_perfetto(path: Path, drawn: int) -> list[str]:
    """Complaints of the real trace processor, apart from that the file is cut."""
    try:
        with TraceProcessor(path) as tp:
            (row,) = tp.query("select count() as drawn from slice")
            complaints = tp.losses()
    except TraceProcessorError as error:
        return [f"Perfetto: {error}"]
    complaints.pop("the file ends inside a packet", None)
    found = [f"Perfetto: {complaints}"] if complaints else []
    if row["drawn"] != drawn:
        found.append(f"Perfetto has {row['drawn']} slices and instants, we {drawn}")
    return found
