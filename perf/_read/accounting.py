"""Every nanosecond of a device in exactly one bucket.

The buckets of a device in a window tile it: their sum is the window's length, to the
nanosecond, and nothing is scaled to make it so. Of what holds at a moment, the first
counts:

- `compile`: the thread that launches compiles, and no earlier work is in flight;
- `sync`: a weight sync touches the device;
- `occupied/<stage>`: a span holds it. Time from launch to ready, an upper bound of
  busy. Where spans of several stages hold it at once, the bucket names all of them
  (`occupied/a+b`), so that none of them gains when another is left out;
- `host/<stage>`: the thread that launches the next span is inside that stage, and does
  not wait there for what arrows name (`Schedule.waits`);
- `wait/<cause>`: what the next span waited for, with the evidence kept;
- `unaccounted`.

Docs: docs/report.md.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, Final

from perf._model import names
from perf._model.roles import ACTOR, ROLLOUT
from perf._model.spans import RawRecord
from perf._read.schedule import (
    INFERRED_WITHIN_NS,
    STRUCTURE,
    WAITS_FOR,
    Lane,
    Launch,
    Schedule,
    role_of,
)
from perf._read.stretches import common, united

SYNC: Final = "sync"
UNACCOUNTED: Final = "unaccounted"
OCCUPIED: Final = "occupied/"
HOST: Final = "host/"
WAIT: Final = "wait/"
OTHER_ROLE: Final = "other role"
"""Row of a role's table: what other roles did on its devices."""

FLOW: Final = "flow"
"""Evidence: a recorded predecessor was under way."""
TAGGED: Final = "waits_for"
"""Evidence: the launching thread was in a span with that tag."""
BLOCKED: Final = "blocked"
"""Evidence: the launching thread waited for the end of work on other devices."""
INFERRED: Final = "inferred"
"""Evidence: one other role, or thread, was at work, and the gap ended when it did."""

_SAMPLES: Final = "samples"
_TOKENS: Final = "tokens"
_COUNTS: Final = frozenset({_SAMPLES, _TOKENS})
"""Tags that say how much went through a span."""

_Piece = tuple[int, int, str, str]
"""Begin, end, bucket, and for waits the evidence."""
_Hole = tuple[int, int]
"""Begin and end of what no evidence has explained yet."""


def _nothing_yet() -> defaultdict[Any, int]:
    return defaultdict(int)


@dataclasses.dataclass(slots=True)
class Account:
    """Nanoseconds of devices by bucket.

    Attributes:
        held: by bucket and, of waits, kind of evidence; they tile the time accounted
            for.
        queued: nanoseconds for which work of a stage waited on the device for the
            work before it. It overlaps the buckets and is none of them.
    """

    held: defaultdict[tuple[str, str], int] = dataclasses.field(
        default_factory=_nothing_yet
    )
    queued: defaultdict[str, int] = dataclasses.field(default_factory=_nothing_yet)

    @property
    def buckets(self) -> Counter[str]:
        """Nanoseconds by bucket alone."""
        found: Counter[str] = Counter()
        for (name, _), ns in self.held.items():
            found[name] += ns
        return found

    @property
    def evidence(self) -> dict[str, Counter[str]]:
        """Of each wait, nanoseconds by kind of evidence."""
        found: dict[str, Counter[str]] = {}
        for (name, kind), ns in self.held.items():
            if kind:
                found.setdefault(name, Counter())[kind] += ns
        return found

    @property
    def total_ns(self) -> int:
        """All device time in it."""
        return sum(self.held.values())

    def share(self, prefix: str) -> float:
        """Part of the time in buckets that begin so; 0 of no time."""
        total = self.total_ns
        own = sum(
            [ns for (name, _), ns in self.held.items() if name.startswith(prefix)]
        )
        return own / total if total else 0.0

    @property
    def bubble_frac(self) -> float:
        """(wait + host + unaccounted) ÷ all device time; 0 of no time."""
        return self.share(WAIT) + self.share(HOST) + self.share(UNACCOUNTED)

    def add(self, other: Account) -> None:
        """Adds another one."""
        for label, ns in other.held.items():
            self.held[label] += ns
        for name, ns in other.queued.items():
            self.queued[name] += ns


