"""What the tests of the write side share: timelines, clocks, and how to read back."""

from __future__ import annotations

from collections.abc import Sequence
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
