"""Who did what when: the records of a run, ordered for questions about time."""

from __future__ import annotations

import functools
import heapq
import operator
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from perf._model import names
from perf._model.ids import QUEUE_SUFFIX
from perf._model.roles import ACTOR, CRITIC, REFERENCE, ROLLOUT, as_role
from perf._model.spans import (
    DEVICE,
    OPEN,
    QUEUED,
    RawRecord,
    TimelineInfo,
    TimelineKind,
)

STRUCTURE: Final = frozenset(
    {
        names.GLOBAL_STEP,
        names.MINI_BATCH_STEP,
        names.MICRO_BATCH_STEPS,
        "micro_batch_step",
    }
)
"""Spans that hold other work together and are no work themselves."""
WAITS_FOR: Final = "waits_for"
"""Tag of a host span in which the thread is blocked: the name of what it waits for."""
INFERRED_WITHIN_NS: Final = 1_000_000
"""How near a gap's end has to be to that of the span it is thought to wait for."""
_SHARP: Final = 10
"""A wait ends right when what it was for does: within this part of its length."""
_ROLE_OF_STAGE: Final = {
    **dict.fromkeys(names.ROLLOUT, ROLLOUT),
    **dict.fromkeys(names.REFERENCE_INFERENCE, REFERENCE),
    **dict.fromkeys(names.TRAIN_STEP, ACTOR),
    names.ACTOR_TRAINING: ACTOR,
    "old_actor_inference": ACTOR,
    names.CRITIC_TRAINING: CRITIC,
}


def role_of(record: RawRecord) -> str:
    """The role that a span works for.

    Returns:
        What the tag `role` says, else what its name means, else its name.
    """
    tags = record[6]
    tagged = tags.get(names.ROLE) if tags else None
    if tagged is None:
        return _ROLE_OF_STAGE.get(record[0], str(record[0]))
    return as_role(tagged)


class Lane:
    """The records of one timeline.

    Args:
        records: ended, in any order.
    """

    __slots__ = ("_leaves", "begins", "reach", "records")

    def __init__(self, records: Iterable[RawRecord]) -> None:
        # Of those that begin together the longer one is around the shorter one.
        self.records = sorted(records, key=lambda r: (r[1], -r[2], r[3]))
        self.begins = [record[1] for record in self.records]
        self.reach = list(accumulate([record[2] for record in self.records], max))
        """Latest end of the records up to each: they need not end in order."""
        self._leaves: tuple[list[int], list[int], list[Leaf]] | None = None

    def between(self, begin_ns: int, end_ns: int) -> list[RawRecord]:
        """Records that are open somewhere in [begin, end), by begin."""
        first = bisect_right(self.reach, begin_ns)
        last = bisect_left(self.begins, end_ns, first)
        if first == last:
            return []
        return [r for r in self.records[first:last] if r[2] > begin_ns]

    def next_from(self, time_ns: int) -> RawRecord | None:
        """The first record that begins then or later."""
        at = bisect_left(self.begins, time_ns)
        return self.records[at] if at < len(self.records) else None

    def last_before(self, time_ns: int) -> RawRecord | None:
        """The last record that begins earlier."""
        at = bisect_left(self.begins, time_ns)
        return self.records[at - 1] if at else None

    def innermost(self, begin_ns: int, end_ns: int) -> list[Leaf]:
        """What is innermost on a thread in [begin, end), cut to it; gaps left out."""
        if self._leaves is None:
            some = list(_leaves(self.records))
            self._leaves = [leaf[0] for leaf in some], [leaf[1] for leaf in some], some
        begins, ends, leaves = self._leaves
        found = leaves[bisect_right(ends, begin_ns) : bisect_left(begins, end_ns)]
        if found:
            begin, end, record = found[0]
            if begin < begin_ns:
                found[0] = begin_ns, end, record
            begin, end, record = found[-1]
            if end > end_ns:
                found[-1] = begin, end_ns, record
        return found


Leaf = tuple[int, int, RawRecord]
"""Begin, end, and the record that is innermost in between."""


def _leaves(records: list[RawRecord]) -> Iterator[Leaf]:
    """Cuts the records of a thread into pieces: in each, the last begun is innermost.

    Coroutines' spans need not nest; then too the last begun counts.
    """
    opened: list[tuple[int, int, RawRecord]] = []  # a heap: last begun first
    since = 0
    for position, record in enumerate([*records, None]):
        until = None if record is None else record[1]
        while opened and (until is None or opened[0][2][2] <= until):
            inner = heapq.heappop(opened)[2]
            if inner[2] > since:
                yield since, inner[2], inner
                since = inner[2]
        if record is None or until is None:
            return
        if opened and until > since:
            yield since, until, opened[0][2]
        since = until
        heapq.heappush(opened, (-until, -position, record))


