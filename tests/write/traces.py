"""What the tests of the write side share: timelines, clocks, and how to read back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from perf._model.spans import (
    OPEN,
    SPAN,
    Batch,
    ClockSnapshot,
    RawRecord,
    TimelineInfo,
    TimelineKind,
)
from perf._model.tracks import SCHEMA_KEY, SCHEMA_VERSION, Process
from perf._read.load import load
from perf._write.layout import Layout, V1Layout
from perf._write.stream import TraceStream
from tools.perfetto.trace_processor import Slice, TraceProcessor, slices

PROCESS = Process(42, "train.py", ("python", "train.py"))
MAIN = TimelineInfo("host-1", TimelineKind.HOST, "MainThread", True, 11)
WORKER = TimelineInfo("host-2", TimelineKind.HOST, "worker", False, 12)
SERVER = TimelineInfo("server", TimelineKind.NAMED, "server")
TPU = TimelineInfo("tpu0", TimelineKind.DEVICE, "tpu0")
QUEUE = TimelineInfo("tpu0_queue", TimelineKind.QUEUE, "tpu0_queue")
RUN = {SCHEMA_KEY: SCHEMA_VERSION}

On = tuple[TimelineInfo, list[RawRecord]]


def clocks(monotonic_ns: int) -> ClockSnapshot:
    """A moment; the wall clock is far ahead, the boot clock a little."""
    return ClockSnapshot(monotonic_ns, 10**18 + monotonic_ns, 7 * 10**9 + monotonic_ns)


def span(
    span_id: int,
    begin_ns: int,
    end_ns: int = OPEN,
    *,
    name: str = "",
    parent: int = 0,
    kind: int = SPAN,
    tags: Any = None,
    after: tuple[int, ...] | None = None,
) -> RawRecord:
    """A record; its name tells its id unless one is given."""
    return (
        name or f"span {span_id}", begin_ns, end_ns, span_id, parent, kind, tags, after,
    )  # fmt: skip


def batch(
    *records: On,
    opened: Sequence[On] = (),
    tangled: Sequence[TimelineInfo] = (),
    at_ns: int = 10**6,
) -> Batch:
    """What a tracer hands over at a moment."""
    names = frozenset(info.id for info in tangled)
    return Batch(list(records), list(opened), names, clocks(at_ns))


def stream(layout: Layout | None = None, seed: bytes = b"seed") -> TraceStream:
    """A file of v1's layout, unless another is given."""
    return TraceStream(layout or V1Layout(), PROCESS, RUN, seed)


def written(*batches: Batch, layout: Layout | None = None) -> bytes:
    """The bytes of a file that was given these batches."""
    file = stream(layout)
    return b"".join([file.encode(part) for part in batches])


def shown(data: bytes) -> list[Slice]:
    """The slices that Perfetto shows, after it accepted every event."""
    with TraceProcessor(data) as tp:
        tp.assert_clean()
        return [row for row in slices(tp) if row.track[-1] != "Run"]


def times(data: bytes) -> dict[str | None, tuple[int, int]]:
    """Begin and duration of each slice, by its name; none may have a namesake."""
    rows = shown(data)
    found = {row.name: (row.ts, row.dur) for row in rows}
    assert len(rows) == len(found)
    return found


def packets(data: bytes) -> list[Any]:
    """The packets of a file, as protobuf's own library reads them."""
    return list(pb.Trace.FromString(data).packet)


def names(path: Path | None) -> list[str]:
    """The names of the slices in a file."""
    assert path is not None
    return [piece.name for piece in load(path).slices]


FIRST = batch(
    (
        MAIN,
        [
            span(3, 12, 14, parent=2, tags={"a": {"b": ["x", None]}, "c": "x"}),
            ("tick", 15, 15, 4, 2, 4, {"n": 1}, None),
            ("loss", 16, 0.25, 5, 0, 5, "nats", None),
            ("tokens", 18, 3, 6, 0, 5, None, None),
            span(2, 10, 20),
        ],
    ),
    (WORKER, [span(7, 30, 40, after=(3,))]),
    opened=[(MAIN, [span(8, 50)])],
    at_ns=60,
)
SECOND = batch((MAIN, [span(9, 65, 68, name="eval"), span(8, 50, 70)]), at_ns=90)


def file_of(layout: Any = None, *, ends: bool = True) -> bytes:
    """A file with all that a file may have."""
    file = stream(layout)
    data = file.encode(FIRST) + file.encode(SECOND)
    return data + file.end() if ends else data


class Source:
    """What a tracer is to a writer."""

    def __init__(self) -> None:
        self.records: list[RawRecord] = []
        self.opened: list[RawRecord] = []
        self.now_ns = 10**6
        self.anew: list[bool] = []
        self.dropped = 0
        self.lost_ends = False
        self.closed = 0
        self.busy = 0

    def close(self) -> None:
        self.closed += 1

    def drain(self, *, anew: bool = False) -> Batch:
        self.anew.append(anew)
        if self.busy:
            self.busy -= 1
            return Batch([], [], frozenset(), clocks(self.now_ns), is_whole=False)
        taken, self.records = self.records, []
        opened, self.opened = self.opened, []
        dropped, self.dropped = self.dropped, 0
        lost_ends, self.lost_ends = self.lost_ends, False
        self.now_ns += 10
        return Batch(
            [(MAIN, taken)] if taken else [],
            [(MAIN, opened)] if opened else [],
            frozenset(),
            clocks(self.now_ns),
            dropped,
            lost_ends=lost_ends,
        )