def stages_of(bucket: str) -> list[str]:
    """The stages in the name of a bucket `occupied/<stage>`."""
    return bucket.removeprefix(OCCUPIED).split("+")


class Accountant:
    """Accounts for the time of devices.

    Args:
        schedule: the run, or as much of it as the windows to be asked for need.
        error_bound_ns: how late an end may have been seen. Gaps' pieces shorter than
            that are unaccounted.
    """

    def __init__(self, schedule: Schedule, error_bound_ns: int = 0) -> None:
        self._schedule = schedule
        self._bound_ns = error_bound_ns
        self._near_ns = max(INFERRED_WITHIN_NS, error_bound_ns)
        # Compiling is rare: few threads do it, and few times. So are counts.
        self._compiles = _only(schedule, lambda r: r[0] == names.COMPILE)
        self._counted = _only(schedule, lambda r: r[6] and not _COUNTS.isdisjoint(r[6]))

    def window(self, begin_ns: int, end_ns: int) -> WindowAccount:
        """What all devices' time in [begin, end) went to."""
        schedule = self._schedule
        devices = {
            device: self.device(device, begin_ns, end_ns) for device in schedule.devices
        }
        samples, tokens = self._counts(begin_ns, end_ns)
        overlap = _overlap(schedule, begin_ns, end_ns)
        return WindowAccount(devices, schedule, overlap, samples, tokens)

    def device(self, device: str, begin_ns: int, end_ns: int) -> Account:
        """What a device's time in [begin, end) went to."""
        account = Account()
        held = account.held
        for begin, end, bucket, kind in self.pieces(device, begin_ns, end_ns):
            held[bucket, kind] += end - begin
        queue = self._schedule.queues.get(device)
        for record in queue.between(begin_ns, end_ns) if queue else ():
            stage = str((record[6] or {}).get(names.NAME, record[0]))
            length = min(record[2], end_ns) - max(record[1], begin_ns)
            account.queued[stage] += length
        return account

    def pieces(self, device: str, begin_ns: int, end_ns: int) -> Iterator[_Piece]:
        """The same piece by piece: they touch, from begin to end."""
        lane = self._schedule.devices.get(device)
        records = lane.between(begin_ns, end_ns) if lane else []
        for begin, end, held_by in _segments(records, begin_ns, end_ns):
            if held_by:
                yield from self._held(held_by, begin, end)
            else:
                yield from self._gap(device, lane, begin, end)

    def _counts(self, begin_ns: int, end_ns: int) -> tuple[float, float]:
        """Samples and tokens with which spans are tagged that ended in a window."""
        totals = dict.fromkeys(_COUNTS, 0.0)
        for lane in self._counted.values():
            for record in lane.between(begin_ns, end_ns):
                if record[2] <= end_ns:
                    for key in _COUNTS & record[6].keys():
                        value = record[6][key]
                        if isinstance(value, int | float):
                            totals[key] += value
        return totals[_SAMPLES], totals[_TOKENS]

    # -- held --------------------------------------------------------------------------

    def _held(self, records: list[RawRecord], begin: int, end: int) -> list[_Piece]:
        bucket = _holder(records)
        # While earlier work is in flight, the device does not wait for a compiler.
        launch = self._schedule.launch_of(records[0])
        host, lane = launch.host, self._compiles.get(launch.thread or "")
        pieces: list[_Piece] = []
        if host is not None and lane is not None:
            for record in lane.between(max(begin, host[1]), min(end, host[2])):
                from_ns, to_ns = max(begin, record[1]), min(end, record[2], host[2])
                if from_ns >= to_ns:
                    continue  # inside one that was already counted
                if begin < from_ns:
                    pieces.append((begin, from_ns, bucket, ""))
                pieces.append((from_ns, to_ns, names.COMPILE, ""))
                begin = to_ns
        if begin < end:
            pieces.append((begin, end, bucket, ""))
        return pieces

    # -- gaps --------------------------------------------------------------------------

    def _gap(
        self, device: str, lane: Lane | None, begin: int, end: int
    ) -> list[_Piece]:
        upcoming = lane.next_from(end) if lane else None
        known = upcoming or (lane.last_before(begin) if lane else None)
        launch = self._schedule.launch_of(known) if known else None
        # After the last launch the thread that made it is asked what it does.
        thread = (launch.thread if launch else None) or self._schedule.main
        holes = [(begin, end)]
        pieces: list[_Piece] = []
        for layer in self._layers(device, thread, launch, upcoming, holes):
            holes[:] = _filled(holes, layer, pieces)
            if not holes:
                break
        pieces += [(*hole, UNACCOUNTED, "") for hole in holes]
        pieces = _merged(pieces)
        if self._bound_ns:
            pieces = [
                piece
                if piece[1] - piece[0] >= self._bound_ns
                else (*piece[:2], UNACCOUNTED, "")
                for piece in pieces
            ]
        return pieces

    def _layers(
        self,
        device: str,
        thread: str | None,
        launch: Launch | None,
        upcoming: RawRecord | None,
        holes: list[_Hole],
    ) -> Iterator[Iterable[_Piece]]:
        """What explains a gap, the strongest evidence first.

        Args:
            device: whose gap.
            thread: launches what comes next.
            launch: that, or what came last.
            upcoming: what comes next on the device; None after the last.
            holes: of the gap, what is not explained when a layer is asked for.
        """
        begin, end = holes[0][0], holes[-1][1]
        at_work, waiting = self._of_thread(device, thread, begin, end)
        yield at_work
        if upcoming is not None and launch is not None:
            yield from self._of_flows(launch, begin, upcoming[1])
        yield waiting
        if upcoming is not None:
            yield self._of_others(device, holes)
            yield self._of_threads(thread, holes)

    def _of_thread(
        self, device: str, thread: str | None, begin: int, end: int
    ) -> tuple[list[_Piece], list[_Piece]]:
        """When the launching thread was at work in a gap, and when it was waiting."""
        lane = self._schedule.threads.get(thread or "")
        launches, waits = self._schedule.launches, self._schedule.waits
        at_work: list[_Piece] = []
        waiting: list[_Piece] = []
        for from_ns, to_ns, record in lane.innermost(begin, end) if lane else ():
            name, tags = record[0], record[6]
            if name == names.COMPILE:
                at_work.append((from_ns, to_ns, names.COMPILE, ""))
            elif tags and WAITS_FOR in tags:
                waiting.append((from_ns, to_ns, f"{WAIT}{tags[WAITS_FOR]}", TAGGED))
            elif name not in STRUCTURE:
                for since, until, awaited in waits.get(record[3], ()):
                    until = min(until, to_ns)
                    if since <= from_ns < until:
                        cause = f"{WAIT}{awaited.record[0]}"
                        waiting.append((from_ns, until, cause, FLOW))
                        from_ns = until
                launch = launches[record[3]]
                if launch.parts:
                    since, until = blocked(launch, device)
                    since, until = max(from_ns, since), min(to_ns, until)
                    if since < until:
                        waiting.append((since, until, f"{WAIT}{name}", BLOCKED))
                        if from_ns < since:
                            at_work.append((from_ns, since, f"{HOST}{name}", ""))
                        from_ns = until
                if from_ns < to_ns:
                    at_work.append((from_ns, to_ns, f"{HOST}{name}", ""))
        return at_work, waiting

    def _of_flows(
        self, launch: Launch, begin: int, end: int
    ) -> tuple[list[_Piece], list[_Piece]]:
        """Walks back from the next launch along its latest-ending predecessors.

        Returns:
            When they were under way; and what the threads that launched them did
            before.
        """
        under_way: list[_Piece] = []
        on_the_way: list[_Piece] = []
        until = end
        link: Launch | None = None
        while until > begin:
            latest: Launch | None = None
            for predecessor in self._schedule.predecessors(link or launch):
                if latest is None or predecessor.end_ns > latest.end_ns:
                    latest = predecessor
            if latest is not None and latest.begin_ns >= until:
                latest = None  # no order in time
            since = begin if latest is None else max(begin, latest.end_ns)
            lane = self._schedule.threads.get((link and link.thread) or "")
            for from_ns, to_ns, record in lane.innermost(since, until) if lane else ():
                if record[0] not in STRUCTURE:
                    on_the_way.append((from_ns, to_ns, f"{WAIT}{record[0]}", FLOW))
            if latest is None or latest.end_ns <= begin:
                break
            since, to_ns = max(latest.begin_ns, begin), min(latest.end_ns, until)
            under_way.append((since, to_ns, f"{WAIT}{latest.record[0]}", FLOW))
            link, until = latest, since
        return under_way, on_the_way

    def _of_others(self, device: str, holes: list[_Hole]) -> Iterator[_Piece]:
        """One other role was at work, and what is unexplained ended when it did."""
        for begin, end in holes:
            others: list[RawRecord] = []
            for other, lane in self._schedule.devices.items():
                if other != device:
                    others += lane.between(begin, end)
            others.sort(key=lambda record: record[1])
            for from_ns, to_ns, active in _segments(others, begin, end):
                if len({role_of(record) for record in active}) == 1:
                    last = max(active, key=lambda record: record[2])
                    if abs(last[2] - end) <= self._near_ns:
                        yield from_ns, to_ns, f"{WAIT}{last[0]}", INFERRED

    def _of_threads(self, thread: str | None, holes: list[_Hole]) -> Iterator[_Piece]:
        """Likewise of threads: one handed over to the one that launches."""
        for begin, end in holes:
            if end - begin <= self._near_ns:
                continue
            active = {
                other: [
                    leaf
                    for leaf in lane.innermost(begin, end)
                    if leaf[2][0] not in STRUCTURE
                ]
                for other, lane in self._schedule.threads.items()
                if other != thread
            }
            active = {other: leaves for other, leaves in active.items() if leaves}
            if len(active) == 1:
                (leaves,) = active.values()
                if end - leaves[-1][1] <= self._near_ns:
                    for from_ns, to_ns, record in leaves:
                        yield from_ns, to_ns, f"{WAIT}{record[0]}", INFERRED


