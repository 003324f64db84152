"""Which of a timeline's lanes a slice goes to, where its spans need not nest.

Perfetto keeps a stack per track: an END closes whatever was opened last, and a slice
that begins inside another one is drawn as its child. So on one track

1. two slices lie apart, or one lies in the other and descends from it;
2. a slice whose end is unknown holds its lane from its begin on: it is never nested
   and no second such slice joins it, for it may outlive any other. Slices that have
   ended may nest in it, if they descend from it;
3. a slice that comes late, when the file already holds what lies around it, nests in
   nothing that has ended, and does not end where another one begins: at one moment
   Perfetto takes events in the file's order, and a late END would close the wrong one.

Whoever breaks these rules on all lanes gets a new one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import Final

MAX_REMEMBERED: Final = 64
"""Slices of a row that are remembered for those that come late. What begins before
the last forgotten one goes to another lane."""


class Node:
    """A slice on a lane."""

    __slots__ = ("begin_ns", "end_ns", "id", "inside", "lane", "number", "parent")

    def __init__(self, span_id: int, begin_ns: int, end_ns: int | None) -> None:
        self.id = span_id
        self.begin_ns = begin_ns
        self.end_ns = end_ns
        """None while it is open."""
        self.lane = 0
        self.number = 0
        """Of the slices of its timeline, in the order of placing."""
        self.parent: Node | None = None
        self.inside: _Row | None = None

    def holds(self, node: Node, now_ns: int) -> bool:
        """Whether a slice lies in this one for sure."""
        if node.end_ns is None or node.begin_ns < self.begin_ns:
            return False
        return node.end_ns <= (now_ns if self.end_ns is None else self.end_ns)


class _Row:
    """Slices that lie apart, in order: those of a lane, or those inside a slice."""

    __slots__ = ("begins", "nodes", "since_ns")

    def __init__(self, since_ns: int | None = None) -> None:
        self.nodes: list[Node] = []
        self.begins: list[int] = []
        self.since_ns = since_ns
        """What lies before is no longer known; None: all is known."""

    def has_gap(self, node: Node) -> bool:
        """Whether a slice touches nothing that is here, but for the end of another."""
        if self.since_ns is not None and node.begin_ns < self.since_ns:
            return False
        at = bisect_right(self.begins, node.begin_ns)
        if at < len(self.nodes):
            after = self.begins[at]
            if node.end_ns is None or node.end_ns >= after:
                return False
        if at == 0:
            return True
        end_ns = self.nodes[at - 1].end_ns
        return end_ns is not None and end_ns <= node.begin_ns

    def add(self, node: Node) -> None:
        """Takes a slice into its place."""
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
        self._rows = [_Row(since_ns)]
        self._until_ns: list[float] = [-inf if since_ns is None else since_ns]
        """By lane, the end of what is on it; infinite while that is open. Looking here
        first saves looking at rows: there may be a lane for each of many coroutines."""
        self._count = 0
        self._nodes: dict[int, Node] = {}
        """By span: what others may nest in, open or ended in this batch."""
        row, around = self._rows[0], None
        for node in open_nodes:
            node.parent = around
            self._add(node, row)
            node.inside = _Row(since_ns)
            row, around = node.inside, node

    def pass_over(self, until_ns: int) -> None:
        """Others were drawn on the first lane, after all that was there."""
        self._rows[0] = _Row(until_ns)
        self._until_ns[0] = until_ns

    def close(self, node: Node, end_ns: int) -> None:
        """An open slice gets its end."""
        node.end_ns = end_ns
        if node.parent is None:
            self._until_ns[node.lane] = end_ns

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
        if first_lane == 0 and self._nest(node, parent_id, parent_of, now_ns):
            return
        for lane in range(first_lane, len(self._rows)):
            # At the end of the lane in most cases; else in a gap if it comes late.
            if self._until_ns[lane] <= node.begin_ns or self._rows[lane].has_gap(node):
                break
        else:
            lane = len(self._rows)
            self._rows.append(_Row())
            self._until_ns.append(-inf)
        node.lane = lane
        self._add(node, self._rows[lane])

    def _nest(
        self,
        node: Node,
        parent_id: int,
        parent_of: Callable[[int], int],
        now_ns: int,
    ) -> bool:
        """Puts it inside the nearest of its ancestors that can hold it."""
        seen = set()
        while parent_id and parent_id not in seen:
            around = self._nodes.get(parent_id)
            if around is not None and around.holds(node, now_ns):
                around.inside = around.inside or _Row()
                if around.inside.has_gap(node):
                    node.lane, node.parent = around.lane, around
                    self._add(node, around.inside)
                    return True
            seen.add(parent_id)
            parent_id = parent_of(parent_id)
        return False

    def _add(self, node: Node, row: _Row) -> None:
        row.add(node)
        if node.parent is None:
            end_ns = inf if node.end_ns is None else node.end_ns
            self._until_ns[node.lane] = max(self._until_ns[node.lane], end_ns)
        self._count += 1
        node.number = self._count
        self._nodes[node.id] = node

    def end_batch(self) -> None:
        """What has ended takes no other slice any more."""
        for node in self._nodes.values():
            if node.end_ns is not None:
                node.inside = node.parent = None
        self._nodes = {n.id: n for n in self._nodes.values() if n.end_ns is None}


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
    members = sorted(nodes, key=lambda node: (node.begin_ns, node.number))
    inside: dict[Node | None, list[Node]] = {}
    known = set(members)
    for node in members:
        around = node.parent
        while around is not None and around not in known:
            around = around.parent
        inside.setdefault(around, []).append(node)
    stack: list[Node] = []
    walks = [iter(inside.get(None, ()))]
    while walks:
        for node in walks[-1]:
            yield node, True
            stack.append(node)
            walks.append(iter(inside.get(node, ())))
            break
        else:
            walks.pop()
            if stack:
                yield stack.pop(), False
