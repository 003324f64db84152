"""v1's tree, where `tests/public` ends."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf._model.tree import (
    Span,
    SpanGroup,
    clone_span_or_group,
    groups_inside,
    merge_span_group_trees,
    span_group_batch_query_nth,
    span_group_tostring,
    spans_inside,
)
from tests import strategies

INF = float("inf")


def group(name: str, begin: float, end: float, *inner: Any) -> SpanGroup:
    """A group with these inside."""
    made = SpanGroup(name)
    made.begin, made.end = begin, end
    for node in inner:
        made.inner.append(node)
        if isinstance(node, SpanGroup):
            node.outer = made
    return made


def span(name: str, begin: float, end: float) -> Span:
    """A closed span."""
    made = Span(name, begin)
    made.end = end
    return made


def build(tree: strategies.Tree) -> Any:
    """The nodes of a drawn tree."""
    if tree.inner is None:
        return span(tree.name, tree.begin_s, tree.end_s)
    return group(tree.name, tree.begin_s, tree.end_s, *map(build, tree.inner))


def row(node: Any) -> tuple[Any, ...]:
    """A node as a value."""
    inner = [row(child) for child in node.inner] if isinstance(node, SpanGroup) else []
    return (type(node).__name__, node.name, node.begin, node.end, *inner)


def test_nodes_show_name_and_times() -> None:
    """In seconds to the microsecond."""
    assert "x: 1.000000, 2.500000" == repr(span("x", 1.0, 2.5))
    assert "g: 1.000000, inf" == repr(group("g", 1.0, INF))
    assert INF == group("g", 1.0, INF).duration


def test_a_new_group_begins_at_nought_and_is_open() -> None:
    """Until its times are set."""
    made = SpanGroup("g")
    assert (0.0, INF, []) == (made.begin, made.end, made.inner)
    assert made is made.outer


def test_the_last_one_is_found() -> None:
    """Of several; None of none."""
    tree = group("root", 0, 9, *(span("x", n, n + 1) for n in range(3)))
    last = tree.find_last_inner_span("x")
    assert last is tree.inner[2]
    assert tree.find_last_inner_span("y") is None
    assert tree.find_last_inner_group("x") is None


def test_a_tree_is_told_line_by_line() -> None:
    """Each level two spaces further in, times from a moment of choice."""
    tree = group("g", 10, 20, span("a", 11, 12), group("h", 13, 14, span("b", 13, 14)))
    assert (
        "- g (0.000000, 10.000000)\n"
        "  - a (1.000000, 2.000000)\n"
        "  - h (3.000000, 4.000000)\n"
        "    - b (3.000000, 4.000000)\n"
    ) == span_group_tostring(tree, 10.0)


def test_what_is_inside_at_any_depth() -> None:
    """Spans of these names; groups of these names, those inside them left out."""
    inner = group("g", 3, 4, span("a", 3, 4))
    tree = group(
        "root", 0, 9, span("a", 1, 2), group("h", 2, 8, group("g", 2, 5, inner))
    )
    assert [1, 3] == [found.begin for found in spans_inside(tree, {"a"})]
    assert [2] == [found.begin for found in groups_inside(tree, {"g"})]
    assert ([], []) == (spans_inside(None, {"a"}), groups_inside(None, {"g"}))
    assert [] == spans_inside(tree, {"g"})


def test_a_position_counts_from_nought() -> None:
    """One below it, or beyond the end, is not found."""
    tree = group("root", 0, 9, group("g", 1, 2), span("g", 2, 3), group("g", 3, 4))
    found = [span_group_batch_query_nth([tree], "g", n) for n in (-1, 0, 1, 2)]
    assert [[], [1], [3], []] == [[g.begin for g in some] for some in found]


@given(strategies.trees())
def test_a_clone_is_equal_and_shares_nothing(tree: strategies.Tree) -> None:
    """At any depth; clones inside know the clone around them."""
    original = build(tree)
    outer = SpanGroup("outer")
    clone = clone_span_or_group(original, outer)
    assert row(original) == row(clone)
    assert outer is clone.outer
    assert clone is outer.inner[0]

    def nodes(node: Any) -> list[Any]:
        inner = node.inner if isinstance(node, SpanGroup) else []
        return [node, *itertools.chain.from_iterable(map(nodes, inner))]

    assert not set(map(id, nodes(original))) & set(map(id, nodes(clone)))
    for node in nodes(clone):
        for child in getattr(node, "inner", []):
            assert not isinstance(child, SpanGroup) or node is child.outer


@given(strategies.trees())
def test_a_tree_merged_with_itself_is_itself(tree: strategies.Tree) -> None:
    """Every node is in both, so each is there once; both stay as they were."""
    a, b = build(tree), build(tree)
    assert row(a) == row(merge_span_group_trees(a, b)) == row(b)


@pytest.mark.parametrize(("apart", "same"), [(0.9e-9, True), (3e-9, False)])
def test_times_are_equal_up_to_rounding(apart: float, same: bool) -> None:
    """Seconds as floats differ in the last places."""
    a, b = group("g", 1, 2, span("x", 1, 2)), group("g", 1 + apart, 2, span("x", 1, 2))
    if same:
        assert 1 == len(merge_span_group_trees(a, b).inner)
    else:
        with pytest.raises(ValueError, match="roots differ: g: 1"):
            merge_span_group_trees(a, b)


@pytest.mark.parametrize(
    ("other", "merges"),
    [
        (("x", 2, 3), True),
        (("x", 0, 1), True),
        (("y", 1, 2), False),
        (("x", 1, 2.5), False),
        (("x", 1.5, 1.6), False),
        (("x", 0, 9), False),
    ],
)
def test_nodes_merge_that_lie_apart_or_are_equal(
    other: tuple[str, float, float], merges: bool
) -> None:
    """Touching is apart."""
    a, b = group("g", 0, 9, span("x", 1, 2)), group("g", 0, 9, span(*other))
    if merges:
        assert sorted([1.0, float(other[1])]) == [
            float(node.begin) for node in merge_span_group_trees(a, b).inner
        ]
    else:
        with pytest.raises(ValueError, match=r"cannot merge: x: .* overlap"):
            merge_span_group_trees(a, b)


def test_a_span_and_a_group_are_never_equal() -> None:
    """Also with one name and one time."""
    a, b = group("g", 0, 9, span("x", 1, 2)), group("g", 0, 9, group("x", 1, 2))
    with pytest.raises(ValueError, match="cannot merge"):
        merge_span_group_trees(a, b)


def test_nodes_of_one_tree_may_overlap() -> None:
    """Only those of different trees must not."""
    a = group("g", 0, 9, span("x", 1, 4), span("y", 2, 3))
    assert row(a) == row(merge_span_group_trees(a, group("g", 0, 9)))


def test_open_trees_merge() -> None:
    """Ends that are not known yet are equal."""
    a, b = group("g", 0, INF, span("x", 1, 2)), group("g", 0, INF, span("y", 3, INF))
    names = [node.name for node in merge_span_group_trees(a, b).inner]
    assert ["x", "y"] == names


@given(strategies.trees(), st.randoms(use_true_random=False))
def test_merging_does_not_depend_on_the_order(
    tree: strategies.Tree, random: Any
) -> None:
    """Of the two trees."""
    halves = (build(tree), build(tree))
    for child in list(halves[0].inner):
        keep = random.random() < 0.5
        index = halves[0].inner.index(child) if keep else None
        if index is not None:
            halves[0].inner.pop(index)
    assert row(merge_span_group_trees(*halves)) == row(
        merge_span_group_trees(halves[1], halves[0])
    )
