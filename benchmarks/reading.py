"""What it takes to read a trace of a million slices, to report on it and to ask it."""

from __future__ import annotations

import gc
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.timing import Reading
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
from perf.cli.traces import holding
from perf.report.analysis import analyse
from perf.report.page import as_page
from tests.read.simulator import MAIN, Simulation

_SLICES: Final = 1_000_000
_SQL: Final = "select name, sum(dur) from {} group by name"
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


def measure(subject: str) -> dict[str, Reading]:
    """Readings in seconds of processor time, and in megabytes at the most."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.pb")
        write(path, _SLICES)
        gc.disable()  # as the command line does
        return _perfetto(path) if subject == "perfetto" else _ours(path)


def _ours(path: Path) -> dict[str, Reading]:
    born_s = time.process_time()
    recording = read_recording(path)
    loaded_s = time.process_time()
    as_page([analyse(recording)])
    reported_s = time.process_time()
    most_mb = _most_mb()
    holding([recording]).execute(_SQL.format("spans")).fetchall()
    return {
        "load": Reading(loaded_s - born_s),
        "report": Reading(reported_s - born_s),
        "memory": Reading(most_mb),
        "query": Reading(time.process_time() - reported_s),
    }


def _perfetto(path: Path) -> dict[str, Reading]:
    """Its trace processor, as WebAssembly: what its user interface runs."""
    from tools.perfetto.trace_processor import TraceProcessor
    from tools.perfetto.wasm import Instance

    Instance().close()  # compiled, once and for all
    born_s = time.process_time()
    with TraceProcessor(path) as processor:
        loaded_s = time.process_time()
        processor.query(_SQL.format("slice"))
        answered_s = time.process_time()
    return {
        "load": Reading(loaded_s - born_s),
        "query": Reading(answered_s - loaded_s),
        "memory": Reading(_most_mb()),
    }


def _most_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