def _only(
    schedule: Schedule, is_meant: Callable[[RawRecord], object]
) -> dict[str, Lane]:
    """Lanes of some records of the threads; none of a thread that has none."""
    return {
        thread: Lane(some)
        for thread, lane in schedule.threads.items()
        if (some := [*filter(is_meant, lane.records)])
    }


def blocked(launch: Launch, device: str | None = None) -> tuple[int, int]:
    """When a host span waited for its own work on other devices.

    A span that is still open when its arrays are ready has waited for them, from the
    launch to the last end that it saw: in the queue first, then for the work.

    Args:
        launch: the span with its work.
        device: where the question comes from; None for any.

    Returns:
        Begin and end in nanoseconds; an empty stretch if it did not wait.
    """
    host, parts = launch.host, launch.parts
    if host is None or not parts:
        return 0, 0
    if device is not None and device in [place for place, _ in parts]:
        return 0, 0
    seen = [part[2] for _, part in parts if part[2] <= host[2]]
    return (host[1], max(seen)) if seen else (0, 0)


def _holder(records: list[RawRecord]) -> str:
    found = {record[0] for record in records}
    if not found.isdisjoint(names.WEIGHT_SYNC):
        return SYNC
    return OCCUPIED + "+".join(sorted(found))


def _segments(
    records: list[RawRecord], begin: int, end: int
) -> Iterator[tuple[int, int, list[RawRecord]]]:
    """Cuts [begin, end) where the set of open records changes; by begin, in order."""
    active: list[RawRecord] = []
    at = begin
    if all(a[2] <= b[1] for a, b in pairwise(records)):
        for record in records:  # as on any device that runs one program at a time
            starts, ends = max(record[1], begin), min(record[2], end)
            if at < starts:
                yield at, starts, []
                at = starts
            if starts < ends:
                yield starts, ends, [record]
                at = ends
        if at < end:
            yield at, end, []
        return
    for record in records:
        starts = min(max(record[1], begin), end)
        while active and (ends := min([r[2] for r in active])) <= starts:
            if ends > at:
                yield at, ends, active
                at = ends
            active = [r for r in active if r[2] > ends]
        if starts > at:
            yield at, starts, active
            at = starts
        active = [*active, record]
    while at < end:
        if not active:
            yield at, end, active
            return
        ends = min(min([r[2] for r in active]), end)
        if ends > at:
            yield at, ends, active
            at = ends
        active = [r for r in active if r[2] > ends]


