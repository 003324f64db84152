"""Arrows from spans to those that consumed their results.

A span's successors are not known when it is written. So the stream remembers where the
last slices lie, and an arrow's start is written later, as an event at the time of the
slice's begin: then that slice is the innermost one of its track, unless something else
happens there at the same time. The starts of such slices are written at once, right
after their BEGIN; so are those of slices written before they end.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from perf._model.spans import DEVICE, GROUP, SPAN, Batch, RawRecord, TimelineKind
from perf._write.packets import PacketSequence

_REMEMBERED: Final = 1 << 16
"""Slices of the host, and as many of devices, that an arrow may still start from."""


class Places:
    """Where the slices of the last spans lie, by the id of the span; of fixed size."""

    __slots__ = ("begins_ns", "ids", "mask", "tracks")

    def __init__(self) -> None:
        self.mask = _REMEMBERED - 1
        self.ids = array("q", bytes(8 * _REMEMBERED))
        """By the lower bits of the id: the id, negative once its start is written."""
        self.begins_ns = array("q", bytes(8 * _REMEMBERED))
        self.tracks = array("Q", bytes(8 * _REMEMBERED))

    def put(self, span_id: int, begin_ns: int, track_uuid: int) -> None:
        """Remembers a slice."""
        at = span_id & self.mask
        self.ids[at] = span_id
        self.begins_ns[at] = begin_ns
        self.tracks[at] = track_uuid

    def start_written(self, span_id: int) -> None:
        """No start is to be written for this slice any more."""
        at = span_id & self.mask
        if self.ids[at] == span_id:
            self.ids[at] = -span_id

    def is_waiting(self, span_id: int) -> bool:
        """Whether its slice is known and a start can be written at any time."""
        return self.ids[span_id & self.mask] == span_id

    def __contains__(self, span_id: int) -> bool:
        return abs(self.ids[span_id & self.mask]) == span_id


class Flows:
    """The arrows of one file."""

    def __init__(self, sequence: PacketSequence) -> None:
        self._sequence = sequence
        self.host = Places()
        self.device = Places()
        self._in_flight: set[int] = set()
        """Spans whose device slice is still to come."""
        self._host_now: set[int] = set()
        """Predecessors with a host slice in this batch."""
        self._device_now: set[int] = set()
        """Spans with a device slice in this batch."""
        self._on_further_devices: set[int] = set()
        """Which records of this batch (by identity) are not on their first device."""
        self._consumers: dict[int, RawRecord] = {}
        """Records of this batch's host slices that arrows end at, by id."""
        self.marked: frozenset[int] = frozenset()
        """Spans of this batch whose BEGIN has to be followed by `after_begin`. So has
        that of any slice written before its end, or followed at the same time."""

    def begin_batch(self, batch: Batch) -> list[tuple[int, int, bytes]]:
        """Looks at what a batch connects, before any of it is written.

        Returns:
            Starts of arrows at slices written earlier: track, time and event.
        """
        consumers = self._look_over(batch)
        wanted = {span_id for record in consumers for span_id in record[7]}
        self._host_now = {
            record[3]
            for _, records in (chain(batch.records, batch.open) if wanted else ())
            for record in records
            if record[3] in wanted and record[5] in (SPAN, GROUP)
        }
        self._consumers = {r[3]: r for r in consumers if r[5] != DEVICE}
        starts = wanted & (self._host_now | self._device_now)
        self.marked = frozenset(starts.union(self._consumers))
        late = []
        for record in consumers:
            for span_id in record[7]:
                places, _ = self._source(record, span_id)
                if places is not None and places.is_waiting(span_id):
                    at = span_id & places.mask
                    start = self._start(places, span_id)
                    late.append((places.tracks[at], places.begins_ns[at], start))
        return late

    def _look_over(self, batch: Batch) -> list[RawRecord]:
        """Notes what has device slices; returns the records that name predecessors."""
        for info, records in batch.open:
            if info.kind is TimelineKind.QUEUE:
                self._in_flight.update([record[3] for record in records])
        consumers = []
        self._device_now.clear()
        self._on_further_devices.clear()
        for info, records in batch.records:
            naming = [record for record in records if record[7]]
            if info.kind is TimelineKind.DEVICE:
                for record in naming:
                    if record[3] in self.device or record[3] in self._device_now:
                        self._on_further_devices.add(id(record))
                self._device_now.update([record[3] for record in records])
            consumers += naming
        self._in_flight -= self._device_now
        return consumers

    def after_begin(self, places: Places, span_id: int) -> list[bytes]:
        """What to write right after the BEGIN of a slice: the start of its arrows, and
        the ends of those that it was reached by."""
        events = [self._start(places, span_id)]
        if places is self.host and span_id in self._consumers:
            events += self.ends(self._consumers[span_id])
        return events

    def before_end(self, record: RawRecord) -> Iterable[bytes]:
        """What to write right before the END of a slice.

        On a device it is there that arrows end: it may have begun to wait for another
        one long before that one began with what it waited for, and an arrow's start
        has to come first.
        """
        return self.ends(record) if record[7] and record[5] == DEVICE else ()

    def ends(self, record: RawRecord) -> Iterator[bytes]:
        """Ends of arrows at a record's slice."""
        for span_id in record[7] or ():
            places, now = self._source(record, span_id)
            if places is not None and (span_id in now or span_id in places):
                flow = self._flow(places, span_id)
                yield self._sequence.flow_point(flow, is_start=False)

    def _start(self, places: Places, span_id: int) -> bytes:
        places.start_written(span_id)
        return self._sequence.flow_point(self._flow(places, span_id), is_start=True)

    def _source(
        self, record: RawRecord, span_id: int
    ) -> tuple[Places | None, set[int]]:
        """Where an arrow to this slice starts: here, and if now written, in this set.

        A span with devices has a slice on its host thread and one on each device. The
        arrow joins those of the first devices if both spans have devices, else those
        of the threads.
        """
        if record[5] == DEVICE:
            if id(record) in self._on_further_devices:
                return None, set()
            if span_id in self._device_now or span_id in self.device:
                return self.device, self._device_now
            # What it waited for is done, but that has not been noticed yet.
            return (self.host if span_id in self._in_flight else None), self._host_now
        if self._has_device(span_id) and self._has_device(record[3]):
            return None, set()
        return self.host, self._host_now

    def _has_device(self, span_id: int) -> bool:
        return (
            span_id in self._device_now
            or span_id in self._in_flight
            or span_id in self.device
        )

    def _flow(self, places: Places, span_id: int) -> int:
        side = "host" if places is self.host else "device"
        return self._sequence.id_of("flow", side, str(span_id))
