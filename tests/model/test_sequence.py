"""Overlapping device work, made running and queued."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf._model.sequence import Placed, Sequencer

INF = float("inf")


def placed(*works: tuple[float, float]) -> list[Placed[float]]:
    """Where works lie that are given in this order."""
    sequencer = Sequencer(-INF)
    return [sequencer.place(*work) for work in works]


@pytest.mark.parametrize(
    ("works", "expected"),
    [
        pytest.param([(1, 2), (3, 4)], [(1, 2, None), (3, 4, None)], id="apart"),
        pytest.param([(1, 2), (2, 4)], [(1, 2, None), (2, 4, None)], id="touching"),
        pytest.param([(1, 3), (2, 4)], [(1, 3, None), (3, 4, 2)], id="overlapping"),
        pytest.param([(1, 4), (2, 3)], [(1, 4, None), (4, 4, 2)], id="contained"),
        pytest.param([(1, 3), (1, 3)], [(1, 3, None), (3, 3, 1)], id="equal"),
        pytest.param(
            [(1, 4), (2, 6), (3, 7)],
            [(1, 4, None), (4, 6, 2), (6, 7, 4)],
            id="of two that wait, the second is shown after the first",
        ),
        pytest.param(
            [(1, 4), (2, 4), (3, 5)],
            [(1, 4, None), (4, 4, 2), (4, 5, None)],
            id="a wait that another's covers is not shown",
        ),
        pytest.param(
            [(1, 4), (2, 5), (5, 6), (5, 7)],
            [(1, 4, None), (4, 5, 2), (5, 6, None), (6, 7, 5)],
            id="after an idle moment",
        ),
        pytest.param([(2, 3), (1, 4)], [(2, 3, None), (3, 4, 1)], id="launched before"),
        pytest.param([(0, 0), (0, 0)], [(0, 0, None), (0, 0, None)], id="no length"),
    ],
)
def test_where_work_lies(
    works: list[tuple[float, float]],
    expected: list[tuple[float, float, float | None]],
) -> None:
    """(begin, end, since when it waited) of each."""
    assert expected == [tuple(place) for place in placed(*works)]


TIMES = st.integers(0, 12)
WORKS = st.lists(st.tuples(TIMES, TIMES).map(lambda w: (min(w), max(w))), max_size=10)


@given(WORKS)
def test_neither_work_nor_waits_overlap(works: list[tuple[int, int]]) -> None:
    """Each ends no earlier than it was done, begins no earlier than its launch."""
    found = placed(*works)
    for (launch, done), place in zip(works, found, strict=True):
        assert launch <= place.begin <= place.end
        assert done <= place.end
        if place.queued_from is not None:
            assert launch <= place.queued_from < place.begin
    for before, after in itertools.pairwise(found):
        assert before.end <= after.begin
    waits = [place for place in found if place.queued_from is not None]
    for before, after in itertools.pairwise(waits):
        assert after.queued_from is not None
        assert before.begin <= after.queued_from


@given(WORKS)
def test_a_device_is_busy_exactly_while_some_work_is(
    works: list[tuple[int, int]],
) -> None:
    """Made sequential, works cover the moments that they covered before."""
    works.sort(key=lambda work: work[1])
    works.sort()

    def covered(stretches: list[tuple[float, float]]) -> set[int]:
        return {t for begin, end in stretches for t in range(int(begin), int(end))}

    found = [(place.begin, place.end) for place in placed(*works)]
    assert covered(list(works)) == covered(found)
