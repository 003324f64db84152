"""A recorder small enough to be believed: what it gives to a writer, and what it saw.

Driven by drawn numbers, it opens and closes spans as threads, coroutines, devices and
servers do, on a clock that often stands still, and hands them over in batches.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

from perf._model.ids import queue_id
from perf._model.spans import (
    COUNTER,
    DEVICE,
    INSTANT,
    OPEN,
    QUEUED,
    SPAN,
    Batch,
    ClockSnapshot,
    RawRecord,
    TimelineInfo,
    TimelineKind,
)

BORN_NS = 1_000_000
THREADS = [
    TimelineInfo("host-1", TimelineKind.HOST, "MainThread", True, 11),
    TimelineInfo("host-2", TimelineKind.HOST, "worker", False, 12),
]
LOOP = TimelineInfo("host-3", TimelineKind.HOST, "asyncio", False, 13)
SERVER = TimelineInfo("server", TimelineKind.NAMED, "server")
IN_ORDER = TimelineInfo("tpu0", TimelineKind.DEVICE, "tpu0")
CONCURRENT = TimelineInfo("tpu1", TimelineKind.DEVICE, "tpu1")
QUEUE = TimelineInfo(queue_id("tpu0"), TimelineKind.QUEUE, queue_id("tpu0"))

Op = tuple[int, int, int]


@dataclasses.dataclass
class Seen:
    """A slice that the file must show."""

    timeline: str
    name: str
    begin_ns: int
    end_ns: int
    """`OPEN` if it never ended."""
    tags: dict[str, Any]


@dataclasses.dataclass
class _Open:
    id: int
    name: str
    begin_ns: int
    parent_id: int
    tags: dict[str, Any] | None
    after: tuple[int, ...] | None
    seen: Seen


class Recorder:
    """Records what the operations say.

    Attributes:
        seen: all slices and instants, in the order of opening.
        arrows: from predecessors to successors.
        parents: of each span, by name.
        moments: the names of the instants.
        counters: name, time and value of each sample.
    """

    def __init__(self) -> None:
        self.now_ns = BORN_NS
        self.seen: list[Seen] = []
        self.arrows: list[tuple[Seen, Seen]] = []
        self.parents: dict[str, str | None] = {}
        self.counters: list[tuple[str, int, float]] = []
        self.moments: set[str] = set()
        self._next_id = 0
        self._names: dict[int, str] = {0: ""}
        self._home: dict[int, str] = {}
        self._stacks: dict[str, list[_Open]] = {i.id: [] for i in [*THREADS, LOOP]}
        self._tangled = {LOOP.id, SERVER.id}
        self._closed: dict[str, list[RawRecord]] = {}
        self._handed: set[tuple[str, int]] = set()
        self._works: list[_Open] = []
        self._overlapping: list[_Open] = []
        self._busy_ns = 0
        self._with_device: dict[int, str] = {}
        self._host_of: set[int] = set()
        self._finished: set[int] = set()
        self._wishes: list[tuple[int, int, str]] = []
        self._written: set[int] = set()

    # -- operations --------------------------------------------------------------------

    def run(self, ops: Sequence[Op]) -> Iterator[Batch]:
        """Carries operations out; yields what is handed over now and then."""
        for kind, x, y in ops:
            match kind:
                case 0 | 1:
                    self.now_ns += (0, 1, 3, 200)[x % 4]
                case 2 | 3:
                    self._open(THREADS[x % 2].id, y)
                case 4 | 5:
                    self._close(THREADS[x % 2].id, -1, y)
                case 6:
                    self._open(LOOP.id, y)
                case 7:
                    self._close(LOOP.id, x, y)
                case 8:
                    self._launch(y)
                case 9:
                    self._finish()
                case 10:
                    self._overlap(x, y)
                case 11:
                    self._serve(x, y)
                case 12:
                    self._instant(x)
                case 13:
                    self._count(x, y)
                case 14:
                    self._disorder(x, y)
                case _:
                    yield self.drain()
        yield self.drain()

    def _new(self, timeline: str, parent_id: int, y: int) -> _Open:
        self._next_id += 1
        span_id = self._next_id
        name = f"span {span_id}"
        tags = {"y": y} if y % 3 == 0 else None
        after = None
        if y % 4 == 1 and span_id > 1:
            after = tuple({1 + y * k % (span_id - 1) for k in (1, 7)})
        seen = Seen(timeline, name, self.now_ns, OPEN, dict(tags or {}))
        self.seen.append(seen)
        self._names[span_id] = name
        self._home[span_id] = timeline
        self.parents[name] = self._names[parent_id] or None
        return _Open(span_id, name, self.now_ns, parent_id, tags, after, seen)

    def _put(self, timeline: str, record: RawRecord) -> None:
        self._closed.setdefault(timeline, []).append(record)

    def _open(self, timeline: str, y: int) -> None:
        stack = self._stacks[timeline]
        nested = stack and (timeline != LOOP.id or y % 2)
        parent = stack[y % len(stack)] if timeline == LOOP.id and stack else None
        parent = parent or (stack[-1] if stack else None)
        span = self._new(timeline, parent.id if parent and nested else 0, y)
        self._host_of.add(span.id)
        stack.append(span)

    def _close(self, timeline: str, which: int, y: int) -> None:
        stack = self._stacks[timeline]
        if not stack:
            return
        span = stack.pop(which % len(stack) if which >= 0 else -1)
        tags = span.tags
        if y % 5 == 0:
            tags = {**(tags or {}), "late": y}
        span.seen.end_ns = self.now_ns
        span.seen.tags = dict(tags or {})
        self._put(
            timeline,
            (
                span.name, span.begin_ns, self.now_ns, span.id, span.parent_id, SPAN,
                tags, span.after,
            ),
        )  # fmt: skip
        self._wish(span)

    def _disorder(self, x: int, y: int) -> None:
        timeline = THREADS[x % 2].id
        if len(self._stacks[timeline]) > 1:
            self._tangled.add(timeline)
            self._close(timeline, 0, y)

    def _launch(self, y: int) -> None:
        """A host span that launches work on the device, and ends."""
        timeline = THREADS[0].id
        stack = self._stacks[timeline]
        span = self._new(timeline, stack[-1].id if stack else 0, y)
        self._host_of.add(span.id)
        stack.append(span)
        self._with_device[span.id] = IN_ORDER.id
        self._works.append(span)
        self._close(timeline, -1, 1)

    def _finish(self) -> None:
        if not self._works:
            return
        work = self._works.pop(0)
        begin_ns = max(work.begin_ns, self._busy_ns)
        shown = (QUEUE.id, work.id) in self._handed
        if begin_ns > work.begin_ns:
            record = (
                "queue", work.begin_ns, begin_ns, work.id, work.parent_id, QUEUED,
                {"NAME": work.name}, None,
            )  # fmt: skip
            self._put(QUEUE.id, record)
            tags = {"NAME": work.name}
            if not shown:
                new = Seen(QUEUE.id, "queue", work.begin_ns, begin_ns, tags)
                self.seen.append(new)
        if shown:
            wait = next(
                s for s in self.seen if (s.timeline, s.name) == (QUEUE.id, work.name)
            )
            wait.end_ns = begin_ns
            if begin_ns > work.begin_ns:
                wait.tags = {**(work.tags or {}), "NAME": work.name}
        self._busy_ns = max(self.now_ns, begin_ns)
        self.seen.append(
            Seen(IN_ORDER.id, work.name, begin_ns, self._busy_ns, dict(work.tags or {}))
        )
        self._put(
            IN_ORDER.id,
            (
                work.name, begin_ns, self._busy_ns, work.id, work.parent_id, DEVICE,
                work.tags, work.after,
            ),
        )  # fmt: skip
        self._finished.add(work.id)
        for source in work.after or ():
            self._wishes.append((source, work.id, IN_ORDER.id))

    def _overlap(self, x: int, y: int) -> None:
        if y % 2 and self._overlapping:
            work = self._overlapping.pop(x % len(self._overlapping))
            work.seen.end_ns = self.now_ns
            self._with_device[work.id] = CONCURRENT.id
            self._finished.add(work.id)
            self._put(
                CONCURRENT.id,
                (
                    work.name, work.begin_ns, self.now_ns, work.id, 0, DEVICE,
                    work.tags, None,
                ),
            )  # fmt: skip
        else:
            self._overlapping.append(self._new(CONCURRENT.id, 0, y))

    def _serve(self, x: int, y: int) -> None:
        """A span timed elsewhere, anywhere in the past."""
        span = self._new(SERVER.id, 0, y)
        begin_ns = max(BORN_NS, self.now_ns - x % 50)
        end_ns = min(self.now_ns, begin_ns + y % 20)
        span.seen.begin_ns, span.seen.end_ns = begin_ns, end_ns
        self._put(
            SERVER.id,
            (span.name, begin_ns, end_ns, span.id, 0, SPAN, span.tags, None),
        )
        self._host_of.add(span.id)

    def _instant(self, x: int) -> None:
        timeline = [*THREADS, LOOP][x % 3].id
        stack = self._stacks[timeline]
        moment = self._new(timeline, stack[-1].id if stack else 0, x)
        moment.seen.end_ns = self.now_ns
        self.moments.add(moment.name)
        self._put(
            timeline,
            (
                moment.name, self.now_ns, self.now_ns, moment.id, moment.parent_id,
                INSTANT, moment.tags, None,
            ),
        )  # fmt: skip

    def _count(self, x: int, y: int) -> None:
        name, value = f"counter {y % 2}", x if y % 3 else x / 4
        self._next_id += 1
        self._names[self._next_id] = ""
        self._put(
            THREADS[x % 2].id,
            (name, self.now_ns, value, self._next_id, 0, COUNTER, "tokens", None),
        )
        self.counters.append((name, self.now_ns, float(value)))

    # -- handing over ------------------------------------------------------------------

    def _wish(self, span: _Open) -> None:
        for source in span.after or ():
            self._wishes.append((source, span.id, self._home[span.id]))

    def _grant(self) -> None:
        """Which arrows the batch can draw, from what is known when it is written."""
        known = {r[3] for records in self._closed.values() for r in records}
        known |= {span_id for _, span_id in self._handed}
        for source, target, timeline in self._wishes:
            on_device = timeline == IN_ORDER.id
            both = source in self._with_device and target in self._with_device
            if both != on_device or not (both or source in self._host_of):
                continue
            if source not in known and source not in self._written:
                continue
            begin = self._home[source]
            if both and source in self._finished:
                begin = self._with_device[source]
            start = self._slice(begin, source)
            end = self._slice(timeline, target)
            self.arrows.append((start, end))
        self._wishes.clear()
        self._written |= known

    def _slice(self, timeline: str, span_id: int) -> Seen:
        wanted = timeline, self._names[span_id]
        return next(seen for seen in self.seen if (seen.timeline, seen.name) == wanted)

    def drain(self, *, anew: bool = False) -> Batch:
        """What a tracer would hand over now."""
        infos = [*THREADS, LOOP, SERVER, IN_ORDER, CONCURRENT, QUEUE]
        opened = []
        for info in infos:
            if info.id in self._stacks:
                spans = self._stacks[info.id]
            else:
                spans = self._works if info is QUEUE else []
            new = [span for span in spans if (info.id, span.id) not in self._handed]
            for span in new:
                self._handed.add((info.id, span.id))
                if info is QUEUE:
                    self.seen.append(
                        Seen(
                            QUEUE.id,
                            span.name,
                            span.begin_ns,
                            OPEN,
                            dict(span.tags or {}),
                        )
                    )
            if new:
                opened.append((info, [self._as_open(info, span) for span in new]))
        records = [
            (info, self._closed[info.id]) for info in infos if info.id in self._closed
        ]
        self._grant()
        self._closed = {}
        clocks = ClockSnapshot(
            self.now_ns, 10**18 + self.now_ns, 7 * 10**9 + self.now_ns
        )
        return Batch(records, opened, frozenset(self._tangled), clocks)

    def _as_open(self, info: TimelineInfo, span: _Open) -> RawRecord:
        kind = DEVICE if info is QUEUE else SPAN
        tags = None if span.tags is None else dict(span.tags)
        return (
            span.name, span.begin_ns, OPEN, span.id, span.parent_id, kind, tags,
            span.after,
        )  # fmt: skip

    def shown(self) -> list[Seen]:
        """The slices that the file must show: an overlapping work shows at its end."""
        open_works = {work.name for work in self._overlapping}
        return [seen for seen in self.seen if seen.name not in open_works]


def operations() -> st.SearchStrategy[list[Op]]:
    """What a `Recorder` is to do: a few things, or a hundred in a drawn disorder."""
    few = st.lists(
        st.tuples(st.integers(0, 16), st.integers(0, 200), st.integers(0, 60)),
        max_size=30,
    )
    return few | st.builds(_many, st.integers(0, 1 << 32), st.sampled_from([0, 2]))


def _many(seed: int, first_kind: int) -> list[Op]:
    # From 2 on, the clock stands still.
    draw = random.Random(seed).randrange
    return [(draw(first_kind, 17), draw(200), draw(60)) for _ in range(100)]
