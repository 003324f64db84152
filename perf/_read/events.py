"""The slices of a trace file as flat tuples, fast enough for a million of them.

`load` gives a trace back as it was drawn, an object for everything. A report reads many
more slices and needs less of each. Most packets of a file are alike but for their
timestamp: what comes after it is decoded once and remembered.
"""

from __future__ import annotations

import dataclasses
import os
import zlib
from array import array
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from perf._model.errors import TraceFormatError
from perf._model.spans import OPEN, ClockSnapshot
from perf._model.tracks import RUN_EVENT, SCHEMA_KEY, SCHEMA_VERSION

_PACKET_KEY: Final = 0x0A
_TIMESTAMP_KEY: Final = 0x40
_STATE_CLEARED: Final = 1
_REALTIME, _MONOTONIC, _BOOTTIME = 1, 3, 6
_BEGIN, _END, _INSTANT, _COUNTER = 1, 2, 3, 4
_ARROW_START, _ARROW_END = ord("s"), ord("f")
_LEGACY, _PHASE, _ARROW_NUMBER, _BINDS = b"\x32", 0x10, 0x30, b"\x60\x01"
_CHUNK: Final = 4 << 20
_MOST_UNPACKED: Final = 64 << 20
"""Bytes that one packet may have or unpack to."""
_REMEMBERED: Final = 1 << 17
"""Different packets that are remembered at once."""

Progress = Callable[[float], None]
"""Is told how much of a file is read, from 0 to 1."""


class Row(NamedTuple):
    """A track of the file."""

    uuid: int
    path: tuple[str, ...]
    rank: int
    unit: str | None
    """Of a counter; None unless it is one's."""
    thread_id: int


class Event(NamedTuple):
    """A slice."""

    name: str
    begin_ns: int
    end_ns: int
    """`OPEN` if it has no end in the file."""
    id: int
    """From 1; unique in the file."""
    parent_id: int
    """The slice around it; 0 if there is none."""
    tags: dict[str, Any] | None
    """Shared between slices: not to be changed."""


@dataclasses.dataclass(slots=True)
class Events:
    """What a file holds.

    Attributes:
        run: metadata of the run.
        rows: its tracks, by uuid.
        slices: of each track, in the order of their ends.
        instants: track, time, name and tags.
        samples: of each counter's track, times and values.
        arrows: from slice to slice, by id.
        clocks: in the order of the file.
        is_cut: whether the file ends inside a packet.
    """

    run: dict[str, Any] = dataclasses.field(default_factory=dict)
    rows: dict[int, Row] = dataclasses.field(default_factory=dict)
    slices: dict[int, list[Event]] = dataclasses.field(default_factory=dict)
    instants: list[tuple[int, int, str, dict[str, Any]]] = dataclasses.field(
        default_factory=list
    )
    samples: dict[int, list[tuple[int, float]]] = dataclasses.field(
        default_factory=dict
    )
    arrows: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    clocks: list[ClockSnapshot] = dataclasses.field(default_factory=list)
    is_cut: bool = False


def read_events(
    path: str | os.PathLike[str], progress: Progress | None = None
) -> Events:
    """Reads a trace file of ours.

    Args:
        path: a `.pb` file, perhaps cut or still growing.
        progress: is told now and then.

    Raises:
        TraceFormatError: it is none, or one that this version cannot read.
        OSError: it cannot be read at all.
    """
    reader = _Reader(os.fspath(path))
    size = max(1, Path(path).stat().st_size)
    done = 0
    rest = b""
    with Path(path).open("rb") as file:
        while chunk := file.read(_CHUNK):
            done += len(chunk)
            data = rest + chunk
            rest = data[reader.take(data) :]
            if len(rest) > _MOST_UNPACKED:
                raise reader.error(f"a packet of more than {_MOST_UNPACKED} bytes")
            if progress is not None:
                progress(done / size)
    if not done:
        raise reader.error("an empty file")
    reader.events.is_cut = bool(rest)
    return reader.finished()


_Open = tuple[str, int, int, int, dict[str, Any] | None]
"""Name, begin, id, parent's id and tags of a slice that has not ended."""


