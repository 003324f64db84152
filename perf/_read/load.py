"""Turns a trace file of ours into the model again."""

from __future__ import annotations

import dataclasses
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from perf._model.errors import TraceFormatError
from perf._model.spans import OPEN, ClockSnapshot
from perf._model.tracks import (
    RUN_EVENT,
    SCHEMA_KEY,
    SCHEMA_VERSION,
    Flow,
    Instant,
    Process,
    Sample,
    Slice,
    Thread,
    Track,
)

_PACKET_KEY: Final = 0x0A
_REALTIME, _MONOTONIC, _BOOTTIME = 1, 3, 6
_STATE_CLEARED: Final = 1
_BEGIN, _END, _INSTANT, _COUNTER = 1, 2, 3, 4
_ARROW_START, _ARROW_END = ord("s"), ord("f")


_MOST_UNPACKED: Final = 64 << 20
"""Bytes that one packet may unpack to: a damaged one must not fill the memory."""
_MOST_PER_BYTE: Final = 200
"""Likewise the packets of a file together, per byte of the file, beyond what one may:
events repeat themselves, but never so often."""


@dataclasses.dataclass(frozen=True, slots=True)
class LoadedTrace:
    """What a trace file holds."""

    runs: tuple[Mapping[str, Any], ...]
    """Metadata of each run in the file: one, unless files were put together."""
    clocks: tuple[ClockSnapshot, ...]
    """In the order of the file."""
    tracks: tuple[Track, ...]
    """All that were introduced, parents before children."""
    slices: tuple[Slice, ...]
    """By begin, outer before inner ones."""
    instants: tuple[Instant, ...]
    samples: tuple[Sample, ...]
    flows: tuple[Flow, ...]
    is_cut: bool
    """Whether the file ends inside a packet; all before is here."""


def load(path: str | os.PathLike[str]) -> LoadedTrace:
    """Reads a trace file.

    Args:
        path: a `.pb` file that this package wrote, perhaps still growing or cut.

    Raises:
        TraceFormatError: it is no such file, or one that this version cannot read; the
            message says what was found.
        OSError: it cannot be read at all.
    """
    file = Path(path)
    reader = _Reader(str(file))
    reader.read(file.read_bytes())
    return reader.trace()


@dataclasses.dataclass(slots=True)
class _Sequence:
    """What the packets of one sequence refer to."""

    names: dict[int, str] = dataclasses.field(default_factory=dict)
    keys: dict[int, str] = dataclasses.field(default_factory=dict)
    texts: dict[int, str] = dataclasses.field(default_factory=dict)
    now_ns: int = 0
    track: int = 0


