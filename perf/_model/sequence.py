"""One program at a time: overlapping device work made running and queued."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T", int, float)


class Placed(NamedTuple, Generic[T]):
    """When work ran, and since when it had waited."""

    begin: T
    end: T
    queued_from: T | None
    """Begin of the wait that is shown, which ends where the work begins."""


class Sequencer(Generic[T]):
    """Places the work of one device in the order in which it is given.

    Work that was launched while other work ran starts where that ended. Of several
    that wait at once, only the first in the queue is shown waiting, so that waits do
    not overlap either. Work contained in the work before it has no length, where that
    ended.

    Args:
        never: before all times, e.g. -inf.
    """

    __slots__ = ("_busy_until", "_queued_until")

    def __init__(self, never: T) -> None:
        self._busy_until: T = never
        self._queued_until: T = never

    def place(self, begin: T, end: T) -> Placed[T]:
        """Places work launched at `begin` that was done at `end`."""
        if begin >= self._busy_until:  # mutate: ok touching work has no wait
            self._busy_until = end
            return Placed(begin, end, None)
        ran_from = self._busy_until
        queued_from: T | None = max(begin, self._queued_until)
        if queued_from is not None and queued_from < ran_from:
            self._queued_until = ran_from
        else:
            queued_from = None
        self._busy_until = max(ran_from, end)
        return Placed(ran_from, self._busy_until, queued_from)
