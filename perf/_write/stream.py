"""Turns batches of records into the bytes of one trace file."""

from __future__ import annotations

import dataclasses
import operator
import os
from collections.abc import Mapping
from itertools import chain
from typing import Any, Final

from perf._model.ids import queue_id
from perf._model.lock import LOCK_EVENT, LockDemand
from perf._model.spans import (
    COUNTER,
    GROUP,
    QUEUED,
    SPAN,
    Batch,
    ClockSnapshot,
    RawRecord,
    TimelineInfo,
    TimelineKind,
)
from perf._model.tracks import (
    END_EVENT,
    LOST_EVENT,
    LOST_KEY,
    OPEN_KEY,
    RUN_EVENT,
    SLICES_KEY,
    Process,
    Thread,
    Track,
)
from perf._write.flows import Flows
from perf._write.layout import Layout
from perf._write.packets import PacketSequence
from perf._write.rows import Pen, Row
from perf._write.tags import TagRules

CLOCKS_EVERY_NS: Final = 30_000_000_000
"""How often a file relates the clocks to each other: they drift."""

_MAX_ROWS: Final = 1_024
"""Timelines that are remembered. Runs that start a thread for each task have more."""

_Key = tuple[TimelineKind, str]
"""Of a timeline: the user may call a track as a device or a thread is called."""

_Found = tuple[TimelineInfo, list[RawRecord], list[RawRecord]]
"""A timeline, what ended on it and what opened."""


def _key(info: TimelineInfo) -> _Key:
    return info.kind, info.id


_kind = operator.itemgetter(5)


@dataclasses.dataclass(frozen=True, slots=True)
class _Place:
    """Where a timeline is drawn."""

    info: TimelineInfo
    row: Row
    of: tuple[int, str] | None
    """Kind and name of what is drawn there; None: everything."""


