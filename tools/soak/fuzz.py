"""Reads damaged trace files: an error that says so or a partial result, and no more."""

from __future__ import annotations

import random
import tempfile
import time
import traceback
import tracemalloc
from pathlib import Path
from typing import Final

from perf._model.errors import TraceFormatError
from perf._model.tracks import Instant, Slice
from perf._read.check import check_trace
from perf._read.load import LoadedTrace, load
from perf._read.recording import read_recording
from perf.experimental.export import PerfMetricsExport
from perf.experimental.tracer import PerfTracer
from perf.perfetto import TraceFiles

_LONGEST_S: Final = 10.0
"""No damaged file of this size takes longer, not by far."""
_MOST_BYTES: Final = 400 << 20
"""Memory that a damaged file may take to read."""


def originals() -> list[bytes]:
    """Whole files with all that there is to a trace: plain, compressed, both."""
    made = []
    for compress in (False, True):
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            files = TraceFiles(compress=compress)
            export = PerfMetricsExport(trace_dir=folder, trace_files=files)
            with PerfTracer(export_fn=export.export_metrics) as tracer:
                _record(tracer)
            (path,) = Path(folder).iterdir()
            made.append(path.read_bytes())
    return [*made, b"".join(made)]


def _record(tracer: PerfTracer) -> None:
    stuck = tracer.span("stuck", tags={"text": "é" * 20, "nested": {"a": [1, {}]}})
    stuck.__enter__()
    for number in range(20):
        with tracer.span("outer", tags={"n": number, "loss": 0.5, "why": "a reason"}):
            with tracer.span("inner", ["tpu0"]) as inner:
                inner.tag("late", True)
            tracer.instant("tick", {"big": 1 << 70})
            tracer.counter("tokens", number * 1.5, "tokens")
        with tracer.span("next", after=[inner]):
            pass
        tracer.record("elsewhere", number, number + 0.5, track="server")
        if number % 5 == 0:
            tracer.export()
            tracer.flush()


def damaged(data: bytes, draw: random.Random) -> bytes:
    """A file with one to three kinds of damage."""
    for _ in range(draw.randint(1, 3)):
        damage = draw.choice([_cut, _flip, _overwrite, _insert, _remove, _repeat])
        data = damage(data, draw)
    return data


def fault(path: Path) -> str | None:
    """What is wrong with reading a file, if anything; it may be no trace at all."""
    tracemalloc.start()
    begin_s = time.monotonic()
    try:
        for read in (_load, read_recording, check_trace):
            try:
                read(path)
            except TraceFormatError as error:
                if str(path) not in str(error):
                    return f"the error does not name the file: {error}"
    except Exception:
        return traceback.format_exc(limit=-3)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    if time.monotonic() - begin_s > _LONGEST_S:
        return f"it took {time.monotonic() - begin_s:.0f} s"
    return f"it took {peak} bytes" if peak > _MOST_BYTES else None


def _load(path: Path) -> None:
    trace = load(path)
    _check_types(trace)
    _check_unread(trace, path.stat().st_size)


def _check_unread(trace: LoadedTrace, size_bytes: int) -> None:
    """Unread bytes lie in the file, in order and apart."""
    read_to = 0
    for unread in trace.unread:
        if unread.offset < read_to or unread.size_bytes < 1:
            raise ValueError(f"unread bytes are wrong: {trace.unread}")
        read_to = unread.offset + unread.size_bytes
    if read_to > size_bytes or trace.is_cut != (read_to == size_bytes > 0):
        raise ValueError(f"unread bytes are wrong at the end: {trace.unread}")


def _check_types(trace: LoadedTrace) -> None:
    pieces: list[Slice | Instant] = [*trace.slices, *trace.instants]
    texts = [track.name for track in trace.tracks]
    for piece in pieces:
        texts += [piece.name, *piece.tags]
    if not all(type(text) is str for text in texts):
        raise TypeError("a name or key is no text")


def trial(seconds: float, seed: int) -> list[str]:
    """Damages files for so long; what went wrong, once for each way to go wrong."""
    whole = originals()
    faults: dict[str, str] = {}
    end_s, number = time.monotonic() + seconds, 0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        path = Path(folder, "trace.pb")
        while time.monotonic() < end_s:
            draw = random.Random(seed + number)
            path.write_bytes(damaged(draw.choice(whole), draw))
            found = fault(path)
            if found:
                way = found.rpartition(":")[0]  # the rest is what the data were
                faults.setdefault(way, f"seed {seed + number}: {found}")
            number += 1
    print(f"{number} damaged files read")
    return list(faults.values())


def _place(data: bytes, draw: random.Random) -> tuple[int, int]:
    begin = draw.randrange(len(data) + 1)
    return begin, min(len(data), begin + draw.choice([1, 4, 64, 1024]))


def _cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def _flip(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice([1, 2, 50])):
        if changed:
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _overwrite(data: bytes, draw: random.Random) -> bytes:
    begin, end = _place(data, draw)
    return data[:begin] + draw.randbytes(end - begin) + data[end:]


def _insert(data: bytes, draw: random.Random) -> bytes:
    begin, end = _place(data, draw)
    return data[:begin] + draw.randbytes(end - begin) + data[begin:]


def _remove(data: bytes, draw: random.Random) -> bytes:
    begin, end = _place(data, draw)
    return data[:begin] + data[end:]


def _repeat(data: bytes, draw: random.Random) -> bytes:
    begin, end = _place(data, draw)
    return data[:end] + data[begin:]
