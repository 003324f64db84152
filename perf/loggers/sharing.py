"""What several backends of a process write to together.

A training makes a logger for each of its parts from the same options. Two event files
written at once in one folder, or two runs of one name, would tear their metrics apart.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Shared"]

T = TypeVar("T")


class Shared(Generic[T]):
    """Things by key: made for the first who asks, ended by the last who lets go."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[Hashable, tuple[T, int]] = {}

    def take(self, key: Hashable, make: Callable[[], T]) -> T:
        """The thing of a key; made if nobody holds it."""
        # Held while it is made: the second who asks has to wait for it.
        with self._lock:
            found = self._held.get(key)
            thing = make() if found is None else found[0]
            self._held[key] = (thing, 1 if found is None else found[1] + 1)
        return thing

    def release(self, key: Hashable, end: Callable[[T], object]) -> None:
        """Lets go of it; `end` is called if nobody holds it any more."""
        with self._lock:
            thing, holders = self._held[key]
            if holders > 1:
                self._held[key] = (thing, holders - 1)
                return
            del self._held[key]
        end(thing)
