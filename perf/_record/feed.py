"""What one sink has still to take from a tracer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from perf._model.ids import queue_id
from perf._model.spans import Batch, Records, TimelineKind
from perf._model.stats import WriteStats

MAX_WAITING: Final = 262_144  # mutate: ok any number of this size
"""Records that may wait for a sink that does not take them; further ones are dropped
and counted. Eight threads in a burst of 16,000 each fill half of it."""


class Sink(Protocol):
    """What a tracer expects of what is attached to it."""

    def wake(self) -> None:
        """Much is waiting, or nothing was taken so far. Must return at once."""

    def flush(self, deadline_s: float | None = None) -> bool:
        """Writes all that was recorded so far; whether it did so in time."""
        ...

    def close(self) -> None:
        """Flushes and lets go."""

    @property
    def stats(self) -> WriteStats:
        """What became of the records."""
        ...


class Feed:
    """A bounded queue of records for one sink. Its tracer locks.

    Args:
        sink: who takes them.
        collect: makes the batch of a drain.
        release: called when nobody takes anything any more.
    """

    def __init__(
        self,
        sink: Sink,
        collect: Callable[[Feed], Batch],
        release: Callable[[Feed], None],
    ) -> None:
        self.sink = sink
        self.waiting: Records = []
        self.waiting_count = 0
        self.dropped = 0
        self.is_served = False
        """Whether the sink has come for records, in this process."""
        self.told = 0
        """Records that the sink knows to be lost, or that were lost before it came."""
        self._tangled: set[str] = set()
        """Timelines of threads that have ended, whose records may still wait."""
        self.may_lack_ends = False
        """Whether something was lost since it was last asked for lost ends."""
        self._handed_over: set[tuple[str, int]] = set()
        """Timeline and id of the open spans that the sink knows of."""
        self._collect = collect
        self._release = release

    def put(self, parts: Records, count: int) -> None:
        """Queues records, dropping those beyond the bound.

        Args:
            parts: by timeline; one may come several times.
            count: of the records.
        """
        count += self.waiting_count
        if count > MAX_WAITING // 2:
            self.sink.wake()
            if count > MAX_WAITING:  # mutate: ok none is dropped if equal
                self.dropped += count - MAX_WAITING
                parts = _first(parts, MAX_WAITING - self.waiting_count)
                count = MAX_WAITING
        self.waiting += parts
        self.waiting_count = count

    def take(self) -> Records:
        """Empties the queue."""
        taken, self.waiting, self.waiting_count = self.waiting, [], 0
        return taken

    def keep_tangled(self, timeline_id: str) -> None:
        """A tangled timeline whose thread has ended: only this feed still knows it."""
        if len(self._tangled) < MAX_WAITING:  # mutate: ok any number of this size
            self._tangled.add(timeline_id)

    def take_tangled(self) -> frozenset[str]:
        """Those since the last call."""
        taken, self._tangled = frozenset(self._tangled), set()
        return taken

    def newly_open(
        self,
        opened: Records,
        taken: Records,
    ) -> Records:
        """Those open spans that the sink does not know of yet.

        Args:
            opened: all spans that were open a moment ago.
            taken: what closed since the last call.
        """
        if not opened and not self._handed_over:
            return []
        ended = set[tuple[str, int]]()
        for info, records in taken:
            ended |= {(info.id, record[3]) for record in records}
            if info.kind is TimelineKind.DEVICE:  # in flight, it was on the queue's
                queue = queue_id(info.id)
                ended |= {(queue, record[3]) for record in records}
        self._handed_over -= ended
        unknown = []
        for info, records in opened:
            new = [
                record
                for record in records
                if (info.id, record[3]) not in ended
                and (info.id, record[3]) not in self._handed_over
            ]
            if new:
                unknown.append((info, new))
                self._handed_over.update((info.id, record[3]) for record in new)
        return unknown

    def lost_ends(self, opened: Records) -> bool:
        """Whether spans that the sink knows as open have ended, and it was not told.

        Args:
            opened: all spans that are open, after `newly_open`.
        """
        if not self.may_lack_ends:
            return False
        self.may_lack_ends = False
        still = {(info.id, record[3]) for info, records in opened for record in records}
        lost = self._handed_over - still
        self._handed_over -= lost
        return bool(lost)

    def forget(self) -> None:
        """After a fork: what waits belongs to the parent's sink."""
        self.take()
        self.take_tangled()
        self.is_served = False
        self.dropped = self.told = 0
        self.may_lack_ends = False
        self._handed_over.clear()

    def drain(self, *, anew: bool = False) -> Batch:
        """Takes everything recorded since the last call. Called by the sink.

        Args:
            anew: with all spans that are open, as if none had been handed over.
        """
        self.is_served = True
        if anew:
            self._handed_over.clear()
        return self._collect(self)

    def close(self) -> None:
        """Takes nothing any more. Called by the sink; may be called again."""
        self._release(self)


def _first(parts: Records, count: int) -> Records:
    """So many of the records."""
    found: Records = []
    for info, records in parts:
        if count <= 0:
            break
        found.append((info, records[:count]))
        count -= len(records)
    return found
