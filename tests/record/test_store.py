"""What is kept for queries: bounded by steps and by spans."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf._model.spans import (
    OPEN,
    SPAN,
    RawRecord,
    Records,
    TimelineInfo,
    TimelineKind,
)
from perf._record.store import KEEP_SPANS, KEEP_STEPS, Step, Store

INFOS = {name: TimelineInfo(name, TimelineKind.HOST, name) for name in "abc"}


class Mirror:
    """An index that keeps what it was told."""

    def __init__(self) -> None:
        self.kept: dict[str, list[RawRecord]] = {name: [] for name in INFOS}

    def add(self, parts: Records) -> None:
        for info, records in parts:
            self.kept[info.id] += records

    def forget(self, parts: Records) -> None:
        """Records go in the order in which they came."""
        for info, records in parts:
            mine = self.kept[info.id]
            assert mine[: len(records)] == records
            del mine[: len(records)]

    def clear(self) -> None:
        self.kept = {name: [] for name in INFOS}


def records(*ids: int) -> list[RawRecord]:
    """Records of these ids."""
    return [("x", 1, 2, number, 0, SPAN, None, None) for number in ids]


def add(store: Store, info: TimelineInfo, some: list[RawRecord]) -> None:
    """As the collector does."""
    store.add([(info, some)], len(some))


def kept(store: Store, name: str = "a") -> list[list[int]]:
    """The ids kept of a timeline, by step, the present one last."""
    steps: list[Step] = [*store.closed, store.current]
    return [[record[3] for record in step.of(name)] for step in steps]


def test_a_step_holds_what_was_added_since_the_one_before() -> None:
    """And knows its number, its begin and its end."""
    store = Store(10, 5, 100)
    add(store, INFOS["a"], records(1, 2))
    add(store, INFOS["b"], records(3))
    add(store, INFOS["a"], records(4))
    assert 4 == store.current.count
    step = store.close_step(20)
    assert (0, 10, 20, 4) == (step.index, step.begin_ns, step.end_ns, step.count)
    assert (1, 20, OPEN) == (
        store.current.index,
        store.current.begin_ns,
        store.current.end_ns,
    )
    add(store, INFOS["a"], records(5))
    assert ([[1, 2, 4], [5]], 5) == (kept(store), store.count)
    in_order = [("a", 1), ("a", 2), ("b", 3), ("a", 4), ("a", 5)]
    assert in_order == [(info.id, r[3]) for info, some in store.kept() for r in some]


def test_a_list_that_was_added_stays_the_caller_s() -> None:
    """Feeds hold the same lists."""
    store, mine = Store(0, 5, 100), records(1)
    add(store, INFOS["a"], mine)
    add(store, INFOS["a"], records(2))
    assert 1 == len(mine)


def close(store: Store, end_ns: int) -> Step:
    """Ends a step and forgets those that are too many."""
    step = store.close_step(end_ns)
    store.trim()
    return step


def test_steps_beyond_the_bound_go() -> None:
    """The oldest first; their timelines too, unless they have later records."""
    store = Store(0, 2, 100, index := Mirror())
    for turn, name in enumerate("abac", start=1):
        add(store, INFOS[name], records(turn))
        close(store, turn)
    assert [2, 3] == [step.index for step in store.closed]
    assert (2, ["a", "c"]) == (store.count, sorted(store.timelines))
    assert {"a": records(3), "b": [], "c": records(4)} == index.kept


def test_steps_beyond_the_bound_may_stay_for_a_while() -> None:
    """Forgetting takes time, for which no training has to wait."""
    store = Store(0, 2, 100)
    for turn in range(4):
        store.close_step(turn)
    left = []
    for beyond in (1, 0):
        store.trim(beyond)
        left.append([step.index for step in store.closed])
    assert [[1, 2, 3], [2, 3]] == left


def test_a_timeline_with_records_in_the_present_step_stays() -> None:
    """Though the step that went had some of it."""
    store = Store(0, 1, 100)
    add(store, INFOS["a"], records(1))
    close(store, 1)
    close(store, 2)
    assert {} == store.timelines
    add(store, INFOS["a"], records(2))
    close(store, 3)
    add(store, INFOS["a"], records(3))
    close(store, 4)
    assert ["a"] == list(store.timelines)


def test_no_step_at_all_may_be_kept() -> None:
    """Then the step that was closed is its caller's alone, timelines included."""
    store = Store(0, 0, 100)
    add(store, INFOS["a"], records(1))
    step = close(store, 1)
    assert ({}, 0, 0) == (store.timelines, store.count, len(store.closed))
    assert [(INFOS["a"], records(1))] == step.parts


def test_a_step_tells_its_timelines_after_it_went() -> None:
    """Other threads may push it out while it is being exported."""
    store = Store(0, 5, 2)
    add(store, INFOS["a"], records(1, 2))
    step = store.close_step(1)
    add(store, INFOS["b"], records(3))
    assert (["b"], 1) == (list(store.timelines), store.count)
    assert [(INFOS["a"], records(1, 2))] == step.parts