class _Reader:
    def __init__(self, path: str) -> None:
        # Loaded here: protobuf is slow to import.
        from perfetto.protos.perfetto.trace import perfetto_trace_pb2

        self._packet_type = perfetto_trace_pb2.TracePacket
        self._path = path
        self._sequences: dict[int, _Sequence] = {}
        self._tracks: dict[int, Track] = {}
        self._events: list[tuple[int, int, Any, str, dict[str, Any]]] = []
        self._clocks: list[ClockSnapshot] = []
        self._is_cut = False
        self._room = _MOST_UNPACKED
        """Bytes that may still be unpacked."""

    # -- the file ----------------------------------------------------------------------

    def read(self, data: bytes) -> None:
        """Takes the packets apart, in the order of the file."""
        self._room += _MOST_PER_BYTE * len(data)
        for packet in self._parsed(data):
            if packet.HasField("compressed_packets"):
                for inner in self._parsed(self._unpacked(packet.compressed_packets)):
                    self._take(inner)
            else:
                self._take(packet)

    def _parsed(self, data: bytes) -> Iterator[Any]:
        from google.protobuf.message import DecodeError

        for part in self._packets(memoryview(data)):
            try:
                packet = self._packet_type.FromString(part)
            except DecodeError as error:
                raise TraceFormatError(
                    f"{self._path}: expected a trace of rlperf, found a packet that "
                    f"cannot be read ({error})"
                ) from error
            yield packet

    def _unpacked(self, data: bytes) -> bytes:
        unpacker = zlib.decompressobj()
        try:
            # One at least: zero would be no limit.
            limit = max(1, min(self._room, _MOST_UNPACKED))
            packets = unpacker.decompress(data, limit)
        except zlib.error as error:
            raise TraceFormatError(
                f"{self._path}: expected compressed packets, found what cannot be "
                f"unpacked ({error})"
            ) from error
        if unpacker.unconsumed_tail:
            raise TraceFormatError(
                f"{self._path}: compressed packets of more than {len(packets)} bytes"
            )
        self._room -= len(packets)
        return packets

    def _packets(self, data: memoryview) -> Iterator[bytes]:
        at = 0
        while at < len(data):
            if data[at] != _PACKET_KEY:
                raise TraceFormatError(
                    f"{self._path}: expected a trace of rlperf, found the byte "
                    f"{data[at]:#04x} where a packet should begin, at offset {at}"
                )
            size = shift = 0
            begin = at + 1
            while begin < len(data):
                byte = data[begin]
                begin += 1
                size |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
            else:
                self._is_cut = True
                return
            if begin + size > len(data):
                self._is_cut = True
                return
            yield bytes(data[begin : begin + size])
            at = begin + size

    def _take(self, packet: Any) -> None:
        sequence = self._sequences.get(packet.trusted_packet_sequence_id)
        if sequence is None or packet.sequence_flags & _STATE_CLEARED:
            sequence = _Sequence()
            self._sequences[packet.trusted_packet_sequence_id] = sequence
        match packet.WhichOneof("data"):
            case "track_event":
                self._take_event(sequence, packet.timestamp, packet.track_event)
            case "track_descriptor":
                self._take_track(packet.track_descriptor)
            case "clock_snapshot":
                self._take_clocks(sequence, packet.clock_snapshot)
            case _:
                defaults = packet.trace_packet_defaults
                if packet.HasField("trace_packet_defaults"):
                    sequence.track = defaults.track_event_defaults.track_uuid
                _learn(sequence, packet.interned_data)

    def _take_event(self, sequence: _Sequence, delta: int, event: Any) -> None:
        sequence.now_ns += delta - (1 << 64) if delta >> 63 else delta
        name = _text(event.name) or sequence.names.get(event.name_iid, "")
        tags = _tags(event.debug_annotations, sequence)
        track = event.track_uuid or sequence.track
        self._events.append((sequence.now_ns, track, event, name, tags))

    def _take_clocks(self, sequence: _Sequence, snapshot: Any) -> None:
        times = {clock.clock_id: clock.timestamp for clock in snapshot.clocks}
        own = next((c.timestamp for c in snapshot.clocks if c.is_incremental), None)
        if own is None or not {_REALTIME, _MONOTONIC, _BOOTTIME} <= times.keys():
            raise TraceFormatError(
                f"{self._path}: expected a trace of rlperf, found a clock snapshot "
                f"of the clocks {sorted(times)}"
            )
        sequence.now_ns = own
        self._clocks.append(
            ClockSnapshot(times[_MONOTONIC], times[_REALTIME], times[_BOOTTIME])
        )

    def _take_track(self, found: Any) -> None:
        process = thread = None
        name = _text(found.name)
        if found.HasField("process"):
            name = _text(found.process.process_name)
            command = tuple(map(_text, found.process.cmdline))
            process = Process(found.process.pid, name, command)
        if found.HasField("thread"):
            name = _text(found.thread.thread_name)
            thread = Thread(found.thread.pid, found.thread.tid, name)
        self._tracks[found.uuid] = Track(
            name,
            self._tracks.get(found.parent_uuid),
            found.sibling_order_rank,
            f"{found.uuid:016x}",
            _text(found.counter.unit_name) if found.HasField("counter") else None,
            _text(found.description),
            process,
            thread,
        )

    # -- the trace ---------------------------------------------------------------------

    def trace(self) -> LoadedTrace:
        """Puts together what was read."""
        picture = _Picture()
        # At one moment, events take place in the order of the file.
        for time_ns, uuid, event, name, tags in sorted(self._events, key=_time):
            track = self._tracks.get(uuid)
            if track is None:
                raise TraceFormatError(
                    f"{self._path}: found an event on track {uuid}, which the file "
                    "does not introduce"
                )
            picture.add(time_ns, track, event, name, tags)
        runs = tuple(i.tags for i in picture.instants if _tells_of_run(i))
        self._check(runs)
        return LoadedTrace(
            runs,
            tuple(self._clocks),
            tuple(self._tracks.values()),
            tuple(picture.finished()),
            tuple(i for i in picture.instants if not _tells_of_run(i)),
            tuple(picture.samples),
            tuple(picture.flows),
            self._is_cut,
        )

    def _check(self, runs: tuple[Mapping[str, Any], ...]) -> None:
        if not runs:
            where = "before it says" if self._is_cut else "without saying"
            raise TraceFormatError(
                f"{self._path}: expected a trace of rlperf, found a file that ends "
                f"{where} which version wrote it"
            )
        for version in (run[SCHEMA_KEY] for run in runs):
            if version not in range(SCHEMA_VERSION - 2, SCHEMA_VERSION + 1):
                raise TraceFormatError(
                    f"{self._path}: written with schema version {version}; this "
                    f"version reads {max(1, SCHEMA_VERSION - 2)} to {SCHEMA_VERSION}: "
                    "use the one that wrote the file, or a newer one"
                )


