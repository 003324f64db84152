"""For tests of one's own: fakes of time and devices, and what a backend has to do."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from perf._record.waiting import Work
from perf.loggers.conformance import backend_checks, check_backend

__all__ = ["FakeClock", "ManualWait", "backend_checks", "check_backend"]


class FakeClock:
    """A clock that stands still until it is told to go on.

    Args:
        start_ns: what it shows first, in nanoseconds.
    """

    def __init__(self, start_ns: int = 1_000_000_000) -> None:
        self.now_ns = start_ns

    def __call__(self) -> int:
        """What it shows, in nanoseconds."""
        return self.now_ns

    def advance_ns(self, by_ns: int) -> None:
        """Moves it by nanoseconds."""
        self.now_ns += by_ns

    def advance_s(self, by_s: float) -> None:
        """Moves it by seconds."""
        self.now_ns += round(by_s * 1e9)


class _Array:
    """Stands for an array whose work is under way."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready = False
        self.error: BaseException | None = None

    def __repr__(self) -> str:
        return f"<array {self.name!r}>"


class ManualWait:
    """Device work that ends when the test says so, without any threads.

    Pass it to a tracer as `_wait`.
    """

    def __init__(self) -> None:
        self._works: dict[Hashable, list[Work]] = {}

    def arrays(self, name: str) -> Any:
        """Something to hand to a span's `device_end` or `async_end`."""
        return _Array(name)

    def finish(self, array: Any) -> None:
        """Its work ends now; the device span is recorded before this returns."""
        array.ready = True
        self._advance()

    def fail(self, array: Any, error: BaseException) -> None:
        """Its work fails now."""
        array.error = error
        self.finish(array)

    def submit(self, key: Hashable | None, work: Work) -> bool:
        """Called by the tracer."""
        if key is None:
            key = object()  # it may overtake
        work.waits = list(_flat(work.waits))
        self._works.setdefault(key, []).append(work)
        self._advance()
        return True

    def pending(self, tracer: Any) -> list[Any]:
        """Called by the tracer."""
        # Copied in one step: other threads may hand over work meanwhile.
        works = [work for queue in list(self._works.values()) for work in list(queue)]
        return [work for work in works if work.tracer is tracer and not work.ended]

    def settle(self, tracer: Any, patience_s: float | None = None) -> bool:
        """Called by the tracer; nothing goes on by itself here."""
        return True

    def idle(self) -> None:
        """Called by the tracer; there are no devices here."""

    def _advance(self) -> None:
        # As on a device: work ends in the order of its launch.
        for queue in list(self._works.values()):
            while queue:
                arrays = queue[0].waits
                if not all(array.ready for array in arrays):
                    break
                errors = [array.error for array in arrays if array.error]
                error = errors[0] if errors else None
                # In flight until it is recorded, as `pending` wants it.
                queue[0].finish(error, 0, bool(arrays))
                queue.pop(0)


def _flat(tree: Any) -> Any:
    if isinstance(tree, _Array):
        yield tree
    elif isinstance(tree, dict):
        yield from _flat(list(tree.values()))
    elif isinstance(tree, (list, tuple)):
        for item in tree:
            yield from _flat(item)