class TraceStream:
    """The bytes of one file, batch by batch. Work per batch is that of the batch alone.

    Args:
        layout: which track shows what.
        process: the process that records.
        run: metadata of the run.
        seed: unique to this file; drawn by default.
        rules: for tags.
    """

    def __init__(
        self,
        layout: Layout,
        process: Process,
        run: Mapping[str, Any],
        seed: bytes | None = None,
        rules: TagRules | None = None,
    ) -> None:
        self._sequence = PacketSequence(seed or os.urandom(16), rules)
        self._process = process
        self._run = run
        root = Track(process.name, process=process, key=str(process.pid))
        self._plan = layout.plan(root)
        self._root = root
        self._uuids: dict[tuple[str, ...], int] = {}
        self._rows: dict[_Key, list[_Place]] = {}
        """By timeline; its home comes first."""
        self._max_rows = _MAX_ROWS
        self._copies: dict[tuple[str, ...], Row] = {}
        """By track: several timelines may meet there."""
        self._for_copies: dict[Row, tuple[list[RawRecord], list[RawRecord]]] = {}
        """What this batch has for each."""
        self._next_clocks_ns: int | None = None
        self._batch: Batch | None = None
        self._parents: dict[int, int] | None = None
        flows = Flows(self._sequence)
        self._pen = Pen(
            self._sequence, flows, self._plan.name, self._uuid, self._parent_of, []
        )

    @property
    def slices(self) -> int:
        """Slices written so far."""
        return self._pen.slices

    def encode(self, batch: Batch) -> bytes:
        """The next bytes of the file."""
        pen = self._pen
        pen.batch += 1
        pen.now_ns = batch.clocks.monotonic_ns
        self._batch, self._parents = batch, None
        self._put_clocks(batch.clocks)
        for track_uuid, time_ns, start in pen.flows.begin_batch(batch):
            pen.out.append(self._sequence.events(track_uuid, [time_ns], [start]))
        samples: list[RawRecord] = []
        for info, ended, opened in self._by_timeline(batch):
            if COUNTER in map(_kind, ended):
                samples += [record for record in ended if record[5] == COUNTER]
                ended = [record for record in ended if record[5] != COUNTER]
            if ended or opened:
                self._draw(info, ended, opened, info.id in batch.tangled)
        for row, (ended, opened) in self._for_copies.items():
            row.draw(ended, opened, tangled=False)
        self._for_copies.clear()
        self._put_counters(samples)
        self._batch = self._parents = None
        return self._taken()

    def lost(self, count: int) -> bytes:
        """Tells of records that no file holds; after the first batch."""
        self._put_about(LOST_EVENT, {LOST_KEY: count})
        return self._taken()

    def lock_demand(self, end_ns: int, demand: LockDemand) -> bytes:
        """Tells of a stretch of the interpreter's lock; after the first batch."""
        self._put_about(LOCK_EVENT, dataclasses.asdict(demand), end_ns)
        return self._taken()

    def end(self) -> bytes:
        """Ends the file: a reader can tell it from one that was cut or goes on."""
        rows = {place.row for places in self._rows.values() for place in places}
        begun = sum(len(row.begun) for row in rows.union(self._copies.values()))
        self._put_about(END_EVENT, {SLICES_KEY: self.slices, OPEN_KEY: begun})
        return self._taken()

    def _taken(self) -> bytes:
        data = b"".join(self._pen.out)
        self._pen.out.clear()
        return data

    # -- timelines ---------------------------------------------------------------------

    def _by_timeline(self, batch: Batch) -> list[_Found]:
        """Each timeline with what ended and what opened on it."""
        found: dict[_Key, _Found] = {}
        for info, records in batch.records:
            key = _key(info)
            before = found.get(key)
            found[key] = info, [*before[1], *records] if before else records, []
        for info, records in batch.open:
            key = _key(info)
            _, ended, opened = found.get(key) or (info, [], [])
            found[key] = info, ended, [*opened, *records]
        for info, ran, _ in list(found.values()):
            if info.kind is not TimelineKind.DEVICE:
                continue
            key = TimelineKind.QUEUE, queue_id(info.id)
            waits = self._rows.get(key)
            if waits and waits[0].row.begun:
                _, done, opened = found.get(key) or (info, [], [])
                over = _ends_of_waits(waits[0].row, ran, done)
                if over:
                    found[key] = waits[0].info, [*done, *over], opened
        return list(found.values())

    def _draw(
        self,
        info: TimelineInfo,
        ended: list[RawRecord],
        opened: list[RawRecord],
        tangled: bool,
    ) -> None:
        for place in self._rows.get(_key(info)) or self._new_rows(info, ended + opened):
            if place.of is None:
                place.row.draw(ended, opened, tangled=tangled)
                continue
            # Drawn when all timelines have been seen: several may meet in a copy.
            some, some_open = self._for_copies.setdefault(place.row, ([], []))
            kind, name = place.of
            some += [r for r in ended if r[0] == name and r[5] == kind]
            some_open += [r for r in opened if r[0] == name and r[5] == kind]

    def _new_rows(self, info: TimelineInfo, records: list[RawRecord]) -> list[_Place]:
        if info.native_thread_id:
            thread = Thread(self._process.pid, info.native_thread_id, info.name)
            self._uuid(Track(info.name, self._root, key=info.id, thread=thread))
        if len(self._rows) >= self._max_rows:
            self._forget_rows()
        flows = self._pen.flows
        places = flows.device if info.kind is TimelineKind.DEVICE else flows.host
        home = Row(
            self._pen,
            self._plan.home(info, records),
            nests=info.kind is TimelineKind.HOST,
            places=None if info.kind is TimelineKind.QUEUE else places,
        )
        found = self._rows[_key(info)] = [_Place(info, home, None)]
        for copy in self._plan.copies(info):
            if copy.track.keys not in self._copies:
                self._copies[copy.track.keys] = Row(
                    self._pen, copy.track, nests=False, places=None
                )
            row = self._copies[copy.track.keys]
            found.append(_Place(info, row, (copy.kind, copy.name)))
        return found

    def _forget_rows(self) -> None:
        """Forgets the older half of the threads with nothing open.

        Devices and named tracks are few. What comes back gets the same track again:
        ids are made from names.
        """
        idle = [
            key
            for key, places in self._rows.items()
            if key[0] is TimelineKind.HOST and not places[0].row.begun
        ]
        idle.sort(key=lambda key: self._rows[key][0].row.last_batch)
        for key in idle[: (len(idle) + 1) // 2]:
            del self._rows[key]
        self._max_rows = max(_MAX_ROWS, 2 * len(self._rows))
        self._uuids.clear()

    def _parent_of(self, span_id: int) -> int:
        if self._parents is None:
            self._parents = self._known_parents()
        return self._parents.get(span_id, 0)

    def _known_parents(self) -> dict[int, int]:
        parents = {
            span_id: begun.record[4]
            for places in self._rows.values()
            for span_id, begun in places[0].row.begun.items()
        }
        assert self._batch is not None
        for _, records in chain(self._batch.records, self._batch.open):
            # A device slice hangs on its group: the host knows all between the two.
            parents.update({r[3]: r[4] for r in records if r[5] in (SPAN, GROUP)})
        return parents

    # -- everything else ---------------------------------------------------------------

    def _uuid(self, track: Track) -> int:
        keys = track.keys
        uuid = self._uuids.get(keys)
        if uuid is None:
            above = self._uuid(track.parent) if track.parent else 0
            uuid = self._uuids[keys] = self._sequence.id_of(*keys)
            self._pen.out.append(self._sequence.descriptor(track, uuid, above))
        return uuid

    def _put_clocks(self, clocks: ClockSnapshot) -> None:
        now_ns = clocks.monotonic_ns
        if self._next_clocks_ns is None:
            self._pen.out.append(self._sequence.snapshot(clocks, is_first=True))
            self._put_about(RUN_EVENT, self._run)
        elif now_ns >= self._next_clocks_ns:
            self._pen.out.append(self._sequence.snapshot(clocks))
        else:
            return
        self._next_clocks_ns = now_ns + CLOCKS_EVERY_NS

    def _put_about(
        self, name: str, tags: Mapping[str, Any], at_ns: int | None = None
    ) -> None:
        event = self._sequence.instant(name, tags)
        uuid, now_ns = self._uuid(self._plan.run), self._pen.now_ns
        times = [now_ns if at_ns is None else at_ns]
        self._pen.out.append(self._sequence.events(uuid, times, [event]))

    def _put_counters(self, samples: list[RawRecord]) -> None:
        by_track: dict[tuple[str, str], list[RawRecord]] = {}
        for record in samples:
            by_track.setdefault((record[0], record[6] or ""), []).append(record)
        for (name, unit), some in by_track.items():
            some.sort(key=lambda record: record[1])  # they come from several threads
            uuid = self._uuid(Track(name, self._plan.counters, key=unit, unit=unit))
            times = [record[1] for record in some]
            values = [self._sequence.counter(record[2]) for record in some]
            self._pen.out.append(self._sequence.events(uuid, times, values))


def _ends_of_waits(
    queue: Row, ran: list[RawRecord], done: list[RawRecord]
) -> list[RawRecord]:
    """Ends of the waits shown for device work that has ended.

    Work in flight is shown as waiting. When it has ended, the record of its wait closes
    that slice; without one, it waited until its device began with it.
    """
    closed = {record[3] for record in done}
    return [
        (record[0], record[1], record[1], record[3], record[4], QUEUED, None, None)
        for record in ran
        if record[3] in queue.begun and record[3] not in closed
    ]
