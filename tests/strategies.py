"""What hypothesis draws in this project's tests: names, tags, spans, trees.

Times are multiples of a quarter second within a few seconds: small enough that spans
often touch, nest and coincide, and exact in binary, so that sums can be compared with
`==`.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

from hypothesis import strategies as st

GRID_S = 0.25
"""Distance of neighbouring times, in seconds."""
LAST_S = 5.0
"""The latest time drawn, in seconds."""


class Interval(NamedTuple):
    """A closed span before it is given to the code under test."""

    name: str
    begin_s: float
    end_s: float
    tags: dict[str, Any]


class Tree(NamedTuple):
    """A node of a drawn tree: a leaf where `inner` is None, else a group."""

    name: str
    begin_s: float
    end_s: float
    inner: tuple[Tree, ...] | None


def names() -> st.SearchStrategy[str]:
    """Span names: common ones often, else any Unicode, lone surrogates included."""
    common = st.sampled_from(["rollout", "peft_train", "a", "b", ""])
    return common | st.text(st.characters(exclude_categories=()), max_size=12)


def tags() -> st.SearchStrategy[dict[str, Any]]:
    """Tags with values of every kind that an annotation can hold, and stranger ones."""
    scalars = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(st.characters(exclude_categories=()), max_size=8)
        | st.binary(max_size=8)
    )
    values = st.recursive(
        scalars,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(max_size=4), inner, max_size=3)
        ),
        max_leaves=5,
    )
    return st.dictionaries(names(), values, max_size=3)


def times_s() -> st.SearchStrategy[float]:
    """Points in time on the grid."""
    return st.integers(0, round(LAST_S / GRID_S)).map(lambda tick: tick * GRID_S)


@st.composite
def intervals(draw: st.DrawFn, tagged: bool = True) -> Interval:
    """One closed span; a tenth or so have no length."""
    begin_s, end_s = sorted((draw(times_s()), draw(times_s())))
    return Interval(draw(names()), begin_s, end_s, draw(tags()) if tagged else {})


def span_lists(
    max_size: int = 8, tagged: bool = True
) -> st.SearchStrategy[list[Interval]]:
    """Closed spans in any order: nested, touching, overlapping, empty, equal.

    Drawing tags takes most of the time: `tagged=False` where they do not matter.
    """
    return st.lists(intervals(tagged), max_size=max_size)


@st.composite
def trees(draw: st.DrawFn, depth: int = 3) -> Tree:
    """A group whose children lie apart or touch, each with some length."""
    return _grow(draw, "root", 0, round(LAST_S / GRID_S) * 4, depth)


def _grow(draw: st.DrawFn, name: str, first: int, last: int, depth: int) -> Tree:
    cuts = sorted(draw(st.sets(st.integers(first, last), max_size=5)))
    inner: list[Tree] = []
    for begin, end in itertools.pairwise(cuts):
        what = draw(st.sampled_from(["gap", "span", "group"]))
        child = draw(st.sampled_from(["a", "b", "c"]))
        if what == "span" or (what == "group" and depth == 0):
            inner.append(Tree(child, begin * GRID_S, end * GRID_S, None))
        elif what == "group":
            inner.append(_grow(draw, child, begin, end, depth - 1))
    return Tree(name, first * GRID_S, last * GRID_S, tuple(inner))
