"""What a written trace says, as read by the real trace processor."""

from __future__ import annotations

import functools
import zlib
from pathlib import Path
from typing import Any

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TracePacket

from tools.perfetto import trace_processor


class TraceFile:
    """The one trace of a folder; loading it asserts that Perfetto drops nothing."""

    def __init__(self, folder: Path) -> None:
        (self.path,) = folder.iterdir()

    @functools.cached_property
    def _processor(self) -> trace_processor.TraceProcessor:
        processor = trace_processor.TraceProcessor(self.path)
        processor.assert_clean()
        return processor

    @functools.cached_property
    def slices(self) -> list[trace_processor.Slice]:
        """All slices and instants, by begin."""
        return trace_processor.slices(self._processor)

    @property
    def counters(self) -> list[trace_processor.CounterSample]:
        """All samples of counters, by time."""
        return trace_processor.counters(self._processor)

    @property
    def flows(self) -> list[tuple[str | None, str | None]]:
        """The arrows, as names of the slices they come from and go to."""
        names = {row.id: row.name for row in self.slices}
        return [
            (names[flow.slice_out], names[flow.slice_in])
            for flow in trace_processor.flows(self._processor)
        ]

    @property
    def threads(self) -> set[str | None]:
        """The names of the threads."""
        return {thread.thread for thread in trace_processor.threads(self._processor)}

    @property
    def processes(self) -> set[str | None]:
        """The names of the processes."""
        return {thread.process for thread in trace_processor.threads(self._processor)}

    def tracks(self, name: str) -> set[tuple[str, ...]]:
        """The paths of the tracks on which slices of that name lie."""
        return {row.track for row in self.slices if row.name == name}

    def named(self, name: str) -> list[trace_processor.Slice]:
        """The slices of that name, by begin."""
        return [row for row in self.slices if row.name == name]

    def rows(self, track: tuple[str, ...]) -> list[tuple[Any, ...]]:
        """(name, begin, duration) of a track's slices, in seconds.

        Begins count from the first `global_step` of the file. The path of a track may
        leave out the process that it lies under.
        """
        first = self.named("global_step")[0].ts
        return [
            (row.name, (row.ts - first) / 1e9, row.dur / 1e9)
            for row in self.slices
            if row.track[-len(track) :] == track
        ]

    def packets(self) -> list[TracePacket]:
        """The packets of the file, those packed together unpacked."""
        found = []
        for packet in _trace(self.path.read_bytes()).packet:
            if packet.HasField("compressed_packets"):
                found += _trace(zlib.decompress(packet.compressed_packets)).packet
            else:
                found.append(packet)
        return found


def _trace(data: bytes) -> Trace:
    trace = Trace()
    trace.ParseFromString(data)
    return trace
