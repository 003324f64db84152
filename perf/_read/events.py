"""The slices of a trace file as flat tuples, fast enough for a million of them.

`load` gives a trace back as it was drawn, an object for everything. A report reads many
more slices and needs less of each. Most packets of a file are alike but for their
timestamp: what comes after it is decoded once and remembered.
"""

from __future__ import annotations

import dataclasses
import operator
import os
from array import array
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np

from perf._model.errors import TraceFormatError
from perf._model.lock import LOCK_EVENT, LockDemand
from perf._model.spans import OPEN, ClockSnapshot
from perf._model.tracks import LOST_EVENT, SCHEMA_KEY
from perf._read.damage import Damage, Unread
from perf._read.packets import (
    ARROW_END,
    ARROW_START,
    BEGIN,
    COUNTER,
    END,
    INSTANT,
    MAX_PACKET,
    MOST_PER_BYTE,
    PACKET_KEY,
    STATE_CLEARED,
    TIMESTAMP_KEY,
    CutError,
    DamageError,
    SequenceState,
    TooLargeError,
    check_versions,
    frame_at,
    lock_demand,
    lost_records,
    open_trace,
    packed_twice,
    tells_of_run,
    text,
    track_name,
    understood,
    unpacked_data,
    untimed,
)

_TIMESTAMP_BITS: Final = 70
"""Of its longest form: one without an end is no number that grows and grows."""
_STARTS, _ENDS, _NOTHING = -1, -2, 0
"""Beside these types of events: the ends of an arrow, and what says nothing to us."""
_ARROWS: Final = {ARROW_START: _STARTS, ARROW_END: _ENDS}
_EVENT, _TYPE, _NAME, _NOTE = 0x5A, 0x48, 0x50, 0x22
_LEGACY, _PHASE, _ARROW_NUMBER, _BINDS = 0x32, 0x10, 0x30, b"\x60\x01"
_LEAST: Final = 6
"""Bytes of an event that is taken apart by hand."""
_T = TypeVar("_T")
_CHUNK: Final = 4 << 20
_REMEMBERED: Final = 1 << 17
"""Different packets that are remembered at once."""

Progress = Callable[[float], None]
"""Is told how much of a file is read, from 0 to 1."""


class Row(NamedTuple):
    """A track of the file."""

    path: tuple[str, ...]
    rank: int
    unit: str | None
    """Of a counter; None unless it is one's."""


Event = tuple[str, int, int, int, int, dict[str, Any] | None]
"""A slice: name, begin, end, id, parent's id, tags.

The end is `OPEN` if it has none in the file; ids are unique in the file, from 1; the
parent is the slice around it, 0 if there is none; tags are shared between slices and
not to be changed.
"""


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
        clocks: moments on all clocks, in order.
        is_cut: whether it was not read to its end.
        lost: records that the writer counted as lost.
        unread: bytes that are damaged, with what cannot be understood without them.
            Slices that were open there are left out.
        lost_times: of each damage, the last time before and the first one after it;
            the latter is `OPEN` if nothing came after it.
        unplaced: events on tracks that the file does not introduce; left out.
        lock: what the writer saw of the interpreter's lock, and when.
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
    lost: int = 0
    unread: list[Unread] = dataclasses.field(default_factory=list)
    lost_times: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    unplaced: int = 0
    lock: list[tuple[int, LockDemand]] = dataclasses.field(default_factory=list)


def read_events(
    path: str | os.PathLike[str], progress: Progress | None = None
) -> Events:
    """Reads a trace file of ours.

    Args:
        path: a `.pb` file, perhaps growing, cut or damaged.
        progress: is told now and then.

    Raises:
        TraceFormatError: it is none, or one that this version cannot read.
        OSError: it cannot be read at all.
    """
    reader = _Reader(os.fspath(path))
    with open_trace(path) as file:
        size = os.fstat(file.fileno()).st_size

        def read(offset: int) -> None:
            data = b""
            while chunk := file.read(_CHUNK):
                data += chunk
                taken = reader.read(data, offset)
                data, offset = data[taken:], offset + taken
                if progress is not None:
                    progress(min(1.0, (offset + len(data)) / max(1, size)))
            if data:
                raise CutError(f"{path}: ends inside a packet", offset)

        reader.damage.read(file, read, reader.lose)
    return reader.finished()


_Open = tuple[str, int, int, int, dict[str, Any] | None]
"""Name, begin, id, parent's id and tags of a slice that has not ended."""


