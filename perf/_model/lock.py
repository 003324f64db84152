"""How much the interpreter's lock was in demand, as a trace tells it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

LOCK_EVENT: Final = "interpreter lock"
"""Name of the instants beside the run's metadata whose annotations are a `LockDemand`;
each is at the end of its stretch."""


@dataclasses.dataclass(frozen=True, slots=True)
class LockDemand:
    """A stretch in which other Python threads than the training's were busy.

    Attributes:
        dur_ns: of the stretch.
        wakeups: how often a thread woke up in it, at moments that it had chosen before.
        taken: how often it found the lock taken then.
        late_ns: how late it came when it did, the median; 0 if it never did.
        trainer_ns: how long the thread of the training ran, or wanted a core.
        trainer_turns: how often it got one.
        switch_ns: for so long a thread waits for the lock before it asks for it.
        others_ns: processor time of all other Python threads.
        threads: names of the busiest of these.
        threads_ns: and the processor time of each.
    """

    dur_ns: int
    wakeups: int
    taken: int
    late_ns: int
    trainer_ns: int
    trainer_turns: int
    switch_ns: int
    others_ns: int
    threads: Sequence[str]
    threads_ns: Sequence[int]
