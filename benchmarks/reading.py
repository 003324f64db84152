"""What it takes to read a trace of a million slices, and to report on it.

python -m benchmarks.reading /tmp/big.pb --slices 1000000
"""

from __future__ import annotations

import argparse
import gc
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from perf._model.spans import (
    NO_PARENT,
    SPAN,
    Batch,
    ClockSnapshot,
    RawRecord,
    TimelineInfo,
)
from perf._model.tracks import SCHEMA_KEY, SCHEMA_VERSION, Process
from perf._read.recording import read_recording
from perf._write.layout import V2Layout
from perf._write.stream import TraceStream
from perf.report.analysis import analyse
from perf.report.page import as_page
from tests.read.simulator import MAIN, Simulation

_BEGIN_S = time.perf_counter()
_ROLES = {"rollout": ["a"], "actor": ["b"], "refer": ["b"]}


def steps(count: int | None = None) -> Iterator[Batch]:
    """Batches of a simulated training with rollouts apart, one a step."""
    offset_ns, ids, number, seed = 10**12, 0, 0, 0
    while count is None or number < count:
        seed += 1
        simulation = Simulation(seed % 997)
        if simulation.topology != "rollout-apart":
            continue
        tags = {"step": number}
        end_ns = offset_ns + simulation.main.now_ns
        records: list[tuple[TimelineInfo, list[RawRecord]]] = []
        for info, some in simulation.timelines():
            moved = [
                (
                    name,
                    begin + offset_ns,
                    end + offset_ns,
                    span_id + ids + 1,
                    parent + ids + 1 if parent else (ids + 1 if info is MAIN else 0),
                    kind,
                    {**(own or {}), **tags},
                    tuple(each + ids + 1 for each in after or ()) or None,
                )
                for name, begin, end, span_id, parent, kind, own, after in some
            ]
            if info is MAIN:
                moved.append(
                    ("global_step", offset_ns, end_ns, ids + 1, NO_PARENT, SPAN, tags,
                     None)
                )  # fmt: skip
            moved.sort(key=lambda record: (record[2], -record[3]))  # as they closed
            records.append((info, moved))
        yield Batch(records, [], frozenset(), ClockSnapshot(end_ns, end_ns, end_ns))
        offset_ns = offset_ns + simulation.end_ns + 2_000_000
        ids += simulation.count + 1
        number += 1


def write(path: Path, slices: int) -> int:
    """Writes a trace of at least so many slices; returns how many."""
    run = {SCHEMA_KEY: SCHEMA_VERSION, "command": "benchmark", "host": "h", "pid": 1}
    stream = TraceStream(V2Layout(_ROLES), Process(1, "python"), run, seed=b"reading")
    with path.open("wb") as file:
        for batch in steps():
            file.write(stream.encode(batch))
            if stream.slices >= slices:
                return stream.slices
    return stream.slices


def main() -> int:
    """Measures a report in this process; prints seconds and memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--slices", type=int, default=1_000_000)
    options = parser.parse_args()
    if not options.trace.exists():
        print(f"wrote {write(options.trace, options.slices)} slices")
    gc.disable()  # as the command line does
    _tell("begin")
    recording = read_recording(options.trace)
    _tell("loaded")
    report = analyse(recording)
    _tell("analysed")
    page = as_page([report])
    _tell(f"page of {len(page) >> 10} KB")
    return 0


def _tell(what: str) -> None:
    """Since the process began: its own time, and by the clock on the wall."""
    cpu_s, wall_s = time.process_time(), time.perf_counter() - _BEGIN_S
    print(f"{what:<20}{cpu_s:>8.1f} s CPU{wall_s:>8.1f} s{_most_mb():>8.0f} MB")


def _most_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
