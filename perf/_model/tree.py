"""Spans in a tree of groups: the shape of v1."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TypeVar

_INF = float("inf")
_SAME_S = 1e-9
"""Two nodes whose times differ by less are the same node: rounding of float seconds."""


class Span:
    """A stretch of time with a name, in seconds on the tracer's clock."""

    def __init__(self, name: str, begin: float) -> None:
        self.name = name
        self.begin = begin
        self.end = _INF
        """inf while the span is open."""

    @property
    def ended(self) -> bool:
        """Whether the span was closed."""
        return self.end != _INF

    @property
    def duration(self) -> float:
        """Seconds; inf while open."""
        return self.end - self.begin

    def __repr__(self) -> str:
        return f"{self.name}: {self.begin:.6f}, {self.end:.6f}"


class SpanGroup:
    """A stretch of time with spans and further groups inside.

    Args:
        name: of the group.
        outer: the group around it, to which it is added; None for a root.

    Attributes:
        begin, end: seconds; 0 and inf until they are set.
        outer: the group around it; a root is its own.
        inner: the spans and groups inside.
    """

    inner: list[Span | SpanGroup]

    def __init__(self, name: str, outer: SpanGroup | None = None) -> None:
        self.name = name
        self.begin: float = 0.0
        self.end: float = _INF
        self.inner = []
        self.outer: SpanGroup = self if outer is None else outer
        if outer is not None:
            outer.inner.append(self)

    @property
    def duration(self) -> float:
        """Seconds; inf while open."""
        return self.end - self.begin

    def __repr__(self) -> str:
        return f"{self.name}: {self.begin:.6f}, {self.end:.6f}"

    def find_first_inner_group(self, name: str) -> SpanGroup | None:
        """The first group of that name directly inside."""
        return next(iter(self.find_all_inner_groups(name)), None)

    def find_last_inner_group(self, name: str) -> SpanGroup | None:
        """The last group of that name directly inside."""
        return next(reversed(self.find_all_inner_groups(name)), None)

    def find_nth_inner_group(self, name: str, index: int) -> SpanGroup | None:
        """The group of that name directly inside at a position, counted from 0."""
        groups = self.find_all_inner_groups(name)
        return groups[index] if 0 <= index < len(groups) else None

    def find_all_inner_groups(self, name: str) -> list[SpanGroup]:
        """All groups of that name directly inside."""
        return [g for g in self.inner if isinstance(g, SpanGroup) and g.name == name]

    def find_last_inner_span(self, name: str) -> Span | None:
        """The last span of that name directly inside."""
        return next(reversed(self.find_all_inner_spans(name)), None)

    def find_all_inner_spans(self, name: str) -> list[Span]:
        """All spans of that name directly inside."""
        return [s for s in self.inner if isinstance(s, Span) and s.name == name]


Node = Span | SpanGroup
_N = TypeVar("_N", Span, SpanGroup, Node)


def span_group_tostring(group: SpanGroup, born: float = 0.0) -> str:
    """The tree as indented lines, one a node: `- name (begin, end)`.

    Args:
        group: the tree.
        born: seconds to which the times are relative.
    """
    lines: list[str] = []

    def add(node: Node, depth: int) -> None:
        begin, end = node.begin - born, node.end - born
        lines.append(f"{'  ' * depth}- {node.name} ({begin:.6f}, {end:.6f})\n")
        if isinstance(node, SpanGroup):
            for child in node.inner:
                add(child, depth + 1)

    add(group, 0)
    return "".join(lines)


def span_group_print(group: SpanGroup, born: float = 0.0) -> None:
    """Prints `span_group_tostring`."""
    print(span_group_tostring(group, born))


def span_group_stack_clone(stack: Sequence[SpanGroup]) -> list[SpanGroup]:
    """Copies a chain of open groups, outermost first, without what else is inside."""
    clones: list[SpanGroup] = []
    for group in stack:
        clone = SpanGroup(group.name, clones[-1] if clones else None)
        clone.begin, clone.end = group.begin, group.end
        clones.append(clone)
    return clones


