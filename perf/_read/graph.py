"""A stretch of a run as a graph: what had to happen before what.

Nodes are work: a span's on a device, and the pieces of a thread in which one span is
innermost. Nodes of no length join them: the moments at which a span opens, at which a
thread that waited goes on, at which a step ends. Edges lead from what came before:

- on a thread, what was there before;
- on a device, what was there before and was launched before: a copy may overtake;
- to work on a device, the moment of its launch, and what its thread compiled for it;
- to a thread that waited for its own work (`accounting.blocked`) that work; to one that
  was in a span tagged `waits_for` the latest work of that name; to one that waited for
  what arrows name (`Schedule.waits`) that, if it was done later;
- to a thread that went on, after nothing was recorded of it, right when work that it
  had launched was done, that work: `float(loss)` waits outside of all stages;
- to a span, its recorded predecessors. Where one of them ended after the launch, the
  work on the device can have begun then at the earliest.

A node starts a fixed time, its lag, after the latest of those before it. So the graph
can be timed anew with other lengths (`what_if`); with its own it gives what was
recorded, to the nanosecond.
"""

from __future__ import annotations

import dataclasses
import operator
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from perf._model import names
from perf._model.spans import RawRecord
from perf._read.accounting import blocked
from perf._read.schedule import (
    INFERRED_WITHIN_NS,
    STRUCTURE,
    WAITS_FOR,
    Launch,
    Leaf,
    Schedule,
    Wait,
    role_of,
)

_GOES_ON: Final = 0
_CLOSES: Final = 1
_MARK: Final = 2
_OPENS: Final = 3
_MOST_OVERTAKING: Final = 100  # mutate: ok any number of this size
"""As much work may overtake other work on its device; less than that is in flight."""
_Moment = tuple[int, int, RawRecord | None, Launch | None]
"""When, which of these, of which span, and what a thread waited for."""


@dataclasses.dataclass(slots=True)
class Node:
    """Work, or a moment."""

    start_ns: int
    finish_ns: int
    stage: str
    """The span's name; "" of a moment."""
    role: str
    place: str
    """The thread or device."""
    before: list[int] = dataclasses.field(default_factory=list)
    """Positions of the nodes that had to finish first; they come earlier."""
    lag_ns: int = 0
    """From the latest of them to its start; of the first nodes, from the begin."""
    on_device: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """How far the rollouts of an asynchronous run may be ahead of training.

    There a copy of weights and the work of its devices do not wait for each other, in
    whatever order they were seen to end.

    Attributes:
        places: pairs of spans' ids: the second could only open once the first had
            opened, and a place in the queue was free.
        versions: by the id of a rollout that of the weight sync it could not do
            without, None if it is older than the run. Of later ones it used the last
            there was: it waited for none of them.
    """

    places: Sequence[tuple[int, int]] = ()
    versions: Mapping[int, int | None] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Graph:
    """See the module.

    Attributes:
        nodes: those before a node come before it.
        marks: positions of the moments that were asked for.
    """

    begin_ns: int
    nodes: Sequence[Node]
    marks: Sequence[int]


def build(
    schedule: Schedule,
    begin_ns: int,
    marks_ns: Sequence[int],
    limits: Limits | None = None,
) -> Graph:
    """Makes the graph of a stretch.

    Args:
        schedule: the run.
        begin_ns: of the stretch; what ended before it is left out.
        marks_ns: moments of the trainer, the ends of its steps; the last one ends the
            stretch.
        limits: of an asynchronous run.
    """
    return _Builder(schedule, begin_ns, marks_ns, limits).graph()


