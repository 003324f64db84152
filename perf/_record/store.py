"""What stays in memory for queries: the last steps, and no more than so many spans."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator
from typing import Final, Protocol

from perf._model.spans import OPEN, RawRecord, TimelineInfo

KEEP_STEPS: Final = 100  # mutate: ok any number of this size
"""Default number of closed steps kept for queries."""
KEEP_SPANS: Final = 20_000  # mutate: ok any number of this size
"""Default number of records kept for queries (about 250 bytes each)."""
MAX_IN_STEP: Final = 100_000  # mutate: ok any number of this size
"""Records that a step may have before it forgets its older ones: its metrics are made
of all of them."""


@dataclasses.dataclass(slots=True)
class Step:
    """The records that closed between two exports.

    A step's own window is shorter: it begins with the first span after the export
    before it; what lies between is `outside steps`.
    """

    index: int
    """Exports since the tracer was made."""
    begin_ns: int
    """The export before it, or the tracer's birth."""
    end_ns: int = OPEN
    records: dict[str, list[RawRecord]] = dataclasses.field(default_factory=dict)
    """By timeline id, in the order of closing."""
    timelines: dict[str, TimelineInfo] = dataclasses.field(default_factory=dict)
    """Those of the records: a step may be read when the store has let it go."""
    count: int = 0
    forgotten: int = 0
    """Records that it had beside these, in excess of what a step may have."""
    opened: list[tuple[TimelineInfo, list[RawRecord]]] = dataclasses.field(
        default_factory=list
    )
    """What was open when it was closed."""

    def ended(self, timeline_id: str) -> set[int]:
        """Ids of the spans of a timeline that ended in it."""
        return {record[3] for record in self.records.get(timeline_id, ())}

    def add(self, info: TimelineInfo, records: list[RawRecord]) -> None:
        """Takes over records; the list stays the caller's."""
        mine = self.records.get(info.id)
        if mine is None:
            self.timelines[info.id] = info
            self.records[info.id] = list(records)
        else:
            mine += records
        self.count += len(records)

    def by_timeline(self) -> list[tuple[TimelineInfo, list[RawRecord]]]:
        """The records with their timelines."""
        # Their keys come together, so both have them in one order.
        return list(zip(self.timelines.values(), self.records.values(), strict=True))

    def longest(self) -> str:
        """The timeline with most records."""
        return max(self.records, key=lambda timeline_id: len(self.records[timeline_id]))


class Index(Protocol):
    """Whatever keeps an order of its own over the records of a store."""

    def add(self, info: TimelineInfo, records: list[RawRecord]) -> None:
        """These records are in the store now."""

    def forget(self, info: TimelineInfo, records: list[RawRecord]) -> None:
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

    def add(self, info: TimelineInfo, records: list[RawRecord]) -> None:
        """Adds closed records of one timeline to the present step."""
        self.current.add(info, records)
        self.count += len(records)
        if self._index is not None:
            self._index.add(info, records)
        while self.count > self.keep_spans and self.closed:
            self._forget_step()
        while self.current.count > self.max_in_step:
            self._forget_half(self.current)

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

    def kept(self) -> Iterator[tuple[TimelineInfo, list[RawRecord]]]:
        """All records, on each timeline in the order of closing."""
        for step in [*self.closed, self.current]:
            yield from step.by_timeline()

    def _forget_step(self) -> None:
        step = self.closed.popleft()
        self.count -= step.count
        if self._index is not None:
            for info, records in step.by_timeline():
                self._index.forget(info, records)

    def _forget_half(self, step: Step) -> None:
        timeline_id = step.longest()
        records = step.records[timeline_id]
        half = (len(records) + 1) // 2
        if self._index is not None:
            self._index.forget(step.timelines[timeline_id], records[:half])
        del records[:half]
        step.count -= half
        step.forgotten += half
        self.count -= half