class Launch:
    """A span and its work on devices; they share an id.

    Attributes:
        thread: the timeline of the thread that launched it.
        host: its record there.
        parts: by device, what ran there.
        record: the host's; where there is none, that of a device.
        begin_ns: when its work began: on the devices if there are any.
        end_ns: when its work was done: on the devices if there are any.
        after: ids of its predecessors.
    """

    __slots__ = (
        "after", "begin_ns", "end_ns", "host", "parts", "record", "thread"
    )  # fmt: skip

    def __init__(self, record: RawRecord) -> None:
        self.thread: str | None = None
        self.host: RawRecord | None = None
        self.parts: list[tuple[str, RawRecord]] = []
        self.record = record
        self.begin_ns: int = record[1]
        self.end_ns: int = record[2]
        self.after: tuple[int, ...] = record[7] or ()

    def add_host(self, thread: str, record: RawRecord) -> None:
        """Takes in what a thread recorded; the first counts."""
        if self.host is None:
            self.thread, self.host, self.record = thread, record, record
            self.after = record[7] or self.after
            if not self.parts:
                self.begin_ns, self.end_ns = record[1], record[2]

    def add_part(self, device: str, record: RawRecord) -> None:
        """Takes in what ran on a device."""
        begin_ns, end_ns = record[1], record[2]
        if not self.parts or begin_ns < self.begin_ns:
            self.begin_ns = begin_ns
        if not self.parts or end_ns > self.end_ns:
            self.end_ns = end_ns
        self.after = self.after or record[7] or ()
        self.parts.append((device, record))

    @property
    def late_ns(self) -> int:
        """How much too late the end of its work may have been seen, in nanoseconds."""
        late_ns = INFERRED_WITHIN_NS
        for _, record in self.parts:
            known_to_ns = (record[6] or {}).get(names.END_ERROR)
            if isinstance(known_to_ns, int) and known_to_ns > late_ns:
                late_ns = known_to_ns
        return late_ns


class Wait(NamedTuple):
    """A stretch of a host span in which its thread waited for other work."""

    begin_ns: int
    until_ns: int
    awaited: Launch