def _filled(
    holes: list[_Hole], layer: Iterable[_Piece], pieces: list[_Piece]
) -> list[_Hole]:
    """Adds to the pieces what a layer says of the holes; returns what is left."""
    weaker = sorted(layer)
    if not weaker:
        return holes
    left: list[_Hole] = []
    for at, end in holes:
        for from_ns, to_ns, name, kind in weaker:
            if from_ns < at:
                from_ns = at
            if to_ns > end:
                to_ns = end
            if from_ns < to_ns:
                if at < from_ns:
                    left.append((at, from_ns))
                pieces.append((from_ns, to_ns, name, kind))
                at = to_ns
        if at < end:
            left.append((at, end))
    return left


def _merged(pieces: list[_Piece]) -> list[_Piece]:
    """In order, neighbours of one bucket and evidence as one."""
    if len(pieces) < 2:
        return pieces
    pieces.sort()
    found = pieces[:1]
    for begin, end, bucket, kind in pieces[1:]:
        last = found[-1]
        if last[2] == bucket and last[3] == kind:
            found[-1] = last[0], end, bucket, kind
        else:
            found.append((begin, end, bucket, kind))
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class WindowAccount:
    """What the devices' time in a window went to.

    Attributes:
        devices: an account each.
        overlap_frac: part of the window in which devices that only roll out and
            devices that only train are both occupied; None if either do not exist.
        samples, tokens: what spans that ended in the window are tagged with.
    """

    devices: Mapping[str, Account]
    schedule: Schedule
    overlap_frac: float | None
    samples: float
    tokens: float

    @property
    def all(self) -> Account:
        """Over all devices; added up when it is asked for."""
        return added(self.devices.values())

    @property
    def roles(self) -> dict[str, Account]:
        """Likewise of each role the account of its devices, see `by_role`."""
        return by_role(self.schedule, self.devices)