@dataclasses.dataclass(slots=True)
class _Track:
    """The events of a track, in the order of the file."""

    times: array[int] = dataclasses.field(default_factory=lambda: array("q"))
    events: list[_Known] = dataclasses.field(default_factory=list)
    is_sorted: bool = True
    last_ns: int = 0


@dataclasses.dataclass(slots=True)
class _Sequence:
    names: dict[int, str] = dataclasses.field(default_factory=dict)
    keys: dict[int, str] = dataclasses.field(default_factory=dict)
    texts: dict[int, str] = dataclasses.field(default_factory=dict)
    now_ns: int = 0
    track: int = 0
    head: bytes = b""
    """What the packets of arrows begin with, after the timestamp; "" if unknown."""
    known: dict[bytes, _Known] = dataclasses.field(default_factory=dict)
    """Packets that were decoded, by what follows the timestamp."""


class _Known(NamedTuple):
    """A packet of an event but for its timestamp."""

    type: int
    name: str
    tags: dict[str, Any] | None
    track: int
    """0: the sequence's."""
    arrow: bytes
    """Its number as it is written; b"": no arrow."""
    is_start: bool
    value: float


class _Reader:
    def __init__(self, path: str) -> None:
        # Loaded here: protobuf is slow to import.
        from perfetto.protos.perfetto.trace import perfetto_trace_pb2

        self._parse = perfetto_trace_pb2.TracePacket.FromString
        self._path = path
        self.events = Events()
        self._sequences: dict[int, _Sequence] = {}
        self._sequence = _Sequence()
        """The one that the last packet belonged to."""
        self._tracks: dict[int, _Track] = {}
        self._count = 0
        self._starts: dict[bytes, int] = {}
        self._ends: list[tuple[bytes, int]] = []

    def error(self, found: str) -> TraceFormatError:
        return TraceFormatError(
            f"{self._path}: expected a trace of rlperf, found {found}"
        )

    def take(self, data: bytes) -> int:
        """Takes in whole packets; returns where the first one begins that is cut."""
        # One loop without calls for what most packets are: an event whose like was
        # seen before.
        at, size = 0, len(data)
        sequence, tracks = self._sequence, self._tracks
        known_of, head = sequence.known.get, sequence.head
        while at < size:
            if data[at] != _PACKET_KEY:
                raise self.error(_not_a_packet(data, at))
            begin = at + 1
            if begin >= size:
                break
            length = data[begin]
            begin += 1
            if length > 0x7F:
                found = _varint(data, begin - 1)
                if found is None:
                    break
                length, begin = found
            end = begin + length
            if end > size:
                break
            at = end
            if length < 2 or data[begin] != _TIMESTAMP_KEY:
                self._other(data[begin:end])
                sequence = self._sequence
                known_of, head = sequence.known.get, sequence.head
                continue
            byte = data[begin + 1]
            begin += 2
            delta = byte & 0x7F
            shift = 7
            while byte > 0x7F:
                byte = data[begin]
                begin += 1
                delta |= (byte & 0x7F) << shift
                shift += 7
            body = data[begin:end]
            known = known_of(body)
            if known is None:
                known = self._arrow_of(body, head) or self._decoded(body)
                if self._sequence is not sequence:
                    sequence = self._sequence
                    known_of, head = sequence.known.get, sequence.head
                if known is None:
                    continue
            now_ns = sequence.now_ns = sequence.now_ns + (
                delta - (1 << 64) if delta >> 63 else delta
            )
            uuid = known[3] or sequence.track
            track = tracks.get(uuid)
            if track is None:
                track = tracks[uuid] = _Track()
            if now_ns < track.last_ns:
                track.is_sorted = False
            track.last_ns = now_ns
            track.times.append(now_ns)
            track.events.append(known)
        return at

    # -- events ------------------------------------------------------------------------

    def _arrow_of(self, body: bytes, head: bytes) -> _Known | None:
        """An end of an arrow, taken apart by hand: each has a number of its own."""
        at = len(head) + 1
        # A message that holds nothing but a legacy event, of phase and number.
        if not head or body[at : at + 1] != _LEGACY or not body.startswith(head):
            return None
        if body[at + 2] != _PHASE or body[at + 4] != _ARROW_NUMBER:
            return None
        if body[at + 3] == _ARROW_START:
            return _Known(0, "", None, 0, body[at + 5 :], True, 0.0)
        if body[at + 3] == _ARROW_END and body.endswith(_BINDS):
            return _Known(0, "", None, 0, body[at + 5 : -len(_BINDS)], False, 0.0)
        return None

    def _decoded(self, body: bytes) -> _Known | None:
        packet = self._parsed(body)
        number = packet.trusted_packet_sequence_id
        self._sequence = self._sequence_of(number, packet.sequence_flags)
        sequence = self._sequence
        if packet.WhichOneof("data") != "track_event":
            return None
        event = packet.track_event
        legacy = event.legacy_event
        tags = {
            note.name or sequence.keys.get(note.name_iid, ""): _value(note, sequence)
            for note in event.debug_annotations
        }
        is_double = event.HasField("double_counter_value")
        is_arrow = legacy.phase in (_ARROW_START, _ARROW_END)
        known = _Known(
            event.type,
            event.name or sequence.names.get(event.name_iid, ""),
            tags or None,
            event.track_uuid,
            _number(legacy.unscoped_id) if is_arrow else b"",
            legacy.phase == _ARROW_START,
            event.double_counter_value if is_double else float(event.counter_value),
        )
        if known.arrow:
            if event.ByteSize() < 0x80:
                # What all events begin with, up to the byte that is their length.
                sequence.head = body[: len(body) - event.ByteSize() - 1]
        else:
            if len(sequence.known) >= _REMEMBERED:
                sequence.known.clear()
            sequence.known[body] = known
        return known

    # -- everything else ---------------------------------------------------------------

    def _parsed(self, data: bytes) -> Any:
        from google.protobuf.message import DecodeError

        try:
            return self._parse(data)
        except DecodeError as error:
            raise self.error(f"a packet that cannot be read ({error})") from error

    def _sequence_of(self, number: int, flags: int) -> _Sequence:
        sequence = self._sequences.get(number)
        if sequence is None or flags & _STATE_CLEARED:
            sequence = self._sequences[number] = _Sequence()
        return sequence

    def _other(self, data: bytes) -> None:
        packet = self._parsed(data)
        kind = packet.WhichOneof("data")
        if kind == "compressed_packets":
            unpacked = self._unpacked(packet.compressed_packets)
            if self.take(unpacked) != len(unpacked):
                raise self.error("compressed packets that are cut")
            return
        sequence = self._sequence_of(
            packet.trusted_packet_sequence_id, packet.sequence_flags
        )
        self._sequence = sequence
        if kind == "track_descriptor":
            self._row(packet.track_descriptor)
        elif kind == "clock_snapshot":
            self._snapshot(sequence, packet.clock_snapshot)
        if packet.HasField("trace_packet_defaults"):
            defaults = packet.trace_packet_defaults
            sequence.track = defaults.track_event_defaults.track_uuid
        if packet.HasField("interned_data"):
            new = packet.interned_data
            sequence.names.update({e.iid: e.name for e in new.event_names})
            sequence.keys.update({e.iid: e.name for e in new.debug_annotation_names})
            texts = new.debug_annotation_string_values
            sequence.texts.update(
                {e.iid: e.str.decode(errors="replace") for e in texts}
            )

    def _unpacked(self, data: bytes) -> bytes:
        unpacker = zlib.decompressobj()
        try:
            packets = unpacker.decompress(data, _MOST_UNPACKED)
        except zlib.error as error:
            raise self.error(f"packets that cannot be unpacked ({error})") from error
        if unpacker.unconsumed_tail:
            raise self.error(f"packed packets of more than {_MOST_UNPACKED} bytes")
        return packets

    def _row(self, found: Any) -> None:
        name, thread_id = found.name, 0
        if found.HasField("process"):
            name = found.process.process_name
        if found.HasField("thread"):
            name, thread_id = found.thread.thread_name, found.thread.tid
        around = self.events.rows.get(found.parent_uuid)
        path = (*around.path, name) if around else (name,)
        unit = found.counter.unit_name if found.HasField("counter") else None
        rank = found.sibling_order_rank
        self.events.rows[found.uuid] = Row(found.uuid, path, rank, unit, thread_id)

    def _snapshot(self, sequence: _Sequence, snapshot: Any) -> None:
        times = {clock.clock_id: clock.timestamp for clock in snapshot.clocks}
        own = next((c.timestamp for c in snapshot.clocks if c.is_incremental), None)
        if own is None or not {_REALTIME, _MONOTONIC, _BOOTTIME} <= times.keys():
            raise self.error(f"a clock snapshot of the clocks {sorted(times)}")
        sequence.now_ns = own
        self.events.clocks.append(
            ClockSnapshot(times[_MONOTONIC], times[_REALTIME], times[_BOOTTIME])
        )

    def _draw(self, uuid: int, track: _Track) -> None:
        """Makes slices of a track's events."""
        times, events = track.times, track.events
        order: Iterable[int] = range(len(times))
        if not track.is_sorted:
            # At one moment, events take place in the order of the file.
            order = sorted(order, key=times.__getitem__)
        stack: list[_Open] = []
        ended: list[Event] = []
        count = self._count
        for at in order:
            now_ns, known = times[at], events[at]
            kind = known[0]
            if kind == _BEGIN:
                count += 1
                around = stack[-1][2] if stack else 0
                stack.append((known[1], now_ns, count, around, known[2]))
            elif kind == _END:
                if stack:
                    name, begin_ns, slice_id, around, tags = stack.pop()
                    if known[2]:
                        tags = {**(tags or {}), **known[2]}
                    ended.append(Event(name, begin_ns, now_ns, slice_id, around, tags))
            elif kind == _INSTANT:
                self.events.instants.append((uuid, now_ns, known[1], known[2] or {}))
            elif kind == _COUNTER:
                self.events.samples.setdefault(uuid, []).append((now_ns, known[6]))
            elif known[4] and stack:
                if known[5]:
                    self._starts[known[4]] = stack[-1][2]
                else:
                    self._ends.append((known[4], stack[-1][2]))
        for name, begin_ns, slice_id, around, tags in reversed(stack):
            ended.append(Event(name, begin_ns, OPEN, slice_id, around, tags))
        self._count = count
        if ended:
            self.events.slices[uuid] = ended

    # -- the end -----------------------------------------------------------------------

    def finished(self) -> Events:
        """Everything, once the file has been read."""
        events = self.events
        while self._tracks:
            uuid, track = self._tracks.popitem()
            self._draw(uuid, track)
        events.arrows = [
            (self._starts[arrow], slice_id)
            for arrow, slice_id in self._ends
            if arrow in self._starts
        ]
        runs = [i[3] for i in events.instants if _tells_of_run(i)]
        events.instants = [i for i in events.instants if not _tells_of_run(i)]
        if not runs:
            raise self.error("a file that does not say which version wrote it")
        events.run = runs[0]
        version = events.run[SCHEMA_KEY]
        if version not in range(SCHEMA_VERSION - 2, SCHEMA_VERSION + 1):
            raise TraceFormatError(
                f"{self._path}: written with schema version {version}; this version "
                f"reads up to {SCHEMA_VERSION}: use the one that wrote the file"
            )
        return events


def _varint(data: bytes, at: int) -> tuple[int, int] | None:
    value = shift = 0
    while at < len(data):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
    return None


def _number(value: int) -> bytes:
    """As it is written in a packet."""
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def _not_a_packet(data: bytes, at: int) -> str:
    if data[:1] in (b"{", b"["):
        return "JSON: name it .json to read it as Chrome's format"
    return f"the byte {data[at]:#04x} where a packet should begin"


def _tells_of_run(instant: tuple[int, int, str, dict[str, Any]]) -> bool:
    return instant[2] == RUN_EVENT and SCHEMA_KEY in instant[3]


def _value(note: Any, sequence: _Sequence) -> Any:
    if note.dict_entries:
        return {
            entry.name or sequence.keys.get(entry.name_iid, ""): _value(entry, sequence)
            for entry in note.dict_entries
        }
    if note.array_values:
        return [_value(entry, sequence) for entry in note.array_values]
    kind = note.WhichOneof("value")
    if kind == "string_value_iid":
        return sequence.texts.get(note.string_value_iid, "")
    return getattr(note, kind) if kind else None
