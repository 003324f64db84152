"""The tree of groups over stored records, built where somebody looks.

Groups of the thread that made the tracer show on every timeline; those of other
threads on their own. A run keeps tens of thousands of records: a node is made when it
is asked for, and asking for the last step does not touch the steps before it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from perf._model.spans import (
    DEVICE,
    GROUP,
    NO_PARENT,
    OPEN,
    SPAN,
    RawRecord,
    Records,
    TimelineInfo,
    TimelineKind,
)
from perf._model.tree import Node, Span, SpanGroup

_NS_PER_S = 1_000_000_000
_Children = dict[int, list[RawRecord]]


class GroupIndex:
    """The records of a store by the span around them. Its owner locks writers.

    It costs as much as storing the records does, so it is kept up only once somebody
    has asked for a tree: see `fill`.
    """

    def __init__(self) -> None:
        self.is_filled = False
        self._by_parent: dict[str, _Children] = {}
        self._forgotten: dict[str, dict[int, dict[str, int]]] = {}
        """Groups no longer kept, by timeline, parent and name: positions in queries
        count from the run's first. Entries of a parent go when the parent itself
        goes, those of a thread when nothing of it is kept."""

    def add(self, parts: Records) -> None:
        """Takes in what the store takes in."""
        if not self.is_filled:
            return
        for info, records in parts:
            if info.kind is TimelineKind.QUEUE:
                continue
            children = self._by_parent.setdefault(info.id, {})
            for record in records:
                if record[5] <= DEVICE:
                    children.setdefault(record[4], []).append(record)

    def forget(self, parts: Records) -> None:
        """Lets go what the store lets go, in the order of closing."""
        for info, records in parts:
            self._forget(info, records)

    def _forget(self, info: TimelineInfo, records: list[RawRecord]) -> None:
        if not self.is_filled:
            if info.is_main:
                counts = self._forgotten.setdefault(info.id, {})
                for record in records:
                    if record[5] == GROUP or record[3] in counts:
                        _count_out(counts, record)
            return
        children = self._by_parent.get(info.id)
        if children is None:
            return
        counts = self._forgotten.setdefault(info.id, {})
        records = [record for record in records if record[5] <= DEVICE]
        for record in records:
            if record[5] == GROUP or record[3] in counts:
                _count_out(counts, record)
        # They are the first of their lists.
        for parent_id, count in Counter(record[4] for record in records).items():
            del children[parent_id][:count]
            if not children[parent_id]:
                del children[parent_id]
        if not children:
            del self._by_parent[info.id]
        if not counts or not (children or info.is_main):
            del self._forgotten[info.id]

    def clear(self) -> None:
        """Begins anew."""
        self._by_parent, self._forgotten = {}, {}

    def fill(self, kept: Records) -> None:
        """Takes in all that the store has; from then on it is kept up."""
        if not self.is_filled:
            self.is_filled = True
            self.add(kept)

    def tree(
        self,
        timeline_id: str,
        main_id: str,
        born_ns: int,
        opened: Mapping[str, list[RawRecord]],
    ) -> SpanGroup:
        """The root over all that is kept of a timeline.

        Args:
            timeline_id: whose; one without records gives the main thread's groups.
            main_id: the timeline whose groups show on all.
            born_ns: begin of the root.
            opened: records of the spans open now, by timeline id.
        """
        view = _View(self, timeline_id, main_id, opened)
        root = StoredGroup(
            view, ("root", born_ns, OPEN, NO_PARENT, 0, GROUP, None, None)
        )
        root.outer = root
        return root

    def children(self, timeline_id: str, parent_id: int) -> list[RawRecord]:
        """Closed records of a timeline directly under a span, in order of closing."""
        return list(self._by_parent.get(timeline_id, {}).get(parent_id, ()))

    def forgotten(self, timeline_id: str, parent_id: int, name: str) -> int:
        """How many groups of that name under a parent are no longer kept."""
        return self._forgotten.get(timeline_id, {}).get(parent_id, {}).get(name, 0)


class _View:
    """One timeline as it is now: closed records and open ones."""

    def __init__(
        self,
        index: GroupIndex,
        timeline_id: str,
        main_id: str,
        opened: Mapping[str, list[RawRecord]],
    ) -> None:
        self._index = index
        self._timeline_id = timeline_id
        self._main_id = main_id
        self._shown = {NO_PARENT}
        """Groups of the main thread that were met on this timeline."""
        self._open: dict[str, _Children] = {}
        for name in {timeline_id, main_id}:
            by_parent = self._open[name] = defaultdict(list)
            for record in opened.get(name, ()):
                by_parent[record[4]].append(record)

    def records_in(self, group: RawRecord) -> list[RawRecord]:
        """What belongs into a group on this timeline, by begin."""
        own = self._under(self._timeline_id, group[3])
        if self._timeline_id != self._main_id:
            groups = [
                record
                for record in self._under(self._main_id, group[3])
                if record[5] == GROUP
            ]
            # What another thread did at its top level belongs into the innermost
            # group that was open on the main thread when it began.
            self._shown.update(record[3] for record in groups)
            if group[3] == NO_PARENT:
                own = [r for r in own if r[5] == DEVICE or not _any_around(groups, r)]
            elif group[3] in self._shown:
                own += [
                    record
                    for record in self._under(self._timeline_id, NO_PARENT)
                    if record[5] != DEVICE
                    and _is_around(group, record)
                    and not _any_around(groups, record)
                ]
            own += groups
        own.sort(key=lambda record: record[1])
        return own

    def forgotten(self, group: RawRecord, name: str) -> int:
        """How many groups of that name in a group are no longer kept."""
        return sum(
            self._index.forgotten(timeline_id, record[3], name)
            for timeline_id in {self._timeline_id, self._main_id}
            for record in [group, *self._under(timeline_id, group[3])]
            if record is group or record[5] == SPAN
        )

    def _under(self, timeline_id: str, parent_id: int) -> list[RawRecord]:
        found = self._index.children(timeline_id, parent_id)
        opened = self._open.get(timeline_id, {}).get(parent_id)
        if opened:
            # What was open then may have closed since: the records go on.
            closed = {record[3] for record in found}
            found += [record for record in opened if record[3] not in closed]
        # v1's tree has no spans inside spans: they stand beside each other.
        for record in found.copy():
            if record[5] == SPAN:
                found += self._under(timeline_id, record[3])
        return found


class StoredGroup(SpanGroup):
    """A group whose inside is looked up in the records when it is asked for."""

    def __init__(
        self, view: _View, record: RawRecord, outer: SpanGroup | None = None
    ) -> None:
        self.name, begin_ns, end_ns = record[:3]
        self.begin = begin_ns / _NS_PER_S
        self.end = float("inf") if end_ns == OPEN else end_ns / _NS_PER_S
        self.outer = self if outer is None else outer
        self._view = view
        self._record = record
        self._records: list[RawRecord] | None = None
        self._groups: dict[int, StoredGroup] = {}
        self._inner: list[Node] | None = None

    @property
    def inner(self) -> list[Node]:  # type: ignore[override]  # made when asked for
        """The spans and groups inside, by begin."""
        if self._inner is None:
            self._inner = [self._node(record) for record in self._inside()]
        return self._inner

    def find_first_inner_group(self, name: str) -> SpanGroup | None:
        """The first group of that name directly inside that is still kept."""
        found = self._of_name(name)
        return self._group(found[0]) if found else None

    def find_last_inner_group(self, name: str) -> SpanGroup | None:
        """The last group of that name directly inside."""
        found = self._of_name(name)
        return self._group(found[-1]) if found else None

    def find_nth_inner_group(self, name: str, index: int) -> SpanGroup | None:
        """The group of that name at a position, counted from the run's first."""
        position = index - self._view.forgotten(self._record, name)
        found = self._of_name(name)
        return self._group(found[position]) if 0 <= position < len(found) else None

    def find_all_inner_groups(self, name: str) -> list[SpanGroup]:
        """All groups of that name directly inside that are still kept."""
        return [self._group(record) for record in self._of_name(name)]

    def _of_name(self, name: str) -> list[RawRecord]:
        return [r for r in self._inside() if r[5] == GROUP and r[0] == name]

    def _inside(self) -> list[RawRecord]:
        if self._records is None:
            self._records = self._view.records_in(self._record)
        return self._records

    def _node(self, record: RawRecord) -> Node:
        if record[5] == GROUP:
            return self._group(record)
        span = Span(record[0], record[1] / _NS_PER_S)
        if record[2] != OPEN:
            span.end = record[2] / _NS_PER_S
        return span

    def _group(self, record: RawRecord) -> SpanGroup:
        group = self._groups.get(record[3])
        if group is None:
            group = self._groups[record[3]] = StoredGroup(self._view, record, self)
        return group


def _count_out(counts: dict[int, dict[str, int]], record: RawRecord) -> None:
    inside = counts.pop(record[3], None)
    around = counts.setdefault(record[4], {})
    if record[5] == GROUP:
        inside = {record[0]: 1}
    # Groups in a span stand in the group around it.
    for name, count in (inside or {}).items():
        around[name] = around.get(name, 0) + count


def _is_around(group: RawRecord, record: RawRecord) -> bool:
    return bool(group[1] <= record[1] and (group[2] == OPEN or record[1] < group[2]))


def _any_around(groups: list[RawRecord], record: RawRecord) -> bool:
    return any(_is_around(group, record) for group in groups)
