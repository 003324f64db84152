"""Draws the spans of one timeline on a track and, where they overlap, on its lanes."""

from __future__ import annotations

import dataclasses
import enum
import operator
from collections.abc import Callable
from itertools import chain
from typing import Any, Final

from perf._model.spans import DEVICE, INSTANT, OPEN, RawRecord
from perf._model.tracks import LANE_RANKS, Track
from perf._write.flows import Flows, Places
from perf._write.lanes import Lanes, Node, in_order
from perf._write.packets import PacketSequence

_LAST: Final[RawRecord] = ("", 0, 0, -1, 0, INSTANT, None, None)
"""Ends a list of records: opened before all others, so they all close before it."""

_CUT_NOTE: Final = "outlived the span around it; drawn whole on another lane"


@dataclasses.dataclass(slots=True)
class Pen:
    """What the rows of a file draw with."""

    sequence: PacketSequence
    flows: Flows
    name: Callable[[RawRecord], str | None] | None
    """The name of a slice where it is not the span's own; None: always its own."""
    track_uuid: Callable[[Track], int]
    """Introduces a track to the file unless that is done."""
    parent_of: Callable[[int], int]
    """The parent of a span of this batch or an open one; 0 where it has none."""
    out: list[bytes]
    """The file's next bytes."""
    slices: int = 0
    """Written so far."""
    batch: int = 0
    """Number of the present one."""
    now_ns: int = 0
    """What is open ends no earlier."""


class _Part(enum.Enum):
    """Which of its two events a slice gets now."""

    BOTH = enum.auto()
    BEGIN = enum.auto()
    END = enum.auto()
    CUT = enum.auto()
    """An end before its time."""


@dataclasses.dataclass(slots=True)
class _Begun:
    """A span that was written while it was open."""

    record: RawRecord
    fields: dict[Any, bytes]
    """Its tags as written."""
    node: Node | None = None
    """Where it is, once lanes are necessary."""


_Event = tuple[int, RawRecord, _Part, bool]
"""When, of what, and whether this is the begin."""


