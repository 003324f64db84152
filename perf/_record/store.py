"""What stays in memory for queries: the last steps, and no more than so many spans."""

from __future__ import annotations

from collections import Counter, deque
from typing import Final, Protocol

from perf._model.spans import OPEN, RawRecord, Records, TimelineInfo

KEEP_STEPS: Final = 100  # mutate: ok any number of this size
"""Default number of closed steps kept for queries."""
KEEP_SPANS: Final = 20_000  # mutate: ok any number of this size
"""Default number of records kept for queries (about 250 bytes each)."""
MAX_IN_STEP: Final = 100_000  # mutate: ok any number of this size
"""Records that a step may have before it forgets its older ones: its metrics are made
of all of them."""
_LEFT: Final = 0.75
"""The part of these that is left when it forgets."""


class Step:
    """The records that closed between two exports.

    A step's own window is shorter: it begins with the first span after the export
    before it; what lies between is `outside steps`.

    Args:
        index: exports since the tracer was made.
        begin_ns: the export before it, or the tracer's birth.

    Attributes:
        end_ns: this export; `OPEN` before.
        parts: its records in the order of closing; a timeline may come several times.
        count: of these records.
        forgotten: records that it had beside them, in excess of what a step may have.
        opened: what was open when it was closed.
    """

    __slots__ = (
        "begin_ns", "count", "end_ns", "forgotten", "index", "opened", "parts",
    )  # fmt: skip

    def __init__(self, index: int, begin_ns: int) -> None:
        self.index = index
        self.begin_ns = begin_ns
        self.end_ns = OPEN
        self.parts: Records = []
        self.count = 0
        self.forgotten = 0
        self.opened: Records = []

    @property
    def timelines(self) -> dict[str, TimelineInfo]:
        """Those of the records, by id."""
        return {info.id: info for info, _ in self.parts}

    def of(self, timeline_id: str) -> list[RawRecord]:
        """The records of one timeline."""
        return [r for info, some in self.parts if info.id == timeline_id for r in some]


class Index(Protocol):
    """Whatever keeps an order of its own over the records of a store."""

    def add(self, parts: Records) -> None:
        """These records are in the store now."""

    def forget(self, parts: Records) -> None:
        """These records are no longer kept; on a timeline in the order of `add`."""

    def clear(self) -> None:
        """Nothing is kept, and nothing ever was."""


class Store:
    """Closed steps and the present one, bounded. Not thread-safe: its owner locks.

    Args:
        born_ns: when the tracer was made.
        keep_steps: closed steps kept.
        keep_spans: records kept in all steps together, unless the present step alone
            has more.
        index: told what comes and goes.
        max_in_step: records that the present step may have all the same.
    """

    def __init__(
        self,
        born_ns: int,
        keep_steps: int,
        keep_spans: int,
        index: Index | None = None,
        max_in_step: int = MAX_IN_STEP,
    ) -> None:
        self.keep_steps = keep_steps
        self.keep_spans = keep_spans
        self.max_in_step = max(max_in_step, keep_spans)
        self.closed: deque[Step] = deque()
        self.current = Step(0, born_ns)
        self._index = index
        self.count = 0

    def add(self, parts: Records, count: int) -> None:
        """Adds closed records to the present step; the lists stay as they are.

        Args:
            parts: by timeline; one may come several times.
            count: of the records.
        """
        step = self.current
        step.parts += parts
        step.count += count
        self.count += count
        if self._index is not None:
            self._index.add(parts)
        while self.count > self.keep_spans and self.closed:
            self._forget_step()
        if self.current.count > self.max_in_step:
            self._forget_older(self.current)

    def close_step(self, end_ns: int) -> Step:
        """Ends the present step and begins the next one."""
        step = self.current
        step.end_ns = end_ns
        self.closed.append(step)
        self.current = Step(step.index + 1, end_ns)
        return step

    def trim(self, beyond: int = 0) -> None:
        """Forgets the steps that are not to be kept.

        Args:
            beyond: steps that may stay for now.
        """
        while len(self.closed) > self.keep_steps + beyond:
            self._forget_step()

    def emptied(self, born_ns: int) -> Store:
        """A store of the same bounds with nothing in it, and its index emptied.

        This one may be in the midst of a change that nobody ends: see `os.fork`.
        """
        if self._index is not None:
            self._index.clear()
        return Store(
            born_ns, self.keep_steps, self.keep_spans, self._index, self.max_in_step
        )

    @property
    def timelines(self) -> dict[str, TimelineInfo]:
        """Every timeline that has records here, by id."""
        found: dict[str, TimelineInfo] = {}
        for step in [*self.closed, self.current]:
            found.update(step.timelines)
        return found

    def kept(self) -> Records:
        """All records, on each timeline in the order of closing."""
        return [part for step in [*self.closed, self.current] for part in step.parts]

    def _forget_step(self) -> None:
        step = self.closed.popleft()
        self.count -= step.count
        if self._index is not None:
            self._index.forget(step.parts)

    def _forget_older(self, step: Step) -> None:
        counts = Counter[str]()
        for info, records in step.parts:
            counts[info.id] += len(records)
        # More than has to be, for all parts are looked at; of the longest each time.
        left = counts.copy()
        count = step.count
        while count > _LEFT * self.max_in_step:
            ((longest, its_count),) = left.most_common(1)
            half = (its_count + 1) // 2
            left[longest] -= half
            count -= half
        forgotten: Records = []
        kept: Records = []
        counts -= left
        for info, records in step.parts:
            first = counts[info.id]
            if not first:
                kept.append((info, records))
                continue
            some, rest = records[:first], records[first:]
            counts[info.id] -= len(some)
            forgotten.append((info, some))
            if rest:
                kept.append((info, rest))
        step.parts = kept
        self.count -= step.count - count
        step.forgotten += step.count - count
        step.count = count
        if self._index is not None:
            self._index.forget(forgotten)
