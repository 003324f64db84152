"""Checks a trace file: whether what its writer put into it is there, and fits.

What Perfetto drops or mends without a word is found here, too: ends without a begin, a
cut, the events of a track whose parent is unknown.
"""

from __future__ import annotations

import dataclasses
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from perf._model.errors import TraceFormatError
from perf._model.lock import LOCK_EVENT
from perf._model.tracks import (
    END_EVENT,
    LOST_EVENT,
    OPEN_KEY,
    RUN_EVENT,
    SCHEMA_KEY,
    SLICES_KEY,
)
from perf._read.packets import (
    ARROW_END,
    ARROW_START,
    BEGIN,
    BOOTTIME,
    COUNTER,
    END,
    INSTANT,
    MONOTONIC,
    REALTIME,
    STATE_CLEARED,
    TIMESTAMP_KEY,
    CutError,
    SequenceState,
    check_versions,
    frames,
    lost_records,
    open_trace,
    packed_twice,
    parsed,
    tells_of_run,
    track_name,
    unpacked,
    unpacked_data,
)
from perf._read.written import is_written

MAX_BYTES: Final = 1 << 30
"""Of a file, and of what its packets unpack to: as much memory is needed, and minutes.
The files that a writer makes have a quarter of it, unless told otherwise."""

MEANINGS: Final = {
    "cut_end": "the file ends inside a packet",
    "foreign_bytes": "what follows are no packets, and was not read",
    "broken_packets": "packets that cannot be read, or hold what rlperf never writes",
    "sequences": "packets that refer to a beginning which the file does not have",
    "clocks": "times that no clock of the file explains",
    "unknown_names": "names that the file refers to and does not hold, or holds twice",
    "unknown_parents": "tracks whose parent the file does not introduce",
    "unknown_tracks": "events on tracks that the file does not introduce before",
    "misplaced_events": "slices on a counter's track, or samples on another",
    "unopened_slices": "ends of slices that had not begun",
    "misnested_slices": "ends that name another slice than the innermost one",
    "unclosed_slices": "slices that never ended: the run was killed, or goes on",
    "loose_arrows": "arrows that touch no slice, or begin twice",
    "missing_slices": "slices that the writer counted, and the file does not hold",
    "lost_records": "spans, instants and samples that the writer had to drop",
}
"""The kinds of problems, in the order in which they are told."""

_ARROW_OUT, _ARROW_IN = 5, 6
_ARROWS: Final = {ARROW_START: _ARROW_OUT, ARROW_END: _ARROW_IN}
"""Types of events like `BEGIN`, by the phases of arrows."""
_STATE_CLEARED_AND_NEEDED: Final = STATE_CLEARED | 2
_OWN_CLOCKS: Final = range(64, 128)
_TIMES: Final = range(1 << 63)
_KNOWN_BODIES: Final = 1 << 16
"""Events that are remembered: most are equal but for their time."""


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a file, one kind of it."""

    kind: str
    """A key of `MEANINGS`."""
    count: int
    """How often it was found."""
    first: str
    """Where it was found first."""


@dataclasses.dataclass(frozen=True, slots=True)
class TrackCounts:
    """What is on the tracks of one name: a track and its lanes."""

    path: tuple[str, ...]
    slices: int = 0
    instants: int = 0
    samples: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What was found in a trace file."""

    path: str
    size_bytes: int
    problems: tuple[Problem, ...]
    tracks: tuple[TrackCounts, ...]
    """Those that have something, in the order of the file."""
    has_ended: bool
    """Whether the writer closed it; else the run goes on, was killed, or is old."""
    open_slices: int
    """Open when the writer closed it: they have no end, and that is no problem."""

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def check_trace(path: str | os.PathLike[str]) -> Verdict:
    """Checks a trace file.

    Raises:
        TraceFormatError: it is no trace of rlperf, one that this version cannot read,
            or too large; the message says what was found.
        OSError: it cannot be read at all.
    """
    checker = _Checker(os.fspath(path))
    with open_trace(path) as file:
        size = os.fstat(file.fileno()).st_size
        checker.reserve(size)
        try:
            for offset, data in frames(file, path):
                checker.read(offset, data)
        except CutError as error:
            checker.found("cut_end", str(error))
        except _TooLargeError:
            raise
        except TraceFormatError as error:
            if not checker.versions:
                raise
            checker.found("foreign_bytes", str(error))
    return checker.verdict(size)