_Known = tuple[int, Any, dict[str, Any] | None, int]
"""A packet of an event but for its timestamp: type, name, tags, track.

The track is 0 for the sequence's. In place of the name, an end of an arrow has its
number as it is written, and a sample its value.
"""


class _Track(NamedTuple):
    """The events of a track, in the order of the file."""

    times: array[int]
    events: list[_Known]


@dataclasses.dataclass(slots=True)
class _Sequence(SequenceState):
    head: bytes = b""
    """What packets of events begin with between timestamp and size; "" if unknown."""
    known: dict[bytes, _Known] = dataclasses.field(default_factory=dict)
    """Packets that were decoded, by what follows the timestamp."""
    switches: dict[bytes, int] = dataclasses.field(default_factory=dict)
    """Likewise those that do nothing but name the track of what follows, whole."""
    notes: dict[bytes, tuple[str, Any]] = dataclasses.field(default_factory=dict)
    """Likewise single tags: key and value."""

    def taken_apart(self, body: bytes) -> _Known | None:
        """An event that was not seen before, as our writer writes them.

        They are too many for protobuf's objects: an end of an arrow has a number of its
        own, and a slice perhaps a tag. None: it has to be decoded.
        """
        at, end = len(self.head) + 1, len(body)
        if at == 1 or not body.startswith(self.head) or end - at < _LEAST:
            return None
        if body[at - 1] != end - at:
            return None
        if body[at] == _LEGACY:
            # A message that holds nothing but that, of phase and number.
            if body[at + 2] != _PHASE or body[at + 4] != _ARROW_NUMBER:
                return None
            if body[at + 3] == ARROW_START:
                return _STARTS, body[at + 5 :], None, 0
            if body[at + 3] == ARROW_END and body.endswith(_BINDS):
                return _ENDS, body[at + 5 : -len(_BINDS)], None, 0
            return None
        kind, number = body[at + 1], body[at + 3]
        if body[at] != _TYPE or kind not in (BEGIN, END) or body[at + 2] != _NAME:
            return None
        at += 4
        tags: dict[str, Any] = {}
        while at + 2 < end and body[at] == _NOTE and body[at + 1] < 0x80:
            begin = at + 2
            at = begin + body[at + 1]
            note = self.notes.get(body[begin:at])
            if note is None:
                return None
            tags[note[0]] = note[1]
        if at != end or number > 0x7F or number not in self.names:
            return None
        known = kind, self.names[number], tags or None, 0
        _remember(self.known, body, known)
        return known


