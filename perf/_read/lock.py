"""What Python threads beside the training's made of the interpreter's lock."""

from __future__ import annotations

import dataclasses
import itertools
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import Final

from perf._model.lock import LockDemand
from perf._model.names import END_ERROR
from perf._read.recording import Recording
from perf._read.schedule import Schedule

_DEVIATIONS: Final = 2
"""Standard deviations by which the part of wake-ups may be too large by chance."""
_ALIKE: Final = 0.25
"""A thread that runs for a smaller part of what the busiest does is not named."""


@dataclasses.dataclass(frozen=True, slots=True)
class Contention:
    """Stretches of a run in which other Python threads were busy, all together.

    Attributes:
        wakeups: of the thread that looked.
        taken_frac: part of these that found the lock taken.
        late_ns: how late they came then, the median.
        trainer_frac: part of the time for which the training's thread ran or wanted to.
        threads: the busiest others, and the part of the time for which each ran.
        held_frac: part of the run for which other threads had the lock, at least, and
            for which the training's may have waited for it.
    """

    wakeups: int
    taken_frac: float
    late_ns: int
    trainer_frac: float
    threads: Sequence[tuple[str, float]]
    held_frac: float


def contention(recording: Recording, begin_ns: int, end_ns: int) -> Contention | None:
    """What was seen of the lock in [begin, end); None if nothing was.

    At a wake-up somebody has the lock or nobody. For no longer than it ran, or wanted
    a core, the training's thread had it itself: for the rest of the time in which it
    was taken others had it. It waited for that no longer than its turns allow: a wait
    takes a switch interval at most, and until it has a core the thread wants one.
    """
    seen = [
        demand
        for until_ns, demand in recording.lock
        if begin_ns < until_ns <= end_ns and demand.dur_ns
    ]
    wakeups = sum(demand.wakeups for demand in seen)
    if not wakeups:
        return None
    dur_ns = sum(demand.dur_ns for demand in seen)
    taken = sum(demand.taken for demand in seen)
    trainer = sum(demand.trainer_ns for demand in seen) / dur_ns
    waited_ns = sum(demand.switch_ns * demand.trainer_turns for demand in seen)
    others_ns = sum(demand.others_ns for demand in seen)
    held = min(_at_least(taken, wakeups) - trainer, min(others_ns, waited_ns) / dur_ns)
    busy: Counter[str] = Counter()
    for demand in seen:
        # A damaged file may have fewer of the one; threads may share a name.
        for name, ns in zip(demand.threads, demand.threads_ns, strict=False):
            busy[name] += ns
    least_ns = _ALIKE * max(busy.values(), default=0)  # mutate: ok none is named then
    return Contention(
        wakeups,
        taken / wakeups,
        _median_late(seen),
        trainer,
        [(n, ns / dur_ns) for n, ns in busy.most_common() if ns >= least_ns],
        max(0.0, held) * min(1.0, dur_ns / (end_ns - begin_ns)),
    )


def _at_least(taken: int, wakeups: int) -> float:
    """The part of all time in which the lock is taken, by that of some moments.

    Source: the interval of Agresti and Coull; few moments say little.
    """
    often = (taken + 2) / (wakeups + 4)
    return often - _DEVIATIONS * math.sqrt(often * (1 - often) / (wakeups + 4))


def seen_late_ns(schedule: Schedule, begin_ns: int, end_ns: int) -> int:
    """Device time in [begin, end) that spans hold only because their end was seen late.

    At most: a span says so much of its own end.
    """
    late_ns = 0
    for lane in schedule.devices.values():
        for record in lane.between(begin_ns, end_ns):
            error_ns = (record[6] or {}).get(END_ERROR)
            if isinstance(error_ns, int):
                late_ns += min(error_ns, record[2] - record[1])
    return late_ns


def _median_late(seen: Sequence[LockDemand]) -> int:
    """Of the wake-ups that found the lock taken, as far as stretches tell."""
    late = sorted((demand.late_ns, demand.taken) for demand in seen)
    counts = list(itertools.accumulate(taken for _, taken in late))
    return late[bisect_left(counts, counts[-1] / 2)][0]