class _TooLargeError(TraceFormatError):
    pass


class _Event(NamedTuple):
    """What an event says beside its time."""

    sequence: int
    kind: int
    """0: of none that rlperf writes."""
    track: int
    """0: the sequence's."""
    name: str
    name_iid: int
    key_iids: frozenset[int]
    text_iids: frozenset[int]
    arrow: int
    notes: Any
    """The debug annotations of an instant."""


@dataclasses.dataclass(slots=True)
class _Sequence:
    """What a sequence said since it was begun."""

    state: SequenceState = dataclasses.field(default_factory=SequenceState)
    own_clock: int = 0
    clock: int = 0
    """That of its events."""
    run_track: int = 0
    begun: int = 0
    """Slices."""
    open_at_end: int | None = None
    """None: it has not ended."""


class _Track(NamedTuple):
    name: str
    parent: int
    is_counter: bool


class _Events:
    """Of one track; slices and arrows in the order of the file."""

    def __init__(self, has_track: bool) -> None:
        self.has_track = has_track
        """Whether the file introduced it before."""
        self.times = array("q")
        self.kinds = bytearray()
        self.refs = array("Q")
        """The number of a slice's name, or of an arrow."""
        self.slices = self.instants = self.samples = 0

    def in_order(self) -> Iterable[tuple[int, int]]:
        """Kind and reference by time; those of one time in the order of the file."""
        times = np.frombuffer(self.times, np.int64)
        if not (times[1:] < times[:-1]).any():
            return zip(self.kinds, self.refs, strict=True)
        order = times.argsort(kind="stable").tolist()
        return ((self.kinds[at], self.refs[at]) for at in order)


