"""The packets of a trace file: the only module that fills them.

One packet sequence per file. Its timestamps count from one packet to the next, its
names are interned, and the track of a run of events is said once, before them: a BEGIN
and an END take 26 bytes where a packet with everything in it takes 50.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any, Final

from perf._model.spans import ClockSnapshot, RawRecord
from perf._model.tracks import Process, Thread, Track
from perf._write.interning import Strings
from perf._write.tags import TagRules
from perf._write.values import MAX_KEY, MAX_REPEATED, Annotations
from perf._write.wire import (
    blob,
    double,
    key,
    number,
    plain_slices,
    readable,
    timed_packets,
    varint,
)

MAX_NAME: Final = 1_024
"""Characters of the name of a slice or track; a longer one is cut and says so."""
MAX_EVENT_NAMES: Final = 20_000
MAX_KEYS: Final = 4_096
MAX_TEXTS: Final = 8_192
"""Entries of the tables of interned names, keys and text values: what is not in them
is written out. The tables are what the writer keeps in memory as a run goes on."""
_MAX_DEFAULTS: Final = 4_096  # mutate: ok any number of this size
"""Tracks whose packet of defaults is remembered."""

# Fields of TracePacket.
_PACKET: Final = 1  # of Trace
_CLOCK_SNAPSHOT, _SEQUENCE_ID, _TRACK_EVENT, _INTERNED_DATA = 6, 10, 11, 12
_SEQUENCE_FLAGS, _DEFAULTS, _TRACK_DESCRIPTOR = 13, 59, 60
_STATE_CLEARED_AND_NEEDED: Final = 3

# Fields of ClockSnapshot and ClockSnapshot.Clock.
_CLOCKS, _PRIMARY_CLOCK = 1, 2
_CLOCK_ID, _CLOCK_TIME, _CLOCK_INCREMENTAL, _CLOCK_UNIT_NS = 1, 2, 3, 4
_REALTIME, _MONOTONIC, _BOOTTIME = 1, 3, 6
_DEFAULT_CLOCK: Final = 58  # of TracePacketDefaults

# Fields of TrackEvent.
_EVENT_TYPE, _EVENT_NAME_IID, _EVENT_TRACK, _EVENT_NAME = 9, 10, 11, 23
_COUNTER_INT, _COUNTER_DOUBLE, _LEGACY_EVENT = 30, 44, 6
_BEGIN, _END, _INSTANT, _COUNTER = 1, 2, 3, 4
_BEGIN_TYPE: Final = number(_EVENT_TYPE, _BEGIN)
_LEGACY_PHASE, _LEGACY_ID, _LEGACY_BIND_ENCLOSING = 2, 6, 12

# Fields of InternedData.
_EVENT_NAMES, _ANNOTATION_NAMES, _ANNOTATION_TEXTS = 2, 3, 29

# Fields of TrackDescriptor and what it holds.
_UUID, _TRACK_NAME, _PROCESS, _THREAD, _PARENT, _TRACK_COUNTER = 1, 2, 3, 4, 5, 8
_CHILD_ORDER, _RANK, _DESCRIPTION, _MERGING = 11, 12, 14, 15
_EXPLICIT_ORDER: Final = 3
_NO_MERGING: Final = 2
_PID, _PROCESS_CMDLINE, _PROCESS_NAME = 1, 2, 6
_TID, _THREAD_NAME = 2, 5
_UNIT_NAME: Final = 6


class PacketSequence:
    """The packets of one file, and what the file holds so far.

    Args:
        seed: unique to this file in all the world; ids are made from it.
        rules: for tags.
    """

    def __init__(self, seed: bytes, rules: TagRules | None = None) -> None:
        self._seed = seed
        digest = int.from_bytes(self._hash(b"sequence"))
        # Files put together must not share the pair of sequence id and clock id. Two
        # bytes of each packet go to the former (21 bits would take three); six more
        # bits that cost nothing are in the latter, which may be anything from 64.
        self._sequence_id = digest % ((1 << 14) - 1) + 1
        self._clock_id = 64 + (digest >> 32) % 64
        self._head = number(_SEQUENCE_ID, self._sequence_id)
        self._last_ns = 0
        self._track = 0
        self._defaults: dict[int, bytes] = {}
        """What tells the file which track the next events are on, by track."""
        self._event_key = self._head + key(_TRACK_EVENT, 2)
        self._names = _Names()
        self._keys = Strings(_ANNOTATION_NAMES, MAX_KEYS, MAX_KEY)
        self._texts = Strings(_ANNOTATION_TEXTS, MAX_TEXTS, MAX_REPEATED)
        self.annotations = Annotations(self._keys, self._texts, rules)
        self.bare_begins: dict[Any, bytes] = _BareBegins(self)
        """The BEGIN of a slice that has nothing but a name, by name."""
        self.bare_end = self._event(number(_EVENT_TYPE, _END))

    def _hash(self, *parts: bytes) -> bytes:
        state = hashlib.blake2b(self._seed, digest_size=8)
        for part in parts:
            state.update(len(part).to_bytes(4) + part)
        return state.digest()

    def id_of(self, *parts: str) -> int:
        """A number of 64 bits for these texts, not 0, unlike any of other files."""
        data = [part.encode(errors="backslashreplace") for part in parts]
        return int.from_bytes(self._hash(*data)) or 1

    # -- events: everything of a packet but its timestamp -----------------------------

    def _event(self, fields: bytes) -> bytes:
        return self._event_key + varint(len(fields)) + fields

    def begin(self, name: str, annotations: bytes, *, repeats: bool = True) -> bytes:
        """The BEGIN of a slice.

        Args:
            name: its name.
            annotations: as `Annotations` gives them.
            repeats: whether to take the name into the file's table.
        """
        if repeats:
            shown = self._names[name]
        else:
            shown = blob(_EVENT_NAME, readable(name, MAX_NAME))
        fields = _BEGIN_TYPE + shown + annotations
        return self._event_key + varint(len(fields)) + fields

    def tagged_begin(self, name: str, tags: Any) -> bytes:
        """The BEGIN of a slice, with its tags; the name goes into the file's table."""
        named = _BEGIN_TYPE + self._names[name]
        return self.annotations.event(self._event_key, named, tags)

    def end(self, annotations: bytes) -> bytes:
        """The END of the innermost slice open on the track; never with a name."""
        return self._event(number(_EVENT_TYPE, _END) + annotations)

    def instant(self, name: str, tags: Any) -> bytes:
        """A moment, with its tags."""
        named = number(_EVENT_TYPE, _INSTANT) + self._names[name]
        return self.annotations.event(self._event_key, named, tags)

    def counter(self, value: float) -> bytes:
        """A sample of the counter whose track this is."""
        if isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
            sample = number(_COUNTER_INT, value)
        else:
            try:
                sample = double(_COUNTER_DOUBLE, float(value))
            except OverflowError:
                sample = double(_COUNTER_DOUBLE, math.inf if value > 0 else -math.inf)
        return self._event(number(_EVENT_TYPE, _COUNTER) + sample)

    def flow_point(self, flow: int, *, is_start: bool) -> bytes:
        """One end of an arrow, at the slice that is innermost on the track just then.

        `TrackEvent.flow_ids` sit on a slice's own packets, and when a slice is written
        nobody knows what will come after it. These events of the older form bind by
        track and time, so the start can follow at any later point of the file.

        Args:
            flow: the arrow's number.
            is_start: whether the arrow goes out from here.
        """
        legacy = number(_LEGACY_PHASE, ord("s" if is_start else "f"))
        legacy += number(_LEGACY_ID, flow)
        if not is_start:
            legacy += number(_LEGACY_BIND_ENCLOSING, 1)
        return self._event(blob(_LEGACY_EVENT, legacy))

    # -- whole packets ----------------------------------------------------------------

    def _packet(self, fields: bytes) -> bytes:
        return blob(_PACKET, self._head + fields)

    def events(
        self, track_uuid: int, times_ns: list[int], bodies: list[bytes]
    ) -> bytes:
        """The packets of events, in this order, after whatever they refer to.

        Args:
            track_uuid: their track.
            times_ns: n times on the tracer's clock, best in ascending order.
            bodies: n events as the methods above return them.
        """
        if not bodies:
            return b""
        packets = timed_packets(times_ns, bodies, self._last_ns)
        return self._before_events(track_uuid, times_ns[-1]) + packets

    def plain_slices(
        self,
        track_uuid: int,
        records: list[RawRecord],
        *,
        since_ns: int,
        nests: bool,
    ) -> bytes | None:
        """The packets of slices of the commonest sort; None if they are of another.

        Args:
            track_uuid: their track.
            records: n spans in the order of closing, n > 0.
            since_ns: none may begin earlier.
            nests: whether they may nest; else they must lie apart.
        """
        packets = plain_slices(
            records,
            nests,
            since_ns,
            self._last_ns,
            self._event_key,
            self._names,
            self.annotations.plain_keys,
            self._texts.iids,
        )
        if packets is None:
            return None
        return self._before_events(track_uuid, records[-1][2]) + packets

    def _before_events(self, track_uuid: int, until_ns: int) -> bytes:
        """What events on a track refer to, unless the file has it already."""
        before = (
            self._names.table.take_new()
            + self._keys.take_new()
            + self._texts.take_new()
        )
        setup = self._packet(blob(_INTERNED_DATA, before)) if before else b""
        if track_uuid != self._track:
            self._track = track_uuid
            setup += self._defaults.get(track_uuid) or self._default_track(track_uuid)
        self._last_ns = until_ns
        return setup

    def _default_track(self, uuid: int) -> bytes:
        if len(self._defaults) >= _MAX_DEFAULTS:
            self._defaults.clear()
        event = blob(_TRACK_EVENT, number(_EVENT_TRACK, uuid))
        clock = number(_DEFAULT_CLOCK, self._clock_id)
        packet = self._defaults[uuid] = self._packet(blob(_DEFAULTS, clock + event))
        return packet

    def snapshot(self, clocks: ClockSnapshot, *, is_first: bool = False) -> bytes:
        """Relates the clocks to each other; times count from here again.

        The next events say their track, too: behind damage, reading goes on here.

        Args:
            clocks: not earlier than those given before.
            is_first: whether the file begins with it.
        """
        fields = number(_PRIMARY_CLOCK, _MONOTONIC)
        for clock_id, time_ns in (
            (_REALTIME, clocks.wall_ns),
            (_MONOTONIC, clocks.monotonic_ns),
            (_BOOTTIME, clocks.boot_ns),
        ):
            data = number(_CLOCK_ID, clock_id) + number(_CLOCK_TIME, time_ns)
            fields += blob(_CLOCKS, data)
        fields += blob(
            _CLOCKS,
            number(_CLOCK_ID, self._clock_id)
            + number(_CLOCK_TIME, clocks.monotonic_ns)
            + number(_CLOCK_INCREMENTAL, 1)
            + number(_CLOCK_UNIT_NS, 1),
        )
        self._last_ns, self._track = clocks.monotonic_ns, 0
        packet = blob(_CLOCK_SNAPSHOT, fields)
        if is_first:
            packet += number(_SEQUENCE_FLAGS, _STATE_CLEARED_AND_NEEDED)
        return self._packet(packet)

    def descriptor(self, track: Track, uuid: int, parent_uuid: int) -> bytes:
        """Introduces a track; its parent must have been introduced.

        Args:
            track: what it is.
            uuid: its number.
            parent_uuid: its parent's; 0 if it has none.
        """
        fields = number(_UUID, uuid)
        if parent_uuid:
            fields += number(_PARENT, parent_uuid)
        if track.process is not None:
            fields += blob(_PROCESS, _process(track.process))
        elif track.thread is not None:
            fields += blob(_THREAD, _thread(track.thread))
        else:
            fields += blob(_TRACK_NAME, readable(track.name, MAX_NAME))
            # Else tracks of one name are merged into one, and lanes pile up.
            fields += number(_MERGING, _NO_MERGING)
        if track.unit is not None:
            unit = blob(_UNIT_NAME, readable(track.unit, MAX_NAME))
            fields += blob(_TRACK_COUNTER, unit if track.unit else b"")
        if track.description:
            fields += blob(_DESCRIPTION, readable(track.description, MAX_NAME))
        fields += number(_CHILD_ORDER, _EXPLICIT_ORDER) + number(_RANK, track.rank)
        return self._packet(blob(_TRACK_DESCRIPTOR, fields))


