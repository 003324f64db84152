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

    __slots__ = ("state",)

    def __init__(self, never: T) -> None:
        self.state: tuple[T, T] = never, never
        """Until when it is busy, and until when a wait is shown. Of two in the same
        state, both place the same."""

    def place(self, begin: T, end: T) -> Placed[T]:
        """Places work launched at `begin` that was done at `end`."""
        busy_until, queued_until = self.state
        if begin >= busy_until:  # mutate: ok touching work has no wait
            self.state = end, queued_until
            return Placed(begin, end, None)
        queued_from: T | None = max(begin, queued_until)
        if queued_from is not None and queued_from < busy_until:
            queued_until = busy_until
        else:
            queued_from = None
        ends = max(busy_until, end)
        self.state = ends, queued_until
        return Placed(busy_until, ends, queued_from)