def test_closed_steps_go_before_records_of_the_present_one() -> None:
    """As many as it takes to keep the bound."""
    store = Store(0, 10, 5)
    for turn in range(3):
        add(store, INFOS["a"], records(2 * turn, 2 * turn + 1))
        store.close_step(turn)
    assert ([[2, 3], [4, 5], []], 4) == (kept(store), store.count)
    add(store, INFOS["a"], records(6))
    assert ([[2, 3], [4, 5], [6]], 5) == (kept(store), store.count)
    add(store, INFOS["a"], records(7, 8, 9))
    assert ([[6, 7, 8, 9]], 4) == (kept(store), store.count)


def test_the_present_step_may_have_more_than_is_kept() -> None:
    """Its metrics are made of all of it; when it is closed, it goes with the next."""
    store = Store(0, 10, 2, max_in_step=5)
    add(store, INFOS["a"], records(*range(5)))
    assert (5, 0) == (store.count, store.current.forgotten)
    step = close(store, 1)
    assert ([[0, 1, 2, 3, 4], []], 5) == (kept(store), step.count)
    add(store, INFOS["a"], records(5))
    assert [[5]] == kept(store)


def test_a_step_that_never_ends_loses_its_older_half() -> None:
    """Of the timeline that has most."""
    store = Store(0, 10, 6, index := Mirror(), max_in_step=6)
    add(store, INFOS["a"], records(1, 2))
    add(store, INFOS["b"], records(*range(10, 15)))
    assert ([[1, 2]], [[13, 14]]) == (kept(store, "a"), kept(store, "b"))
    assert (4, 4) == (store.count, store.current.count)
    assert 3 == store.current.forgotten
    assert records(13, 14) == index.kept["b"]


def test_a_step_that_is_too_long_has_room_for_more() -> None:
    """All of it is put together to forget some: not for every few records."""
    store = Store(0, 10, 8, max_in_step=8)
    for name in "abc":
        add(store, INFOS[name], records(1, 2, 3))
    assert (5, 4) == (store.count, store.current.forgotten)


@pytest.mark.parametrize(("count", "left"), [(7, 3), (8, 4), (16, 4)])
def test_the_older_half_is_the_greater_one(count: int, left: int) -> None:
    """Of an odd number; and again, until the bound is kept."""
    store = Store(0, 10, 6, max_in_step=6)
    add(store, INFOS["a"], records(*range(count)))
    assert [list(range(count - left, count))] == kept(store)


def test_nothing_may_be_kept() -> None:
    """All bounds may be nought."""
    store = Store(0, 0, 0, max_in_step=0)
    for turn in range(3):
        add(store, INFOS["a"], records(turn))
        assert 0 == store.count
        store.close_step(turn)


def test_an_emptied_store_has_the_same_bounds() -> None:
    """And its index knows that nothing is kept."""
    store = Store(0, 3, 7, index := Mirror())
    add(store, INFOS["a"], records(1))
    store.close_step(5)
    add(store, INFOS["b"], records(2))
    empty = store.emptied(9)
    assert (3, 7, 0) == (empty.keep_steps, empty.keep_spans, empty.count)
    assert (0, 9, {}) == (empty.current.index, empty.current.begin_ns, empty.timelines)
    assert {"a": [], "b": [], "c": []} == index.kept
    add(empty, INFOS["c"], records(3))
    assert records(3) == index.kept["c"]


@pytest.mark.parametrize(("value", "least"), [(KEEP_STEPS, 10), (KEEP_SPANS, 10_000)])
def test_the_defaults_hold_several_steps(value: int, least: int) -> None:
    """Enough for a query about the steps before this one."""
    assert least <= value


OPS = st.lists(
    st.tuples(st.sampled_from("abc."), st.integers(0, 5)), max_size=40
)  # "." closes a step


@given(OPS, st.integers(0, 4), st.integers(0, 12))
def test_what_is_kept_is_the_latest(
    ops: list[tuple[str, int]], keep_steps: int, keep_spans: int
) -> None:
    """Within both bounds, without gaps, and the index knows the same."""
    index = Mirror()
    store = Store(0, keep_steps, keep_spans, index, max_in_step=3)
    added: dict[str, list[int]] = {name: [] for name in INFOS}
    number = 0
    for what, count in ops:
        if what == ".":
            close(store, 0)
        else:
            ids = list(range(number, number + count))
            number += count
            added[what] += ids
            add(store, INFOS[what], records(*ids))
        assert store.count <= max(keep_spans, 3)
        assert len(store.closed) <= keep_steps
        assert store.count == sum(s.count for s in (*store.closed, store.current))
        for name in INFOS:
            flat = [number for step in kept(store, name) for number in step]
            assert added[name][len(added[name]) - len(flat) :] == flat
            assert flat == [record[3] for record in index.kept[name]]
            if flat:
                assert INFOS[name] is store.timelines[name]