class _Picture:
    """Slices and what belongs to them, as events come in the order of time."""

    def __init__(self) -> None:
        self.instants: list[Instant] = []
        self.samples: list[Sample] = []
        self.flows: list[Flow] = []
        self._begun: list[tuple[Track, str, int, dict[str, Any], int | None]] = []
        self._ends_ns: dict[int, int] = {}
        self._stacks: dict[str, list[int]] = {}
        """By track, the positions of its open slices."""
        self._starts: dict[int, int] = {}
        """By arrow, the position of the slice where it starts."""

    def add(
        self, time_ns: int, track: Track, event: Any, name: str, tags: dict[str, Any]
    ) -> None:
        """Takes the next event."""
        stack = self._stacks.setdefault(track.key, [])
        arrow = event.legacy_event
        if event.type == _BEGIN:
            around = stack[-1] if stack else None
            stack.append(len(self._begun))
            self._begun.append((track, name, time_ns, tags, around))
        elif event.type == _INSTANT:
            self.instants.append(Instant(track, name, time_ns, tags))
        elif event.type == _COUNTER:
            is_double = event.HasField("double_counter_value")
            value = event.double_counter_value if is_double else event.counter_value
            self.samples.append(Sample(track, time_ns, value))
        elif not stack:
            return  # of a slice that the file does not hold
        elif event.type == _END:
            ended = stack.pop()
            self._ends_ns[ended] = time_ns
            self._begun[ended][3].update(tags)
        elif arrow.phase == _ARROW_START:
            self._starts[arrow.unscoped_id] = stack[-1]
        elif arrow.phase == _ARROW_END and arrow.unscoped_id in self._starts:
            self.flows.append(Flow(self._starts[arrow.unscoped_id], stack[-1]))

    def finished(self) -> Iterator[Slice]:
        """All slices, those too that did not end."""
        for position, (track, name, begin_ns, tags, around) in enumerate(self._begun):
            end_ns = self._ends_ns.get(position, OPEN)
            yield Slice(track, name, begin_ns, end_ns, tags, around)


def _tells_of_run(instant: Instant) -> bool:
    return instant.name == RUN_EVENT and SCHEMA_KEY in instant.tags


def _time(event: tuple[int, int, Any, str, dict[str, Any]]) -> int:
    return event[0]


def _learn(sequence: _Sequence, data: Any) -> None:
    sequence.names.update({e.iid: _text(e.name) for e in data.event_names})
    sequence.keys.update({e.iid: _text(e.name) for e in data.debug_annotation_names})
    texts = data.debug_annotation_string_values
    sequence.texts.update({entry.iid: _text(entry.str) for entry in texts})


def _text(found: str | bytes) -> str:
    # Of a text that is damaged, protobuf gives the bytes.
    return found if isinstance(found, str) else found.decode(errors="replace")


def _tags(notes: Any, sequence: _Sequence) -> dict[str, Any]:
    return {
        _text(note.name) or sequence.keys.get(note.name_iid, ""): _value(note, sequence)
        for note in notes
    }


def _value(note: Any, sequence: _Sequence) -> Any:
    if note.dict_entries:
        return _tags(note.dict_entries, sequence)
    if note.array_values:
        return [_value(entry, sequence) for entry in note.array_values]
    kind = note.WhichOneof("value")
    if kind == "string_value_iid":
        return sequence.texts.get(note.string_value_iid, "")
    if kind == "string_value":
        return _text(note.string_value)
    return getattr(note, kind) if kind else None