class _Checker:
    def __init__(self, path: str) -> None:
        self._path = path
        self.versions: list[Any] = []
        """That the runs in the file name."""
        self._problems: dict[str, tuple[int, str]] = {}
        self._bytes = 0
        self._sequences: dict[int, _Sequence] = {}
        self._tracks: dict[int, _Track] = {}
        self._events: dict[int, _Events] = {}
        self._bodies: dict[bytes, _Event | None] = {}
        self._names: dict[str, int] = {"": 0}
        self._last_ns = {MONOTONIC: 0, BOOTTIME: 0}
        """By clock, at the last snapshot."""
        self._past: list[_Sequence] = []
        """Sequences that were begun anew."""

    def found(self, kind: str, where: str, count: int = 1) -> None:
        """Notes a problem."""
        before, first = self._problems.get(kind, (0, where))
        self._problems[kind] = before + count, first.removeprefix(f"{self._path}: ")

    def reserve(self, count: int) -> None:
        """Takes so many bytes into account.

        Raises:
            TraceFormatError: they are too many.
        """
        self._bytes += count
        if self._bytes > MAX_BYTES:
            raise _TooLargeError(
                f"{self._path}: more than {MAX_BYTES >> 20} MB are not checked, found "
                f"{self._bytes >> 20} MB: write smaller files (`segment_mb` of "
                "`trace_files`)"
            )

    # -- packets -----------------------------------------------------------------------

    def read(self, offset: int, data: bytes, *, is_packed: bool = False) -> None:
        """Takes the next packet."""
        stamp = _stamp(data)
        if stamp is not None:
            delta, begin = stamp
            event = self._event(data[begin:])
            if event is not None:
                self._take_event(offset, delta, event)
                return
        try:
            packet = parsed(data, self._path, offset)
            if not is_written(packet, len(data)):
                raise TraceFormatError(f"what rlperf never writes at offset {offset}")
            if packet.HasField("compressed_packets"):
                if is_packed:
                    raise packed_twice(self._path, offset)
                inside = unpacked_data(packet, self._path, offset)
                for frame in unpacked(inside, self._path, offset):
                    self.reserve(len(frame))
                    self.read(offset, frame, is_packed=True)
            else:
                self._take(offset, packet)
        except _TooLargeError:
            raise
        except TraceFormatError as error:
            self.found("broken_packets", str(error))

    def _event(self, body: bytes) -> _Event | None:
        """A packet without its timestamp, if it is an event that rlperf may write."""
        try:
            return self._bodies[body]
        except KeyError:
            pass
        event = None
        try:
            packet = parsed(body, self._path, 0)
            if packet.WhichOneof("data") == "track_event" and is_written(
                packet, len(body)
            ):
                event = _as_event(packet)
        except TraceFormatError:
            pass
        if len(self._bodies) >= _KNOWN_BODIES:
            self._bodies.clear()
        self._bodies[body] = event
        return event

    def _take(self, offset: int, packet: Any) -> None:
        number = packet.trusted_packet_sequence_id
        if packet.sequence_flags == _STATE_CLEARED_AND_NEEDED and number:
            if number in self._sequences:
                self._past.append(self._sequences[number])
            self._sequences[number] = _Sequence()
        elif packet.sequence_flags:
            raise TraceFormatError(f"flags that rlperf never sets at offset {offset}")
        sequence = self._sequences.get(number)
        if sequence is None:
            self.found("sequences", f"sequence {number} at offset {offset}")
            return
        kind = packet.WhichOneof("data")
        if kind == "track_descriptor":
            self._take_track(offset, packet.track_descriptor)
        elif kind == "clock_snapshot":
            self._take_clocks(offset, sequence, packet.clock_snapshot)
        elif kind is None:
            self._take_setup(offset, sequence, packet)
        else:
            raise TraceFormatError(f"an event without a time at offset {offset}")

    def _take_setup(self, offset: int, sequence: _Sequence, packet: Any) -> None:
        interned = packet.interned_data
        state = sequence.state
        for entries, known in (
            (interned.event_names, state.names),
            (interned.debug_annotation_names, state.keys),
            (interned.debug_annotation_string_values, state.texts),
        ):
            for entry in entries:
                if not entry.iid or entry.iid in known:
                    where = f"number {entry.iid} given again at offset {offset}"
                    self.found("unknown_names", where)
        state.learn(interned)
        if packet.HasField("trace_packet_defaults"):
            defaults = packet.trace_packet_defaults
            sequence.clock = defaults.timestamp_clock_id
            state.track = defaults.track_event_defaults.track_uuid
        elif not packet.HasField("interned_data"):
            raise TraceFormatError(f"a packet with nothing in it at offset {offset}")

    def _take_track(self, offset: int, track: Any) -> None:
        whole = bool(track.uuid)
        if track.HasField("process"):
            whole = whole and track.process.HasField("pid")
        elif track.HasField("thread"):
            whole = whole and track.thread.HasField("pid")
            whole = whole and track.thread.HasField("tid")
        else:
            whole = whole and track.HasField("name")
        if not whole:
            raise TraceFormatError(f"half of a track at offset {offset}")
        new = _Track(track_name(track), track.parent_uuid, track.HasField("counter"))
        if self._tracks.setdefault(track.uuid, new) != new:
            raise TraceFormatError(f"two tracks of one number at offset {offset}")

    def _take_clocks(self, offset: int, sequence: _Sequence, snapshot: Any) -> None:
        clocks = {clock.clock_id: clock for clock in snapshot.clocks}
        own = next((number for number in clocks if number in _OWN_CLOCKS), 0)
        fits = {REALTIME, MONOTONIC, BOOTTIME, own} == clocks.keys()
        fits = fits and len(clocks) == len(snapshot.clocks)
        fits = fits and snapshot.primary_trace_clock == MONOTONIC
        for number, clock in clocks.items():
            fits = fits and clock.timestamp in _TIMES
            fits = fits and clock.is_incremental == (number == own)
            fits = fits and clock.unit_multiplier_ns == int(number == own)
        if not (fits and own):
            self.found("clocks", f"a snapshot of other clocks at offset {offset}")
            return
        sequence.own_clock = own
        sequence.state.now_ns = clocks[own].timestamp
        if clocks[own].timestamp != clocks[MONOTONIC].timestamp:
            self.found("clocks", f"two times for one clock at offset {offset}")
        for number, last_ns in self._last_ns.items():
            self._last_ns[number] = clocks[number].timestamp
            if clocks[number].timestamp < last_ns:
                self.found("clocks", f"clock {number} goes back at offset {offset}")

    def _take_event(self, offset: int, delta: int, event: _Event) -> None:
        sequence = self._sequences.get(event.sequence)
        if sequence is None:
            where = f"sequence {event.sequence} at offset {offset}"
            self.found("sequences", where)
            return
        state, kind = sequence.state, event.kind
        time_ns = state.advance(delta)
        if not sequence.own_clock or sequence.clock != sequence.own_clock:
            self.found("clocks", f"an event on another clock at offset {offset}")
        elif time_ns not in _TIMES:
            self.found("clocks", f"the time {time_ns} ns at offset {offset}")
        name = event.name or state.names.get(event.name_iid, "")
        is_named = event.name or event.name_iid in state.names  # "" is a name, too
        if (
            (event.name_iid and not is_named)
            or (not is_named and kind in (BEGIN, INSTANT))
            or not state.keys.keys() >= event.key_iids
            or not state.texts.keys() >= event.text_iids
        ):
            self.found("unknown_names", f"at offset {offset}")
        uuid = event.track or state.track
        events = self._events.get(uuid)
        if events is None:
            events = self._events[uuid] = _Events(uuid in self._tracks)
        sequence.open_at_end = None
        if kind == COUNTER:
            events.samples += 1
        elif kind == INSTANT:
            if name in _ABOUT and self._is_about(name, sequence, uuid, event):
                return
            events.instants += 1
        else:
            events.times.append(min(max(time_ns, 0), _TIMES[-1]))
            events.kinds.append(kind)
            if kind == BEGIN:
                sequence.begun += 1
                events.slices += 1
            ref = self._names.setdefault(name, len(self._names))
            events.refs.append(event.arrow or ref)

    def _is_about(
        self, name: str, sequence: _Sequence, uuid: int, event: _Event
    ) -> bool:
        """Whether an instant is one in which the writer tells of the file."""
        tags = sequence.state.tags(event.notes)
        if tells_of_run(name, tags):
            self.versions.append(tags[SCHEMA_KEY])
            sequence.run_track = uuid
            return True
        if not uuid or uuid != sequence.run_track:
            return False
        if name == LOST_EVENT:
            self.found("lost_records", "in the instants 'lost'", lost_records(tags))
        elif name == END_EVENT:
            sequence.open_at_end = _number(tags, OPEN_KEY)
            missing = abs(_number(tags, SLICES_KEY) - sequence.begun)
            if missing:
                what = f"{sequence.begun} are there"
                self.found("missing_slices", what, missing)
        return True

    # -- the verdict -------------------------------------------------------------------

    def verdict(self, size: int) -> Verdict:
        """Puts together what was found.

        Raises:
            TraceFormatError: the file does not say that rlperf wrote it.
        """
        is_cut = "cut_end" in self._problems
        check_versions(self.versions, self._path, is_cut=is_cut)
        for uuid in self._tracks:
            self._check_parents(uuid)
        unclosed, first, arrows = 0, "", set[int]()
        for uuid, events in self._events.items():
            self._check_place(uuid, events)
            still_open = self._check_nesting(uuid, events, arrows)
            unclosed += len(still_open)
            if still_open and not first:
                first = f"{still_open[0]!r} on {self._shown(uuid)}"
        ends = [s.open_at_end for s in [*self._sequences.values(), *self._past]]
        opened = sum(end for end in ends if end is not None)
        if unclosed > opened:
            self.found("unclosed_slices", first, unclosed - opened)
        problems = [
            Problem(kind, *self._problems[kind])
            for kind in MEANINGS
            if kind in self._problems
        ]
        return Verdict(
            self._path,
            size,
            tuple(problems),
            tuple(self._counts()),
            None not in ends,
            min(opened, unclosed),
        )

    def _check_parents(self, uuid: int) -> None:
        above = self._tracks[uuid].parent
        if above and above not in self._tracks:
            self.found("unknown_parents", self._shown(uuid))
        elif above and uuid in self._above(uuid):
            self.found("unknown_parents", f"{self._shown(uuid)} is above itself")

    def _check_place(self, uuid: int, events: _Events) -> None:
        track = self._tracks.get(uuid)
        count = len(events.kinds) + events.instants
        if track is None or not events.has_track:
            where = self._shown(uuid)
            self.found("unknown_tracks", where, count + events.samples)
        elif track.is_counter and count:
            self.found("misplaced_events", self._shown(uuid), count)
        elif events.samples and not track.is_counter:
            self.found("misplaced_events", self._shown(uuid), events.samples)

    def _check_nesting(self, uuid: int, events: _Events, arrows: set[int]) -> list[str]:
        """Returns the names of the slices that have no end."""
        stack: list[int] = []
        for kind, ref in events.in_order():
            if kind == BEGIN:
                stack.append(ref)
            elif not stack:
                what = "unopened_slices" if kind == END else "loose_arrows"
                self.found(what, f"on {self._shown(uuid)}")
            elif kind == END:
                begun = stack.pop()
                if ref and ref != begun:
                    self.found("misnested_slices", f"on {self._shown(uuid)}")
            elif kind == _ARROW_OUT:
                if ref in arrows:
                    self.found("loose_arrows", f"{ref} begins twice")
                arrows.add(ref)
        if not stack:
            return []
        names = list(self._names)
        return [names[ref] for ref in stack]

    def _counts(self) -> Iterator[TrackCounts]:
        counts: dict[tuple[str, ...], TrackCounts] = {}
        for uuid, events in self._events.items():
            path = self._track_path(uuid)
            if events.slices or events.instants or events.samples:
                before = counts.get(path, TrackCounts(path))
                counts[path] = TrackCounts(
                    path,
                    before.slices + events.slices,
                    before.instants + events.instants,
                    before.samples + events.samples,
                )
        return iter(counts.values())

    def _above(self, uuid: int) -> list[int]:
        """The tracks above one, from the nearest up to the first that comes again."""
        found: dict[int, None] = {}
        above = self._tracks[uuid].parent if uuid in self._tracks else 0
        while above in self._tracks and above not in found:
            found[above] = None
            above = self._tracks[above].parent
        return list(found)

    def _track_path(self, uuid: int) -> tuple[str, ...]:
        if uuid not in self._tracks:
            return (f"track {uuid}",)
        path = [uuid, *self._above(uuid)]
        return tuple(self._tracks[each].name for each in reversed(path))

    def _shown(self, uuid: int) -> str:
        return " > ".join(self._track_path(uuid))