def span_group_batch_query_first(
    batch: Sequence[SpanGroup], name: str
) -> list[SpanGroup]:
    """Of each group the first one of that name inside; none where there is none."""
    return _found([group.find_first_inner_group(name) for group in batch])


def span_group_batch_query_last(
    batch: Sequence[SpanGroup], name: str
) -> list[SpanGroup]:
    """Of each group the last one of that name inside; none where there is none."""
    return _found([group.find_last_inner_group(name) for group in batch])


def span_group_batch_query_nth(
    batch: Sequence[SpanGroup], name: str, index: int
) -> list[SpanGroup]:
    """Of each group the one of that name at a position; none where there is none."""
    return _found([group.find_nth_inner_group(name, index) for group in batch])


def span_group_batch_query_all(
    batch: Sequence[SpanGroup], name: str
) -> list[SpanGroup]:
    """Of each group all of that name inside."""
    return [inner for group in batch for inner in group.find_all_inner_groups(name)]


def _found(groups: list[SpanGroup | None]) -> list[SpanGroup]:
    return [group for group in groups if group is not None]


def clone_span_or_group(node: _N, outer: SpanGroup | None = None) -> _N:
    """Copies a node with everything inside.

    Args:
        node: a span or a group.
        outer: the group to which the copy is added.
    """
    clone: Node
    if isinstance(node, SpanGroup):
        clone = SpanGroup(node.name, outer)
        clone.begin = node.begin
        for child in node.inner:
            clone_span_or_group(child, clone)
    else:
        clone = Span(node.name, node.begin)
        if outer is not None:
            outer.inner.append(clone)
    clone.end = node.end
    return clone  # type: ignore[return-value]  # of the type of `node`


def spans_inside(group: SpanGroup | None, names: Container[str]) -> list[Span]:
    """All spans of these names inside a group, however deep."""
    if group is None:
        return []
    found: list[Span] = []
    for node in group.inner:
        if isinstance(node, SpanGroup):
            found += spans_inside(node, names)
        elif node.name in names:
            found.append(node)
    return found


def groups_inside(group: SpanGroup | None, names: Container[str]) -> list[SpanGroup]:
    """All groups of these names inside a group, however deep."""
    if group is None:
        return []
    found: list[SpanGroup] = []
    for node in group.inner:
        if isinstance(node, SpanGroup):
            found += [node] if node.name in names else groups_inside(node, names)
    return found


def merge_span_group_trees(a: _N, b: _N) -> _N:
    """Joins two trees of the same span of time into a new one.

    Nodes that are in both are there once; groups in both are merged in turn.

    Args:
        a: a tree; it stays as it is.
        b: another with an equal root; it too.

    Raises:
        ValueError: the roots differ, or a node of one overlaps another of the other.
    """
    if not _same(a, b):
        raise ValueError(f"roots differ: {a!r} and {b!r} are not the same node")
    merged: Node = clone_span_or_group(a)
    if isinstance(merged, SpanGroup) and isinstance(b, SpanGroup):  # mutate: ok alike
        _merge_into(merged, b)
    return merged  # type: ignore[return-value]  # of the type of `a`


def _merge_into(target: SpanGroup, source: SpanGroup) -> None:
    own = list(target.inner)
    for theirs in source.inner:
        twin = next((mine for mine in own if _same(mine, theirs)), None)
        if twin is None:
            for mine in own:
                if mine.begin < theirs.end and theirs.begin < mine.end:
                    raise ValueError(f"cannot merge: {mine!r} and {theirs!r} overlap")
            clone_span_or_group(theirs, target)
        elif isinstance(twin, SpanGroup) and isinstance(theirs, SpanGroup):
            _merge_into(twin, theirs)
    target.inner.sort(key=lambda node: (node.begin, node.end))


def _same(a: Node, b: Node) -> bool:
    return (
        isinstance(a, SpanGroup) == isinstance(b, SpanGroup)
        and a.name == b.name
        and _close(a.begin, b.begin)
        and _close(a.end, b.end)
    )


def _close(a: float, b: float) -> bool:
    return a == b or abs(a - b) <= _SAME_S
