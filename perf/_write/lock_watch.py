"""Watches the interpreter's lock from the thread that writes.

That thread wakes up at times which it has chosen before. Where it finds the lock taken
it has to wait once more, and the system counts how often a thread waits: so each of
these moments tells whether some thread had the lock. Who may have had it, processor
times tell.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from perf._model.lock import LockDemand

SHORTEST_NS: Final = 1_000_000_000  # mutate: ok any number of this size
"""The least length of the first stretch."""
LONGEST_NS: Final = 60_000_000_000  # mutate: ok any number of this size
"""And of the last ones: what is told of a long run is to be little."""
_GROWTH: Final = 1.1  # mutate: ok any number of this size
NAP_S: Final = 0.1  # mutate: ok any number of this size
"""How long the thread sleeps at a time while others are busy."""
BUSY: Final = 0.05  # mutate: ok any part of this size
"""Other threads that are busy for a smaller part of a stretch are not told of."""
_NAMED: Final = 4
"""Threads of a stretch that are named."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """What threads have had of the cores since they began, in nanoseconds.

    Attributes:
        at_ns: when it was made.
        trainer: the system's id of the training's thread.
        trainer_ns: how long the training's thread ran, or wanted to.
        trainer_turns: how often it got a core.
        others_ns: how long each other Python thread ran, by the system's id.
        names: of these threads.
    """

    at_ns: int
    trainer: int
    trainer_ns: int
    trainer_turns: int
    others_ns: dict[int, int]
    names: dict[int, str]


def read(trainer: int) -> Reading | None:
    """Looks at all Python threads; None where the system does not tell.

    Args:
        trainer: the system's id of the training's thread.
    """
    at_ns = time.perf_counter_ns()
    try:
        said = Path(f"/proc/self/task/{trainer}/schedstat").read_bytes().split()
        ran_ns, wanted_ns, turns = map(int, said)
    except (OSError, ValueError):  # it has ended, or this is another system
        return None
    others_ns: dict[int, int] = {}
    names: dict[int, str] = {}
    for thread in threading.enumerate():
        tid = thread.native_id
        if tid is None or tid == trainer:
            continue
        try:
            # As `pthread_getcpuclockid` would have it, which must not be asked about
            # a thread that may have ended: the system refuses the number of one.
            others_ns[tid] = time.clock_gettime_ns(~tid << 3 | 6)
        except OSError:
            continue
        names[tid] = thread.name
    return Reading(at_ns, trainer, ran_ns + wanted_ns, turns, others_ns, names)


class LockWatch:
    """Counts wake-ups, and makes stretches of them. Of one thread.

    Args:
        look: at all threads, given the system's id of the training's.
        now: the tracer's clock, in nanoseconds.
    """

    def __init__(
        self,
        look: Callable[[int], Reading | None] = read,
        now: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._look = look
        self._now = now
        self.trainer = 0
        """The system's id of the training's thread, as soon as that is known."""
        self.last: tuple[int, LockDemand] | None = None
        """The last stretch in which others were busy, and when it ended."""
        self.nap_s = math.inf
        """How long the thread is to sleep at most: more wake-ups tell more."""
        self._least_ns = SHORTEST_NS
        """The length of the present stretch."""
        self._before: Reading | None = None
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._wakeups = 0
        self._late_ns: list[int] = []
        """Of those wake-ups that found the lock taken."""

    def woke(self, waits: int, late_ns: int) -> None:
        """The thread has woken up when its time had come.

        Args:
            waits: how often it has given up its core for that.
            late_ns: how much later it is.
        """
        if not waits:  # its time had come before
            return
        self._wakeups += 1
        if waits > 1:
            self._late_ns.append(late_ns)
        before = self._before
        if before and self._now() - before.at_ns < self._least_ns:
            return
        now = self._before = self._look(self.trainer) if self.trainer else None
        if before and now and before.trainer == now.trainer:
            self._end(before, now)
        if now is None:
            self.trainer = 0
        self._begin_anew()

    def _end(self, before: Reading, now: Reading) -> None:
        # Of a thread that was not there before nobody knows what it did since then; a
        # number may have gone to another thread.
        busy_ns = {
            tid: max(0, ns - before.others_ns[tid])
            for tid, ns in now.others_ns.items()
            if tid in before.others_ns
        }
        dur_ns, others_ns = now.at_ns - before.at_ns, sum(busy_ns.values())
        self.nap_s = math.inf
        if others_ns < BUSY * dur_ns:  # mutate: ok if equal
            return
        self.nap_s = NAP_S
        busiest = sorted(busy_ns, key=lambda tid: -busy_ns[tid])[:_NAMED]
        late_ns = sorted(self._late_ns)
        demand = LockDemand(
            dur_ns=dur_ns,
            wakeups=self._wakeups,
            taken=len(late_ns),
            late_ns=late_ns[len(late_ns) // 2] if late_ns else 0,
            trainer_ns=now.trainer_ns - before.trainer_ns,
            trainer_turns=now.trainer_turns - before.trainer_turns,
            switch_ns=round(sys.getswitchinterval() * 1e9),  # mutate: ok rounded
            others_ns=others_ns,
            threads=[now.names[tid] for tid in busiest],
            threads_ns=[busy_ns[tid] for tid in busiest],
        )
        self.last = now.at_ns, demand
        self._least_ns = min(LONGEST_NS, round(_GROWTH * self._least_ns))