class _Reader:
    def __init__(self, path: str) -> None:
        self._path = path
        self.events = Events()
        self._sequences: dict[int, _Sequence] = {}
        self._sequence = _Sequence()
        """The one that the last packet belonged to."""
        self._tracks: dict[int, _Track] = {}
        self._parts: list[dict[int, _Track]] = []
        """Likewise before each damage."""
        self.damage = Damage()
        self._count = 0
        self._starts: dict[bytes, int] = {}
        self._ends: list[tuple[bytes, int]] = []
        self._offset = self._damaged_at = 0
        """Of what is taken in now, in the file; and of the packet that could not be."""
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

        Raises:
            DamageError: one cannot be read.
        """
        self._offset, self._packed_at = offset, None
        try:
            return self._take(data)
        except TooLargeError:
            raise
        except TraceFormatError as error:
            raise DamageError(str(error), self._damaged_at) from error
        except (IndexError, OverflowError) as error:
            # Lengths and times of events are not checked one by one.
            self._packed_at, offset = None, self._damaged_at
            found = self.error(f"a damaged packet at offset {offset}")
            raise DamageError(str(found), offset) from error

    def lose(self) -> None:
        """Forgets what later packets would refer to, had none been lost."""
        for sequence in self._sequences.values():
            sequence.lose()
            # What is not known is decoded, which asks whether there is a time.
            sequence.known.clear()
            sequence.head = b""

    def _take(self, data: bytes) -> int:
        # One loop without calls for what most packets are: an event whose like was
        # seen before.
        at, size, offset = 0, len(data), self._offset
        sequence = self._sequence
        known_of, now_ns = sequence.known.get, sequence.now_ns
        times, events = self._track_of(sequence.track)
        packet_at = at
        try:
            while at < size:
                packet_at = at
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
                at = end
                known: _Known | None = None
                is_event = data[begin] == TIMESTAMP_KEY
                if is_event:
                    delta = byte = data[begin + 1]
                    begin += 2
                    if byte > 0x7F:
                        shift = 7
                        while byte > 0x7F and shift < _TIMESTAMP_BITS:
                            byte = data[begin]
                            begin += 1
                            delta += byte - 1 << shift  # and away with the mark before
                            shift += 7
                        if delta >> 63:
                            delta -= 1 << 64
                    body = data[begin:end]
                    known = known_of(body)
                    if known is None:
                        if begin > end:
                            raise IndexError  # the timestamp does not end in its packet
                        known = sequence.taken_apart(body)
                if known is None:
                    sequence.now_ns = now_ns
                    if is_event:
                        known = self._decoded(body, offset + packet_at)
                    else:
                        self._other(data[begin:end], offset + packet_at)
                    sequence = self._sequence
                    known_of, now_ns = sequence.known.get, sequence.now_ns
                    times, events = self._track_of(sequence.track)
                    if known is None:
                        continue
                now_ns += delta
                if known[3]:
                    own_times, own_events = self._track_of(known[3])
                    own_times.append(now_ns)
                    own_events.append(known)
                else:
                    times.append(now_ns)
                    events.append(known)
        except Exception:
            self._damaged_at = offset + packet_at
            raise
        sequence.now_ns = now_ns
        return at

    def _track_of(self, uuid: int) -> _Track:
        track = self._tracks.get(uuid)
        if track is None:
            track = self._tracks[uuid] = _Track(array("q"), [])
        return track

    # -- events ------------------------------------------------------------------------

    def _decoded(self, body: bytes, offset: int) -> _Known | None:
        packet = understood(body, self._place, offset)
        number = packet.trusted_packet_sequence_id
        self._sequence = self._sequence_of(number, packet.sequence_flags)
        sequence = self._sequence
        if packet.WhichOneof("data") != "track_event":
            return None
        if not sequence.is_timed:
            if self.damage.is_open:
                return None
            raise untimed(self._place, offset)
        event = packet.track_event
        kind, uuid = event.type, event.track_uuid
        known: _Known
        if kind in (BEGIN, END, INSTANT):
            tags = {}
            for note in event.debug_annotations:
                data = note.SerializeToString()
                key, value = sequence.tag(note)
                tags[key] = value
                _remember(sequence.notes, data, (key, value))
            known = kind, sequence.event_name(event), tags or None, uuid
            if kind == INSTANT and tells_of_run(known[1], tags):
                self.damage.is_ours = True
        elif kind == COUNTER:
            is_double = event.HasField("double_counter_value")
            value = event.double_counter_value if is_double else event.counter_value
            known = kind, float(value), None, uuid
        else:
            legacy = event.legacy_event
            kind = _ARROWS.get(legacy.phase, _NOTHING)
            known = kind, _number(legacy.unscoped_id), None, uuid
        if not packet.sequence_flags & STATE_CLEARED:
            size = event.ByteSize()
            if body[-size - 2 : -size] == bytes((_EVENT, size & 0x7F)):
                # What all events begin with, up to the byte that is their length.
                sequence.head = body[: -size - 1]
            if kind not in (_STARTS, _ENDS):
                _remember(sequence.known, body, known)
        return known

    # -- everything else ---------------------------------------------------------------

    def _sequence_of(self, number: int, flags: int) -> _Sequence:
        sequence = self._sequences.get(number)
        if sequence is None or flags & STATE_CLEARED:
            sequence = self._sequences[number] = _Sequence()
        return sequence

    def _other(self, data: bytes, offset: int) -> None:
        track = self._sequence.switches.get(data)
        if track is not None:
            self._sequence.track = track
            return
        packet = understood(data, self._place, offset)
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
            clocks = sequence.read_clocks(packet.clock_snapshot, self._place)
            if self.damage.is_open:
                self._begin_part(clocks.monotonic_ns)
                self.damage.end(offset if self._packed_at is None else self._packed_at)
            self.events.clocks.append(clocks)
        learns = packet.HasField("interned_data")
        if learns:
            sequence.learn(packet.interned_data)
        if packet.HasField("trace_packet_defaults"):
            defaults = packet.trace_packet_defaults
            sequence.track = defaults.track_event_defaults.track_uuid
            if kind is None and not learns and not packet.sequence_flags:
                sequence.switches[data] = sequence.track

    def _begin_part(self, now_ns: int) -> None:
        """Sets apart what came before the damage."""
        self.events.lost_times.append((self._last_ns(), now_ns))
        self._parts.append(self._tracks)
        self._tracks = {}

    def _last_ns(self) -> int:
        """The last moment that was told."""
        found = [track.times[-1] for track in self._tracks.values() if track.times]
        found += [clocks.monotonic_ns for clocks in self.events.clocks[-1:]]
        return max(found, default=0)

    def _unpack(self, packet: Any, offset: int, end: int) -> None:
        if self._packed_at is not None:
            raise packed_twice(self._path, self._packed_at)
        room = MAX_PACKET + MOST_PER_BYTE * end - self._unpacked
        limit = max(1, min(room, MAX_PACKET))
        data = unpacked_data(packet, self._path, offset, limit)
        self._unpacked += len(data)
        outside, self._offset, self._packed_at = self._offset, 0, offset
        if self._take(data) != len(data):
            raise self.error("packed packets that are cut off")
        self._offset, self._packed_at = outside, None

    def _row(self, found: Any) -> None:
        name = track_name(found)
        around = self.events.rows.get(found.parent_uuid)
        path = (*around.path, name) if around else (name,)
        has_unit = found.HasField("counter")
        unit = text(found.counter.unit_name) if has_unit else None
        rank = found.sibling_order_rank
        self.events.rows[found.uuid] = Row(path, rank, unit)

    def _draw(self, uuid: int, track: _Track, *, is_last: bool) -> None:
        """Makes slices of a track's events in a part of the file.

        What is open at its end has no end in the file if that is the last part. Whether
        it goes on behind damage nobody knows.
        """
        times, events = track
        along: Iterable[tuple[int, _Known]] = zip(times, events, strict=True)
        if np.any(np.diff(np.frombuffer(times, np.int64)) < 0):
            # At one moment, events take place in the order of the file.
            along = sorted(along, key=operator.itemgetter(0))
        stack: list[_Open] = []
        ended: list[Event] = []
        count = self._count
        for now_ns, (kind, name, tags, _) in along:
            if kind == BEGIN:
                count += 1
                around = stack[-1][2] if stack else 0
                stack.append((name, now_ns, count, around, tags))
            elif kind == END:
                if stack:
                    name, begin_ns, slice_id, around, own = stack.pop()
                    if tags:
                        own = {**(own or {}), **tags}
                    ended.append((name, begin_ns, now_ns, slice_id, around, own))
            elif kind == _STARTS:
                if stack:
                    self._starts[name] = stack[-1][2]
            elif kind == _ENDS:
                if stack:
                    self._ends.append((name, stack[-1][2]))
            elif kind == INSTANT:
                self.events.instants.append((uuid, now_ns, name, tags or {}))
            elif kind == COUNTER:
                self.events.samples.setdefault(uuid, []).append((now_ns, name))
        if is_last:
            for name, begin_ns, slice_id, around, tags in reversed(stack):
                ended.append((name, begin_ns, OPEN, slice_id, around, tags))
        self._count = count
        if ended:
            self.events.slices.setdefault(uuid, []).extend(ended)

    # -- the end -----------------------------------------------------------------------

    def finished(self) -> Events:
        """Everything, once the file has been read."""
        events = self.events
        events.unread, events.is_cut = self.damage.unread, self.damage.is_cut
        if events.is_cut:
            events.lost_times.append((self._last_ns(), OPEN))
        for part in (*self._parts, self._tracks):
            while part:
                uuid, track = part.popitem()
                if uuid in events.rows:
                    self._draw(uuid, track, is_last=part is self._tracks)
                else:
                    events.unplaced += len(track.events)
        events.arrows = [
            (self._starts[arrow], slice_id)
            for arrow, slice_id in self._ends
            if arrow in self._starts
        ]
        begins = [i for i in events.instants if tells_of_run(i[2], i[3])]
        versions = [instant[3][SCHEMA_KEY] for instant in begins]
        check_versions(versions, self._path, is_cut=events.is_cut)
        events.run = begins[0][3]
        about_files = {instant[0] for instant in begins}
        said = [i for i in events.instants if i[0] in about_files]
        events.lost = sum([lost_records(i[3]) for i in said if i[2] == LOST_EVENT])
        seen = [(i[1], lock_demand(i[3])) for i in said if i[2] == LOCK_EVENT]
        events.lock = [(end_ns, demand) for end_ns, demand in seen if demand]
        events.instants = [i for i in events.instants if i[0] not in about_files]
        return events


def _remember(known: dict[bytes, _T], data: bytes, value: _T) -> None:
    if len(known) >= _REMEMBERED:
        known.clear()
    known[data] = value


def _number(value: int) -> bytes:
    """As it is written in a packet."""
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)