class Schedule:
    """A run, or a part of it, ordered by place, time and id.

    Args:
        timelines: records by timeline; one may come several times.
        end_ns: where what is still open is cut.

    Attributes:
        devices: lanes of the devices, by id.
        queues: of what waited for each device, by the device's id.
        threads: of the host threads.
        launches: all spans by id.
        main: the trainer's thread; None if nothing says which it is.
        roles: ids of the devices on which each role was seen to work.
        stage_roles: the role of each stage that was seen on a device.
        awaited: ids of spans that others name as their predecessors.
        waited_for: names in tags `waits_for`.
    """

    def __init__(
        self,
        timelines: Iterable[tuple[TimelineInfo, list[RawRecord]]],
        end_ns: int,
    ) -> None:
        found: dict[TimelineKind, dict[str, list[RawRecord]]] = {
            kind: {} for kind in TimelineKind
        }
        self.main: str | None = None
        self.launches: dict[int, Launch] = {}
        self.stage_roles: dict[str, str] = {}
        self.awaited: set[int] = set()
        self.waited_for: set[str] = set()
        roles: dict[str, dict[str, None]] = {}
        for info, records in timelines:
            if info.is_main:
                self.main = info.id
            spans = [
                r if r[2] != OPEN else _cut(r, end_ns)
                for r in records
                if r[5] <= QUEUED
            ]
            key = info.id.removesuffix(QUEUE_SUFFIX)
            if info.kind is not TimelineKind.QUEUE:
                key = info.id
                self._note(info, spans, roles)
            found[info.kind].setdefault(key, []).extend(spans)
        lanes = {
            kind: {key: Lane(records) for key, records in some.items()}
            for kind, some in found.items()
        }
        self.devices = lanes[TimelineKind.DEVICE]
        self.queues = lanes[TimelineKind.QUEUE]
        self.threads = lanes[TimelineKind.HOST]
        self.roles = {
            role: tuple(sorted(devices, key=lambda name: (len(name), name)))
            for role, devices in roles.items()
        }

    def _note(
        self,
        info: TimelineInfo,
        spans: list[RawRecord],
        roles: dict[str, dict[str, None]],
    ) -> None:
        is_device = info.kind is TimelineKind.DEVICE
        launches = self.launches
        for span in spans:
            tags, after = span[6:8]
            if after:
                self.awaited.update(after)
            if tags and WAITS_FOR in tags:
                self.waited_for.add(str(tags[WAITS_FOR]))
            launch = launches.get(span[3])
            if launch is None:
                launch = launches[span[3]] = Launch(span)
            if is_device:
                launch.add_part(info.id, span)
                role = role_of(span)
                self.stage_roles.setdefault(span[0], role)
                if span[0] not in names.WEIGHT_SYNC:
                    roles.setdefault(role, {})[info.id] = None
            elif span[5] != DEVICE:
                launch.add_host(info.id, span)

    def predecessors(self, launch: Launch) -> list[Launch]:
        """Those that are known, of the recorded ones."""
        known = self.launches
        return [known[span_id] for span_id in launch.after if span_id in known]

    @functools.cached_property
    def by_name(self) -> Mapping[str, Sequence[Launch]]:
        """All launches by the name of their spans, in the order of their ends."""
        found: dict[str, list[Launch]] = {}
        for launch in self.launches.values():
            found.setdefault(str(launch.record[0]), []).append(launch)
        for some in found.values():
            some.sort(key=_end_ns)
        return found

    @functools.cached_property
    def waits(self) -> Mapping[int, Sequence[Wait]]:
        """By span of the host, when its thread waited for what arrows name.

        Of the spans of a thread before one with predecessors, one may have ended right
        when the last of these did: it waited for them. What works may end so by chance,
        hence most spans of that name have to, of those that are long enough to tell. A
        span whose tag says that it waits needs no others.
        """
        found: list[tuple[str, int, Wait]] = []
        votes: Counter[str] = Counter()
        for thread, lane in self.threads.items():
            edges = [r for r in lane.records if self._is_edge(r)]
            for before, record in zip([None, *edges], edges, strict=False):
                awaited = self._awaited(thread, record)
                if not awaited:
                    continue
                since_ns = before[1] if before else 0
                judged: set[str] = set()
                for leaf in reversed(lane.innermost(since_ns, record[1])):
                    name, span_id = str(leaf[2][0]), leaf[2][3]
                    if not self._may_wait(leaf[2]):
                        continue
                    wait = _waited(leaf, awaited)
                    if wait is not None:
                        found.append((name, span_id, wait))
                    if leaf[1] - leaf[0] > INFERRED_WITHIN_NS and name not in judged:
                        judged.add(name)
                        votes[name] += 1 if _is_sharp(leaf, wait, awaited) else -1
        waits: dict[int, list[Wait]] = {}
        for name, span_id, wait in found:
            tags = self.launches[span_id].record[6] or {}
            if votes[name] > 0 or WAITS_FOR in tags:
                waits.setdefault(span_id, []).append(wait)
        return waits

    def _awaited(self, thread: str, record: RawRecord) -> list[Launch]:
        """Predecessors that were done when a span opened, by their ends.

        Without what its own thread did.
        """
        found = [
            launch
            for launch in self.predecessors(self.launches[record[3]])
            if launch.end_ns <= record[1] + launch.late_ns
            and (launch.parts or launch.thread != thread)
        ]
        return sorted(found, key=_end_ns)

    def _is_edge(self, record: RawRecord) -> bool:
        """Whether a span launches work on devices or names predecessors."""
        launch = self.launches[record[3]]
        return bool(launch.parts or launch.after)

    def _may_wait(self, record: RawRecord) -> bool:
        """Whether a host span may be no work: nothing is known to come of it."""
        return not (
            record[0] in STRUCTURE
            or record[0] == names.COMPILE
            or record[3] in self.awaited
            or self._is_edge(record)
        )

    def last_ended(self, name: str, since_ns: int, until_ns: int) -> Launch | None:
        """The last launch of that name that was done in (since, until]."""
        launches = self.by_name.get(name, ())
        at = bisect_right(launches, until_ns, key=_end_ns) - 1
        return launches[at] if at >= 0 and launches[at].end_ns > since_ns else None

    def next_ended(self, name: str, after_ns: int) -> Launch | None:
        """The first launch of that name that was done after a moment."""
        launches = self.by_name.get(name, ())
        at = bisect_right(launches, after_ns, key=_end_ns)
        return launches[at] if at < len(launches) else None

    def launch_of(self, record: RawRecord) -> Launch:
        """The launch that a record is part of."""
        return self.launches[record[3]]


def _cut(record: RawRecord, end_ns: int) -> RawRecord:
    """One that is still open, as if it ended then."""
    return (*record[:2], max(record[1], end_ns), *record[3:])


def _waited(leaf: Leaf, awaited: Sequence[Launch]) -> Wait | None:
    """Until the last end of what was done meanwhile; it may have been seen late."""
    begin, end, _ = leaf
    for launch in reversed(awaited):
        if launch.end_ns <= end + launch.late_ns:
            until = min(end, launch.end_ns)
            return Wait(begin, until, launch) if begin < until else None
    return None


def _is_sharp(leaf: Leaf, wait: Wait | None, awaited: Sequence[Launch]) -> bool:
    """Whether a span ended right when the last of what was awaited did."""
    begin, end, _ = leaf
    if wait is None or wait.awaited is not awaited[-1]:
        return False
    return end - wait.until_ns <= min(INFERRED_WITHIN_NS, (end - begin) // _SHARP)


_end_ns = operator.attrgetter("end_ns")