def added(accounts: Iterable[Account]) -> Account:
    """Several devices' accounts as one."""
    total = Account()
    for account in accounts:
        total.add(account)
    return total


def by_role(schedule: Schedule, devices: Mapping[str, Account]) -> dict[str, Account]:
    """The accounts of each role's devices.

    Work of other roles is in one row, `other role`: tables of roles that share devices
    do not add up.
    """
    found: dict[str, Account] = {}
    for role, own in schedule.roles.items():
        total = added([devices[d] for d in own if d in devices])
        shown = found[role] = Account(queued=total.queued)
        for (bucket, kind), ns in total.held.items():
            if bucket.startswith(OCCUPIED) and not any(
                schedule.stage_roles.get(stage) == role for stage in stages_of(bucket)
            ):
                bucket = OTHER_ROLE
            shown.held[bucket, kind] += ns
    return found


def _overlap(schedule: Schedule, begin_ns: int, end_ns: int) -> float | None:
    rollout = set(schedule.roles.get(ROLLOUT, ()))
    trainer = set(schedule.roles.get(ACTOR, ()))
    rollout, trainer = rollout - trainer, trainer - rollout
    if not rollout or not trainer or end_ns <= begin_ns:
        return None
    sides = [
        united(
            sorted(
                record[1:3]
                for device in devices
                for record in schedule.devices[device].between(begin_ns, end_ns)
            ),
            begin_ns,
            end_ns,
        )
        for devices in (rollout, trainer)
    ]
    return common(*sides) / (end_ns - begin_ns)