class Row:
    """The slices of one timeline in one place.

    Args:
        pen: what to draw with.
        track: the first lane.
        nests: whether its spans nest unless the caller says otherwise; else they are
            taken to lie apart until they are seen not to.
        places: where arrows look for its slices; None: no arrow touches them.
    """

    def __init__(
        self, pen: Pen, track: Track, *, nests: bool, places: Places | None
    ) -> None:
        self._pen = pen
        self._track = track
        self._nests = nests
        self._places = places
        self._uuids = [pen.track_uuid(track)]
        self._until_ns: int | None = None
        """The last moment written to the first lane."""
        self._lanes: Lanes | None = None
        self._chain: list[int] = []
        """Spans that were open, one in the other, when lanes became necessary."""
        self.last_batch = pen.batch
        """The last one that had something for it."""
        self.begun: dict[int, _Begun] = {}
        """By id, those that have not ended, in the order of writing."""

    def draw(
        self, records: list[RawRecord], opened: list[RawRecord], *, tangled: bool
    ) -> None:
        """Writes what ended and what opened since the last batch.

        Args:
            records: spans and instants in the order of closing.
            opened: spans that are open, outermost first.
            tangled: whether they need not nest.
        """
        self.last_batch = self._pen.batch
        if not records and not opened:
            return
        closed = not opened and not self.begun
        if tangled:
            pass
        elif closed and self._draw_plain(records):
            self._pass_lanes()
            return
        elif self._nests:
            if self._lanes is None or (closed and self._come_after(records)):
                self._draw_nested(records, opened)
                self._pass_lanes()
                return
        elif closed and self._lie_apart(records):
            self._draw_apart(records)
            self._pass_lanes()
            return
        if self._lanes is None:
            self._lanes = self._make_lanes()
        self._draw_in_lanes(self._lanes, records, opened)

    def _come_after(self, records: list[RawRecord]) -> bool:
        """Whether all of them begin after what is on the first lane."""
        until_ns = self._until_ns
        return until_ns is None or min([r[1] for r in records]) >= until_ns

    def _pass_lanes(self) -> None:
        # Lanes that were necessary once need not be searched for ever.
        if self._lanes is not None and self._until_ns is not None:
            self._lanes.pass_over(self._until_ns)

    def _draw_plain(self, records: list[RawRecord]) -> bool:
        """Draws slices of the commonest sort at once; whether they were."""
        pen, uuid = self._pen, self._uuids[0]
        marked = pen.flows.marked
        if pen.name is not None:
            return False
        if marked and not marked.isdisjoint(map(_span_id, records)):
            return False
        packets = pen.sequence.plain_slices(
            uuid, records, since_ns=self._until_ns or 0, nests=self._nests
        )
        if packets is None:
            return False
        if self._places is not None:
            self._places.add(uuid, records)
        self._until_ns = records[-1][2]
        pen.slices += len(records)
        pen.out.append(packets)
        return True

    # -- spans that nest ---------------------------------------------------------------

    def _draw_nested(self, records: list[RawRecord], opened: list[RawRecord]) -> None:
        # Children close before their parents and have later ids: these two orders make
        # the tree, whatever the times say. Walked from its end, the list gives the
        # events from the last to the first. Every span of a run passes through here:
        # what other methods do by calls is written out.
        pen, places, begun = self._pen, self._places, self.begun
        assert places is not None
        places_now, uuid = places.recent, self._uuids[0]
        marked, after_begin = pen.flows.marked, pen.flows.after_begin
        bare_begins, bare_end = pen.sequence.bare_begins, pen.sequence.bare_end
        tagged_begin = pen.sequence.tagged_begin
        own_names = pen.name is None
        times: list[int] = []
        bodies: list[bytes] = []
        add_time, add_body = times.append, bodies.append
        around: list[tuple[int, int, bytes]] = []
        push, pop = around.append, around.pop
        top, top_begin_ns, top_body = -2, 0, b""  # around everything
        next_ns = None
        for record in opened:
            push((top, top_begin_ns, top_body))
            top, top_begin_ns, top_body = record[3], record[1], self._open(record)
            places_now[top] = uuid, top_begin_ns
        special = marked.union(begun) if begun else marked
        not_begun = 0
        for record in chain(reversed(records), (_LAST,)):
            name, begin_ns, end_ns, span_id, _, kind, tags, _ = record
            while span_id < top:
                if top_begin_ns == next_ns or top in special:
                    for body in reversed(after_begin(places, top)):
                        add_time(top_begin_ns)
                        add_body(body)
                add_time(top_begin_ns)
                add_body(top_body)
                next_ns = top_begin_ns
                top, top_begin_ns, top_body = pop()
            if kind == INSTANT:
                not_begun += 1
                if record is not _LAST:
                    add_time(begin_ns)
                    add_body(self._instant(record))
                    next_ns = begin_ns
                continue
            add_time(end_ns)
            next_ns = end_ns
            if span_id in begun:
                not_begun += 1
                add_body(self._close(record, 0))
                continue
            add_body(bare_end)
            places_now[span_id] = uuid, begin_ns
            push((top, top_begin_ns, top_body))
            top, top_begin_ns = span_id, begin_ns
            if not own_names:
                top_body = self._begin(record)
            elif tags is None:
                top_body = bare_begins[name]
            else:
                top_body = tagged_begin(name, tags)
        times.reverse()
        bodies.reverse()
        pen.slices += len(opened) + len(records) + 1 - not_begun
        self._put_down(0, times, bodies)

    # -- spans that lie apart ----------------------------------------------------------

    def _lie_apart(self, records: list[RawRecord]) -> bool:
        begins, ends = list(map(_begin_ns, records)), map(_end_ns, records)
        first_ns = begins[0] if self._until_ns is None else self._until_ns
        return all(map(operator.le, chain((first_ns,), ends), begins))

    def _draw_apart(self, records: list[RawRecord]) -> None:
        # As `_put_events` does it, without what only open slices and lanes need.
        pen, places, uuid = self._pen, self._places, self._uuids[0]
        bare_begins, bare_end = pen.sequence.bare_begins, pen.sequence.bare_end
        tagged_begin = pen.sequence.tagged_begin
        own_names, flows = pen.name is None, pen.flows
        times: list[int] = []
        bodies: list[bytes] = []
        add_time, add_body = times.append, bodies.append
        instants, last = 0, len(records) - 1
        for at, record in enumerate(records):
            name, begin_ns, end_ns, span_id, _, kind, tags, after = record
            add_time(begin_ns)
            if kind == INSTANT:
                instants += 1
                add_body(self._instant(record))
                continue
            if not own_names:
                add_body(self._begin(record))
            elif tags:
                add_body(tagged_begin(name, tags))
            else:
                add_body(bare_begins[name])
            if places and not (kind == DEVICE and places.find(span_id)):
                # Of device slices, arrows look for that on the first device.
                places.recent[span_id] = uuid, begin_ns
                shares_time = begin_ns == end_ns or (
                    at < last and records[at + 1][1] == begin_ns
                )
                if shares_time or span_id in flows.marked:
                    new = flows.after_begin(places, span_id)
                    bodies += new
                    times += [begin_ns] * len(new)
            if places and after:
                ends = list(flows.before_end(record))
                bodies += ends
                times += [end_ns] * len(ends)
            add_time(end_ns)
            add_body(bare_end)
        pen.slices += len(records) - instants
        self._put_down(0, times, bodies)

    # -- spans that overlap ------------------------------------------------------------

    def _make_lanes(self) -> Lanes:
        for span_id, begun in self.begun.items():
            begun.node = Node(span_id, begun.record[1], None)
        self._chain = list(self.begun)
        return Lanes(self._until_ns, [b.node for b in self.begun.values() if b.node])

    def _draw_in_lanes(
        self, lanes: Lanes, records: list[RawRecord], opened: list[RawRecord]
    ) -> None:
        parts: dict[Node, tuple[RawRecord, _Part]] = {}
        new = list(opened)
        for record in records:
            begun = self.begun.get(record[3])
            if begun is None or begun.node is None:
                new.append(record)
            else:
                lanes.close(begun.node, max(record[2], begun.record[1]))
                parts[begun.node] = record, _Part.END
        again = self._cut(lanes, parts) if self._chain else []
        new += again
        off_first_lane = set(map(id, again))
        # Parents before children: they began earlier, or have the smaller id.
        new.sort(key=lambda record: (record[1], record[3]))
        for record in new:
            is_open = record[2] == OPEN
            node = Node(record[3], record[1], None if is_open else record[2])
            lanes.place(
                node,
                record[4],
                self._pen.parent_of,
                self._pen.now_ns,
                first_lane=id(record) in off_first_lane,
            )
            parts[node] = record, _Part.BEGIN if is_open else _Part.BOTH
        by_lane: dict[int, list[Node]] = {}
        for node in parts:
            by_lane.setdefault(node.lane, []).append(node)
        for lane, nodes in by_lane.items():
            events: list[_Event] = []
            for node, begins in in_order(nodes):
                time_ns = node.begin_ns if begins else node.end_ns
                if time_ns is not None:
                    events.append((time_ns, *parts[node], begins))
            self._put_events(lane, events)
        for node, (_, part) in parts.items():
            if part is _Part.BEGIN:
                self.begun[node.id].node = node
        lanes.end_batch()

    def _cut(
        self, lanes: Lanes, parts: dict[Node, tuple[RawRecord, _Part]]
    ) -> list[RawRecord]:
        """Ends slices with the slice around them, where their spans outlive it.

        Spans that were taken to nest, and were written open, have turned out not to: no
        track can show them as they are. The inner one gets an end with a note, and is
        drawn once more, whole.

        Returns:
            The records to draw once more.
        """
        again = []
        self._chain = [span_id for span_id in self._chain if span_id in self.begun]
        for span_id in self._chain:
            begun = self.begun[span_id]
            node = begun.node
            assert node is not None
            end_ns = node.parent.end_ns if node.parent else None
            if end_ns is None or (node.end_ns is not None and node.end_ns <= end_ns):
                continue
            again.append(parts[node][0] if node in parts else begun.record)
            parts[node] = begun.record, _Part.CUT
            lanes.close(node, end_ns)
            del self.begun[span_id]
        return again

    # -- events ------------------------------------------------------------------------

    def _put_events(self, lane: int, events: list[_Event]) -> None:
        times: list[int] = []
        bodies: list[bytes] = []
        following = [*(event[0] for event in events[1:]), None]
        for (time_ns, record, part, begins), next_ns in zip(
            events, following, strict=True
        ):
            if begins:
                new = self._begin_events(record, part, lane, time_ns == next_ns)
            else:
                new = self._end_events(record, part, lane)
            bodies += new
            times += [time_ns] * len(new)
        self._put_down(lane, times, bodies)

    def _begin_events(
        self, record: RawRecord, part: _Part, lane: int, shares_time: bool
    ) -> list[bytes]:
        if part is _Part.END or part is _Part.CUT:
            return []
        if record[5] == INSTANT:
            return [self._instant(record)]
        self._pen.slices += 1
        is_open = part is _Part.BEGIN
        bodies = [self._open(record) if is_open else self._begin(record)]
        places, span_id = self._places, record[3]
        # Of device slices, arrows look for that on the first device.
        if places and not (record[5] == DEVICE and places.find(span_id)):
            places.recent[span_id] = self._uuid(lane), record[1]
            if is_open or shares_time or span_id in self._pen.flows.marked:
                bodies += self._pen.flows.after_begin(places, span_id)
        return bodies

    def _end_events(self, record: RawRecord, part: _Part, lane: int) -> list[bytes]:
        if part is _Part.CUT:
            note = self._pen.sequence.annotations.encode({"cut": _CUT_NOTE})
            return [self._pen.sequence.end(note)]
        if part is _Part.BEGIN or record[5] == INSTANT:
            return []
        if part is _Part.END:
            return [self._close(record, lane)]
        before = self._pen.flows.before_end(record) if self._places else []
        return [*before, self._pen.sequence.bare_end]

    def _begin(self, record: RawRecord) -> bytes:
        sequence, tags = self._pen.sequence, record[6]
        if self._pen.name is not None:
            encoded = sequence.annotations.encode(tags) if tags else b""
            return self._named(record, encoded)
        if not tags:
            return sequence.bare_begins[record[0]]
        return sequence.tagged_begin(record[0], tags)

    def _open(self, record: RawRecord) -> bytes:
        fields = self._fields(record)
        self.begun[record[3]] = _Begun(record, fields)
        return self._named(record, b"".join(fields.values()))

    def _close(self, record: RawRecord, lane: int) -> bytes:
        """The END of a slice, with the tags that its BEGIN did not have."""
        begun = self.begun.pop(record[3])
        ends = list(self._pen.flows.ends(record)) if self._places else []
        self._put_down(lane, [begun.record[1]] * len(ends), ends)
        sequence, tags = self._pen.sequence, record[6]
        changes = sequence.annotations.changes(tags, begun.fields) if tags else b""
        return sequence.end(changes) if changes else sequence.bare_end

    def _instant(self, record: RawRecord) -> bytes:
        return self._pen.sequence.instant(record[0], record[6] or {})

    def _fields(self, record: RawRecord) -> dict[Any, bytes]:
        tags = record[6]
        return self._pen.sequence.annotations.fields(tags) if tags else {}

    def _named(self, record: RawRecord, annotations: bytes) -> bytes:
        name = self._pen.name and self._pen.name(record)
        if name:
            return self._pen.sequence.begin(name, annotations, repeats=False)
        return self._pen.sequence.begin(record[0], annotations)

    def _put_down(self, lane: int, times: list[int], bodies: list[bytes]) -> None:
        if not bodies:
            return
        if lane == 0:
            self._until_ns = max(times[-1], self._until_ns or times[-1])
        uuid = self._uuid(lane)
        self._pen.out.append(self._pen.sequence.events(uuid, times, bodies))

    def _uuid(self, lane: int) -> int:
        while lane >= len(self._uuids):
            number = len(self._uuids)
            track = dataclasses.replace(
                self._track,
                rank=self._track.rank + min(number, LANE_RANKS - 1),
                key=f"{self._track.key}/{number}",
            )
            self._uuids.append(self._pen.track_uuid(track))
        return self._uuids[lane]


_begin_ns = operator.itemgetter(1)
_end_ns = operator.itemgetter(2)
_span_id = operator.itemgetter(3)