_ABOUT: Final = frozenset({RUN_EVENT, LOST_EVENT, END_EVENT, LOCK_EVENT})


def _number(tags: Mapping[str, Any], key: str) -> int:
    value = tags.get(key)
    return value if isinstance(value, int) else 0


def _stamp(data: bytes) -> tuple[int, int] | None:
    """The timestamp with which a packet begins, and where the rest of it does."""
    if not data or data[0] != TIMESTAMP_KEY:
        return None
    value = shift = 0
    for at in range(1, min(len(data), 11)):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, at + 1
        shift += 7
    return None


def _as_event(packet: Any) -> _Event | None:
    """None: there is more in it than an event, or it is none that rlperf writes."""
    event = packet.track_event
    if len(packet.ListFields()) != 2 or not packet.trusted_packet_sequence_id:
        return None
    kind, arrow = event.type, 0
    if event.HasField("legacy_event"):
        if kind or not event.legacy_event.HasField("unscoped_id"):
            return None
        kind = _ARROWS.get(event.legacy_event.phase, 0)
        arrow = event.legacy_event.unscoped_id
    has_value = event.HasField("counter_value") or event.HasField(
        "double_counter_value"
    )
    if kind not in range(BEGIN, _ARROW_IN + 1) or has_value != (kind == COUNTER):
        return None
    keys: list[int] = []
    texts: list[int] = []
    if not _collect_iids(event.debug_annotations, keys, texts):
        return None
    return _Event(
        packet.trusted_packet_sequence_id,
        kind,
        event.track_uuid,
        event.name,
        event.name_iid,
        frozenset(keys),
        frozenset(texts),
        arrow,
        event.debug_annotations if kind == INSTANT else None,
    )


def _collect_iids(notes: Iterable[Any], keys: list[int], texts: list[int]) -> bool:
    """Whether all annotations have names, those in an array apart."""
    for note in notes:
        if note.HasField("name_iid"):
            keys.append(note.name_iid)
        elif not note.name:
            return False
        if not _collect_from(note, keys, texts):
            return False
    return True


def _collect_from(note: Any, keys: list[int], texts: list[int]) -> bool:
    if note.HasField("string_value_iid"):
        texts.append(note.string_value_iid)
    return _collect_iids(note.dict_entries, keys, texts) and all(
        _collect_from(entry, keys, texts) for entry in note.array_values
    )
