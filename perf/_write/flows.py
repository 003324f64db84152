"""Arrows from spans to those that consumed their results.

A span's successors are not known when it is written. So the stream remembers where the
last slices lie, and an arrow's start is written later, as an event at the time of the
slice's begin: then that slice is the innermost one of its track, unless something else
happens there at the same time. The starts of such slices are written at once, right
after their BEGIN; so are those of slices written before they end.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from perf._model.spans import DEVICE, GROUP, SPAN, Batch, RawRecord, TimelineKind
from perf._write.packets import PacketSequence

_REMEMBERED: Final = 1 << 15
"""Slices of the host, and as many of devices, that an arrow may surely start from;
between as many and twice as many are remembered."""

_ENDS_KEPT: Final = 1 << 12
"""Ends of arrows that are remembered, to be written again."""


class Places:
    """Where the slices of the last spans lie."""

    def __init__(self) -> None:
        self.recent: dict[int, tuple[int, int]] = {}
        """Track and begin by the ids of their spans, to be added to. Not to be kept
        from one batch to the next."""
        self._older: dict[int, tuple[int, int]] = {}
        self._started: set[int] = set()
        self._started_before: set[int] = set()

    def forget_some(self) -> None:
        """Forgets the older half if there are many."""
        if len(self.recent) > _REMEMBERED:
            self._older, self.recent = self.recent, {}
            self._started_before, self._started = self._started, set()

    def add(self, track_uuid: int, records: list[RawRecord]) -> None:
        """Notes where slices lie that are all on one track."""
        recent, older = self.recent, self._older
        for record in records:
            span_id = record[3]
            # Of device slices, arrows look for that on the first device.
            if record[5] != DEVICE or not (span_id in recent or span_id in older):
                recent[span_id] = track_uuid, record[1]

    def find(self, span_id: int) -> tuple[int, int] | None:
        """Track and begin of a span's slice."""
        return self.recent.get(span_id) or self._older.get(span_id)

    def start(self, span_id: int) -> bool:
        """Notes that a slice gets the start of its arrows; whether it had none yet."""
        if span_id in self._started or span_id in self._started_before:
            return False
        self._started.add(span_id)
        return True


class Flows:
    """The arrows of one file."""

    def __init__(self, sequence: PacketSequence) -> None:
        self._sequence = sequence
        self._offsets = [sequence.id_of("flow", side) for side in ("device", "host")]
        self._ends: dict[tuple[Places, int], bytes] = {}
        """Events at which arrows end, by where they start."""
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
        self.host.forget_some()
        self.device.forget_some()
        consumers = self._look_over(batch)
        if not consumers:
            self._consumers, self.marked = {}, frozenset()
            return []
        wanted = {span_id for record in consumers for span_id in record[7]}
        self._host_now = {
            record[3]
            for _, records in chain(batch.records, batch.open)
            for record in records
            if record[3] in wanted and record[5] in (SPAN, GROUP)
        }
        self._consumers = {r[3]: r for r in consumers if r[5] != DEVICE}
        starts = wanted & (self._host_now | self._device_now)
        self.marked = frozenset(starts.union(self._consumers))
        return list(self._late_starts(consumers))

    def _late_starts(
        self, consumers: list[RawRecord]
    ) -> Iterator[tuple[int, int, bytes]]:
        for record in consumers:
            for span_id in record[7]:
                places, now = self._source(record, span_id)
                if places is None or span_id in now:
                    continue
                place = places.find(span_id)
                if place is not None:
                    for start in self._starts(places, span_id):
                        yield (*place, start)

    def _look_over(self, batch: Batch) -> list[RawRecord]:
        """Notes what has device slices; returns the records that name predecessors."""
        for info, records in batch.open:
            if info.kind is TimelineKind.QUEUE:
                self._in_flight.update([record[3] for record in records])
        consumers: list[RawRecord] = []
        self._device_now.clear()
        self._on_further_devices.clear()
        everything = chain.from_iterable([records for _, records in batch.records])
        if not self._in_flight and not any(map(_after, everything)):
            return consumers  # as in most batches of most runs
        for info, records in batch.records:
            naming = [record for record in records if record[7]]
            if info.kind is TimelineKind.DEVICE:
                for record in naming:
                    if record[3] in self._device_now or self.device.find(record[3]):
                        self._on_further_devices.add(id(record))
                self._device_now.update([record[3] for record in records])
            consumers += naming
        self._in_flight -= self._device_now
        return consumers

    def after_begin(self, places: Places, span_id: int) -> list[bytes]:
        """Start of the arrows from a slice and ends of those to it.

        Args:
            places: those of its timeline.
            span_id: its span.

        Returns:
            Events to be written right after its BEGIN.
        """
        events = self._starts(places, span_id)
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
            if places is not None and (span_id in now or places.find(span_id)):
                yield self._end(places, span_id)

    def _starts(self, places: Places, span_id: int) -> list[bytes]:
        if not places.start(span_id):
            return []
        flow = self._flow(places, span_id)
        return [self._sequence.flow_point(flow, is_start=True)]

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
            if span_id in self._device_now or self.device.find(span_id):
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
            or self.device.find(span_id) is not None
        )

    def _end(self, places: Places, span_id: int) -> bytes:
        # The same on each device of a consumer, and for each consumer.
        end = self._ends.get((places, span_id))
        if end is None:
            if len(self._ends) >= _ENDS_KEPT:
                self._ends.clear()
            flow = self._flow(places, span_id)
            end = self._sequence.flow_point(flow, is_start=False)
            self._ends[places, span_id] = end
        return end

    def _flow(self, places: Places, span_id: int) -> int:
        # An odd factor keeps different spans apart; the offset does it for files.
        offset = self._offsets[places is self.host]
        return (offset + span_id * 0x9E3779B97F4A7C15) % (1 << 64) or 1


_after = operator.itemgetter(7)