class _Builder:
    def __init__(
        self,
        schedule: Schedule,
        begin_ns: int,
        marks_ns: Sequence[int],
        limits: Limits | None,
    ) -> None:
        self._schedule = schedule
        self._begin_ns = begin_ns
        self._end_ns = marks_ns[-1]
        self._marks_ns = marks_ns
        self._nodes: list[Node] = []
        self._opened: dict[int, int] = {}
        """Nodes at which spans open, by id."""
        self._ended: dict[int, int] = {}
        """Nodes at which spans of the host alone end, by id."""
        self._parts: dict[int, list[int]] = {}
        """Nodes of the work on devices, by id."""
        self._joins: list[tuple[int, Launch]] = []
        """Nodes at which a thread goes on, and what it waited for."""
        self._late: list[tuple[int, int]] = []
        """Nodes of threads before which nothing was recorded for a while: work and the
        ends of steps; since when."""
        self._steps: dict[int, object] = {}
        """The tag `step` of nodes of threads that have one."""
        self._marks: list[int] = []
        self._limits = limits or Limits()
        self._copies_apart = limits is not None

    def graph(self) -> Graph:
        """Puts everything together."""
        for thread in self._schedule.threads:
            self._add_thread(thread)
        self._add_handovers()
        self._add_devices()
        self._add_waits()
        self._connect()
        if not self._marks:
            self._marks = [self._moment(time_ns) for time_ns in self._marks_ns]
        return self._sorted()

    # -- threads -----------------------------------------------------------------------

    def _add_thread(self, thread: str) -> None:
        """Its pieces of work in order, joined by moments."""
        leaves = self._schedule.threads[thread].innermost(self._begin_ns, self._end_ns)
        waiting: dict[int, list[tuple[int, int]]] = {}
        moments = list(self._moments(thread, leaves, waiting))
        if thread == self._schedule.main:
            moments += [(time_ns, _MARK, None, None) for time_ns in self._marks_ns]
        moments.sort(key=_when)
        nodes = self._nodes
        last: int | None = None
        free_ns = self._begin_ns
        at, count = 0, len(moments)
        for begin, end, record in leaves:
            stage = "" if record[0] in STRUCTURE else str(record[0])
            while True:
                while at < count and moments[at][0] <= begin:
                    last = self._add_moment(thread, last, moments[at], free_ns)
                    at += 1
                if begin >= end:
                    break
                until = end if at == count else min(end, moments[at][0])
                waits = waiting.get(record[3])
                if stage and not (waits and any(b <= begin < e for b, e in waits)):
                    before = [] if last is None else [last]
                    last = len(nodes)
                    step = record[6].get(names.STEP) if record[6] else None
                    if step is not None:
                        self._steps[last] = step
                    nodes.append(
                        Node(begin, until, stage, role_of(record), thread, before)
                    )
                    if begin - free_ns > INFERRED_WITHIN_NS:
                        self._late.append((last, free_ns))
                    free_ns = until
                begin = until
        for moment in moments[at:]:
            last = self._add_moment(thread, last, moment, free_ns)

    def _moments(
        self, thread: str, leaves: list[Leaf], waiting: dict[int, list[tuple[int, int]]]
    ) -> Iterator[_Moment]:
        """When its spans open and close, and when it goes on after it waited."""
        begin_ns, end_ns, schedule = self._begin_ns, self._end_ns, self._schedule
        ends = [leaf[1] for leaf in leaves]
        for record in schedule.threads[thread].between(begin_ns, end_ns):
            name, begin, end, span_id = record[:4]
            launch = schedule.launches[span_id]
            is_edge = launch.parts or launch.after or name in STRUCTURE
            if begin >= begin_ns and is_edge:
                yield begin, _OPENS, record, None
            is_awaited = span_id in schedule.awaited or name in schedule.waited_for
            if is_awaited and end <= end_ns and not launch.parts:
                yield end, _CLOSES, record, None
            for since, until, awaited in self._waits(record, launch):
                if not begin_ns < until <= end_ns:
                    continue
                # Inside an inner span the thread was at work, whatever was ready then.
                around = bisect_left(ends, until)
                if around < len(ends) and leaves[around][2] is record:
                    waiting.setdefault(span_id, []).append((since, until))
                    yield until, _GOES_ON, record, awaited

    def _waits(self, record: RawRecord, launch: Launch) -> Iterable[Wait]:
        """When the thread of a span waited in it, and for what.

        By arrows; by a tag, if what it names was done later than that; or for its own
        work.
        """
        begin, end, tags = record[1], record[2], record[6]
        waits = self._schedule.waits.get(record[3], ())
        if not tags or WAITS_FOR not in tags:
            return waits or [Wait(*blocked(launch), launch)]
        found = [wait.awaited for wait in waits]
        named = self._awaited(str(tags[WAITS_FOR]), begin, end)
        if named is not None:
            found.append(named)
        if not found:
            return ()
        return [Wait(begin, end, max(found, key=_end_ns))]

    def _awaited(self, name: str, begin_ns: int, end_ns: int) -> Launch | None:
        """What a span waited for: the last of that name that was done meanwhile.

        Or the next, if it was only seen to be done a little later.
        """
        found = self._schedule.last_ended(name, begin_ns, end_ns)
        if found is None:
            found = self._schedule.next_ended(name, end_ns)
            if found is not None and not (
                found.begin_ns < end_ns and found.end_ns <= end_ns + found.late_ns
            ):
                return None
        return found

    def _add_moment(
        self, thread: str, last: int | None, moment: _Moment, free_ns: int
    ) -> int:
        time_ns, kind, record, awaited = moment
        position = len(self._nodes)
        before = [] if last is None else [last]
        self._nodes.append(Node(time_ns, time_ns, "", "", thread, before))
        if record is None:
            self._marks.append(position)
            if time_ns - free_ns > INFERRED_WITHIN_NS:
                self._late.append((position, free_ns))
        elif awaited is not None:
            self._joins.append((position, awaited))
        elif kind == _OPENS:
            self._opened[record[3]] = position
        else:
            self._ended[record[3]] = position
        return position

    def _add_handovers(self) -> None:
        """Threads that began right when one other thread was done with something.

        That, or when it had come to a step or another part of one.

        Nothing is recorded where one thread hands work to another. As for devices,
        that is inferred where only one can be meant; or of the trainer where both say
        by a tag that they work for one step: frameworks roll out on a thread of their
        own, and do this and that before they train.
        """
        nodes = self._nodes
        known = self._schedule.launches
        causes = [at for at, node in enumerate(nodes) if node.stage]
        causes += [
            at for i, at in self._opened.items() if known[i].record[0] in STRUCTURE
        ]
        work = sorted([(nodes[at].finish_ns, at) for at in causes])
        for at, since_ns in self._late:
            node = nodes[at]
            if not node.stage:
                continue
            first = bisect_left(work, (node.start_ns - INFERRED_WITHIN_NS, 0))
            last = bisect_left(work, (node.start_ns + 1, 0))
            near = [p for _, p in work[first:last] if nodes[p].place != node.place]
            if len({nodes[p].place for p in near}) == 1:
                self._entry(node).before.append(near[-1])
            elif node.place == self._schedule.main and at in self._steps:
                found = self._before_in_step(at, since_ns, work)
                self._entry(node).before += found

    def _before_in_step(
        self, at: int, since_ns: int, work: list[tuple[int, int]]
    ) -> Iterable[int]:
        """What other threads did last for the step of a node, of what ended since.

        Args:
            at: the node.
            since_ns: its own thread did nothing since.
            work: when nodes finish, in order.
        """
        node, step = self._nodes[at], self._steps[at]
        first = bisect_right(work, since_ns, key=_first)
        last = bisect_right(work, node.start_ns, key=_first)
        return {
            self._nodes[p].place: p
            for _, p in work[first:last]
            if self._steps.get(p) == step and self._nodes[p].place != node.place
        }.values()

    def _entry(self, node: Node) -> Node:
        """The moment at which the span of a thread's work opened, if that is a node."""
        opened = self._nodes[node.before[0]] if node.before else node
        is_moment = not opened.stage and opened.start_ns == node.start_ns
        return opened if is_moment else node

    def _add_waits(self) -> None:
        """Threads that went on right when work that they had launched was done.

        Or a little before: its end may have been seen late.
        """
        ended: dict[str, list[Launch]] = {}
        for span_id in self._parts:
            launch = self._schedule.launches[span_id]
            if launch.thread is not None:
                ended.setdefault(launch.thread, []).append(launch)
        for some in ended.values():
            some.sort(key=_end_ns)
        for at, since_ns in self._late:
            node = self._nodes[at]
            some = ended.get(node.place, [])
            since_ns = max(since_ns, node.start_ns - INFERRED_WITHIN_NS)
            after = bisect_right(some, node.start_ns, key=_end_ns)
            # The first that was seen to end later, if that may be late; else the last.
            for launch in some[after : after + 1] + some[max(after - 1, 0) : after]:
                if since_ns < launch.end_ns <= node.start_ns + launch.late_ns:
                    self._entry(node).before += self._ended_by(launch, node.start_ns)
                    break

    def _ended_by(self, launch: Launch, time_ns: int) -> list[int]:
        """Nodes of its end, of which a thread knew then, whatever was seen."""
        found = [self._work_until(at) for at in self._finishes(launch)]
        for at in found:
            work = self._nodes[at]
            seen_late = time_ns < work.finish_ns <= time_ns + launch.late_ns
            if seen_late and work.start_ns <= time_ns:
                work.finish_ns = time_ns
        return found

    def _work_until(self, at: int) -> int:
        """The work that ends with a moment of its thread, if there is some."""
        nodes, end_ns, found = self._nodes, self._nodes[at].finish_ns, at
        while not nodes[found].stage and nodes[found].before:
            found = nodes[found].before[0]
        return found if nodes[found].finish_ns == end_ns else at

    # -- devices -----------------------------------------------------------------------

    def _add_devices(self) -> None:
        nodes, launches = self._nodes, self._schedule.launches
        for device, lane in self._schedule.devices.items():
            earlier: list[tuple[int, int, int, bool]] = []
            for record in lane.between(self._begin_ns, self._end_ns):
                name, begin, end, span_id = record[:4]
                host = launches[span_id].host
                launched = begin if host is None else host[1]
                is_copy = name in names.WEIGHT_SYNC
                before: list[int] = []
                overtaken, overtaking = False, 0
                for position, done, since, other_is_copy in reversed(earlier):
                    is_apart = self._copies_apart and is_copy != other_is_copy
                    if since > launched or is_apart:
                        overtaken = overtaken or done == begin
                        overtaking += not is_apart
                        if overtaking > _MOST_OVERTAKING:
                            break
                    elif done <= begin:
                        before.append(position)
                        break
                earlier.append((len(nodes), end, launched, is_copy))
                if overtaken:
                    # It is drawn from there, but was under way since its turn came.
                    begin = max([launched, *[nodes[at].finish_ns for at in before]])
                self._parts.setdefault(span_id, []).append(len(nodes))
                role = role_of(record)
                nodes.append(
                    Node(begin, end, str(name), role, device, before, on_device=True)
                )

    # -- edges -------------------------------------------------------------------------

    def _connect(self) -> None:
        nodes = self._nodes
        for position, launch in self._joins:
            nodes[position].before += self._ended_by(launch, nodes[position].start_ns)
        for span_id in self._opened.keys() | self._parts.keys():
            earlier = [
                position
                for predecessor in self._predecessors(span_id)
                for position in self._finishes(predecessor)
            ]
            opened = self._opened.get(span_id)
            if opened is not None:
                nodes[opened].before += earlier
            for part in self._parts.get(span_id, ()):
                if opened is not None:
                    nodes[part].before.append(opened)
                for position in earlier:
                    self._hold_up(part, position)
        self._connect_compiles()
        for first, second in self._limits.places:
            if first in self._opened and second in self._opened:
                nodes[self._opened[second]].before.append(self._opened[first])

    def _connect_compiles(self) -> None:
        """Work cannot have begun before its launching span had compiled it."""
        nodes = self._nodes
        compiled: dict[str, list[int]] = {}
        for position, node in enumerate(nodes):
            if node.stage == names.COMPILE and not node.on_device:
                compiled.setdefault(node.place, []).append(position)
        for span_id, parts in self._parts.items() if compiled else ():
            launch = self._schedule.launches[span_id]
            some = compiled.get(launch.thread or "")
            if not some or launch.host is None:
                continue
            begin_ns, end_ns = launch.host[1:3]
            at = bisect_right(some, end_ns, key=lambda at: nodes[at].finish_ns) - 1
            if at < 0 or nodes[some[at]].start_ns < begin_ns:
                continue
            for part in parts:
                self._hold_up(part, some[at])

    def _hold_up(self, part: int, by: int) -> None:
        """Work on a device begins no earlier than what it needs is done."""
        node, finish_ns = self._nodes[part], self._nodes[by].finish_ns
        if finish_ns <= node.finish_ns:
            node.before.append(by)
            node.start_ns = max(node.start_ns, finish_ns)

    def _predecessors(self, span_id: int) -> list[Launch]:
        launches = self._schedule.launches
        found = self._schedule.predecessors(launches[span_id])
        if span_id not in self._limits.versions:
            return found
        found = [la for la in found if la.record[0] not in names.WEIGHT_SYNC]
        needed = self._limits.versions[span_id]
        return found if needed is None else [*found, launches[needed]]

    def _finishes(self, launch: Launch) -> list[int]:
        span_id = launch.record[3]
        if launch.parts:
            return self._parts.get(span_id, [])
        return [self._ended[span_id]] if span_id in self._ended else []

    def _sorted(self) -> Graph:
        """By start, then finish, then as they were added; with what is before each."""
        found = self._nodes
        finishes = [node.finish_ns for node in found]
        order = sorted(range(len(found)), key=finishes.__getitem__)
        order.sort(key=[node.start_ns for node in found].__getitem__)
        place = [0] * len(order)
        for new, old in enumerate(order):
            place[old] = new
        nodes = [found[old] for old in order]
        for new, node in enumerate(nodes):
            start_ns, since_ns = node.start_ns, None
            before: list[int] = []
            for old in node.before:
                # What ends after this one started cannot have held it up.
                finish_ns = finishes[old]
                if finish_ns <= start_ns and place[old] < new:
                    before.append(place[old])
                    if since_ns is None or finish_ns > since_ns:
                        since_ns = finish_ns
            node.before = sorted(set(before)) if len(before) > 1 else before
            node.lag_ns = start_ns - (self._begin_ns if since_ns is None else since_ns)
        return Graph(self._begin_ns, nodes, [place[old] for old in self._marks])

    def _moment(self, time_ns: int) -> int:
        """A moment that comes when all is done that was done by then."""
        node = Node(time_ns, time_ns, "", "", "")
        node.before = [
            at for at, other in enumerate(self._nodes) if other.finish_ns <= time_ns
        ]
        self._nodes.append(node)
        return len(self._nodes) - 1


_when = operator.itemgetter(0, 1)
_end_ns = operator.attrgetter("end_ns")
_first = operator.itemgetter(0)
