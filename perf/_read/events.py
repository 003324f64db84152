"""The slices of a trace file as flat tuples, fast enough for a million of them.

`load` gives a trace back as it was drawn, an object for everything. A report reads many
more slices and needs less of each. Most packets of a file are alike but for their
timestamp: what comes after it is decoded once and remembered.
"""

from __future__ import annotations

import dataclasses
import os
from array import array
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from perf._model.errors import TraceFormatError
from perf._model.spans import OPEN, ClockSnapshot
from perf._model.tracks import RUN_EVENT, SCHEMA_KEY
from perf._read.packets import (
    MAX_PACKET,
    MOST_PER_BYTE,
    PACKET_KEY,
    SequenceState,
    check_versions,
    frame_at,
    open_trace,
    parsed,
    text,
    unpacked_data,
)

_TIMESTAMP_KEY: Final = 0x40
_TIMESTAMP_BITS: Final = 70
"""Of its longest form: one without an end is no number that grows and grows."""
_STATE_CLEARED: Final = 1
_REALTIME, _MONOTONIC, _BOOTTIME = 1, 3, 6
_BEGIN, _END, _INSTANT, _COUNTER = 1, 2, 3, 4
_ARROW_START, _ARROW_END = ord("s"), ord("f")
_LEGACY, _PHASE, _ARROW_NUMBER, _BINDS = b"\x32", 0x10, 0x30, b"\x60\x01"
_CHUNK: Final = 4 << 20
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
    done = 0
    rest = b""
    with open_trace(path) as file:
        size = os.fstat(file.fileno()).st_size
        while chunk := file.read(_CHUNK):
            data = rest + chunk
            rest = data[reader.read(data, done - len(rest)) :]
            done += len(chunk)
            if progress is not None:
                progress(min(1.0, done / max(1, size)))
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
class _Sequence(SequenceState):
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
        self._path = path
        self.events = Events()
        self._sequences: dict[int, _Sequence] = {}
        self._sequence = _Sequence()
        """The one that the last packet belonged to."""
        self._tracks: dict[int, _Track] = {}
        self._count = 0
        self._starts: dict[bytes, int] = {}
        self._ends: list[tuple[bytes, int]] = []
        self._offset = 0
        """Of what is taken in now, in the file."""
        self._packed_at: int | None = None
        """Where the packet begins that holds what is taken in now, if it is packed."""
        self._unpacked = 0
        """Bytes, so far."""

    @property
    def _place(self) -> str:
        """For messages: offsets count from there."""
        if self._packed_at is None:
            return self._path
        return f"{self._path}, packed at offset {self._packed_at}"

    def error(self, found: str) -> TraceFormatError:
        return TraceFormatError(
            f"{self._place}: expected a trace of rlperf, found {found}"
        )

    def read(self, data: bytes, offset: int) -> int:
        """Takes in the next piece of the file, which stands at that offset.

        Returns where the first packet begins that is cut.
        """
        self._offset = offset
        try:
            return self._take(data)
        except (IndexError, OverflowError) as error:
            # Lengths and times of events are not checked one by one.
            raise self.error(f"a damaged packet after offset {offset}") from error

    def _take(self, data: bytes) -> int:
        # One loop without calls for what most packets are: an event whose like was
        # seen before.
        at, size = 0, len(data)
        sequence, tracks = self._sequence, self._tracks
        known_of, head = sequence.known.get, sequence.head
        while at < size:
            begin = at + 2
            if begin < size and data[at] == PACKET_KEY and 0 < data[at + 1] < 0x80:
                end = begin + data[at + 1]
            else:
                frame = frame_at(data, at, self._place, self._offset)
                if frame is None:
                    break
                begin, end = frame
            if end > size:
                break
            packet_at, at = at, end
            if data[begin] != _TIMESTAMP_KEY:
                self._other(data[begin:end], self._offset + packet_at)
                sequence = self._sequence
                known_of, head = sequence.known.get, sequence.head
                continue
            byte = data[begin + 1]
            begin += 2
            delta = byte & 0x7F
            shift = 7
            while byte > 0x7F and shift < _TIMESTAMP_BITS:
                byte = data[begin]
                begin += 1
                delta |= (byte & 0x7F) << shift
                shift += 7
            body = data[begin:end]
            known = known_of(body)
            if known is None:
                if begin > end:
                    raise IndexError  # the timestamp does not end in its packet
                known = self._arrow_of(body, head) or self._decoded(
                    body, self._offset + packet_at
                )
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

    def _decoded(self, body: bytes, offset: int) -> _Known | None:
        packet = parsed(body, self._place, offset)
        number = packet.trusted_packet_sequence_id
        self._sequence = self._sequence_of(number, packet.sequence_flags)
        sequence = self._sequence
        if packet.WhichOneof("data") != "track_event":
            return None
        event = packet.track_event
        legacy = event.legacy_event
        tags = sequence.tags(event.debug_annotations)
        is_double = event.HasField("double_counter_value")
        is_arrow = legacy.phase in (_ARROW_START, _ARROW_END)
        known = _Known(
            event.type,
            sequence.event_name(event),
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

    def _sequence_of(self, number: int, flags: int) -> _Sequence:
        sequence = self._sequences.get(number)
        if sequence is None or flags & _STATE_CLEARED:
            sequence = self._sequences[number] = _Sequence()
        return sequence

    def _other(self, data: bytes, offset: int) -> None:
        packet = parsed(data, self._place, offset)
        kind = packet.WhichOneof("data")
        if kind == "compressed_packets":
            self._unpack(packet, offset, offset + len(data))
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
            sequence.learn(packet.interned_data)

    def _unpack(self, packet: Any, offset: int, end: int) -> None:
        if self._packed_at is not None:
            raise self.error(f"packed packets in packed ones at offset {offset}")
        room = MAX_PACKET + MOST_PER_BYTE * end - self._unpacked
        limit = max(1, min(room, MAX_PACKET))
        data = unpacked_data(packet, self._path, offset, limit)
        self._unpacked += len(data)
        outside, self._offset, self._packed_at = self._offset, 0, offset
        if self._take(data) != len(data):
            raise self.error("packed packets that are cut off")
        self._offset, self._packed_at = outside, None

    def _row(self, found: Any) -> None:
        name, thread_id = text(found.name), 0
        if found.HasField("process"):
            name = text(found.process.process_name)
        if found.HasField("thread"):
            name, thread_id = text(found.thread.thread_name), found.thread.tid
        around = self.events.rows.get(found.parent_uuid)
        path = (*around.path, name) if around else (name,)
        has_unit = found.HasField("counter")
        unit = text(found.counter.unit_name) if has_unit else None
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
            if uuid not in events.rows:
                raise self.error(
                    f"an event on track {uuid}, which the file does not introduce"
                )
            self._draw(uuid, track)
        events.arrows = [
            (self._starts[arrow], slice_id)
            for arrow, slice_id in self._ends
            if arrow in self._starts
        ]
        runs = [i[3] for i in events.instants if _tells_of_run(i)]
        events.instants = [i for i in events.instants if not _tells_of_run(i)]
        versions = [run[SCHEMA_KEY] for run in runs]
        check_versions(versions, self._path, is_cut=events.is_cut)
        events.run = runs[0]
        return events


def _number(value: int) -> bytes:
    """As it is written in a packet."""
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def _tells_of_run(instant: tuple[int, int, str, dict[str, Any]]) -> bool:
    return instant[2] == RUN_EVENT and SCHEMA_KEY in instant[3]