class _Names(dict[Any, bytes]):
    """The field of an event that names it, by name."""

    def __init__(self) -> None:
        self.table = Strings(_EVENT_NAMES, MAX_EVENT_NAMES, MAX_NAME)

    def __missing__(self, name: Any) -> bytes:
        # 1 and True are one key, but not one name.
        text = name if type(name) is str else str(name)
        iid = self.table.iid(text)
        if not iid:
            return blob(_EVENT_NAME, readable(text, MAX_NAME))
        field = number(_EVENT_NAME_IID, iid)
        if text is name:
            self[name] = field
        return field


class _BareBegins(dict[Any, bytes]):
    def __init__(self, sequence: PacketSequence) -> None:
        self._begin = sequence.begin

    def __missing__(self, name: Any) -> bytes:
        body = self._begin(name, b"")
        if type(name) is str and len(self) < MAX_EVENT_NAMES:
            self[name] = body
        return body


def _process(process: Process) -> bytes:
    fields = number(_PID, process.pid)
    for argument in process.cmdline:
        fields += blob(_PROCESS_CMDLINE, readable(argument, MAX_NAME))
    return fields + blob(_PROCESS_NAME, readable(process.name, MAX_NAME))


def _thread(thread: Thread) -> bytes:
    return (
        number(_PID, thread.pid)
        + number(_TID, thread.tid)
        + blob(_THREAD_NAME, readable(thread.name, MAX_NAME))
    )
