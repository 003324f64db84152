"""Turns a trace file of ours into the model again."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any

from perf._model.errors import TraceFormatError
from perf._model.spans import OPEN, ClockSnapshot
from perf._model.tracks import (
    END_EVENT,
    LOST_EVENT,
    SCHEMA_KEY,
    Flow,
    Instant,
    Process,
    Sample,
    Slice,
    Thread,
    Track,
)
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
    STATE_CLEARED,
    DamageError,
    SequenceState,
    TooLargeError,
    check_versions,
    frames,
    lost_records,
    open_trace,
    packed_twice,
    tells_of_run,
    text,
    track_name,
    understood,
    unpacked,
    unpacked_data,
    untimed,
)


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
    """Whether it was not read to its end: it ends inside a packet, or is damaged."""
    has_ended: bool
    """Whether its writer closed it; else it goes on, was killed, or is old."""
    lost: int
    """Spans, instants and samples that its writer counted as lost."""
    unread: tuple[Unread, ...]
    """Bytes that are damaged, in order, with what cannot be understood without them;
    all else is here. A slice that was open there has no end."""
    unplaced: int
    """Events on tracks that the file does not introduce; they are left out."""


def load(path: str | os.PathLike[str]) -> LoadedTrace:
    """Reads a trace file.

    Args:
        path: a `.pb` file that this package wrote, perhaps growing, cut or damaged.

    Raises:
        TraceFormatError: it is no such file, or one that this version cannot read; the
            message says what was found.
        OSError: it cannot be read at all.
    """
    reader = _Reader(os.fspath(path))
    with open_trace(path) as file:

        def read(_: int) -> None:
            for offset, data in frames(file, path):
                reader.read(offset, data)

        reader.damage.read(file, read, reader.lose)
    return reader.trace()


class _Reader:
    def __init__(self, path: str) -> None:
        self._path = path
        self._sequences: dict[int, SequenceState] = {}
        self._tracks: dict[int, Track] = {}
        self._events: list[_Event] = []
        self._clocks: list[ClockSnapshot] = []
        self.damage = Damage()
        self._room = MAX_PACKET
        """Bytes that may still be unpacked."""

    # -- the file ----------------------------------------------------------------------

    def read(self, offset: int, data: bytes) -> None:
        """Takes the next packet of the file.

        Raises:
            DamageError: it cannot be read.
        """
        self._room += MOST_PER_BYTE * len(data)
        try:
            self._read(offset, data)
        except TooLargeError:
            raise
        except TraceFormatError as error:
            raise DamageError(str(error), offset) from error

    def lose(self) -> None:
        """Forgets what later packets would refer to, had none been lost."""
        for sequence in self._sequences.values():
            sequence.lose()

    def _read(self, offset: int, data: bytes) -> None:
        packet = understood(data, self._path, offset)
        if packet.HasField("compressed_packets"):
            limit = max(1, min(self._room, MAX_PACKET))
            inside = unpacked_data(packet, self._path, offset, limit)
            self._room -= len(inside)
            for frame in unpacked(inside, self._path, offset):
                inner = understood(frame, self._path, offset)
                if inner.HasField("compressed_packets"):
                    raise packed_twice(self._path, offset)
                self._take(offset, inner)
        else:
            self._take(offset, packet)

    def _take(self, offset: int, packet: Any) -> None:
        sequence = self._sequences.get(packet.trusted_packet_sequence_id)
        if sequence is None or packet.sequence_flags & STATE_CLEARED:
            sequence = SequenceState()
            self._sequences[packet.trusted_packet_sequence_id] = sequence
        match packet.WhichOneof("data"):
            case "track_event":
                if sequence.is_timed:
                    self._take_event(sequence, packet.timestamp, packet.track_event)
                elif not self.damage.is_open:
                    raise untimed(self._path, offset)
            case "track_descriptor":
                self._take_track(packet.track_descriptor)
            case "clock_snapshot":
                clocks = sequence.read_clocks(packet.clock_snapshot, self._path)
                self._clocks.append(clocks)
                self.damage.end(offset)
            case _:
                defaults = packet.trace_packet_defaults
                if packet.HasField("trace_packet_defaults"):
                    sequence.track = defaults.track_event_defaults.track_uuid
                sequence.learn(packet.interned_data)

    def _take_event(self, sequence: SequenceState, delta: int, event: Any) -> None:
        time_ns = sequence.advance(delta)
        name, tags = sequence.event_name(event), sequence.tags(event.debug_annotations)
        track = event.track_uuid or sequence.track
        if event.type == INSTANT and tells_of_run(name, tags):
            self.damage.is_ours = True
        part = len(self.damage.unread)
        self._events.append((time_ns, track, event, name, tags, part))

    def _take_track(self, found: Any) -> None:
        process = thread = None
        name = track_name(found)
        if found.HasField("process"):
            command = tuple(map(text, found.process.cmdline))
            process = Process(found.process.pid, name, command)
        if found.HasField("thread"):
            thread = Thread(found.thread.pid, found.thread.tid, name)
        self._tracks[found.uuid] = Track(
            name,
            self._tracks.get(found.parent_uuid),
            found.sibling_order_rank,
            f"{found.uuid:016x}",
            text(found.counter.unit_name) if found.HasField("counter") else None,
            text(found.description),
            process,
            thread,
        )

    # -- the trace ---------------------------------------------------------------------

    def trace(self) -> LoadedTrace:
        """Puts together what was read."""
        picture, unplaced = _Picture(), 0
        # At one moment, events take place in the order of the file.
        for time_ns, uuid, event, name, tags, part in sorted(self._events, key=_time):
            track = self._tracks.get(uuid)
            if track is None:
                unplaced += 1
            else:
                picture.add(time_ns, track, event, name, tags, part)
        begins = [i for i in picture.instants if tells_of_run(i.name, i.tags)]
        runs = tuple(instant.tags for instant in begins)
        versions = [run[SCHEMA_KEY] for run in runs]
        check_versions(versions, self._path, is_cut=self.damage.is_cut)
        about_files = {instant.track.key for instant in begins}
        said = [i for i in picture.instants if i.track.key in about_files]
        return LoadedTrace(
            runs,
            tuple(self._clocks),
            tuple(self._tracks.values()),
            tuple(picture.finished()),
            tuple(i for i in picture.instants if i.track.key not in about_files),
            tuple(picture.samples),
            tuple(picture.flows),
            self.damage.is_cut,
            any(i.name == END_EVENT for i in said),
            sum(lost_records(i.tags) for i in said if i.name == LOST_EVENT),
            tuple(self.damage.unread),
            unplaced,
        )


class _Picture:
    """Slices and what belongs to them, as events come in the order of time."""

    def __init__(self) -> None:
        self.instants: list[Instant] = []
        self.samples: list[Sample] = []
        self.flows: list[Flow] = []
        self._begun: list[tuple[Track, str, int, dict[str, Any], int | None]] = []
        self._ends_ns: dict[int, int] = {}
        self._stacks: dict[tuple[str, int], list[int]] = {}
        """By track and part of the file, the positions of its open slices: whether one
        goes on behind damage nobody knows."""
        self._starts: dict[int, int] = {}
        """By arrow, the position of the slice where it starts."""

    def add(
        self,
        time_ns: int,
        track: Track,
        event: Any,
        name: str,
        tags: dict[str, Any],
        part: int,
    ) -> None:
        """Takes the next event."""
        stack = self._stacks.setdefault((track.key, part), [])
        arrow = event.legacy_event
        if event.type == BEGIN:
            around = stack[-1] if stack else None
            stack.append(len(self._begun))
            self._begun.append((track, name, time_ns, tags, around))
        elif event.type == INSTANT:
            self.instants.append(Instant(track, name, time_ns, tags))
        elif event.type == COUNTER:
            is_double = event.HasField("double_counter_value")
            value = event.double_counter_value if is_double else event.counter_value
            self.samples.append(Sample(track, time_ns, value))
        elif not stack:
            return  # of a slice that the file does not hold
        elif event.type == END:
            ended = stack.pop()
            self._ends_ns[ended] = time_ns
            self._begun[ended][3].update(tags)
        elif arrow.phase == ARROW_START:
            self._starts[arrow.unscoped_id] = stack[-1]
        elif arrow.phase == ARROW_END and arrow.unscoped_id in self._starts:
            self.flows.append(Flow(self._starts[arrow.unscoped_id], stack[-1]))

    def finished(self) -> Iterator[Slice]:
        """All slices, those too that did not end."""
        for position, (track, name, begin_ns, tags, around) in enumerate(self._begun):
            end_ns = self._ends_ns.get(position, OPEN)
            yield Slice(position, track, name, begin_ns, end_ns, tags, around)


_Event = tuple[int, int, Any, str, dict[str, Any], int]
"""Time, track, protobuf's object, name, tags; how often the file was damaged before."""


def _time(event: _Event) -> int:
    return event[0]
