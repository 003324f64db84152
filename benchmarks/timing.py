"""Timing that a shared machine cannot spoil.

All cases of a comparison run in the same process, turn by turn, in many short rounds.
What another process or the garbage collector takes, it takes from a few rounds: the
value of a case is the median of the fastest quarter of its rounds.
"""

from __future__ import annotations

import dataclasses
import statistics
import types
from collections.abc import Callable, Iterable, Mapping
from time import perf_counter_ns as now
from typing import Any, Final, TypeVar

SPANS_A_ROUND: Final = 4_096
"""As many as a thread records before it has its list collected: each round bears the
cost of that once."""

_F = TypeVar("_F", bound=Callable[..., Any])


def _nothing() -> None:
    """Nothing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """One of several things to be compared.

    Attributes:
        run: does it so many times; returns the nanoseconds that took.
        before: runs before each round, untimed.
        after: likewise after it.
        count: times it is done in a round.
    """

    run: Callable[[int], int]
    before: Callable[[], object] = _nothing
    after: Callable[[], object] = _nothing
    count: int = SPANS_A_ROUND


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """What was found; in the unit of its fact."""

    value: float | None
    """None: the floor is all there is to tell."""
    floor: float | None = None
    """The same by the least that could do it, in the same process."""
    best: float | None = None
    """The fastest round."""
    median: float | None = None
    """Of all rounds, disturbed ones too."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rounds:
    """How long one turn took, in each round."""

    times_ns: tuple[float, ...]

    @property
    def typical_ns(self) -> float:
        """The median of the fastest quarter."""
        fastest = sorted(self.times_ns)[: max(1, len(self.times_ns) // 4)]
        return statistics.median(fastest)

    def over(self, other: Rounds) -> float:
        """How many times as long as another, the median of all rounds.

        For what takes so long that a machine's speed changes from turn to turn: turns
        beside each other had the same.
        """
        pairs = zip(self.times_ns, other.times_ns, strict=True)
        return statistics.median([mine / its for mine, its in pairs])

    def reading(self, ns_per_unit: float = 1, floor: Rounds | None = None) -> Reading:
        """As a reading in a unit of so many nanoseconds."""
        return Reading(
            value=self.typical_ns / ns_per_unit,
            floor=None if floor is None else floor.typical_ns / ns_per_unit,
            best=min(self.times_ns) / ns_per_unit,
            median=statistics.median(self.times_ns) / ns_per_unit,
        )


def interleaved(cases: Mapping[str, Case], *, rounds: int) -> dict[str, Rounds]:
    """Runs all cases turn by turn.

    Args:
        cases: by name.
        rounds: of each; one more comes first and is thrown away.
    """
    times: dict[str, list[float]] = {name: [] for name in cases}
    order = list(cases.items())
    for number in range(rounds + 1):
        order.reverse()  # what is better about being first is everybody's
        for name, case in order:
            case.before()
            took_ns = case.run(case.count)
            case.after()
            if number:
                times[name].append(took_ns / case.count)
    return {name: Rounds(tuple(some)) for name, some in times.items()}


def rounds_of(times_ns: Iterable[float]) -> Rounds:
    """Times that were taken elsewhere."""
    return Rounds(tuple(times_ns))


def own_copy(function: _F) -> _F:
    """The function with bytecode of its own.

    The interpreter fits bytecode to the types that it has seen. Cases that shared it
    would spoil it for each other, as no two loops of a user's would.
    """
    assert isinstance(function, types.FunctionType)
    copy: Any = types.FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    return copy  # type: ignore[no-any-return]


recorded: Final[list[tuple[str, int, int]]] = []
"""By the floor."""


class Slotted:
    """The floor of a host span: the least a context manager can do to record one."""

    __slots__ = ("begin_ns", "name")

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> Slotted:
        self.begin_ns = now()
        return self

    def __exit__(self, exc_type: object, exc: object, traceback: object) -> None:
        recorded.append((self.name, self.begin_ns, now()))


def slotted(count: int) -> int:
    """Records spans by the floor; returns the nanoseconds it took."""
    begin_ns = now()
    for _ in range(count):
        with Slotted("rollout"):
            pass
    return now() - begin_ns


def two_clock_reads(count: int) -> int:
    """Reads the clock twice, as often as it is told; returns the nanoseconds."""
    begin_ns = now()
    for _ in range(count):
        now()
        now()
    return now() - begin_ns


FLOOR: Final = Case(slotted, before=recorded.clear)
