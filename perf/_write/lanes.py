"""Which of a timeline's lanes a slice goes to, where its spans need not nest.

Perfetto keeps a stack per track: an END closes whatever was opened last, and a slice
that begins inside another one is drawn as its child. So on one track

1. two slices lie apart, or one lies in the other and descends from it;
2. a slice whose end is unknown holds its lane from its begin on: it is never nested
   and no second such slice joins it, for it may outlive any other. Slices that have
   ended may nest in it, if they descend from it;
3. a slice that comes late, when the file already holds what lies around it, shares no
   moment with what is there: at one moment Perfetto takes events in the file's order,
   and a late END would close the wrong slice.

Whoever breaks these rules on all lanes gets a new one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final

MAX_REMEMBERED: Final = 512
"""Slices of a row that are remembered for those that come late. What begins before
the last forgotten one goes to another lane."""


class Node:
    """A slice on a lane."""

    __slots__ = (
        "begin_ns", "end_batch", "end_ns", "id", "inside", "lane", "parent",
    )  # fmt: skip

    def __init__(
        self, span_id: int, begin_ns: int, end_ns: int | None, batch: int
    ) -> None:
        self.id = span_id
        self.begin_ns = begin_ns
        self.end_ns = end_ns
        """None while it is open."""
        self.end_batch = batch
        """In which batch its end is written, so far as that is known."""
        self.lane = 0
        self.parent: Node | None = None
        self.inside: _Row | None = None


class _Row:
    """Slices that lie apart, in order: those of a lane, or those inside a slice."""

    __slots__ = ("begins", "nodes", "since_ns")

    def __init__(self, since_ns: int | None = None) -> None:
        self.nodes: list[Node] = []
        self.begins: list[int] = []
        self.since_ns = since_ns
        """What lies before is no longer known; None: all is known."""

    def around(self, begin_ns: int) -> tuple[Node | None, Node | None]:
        """The last slice that begins at this moment or before, and the one after."""
        at = bisect_right(self.begins, begin_ns)
        return (
            self.nodes[at - 1] if at else None,
            self.nodes[at] if at < len(self.nodes) else None,
        )

    def add(self, node: Node) -> None:
        at = bisect_right(self.begins, node.begin_ns)
        self.nodes.insert(at, node)
        self.begins.insert(at, node.begin_ns)
        if len(self.nodes) > MAX_REMEMBERED:
            half = MAX_REMEMBERED // 2
            # Of slices that lie apart only the last one can be open.
            self.since_ns = self.nodes[half - 1].end_ns
            del self.nodes[:half], self.begins[:half]


class Lanes:
    """The lanes of one timeline.

    Args:
        since_ns: up to when the first lane is taken.
        open_nodes: slices open on the first lane, each inside the one before.
    """

    def __init__(
        self, since_ns: int | None = None, open_nodes: Iterable[Node] = ()
    ) -> None:
        first = _Row(since_ns)
        self._lanes = [first]
        row, around = first, None
        for node in open_nodes:
            node.parent = around
            row.add(node)
            node.inside = _Row(since_ns)
            row, around = node.inside, node

    def place(
        self,
        node: Node,
        parent_id: int,
        parent_of: Callable[[int], int],
        now_ns: int,
        *,
        first_lane: int = 0,
    ) -> None:
        """Finds a lane and sets the node's `lane` and `parent`.

        Nodes of one batch come in the order of their begins, parents before children.

        Args:
            node: a slice that is on no lane yet.
            parent_id: the id of its span's parent, 0 if it has none.
            parent_of: gives a span's parent, 0 if it has none or is not known.
            now_ns: what is open ends no earlier.
            first_lane: lanes before this one are not for this slice.
        """
        ancestors = set()
        while parent_id and parent_id not in ancestors:
            ancestors.add(parent_id)
            parent_id = parent_of(parent_id)
        for number in range(first_lane, len(self._lanes) + 1):
            if number == len(self._lanes):
                self._lanes.append(_Row())
            found = _fitting_row(self._lanes[number], node, ancestors, now_ns)
            if found is not None:
                row, node.parent = found
                node.lane = number
                row.add(node)
                return


def _fitting_row(
    row: _Row, node: Node, ancestors: Collection[int], now_ns: int
) -> tuple[_Row, Node | None] | None:
    """The row in this row's tree that can take a slice, and the slice around it."""
    around = None
    while row.since_ns is None or node.begin_ns >= row.since_ns:
        left, right = row.around(node.begin_ns)
        if right is not None and (node.end_ns is None or node.end_ns >= right.begin_ns):
            return None
        if left is None:
            return row, around
        if left.id in ancestors and _holds(left, node, now_ns):
            if left.inside is None:
                left.inside = _Row()
            row, around = left.inside, left
        elif left.end_ns is not None and left.end_ns <= node.begin_ns:
            return row, around
        else:
            return None
    return None


def _holds(outer: Node, node: Node, now_ns: int) -> bool:
    if node.end_ns is None:
        return False
    if outer.end_ns is None:
        return node.end_ns <= now_ns
    if outer.end_batch == node.end_batch:
        return node.end_ns <= outer.end_ns
    return outer.begin_ns < node.begin_ns and node.end_ns < outer.end_ns


def in_order(nodes: Iterable[Node]) -> Iterator[tuple[Node, bool]]:
    """Begins and ends of slices of one lane, in the order of the file.

    At one moment: ends before begins, except a slice's own; parents begin before their
    children and end after them. The tree of the slices says so where times do not.

    Args:
        nodes: of one lane, in any order.

    Yields:
        A node, and whether this is its begin. Nodes that were written open or stay
        open come with both all the same.
    """
    members = sorted(nodes, key=lambda node: (node.begin_ns, node.id))
    known = set(members)
    stack: list[Node] = []
    for node in members:
        around = node.parent
        while around is not None and around not in known:
            around = around.parent
        while stack and stack[-1] is not around:
            yield stack.pop(), False
        stack.append(node)
        yield node, True
    while stack:
        yield stack.pop(), False
