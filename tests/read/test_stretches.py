"""Stretches of time: what is under way when, and when both of two are."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from perf._read.stretches import Stretch, common, united

END = 30
STRETCHES = st.lists(
    st.tuples(st.integers(-5, END + 5), st.integers(0, 10)), max_size=8
).map(lambda some: sorted((begin, begin + length) for begin, length in some))


def moments(stretches: list[Stretch]) -> set[int]:
    """The units of time that they hold."""
    return {t for begin, end in stretches for t in range(begin, end)}


@given(STRETCHES)
def test_united_holds_what_they_hold_once(some: list[Stretch]) -> None:
    """Cut to the window; by begin, none over another or beside it, none empty."""
    found = united(some, 0, END)
    assert moments(some) & set(range(END)) == moments(found)
    assert all(begin < end for begin, end in found)
    assert all(a[1] < b[0] for a, b in pairwise(found))


@given(STRETCHES, STRETCHES)
def test_common_is_when_both_are_under_way(
    first: list[Stretch], second: list[Stretch]
) -> None:
    """Whichever of them comes first."""
    mine, other = united(first, 0, END), united(second, 0, END)
    both = len(moments(mine) & moments(other))
    assert both == common(mine, other) == common(other, mine)
