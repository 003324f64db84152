"""`perf.span`: spans, groups, searching them, printing, cloning and merging them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf import span
from tests.strategies import Tree, trees


def closed(name: str, begin: float, end: float) -> span.Span:
    """A span that has ended."""
    node = span.Span(name, begin)
    node.end = end
    return node


def group(
    name: str, begin: float, end: float, *inner: span.Span | span.SpanGroup
) -> span.SpanGroup:
    """A group that has ended, with its children."""
    node = span.SpanGroup(name)
    node.begin = begin
    node.end = end
    for child in inner:
        if isinstance(child, span.SpanGroup):
            child.outer = node
        node.inner.append(child)
    return node


def shape(node: Any) -> tuple[Any, ...]:
    """A node as nested tuples: kind, name, times, children in their order."""
    inner = [shape(child) for child in getattr(node, "inner", ())]
    return (isinstance(node, span.SpanGroup), node.name, node.begin, node.end, *inner)


def test_an_open_span_has_no_end_yet() -> None:
    """A span without an end lasts for ever and says so (P2)."""
    node = span.Span("rollout", 1.5)
    assert ("rollout", 1.5, math.inf) == (node.name, node.begin, node.end)
    assert not node.ended
    assert math.inf == node.duration


def test_a_closed_span_has_a_duration() -> None:
    """The duration is the end less the begin (P2)."""
    node = closed("rollout", 1.5, 4.0)
    assert node.ended
    assert 2.5 == node.duration


def test_a_span_of_no_length_has_ended() -> None:
    """A span may end at the instant at which it began (P2)."""
    node = closed("rollout", 1.5, 1.5)
    assert node.ended
    assert 0.0 == node.duration


def test_a_new_group_is_open_and_empty() -> None:
    """A group starts with no children and no end (P2)."""
    node = span.SpanGroup("global_step")
    assert "global_step" == node.name
    assert [] == node.inner
    assert math.inf == node.end
    assert math.inf == node.duration


def test_a_group_made_inside_another_is_its_child() -> None:
    """Naming the outer group puts the new one among its children (P2)."""
    outer = span.SpanGroup("global_step")
    inner = span.SpanGroup("mini_batch_step", outer)
    assert inner.outer is outer
    assert [inner] == outer.inner


STEP = group(
    "global_step",
    0.0,
    20.0,
    closed("rollout", 1.0, 2.0),
    group("micro", 2.0, 9.0, closed("rollout", 3.0, 4.0)),
    closed("rollout", 10.0, 11.0),
    group("micro", 12.0, 19.0, group("train", 13.0, 14.0)),
)
"""Spans and groups at two levels."""


def test_groups_are_found_by_name() -> None:
    """First, last and all groups of a name, in the order of the children (P25)."""
    first, last = STEP.inner[1], STEP.inner[3]
    assert STEP.find_first_inner_group("micro") is first
    assert STEP.find_last_inner_group("micro") is last
    assert [first, last] == STEP.find_all_inner_groups("micro")


def test_spans_are_found_by_name() -> None:
    """Last and all spans of a name, in the order of the children (P25)."""
    first, last = STEP.inner[0], STEP.inner[2]
    assert STEP.find_last_inner_span("rollout") is last
    assert [first, last] == STEP.find_all_inner_spans("rollout")


def test_searches_stay_at_one_level() -> None:
    """A search looks at the children, not at what they hold (P25)."""
    assert [] == STEP.find_all_inner_groups("train")
    assert 2 == len(STEP.find_all_inner_spans("rollout"))


def test_groups_and_spans_of_one_name_are_told_apart() -> None:
    """A group is no span of that name, and a span no group (P25)."""
    assert [] == STEP.find_all_inner_groups("rollout")
    assert [] == STEP.find_all_inner_spans("micro")


def test_what_is_not_there_is_not_found() -> None:
    """An unknown name gives None, or an empty list (P25)."""
    assert STEP.find_first_inner_group("x") is None
    assert STEP.find_last_inner_group("x") is None
    assert STEP.find_last_inner_span("x") is None
    assert [] == STEP.find_all_inner_groups("x")
    assert [] == STEP.find_all_inner_spans("x")


A = group("A", 0.0, 9.0, group("b", 1.0, 2.0), group("b", 3.0, 4.0))
B = group("B", 0.0, 9.0, group("b", 5.0, 6.0))


@pytest.mark.parametrize(
    ("select", "begins"),
    [
        pytest.param(span.span_group_batch_query_first, [1.0, 5.0], id="first"),
        pytest.param(span.span_group_batch_query_last, [3.0, 5.0], id="last"),
        pytest.param(span.span_group_batch_query_all, [1.0, 3.0, 5.0], id="all"),
    ],
)
def test_a_batch_is_searched_group_by_group(
    select: Callable[..., list[span.SpanGroup]], begins: list[float]
) -> None:
    """Each group of the batch gives its own first, its own last, or all (P25)."""
    assert begins == [found.begin for found in select([A, B], "b")]
    assert [] == select([A, B], "x")
    assert [] == select([], "b")


@pytest.mark.parametrize(
    ("index", "begins"), [(0, [1.0, 5.0]), (1, [3.0]), (2, []), (-1, [])]
)
def test_the_nth_of_a_batch(index: int, begins: list[float]) -> None:
    """Groups with too few of that name, or a negative index, give nothing (P25)."""
    found = span.span_group_batch_query_nth([A, B], "b", index)
    assert begins == [each.begin for each in found]


def test_a_group_prints_as_an_indented_tree() -> None:
    """Times are seconds since the timeline was born (P2)."""
    lines = span.span_group_tostring(A, born=1.0).splitlines()
    assert "A" in lines[0]
    assert "8.000000" in lines[0]
    assert "b" in lines[1]
    assert "0.000000" in lines[1]
    assert "1.000000" in lines[1]
    assert len(lines[0]) - len(lines[0].lstrip()) < len(lines[1]) - len(
        lines[1].lstrip()
    )


def test_printing_writes_the_same_text(capsys: pytest.CaptureFixture[str]) -> None:
    """`span_group_print` prints what `span_group_tostring` gives (P2)."""
    span.span_group_print(A, born=1.0)
    assert span.span_group_tostring(A, born=1.0).strip() == (
        capsys.readouterr().out.strip()
    )


def test_a_clone_shares_nothing() -> None:
    """A clone looks the same, is new at every level, and hangs where told (P2)."""
    outer = span.SpanGroup("outer")
    clone = span.clone_span_or_group(STEP, outer)
    assert isinstance(clone, span.SpanGroup)
    assert shape(STEP) == shape(clone)
    assert clone.outer is outer
    inner = clone.inner[1]
    assert isinstance(inner, span.SpanGroup)
    assert inner is not STEP.inner[1]
    assert inner.outer is clone


def test_a_cloned_span_is_a_new_span() -> None:
    """A leaf can be cloned too (P2)."""
    leaf = closed("rollout", 1.0, 2.0)
    clone = span.clone_span_or_group(leaf)
    assert clone is not leaf
    assert shape(leaf) == shape(clone)


def test_a_cloned_stack_is_linked_within_itself() -> None:
    """The copies of open groups know each other, not the originals (P2)."""
    root = span.SpanGroup("root")
    step = span.SpanGroup("global_step", root)
    stack = span.span_group_stack_clone([root, step])
    assert ["root", "global_step"] == [each.name for each in stack]
    assert stack[0] is not root
    assert stack[1].outer is stack[0]
    assert stack[0].inner[-1] is stack[1]
    assert [step] == root.inner


def test_trees_that_lie_apart_merge_in_order() -> None:
    """Children of both trees are in the merged one, by begin (P2)."""
    merged = span.merge_span_group_trees(
        group("r", 0.0, 9.0, closed("b", 3.0, 4.0)),
        group("r", 0.0, 9.0, closed("a", 1.0, 2.0)),
    )
    assert ["a", "b"] == [child.name for child in merged.inner]


def test_touching_spans_merge() -> None:
    """A span may begin where another ends (P2)."""
    merged = span.merge_span_group_trees(
        group("r", 0.0, 9.0, closed("a", 1.0, 2.0)),
        group("r", 0.0, 9.0, closed("b", 2.0, 3.0)),
    )
    assert ["a", "b"] == [child.name for child in merged.inner]


def test_equal_groups_merge_their_children() -> None:
    """A group that both trees hold is there once, with the children of both (P2)."""
    merged = span.merge_span_group_trees(
        group("r", 0.0, 9.0, group("g", 1.0, 5.0, closed("a", 1.0, 3.0))),
        group("r", 0.0, 9.0, group("g", 1.0, 5.0, closed("b", 3.0, 4.0))),
    )
    (inner,) = merged.inner
    assert isinstance(inner, span.SpanGroup)
    assert ["a", "b"] == [child.name for child in inner.inner]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(group("s", 0.0, 9.0), id="another name"),
        pytest.param(group("r", 0.0, 8.0), id="another end"),
        pytest.param(group("r", 1.0, 9.0), id="another begin"),
    ],
)
def test_trees_with_other_roots_do_not_merge(other: span.SpanGroup) -> None:
    """Only trees over the same root can be one tree (P2)."""
    with pytest.raises(ValueError, match=other.name):
        span.merge_span_group_trees(group("r", 0.0, 9.0), other)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(closed("b", 2.0, 4.0), id="partly"),
        pytest.param(closed("b", 1.5, 2.0), id="inside"),
        pytest.param(closed("b", 1.0, 3.0), id="the same time"),
        pytest.param(group("a", 1.0, 3.0), id="a group for a span"),
        pytest.param(group("g", 0.5, 3.5), id="around"),
    ],
)
def test_different_nodes_that_overlap_do_not_merge(
    other: span.Span | span.SpanGroup,
) -> None:
    """No tree can show two different nodes at one time (P2)."""
    with pytest.raises(ValueError, match=other.name):
        span.merge_span_group_trees(
            group("r", 0.0, 9.0, closed("a", 1.0, 3.0)), group("r", 0.0, 9.0, other)
        )


@given(trees(), st.randoms(use_true_random=False))
def test_a_tree_dealt_into_two_merges_back(tree: Tree, random: Any) -> None:
    """Nodes of either half or of both come back, each once, in order (P2)."""

    def build(node: Tree, keep: Callable[[], bool]) -> Any:
        if node.inner is None:
            return closed(node.name, node.begin_s, node.end_s)
        inner = [build(child, keep) for child in node.inner if keep()]
        return group(node.name, node.begin_s, node.end_s, *inner)

    def deal(node: Tree) -> tuple[Any, Any]:
        if node.inner is None:
            return (closed(node.name, node.begin_s, node.end_s),) * 2
        halves: tuple[list[Any], list[Any]] = ([], [])
        for child in node.inner:
            left, right = deal(child)
            # A group goes to both sides: its children may be in either.
            where = (
                "both"
                if child.inner is not None
                else random.choice(["left", "right", "both"])
            )
            if where != "right":
                halves[0].append(left)
            if where != "left":
                halves[1].append(right)
        return (
            group(node.name, node.begin_s, node.end_s, *halves[0]),
            group(node.name, node.begin_s, node.end_s, *halves[1]),
        )

    whole = build(tree, lambda: True)
    left, right = deal(tree)
    before = shape(left), shape(right)
    assert shape(whole) == shape(span.merge_span_group_trees(left, right))
    assert before == (shape(left), shape(right))
