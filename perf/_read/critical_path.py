"""What a step of the trainer waited for, from its end back to its begin.

The path goes from the end of the step back along what arrived last each time. Its
pieces touch: they add up to the step, to the nanosecond.

Docs: docs/report.md.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from perf._read.accounting import UNACCOUNTED
from perf._read.graph import Graph, Node, build
from perf._read.schedule import Schedule


class Piece(NamedTuple):
    """A stretch of the path."""

    begin_ns: int
    end_ns: int
    stage: str
    """The span's name; `unaccounted` where nothing was recorded."""
    role: str
    """It works for, "" where nothing was recorded."""
    place: str
    """The thread or device."""

    @property
    def length_ns(self) -> int:
        """Of the stretch."""
        return self.end_ns - self.begin_ns


@dataclasses.dataclass(frozen=True, slots=True)
class CriticalPath:
    """The path of one step.

    Attributes:
        pieces: in the order of time; they tile the step.
        carried_in: what the first piece had done before the step began, if it is of
            work that was under way then; it is no part of the step.
    """

    begin_ns: int
    end_ns: int
    pieces: Sequence[Piece]
    carried_in: Piece | None

    def by_stage(self) -> Counter[str]:
        """Nanoseconds of the path by stage."""
        blame: Counter[str] = Counter()
        for begin, end, stage, _, _ in self.pieces:
            blame[stage] += end - begin
        return blame

    def by_role(self) -> Counter[str]:
        """Nanoseconds of the path by role."""
        blame: Counter[str] = Counter()
        for begin, end, _, role, _ in self.pieces:
            blame[role or UNACCOUNTED] += end - begin
        return blame


def critical_path(schedule: Schedule, begin_ns: int, end_ns: int) -> CriticalPath:
    """The path of a step.

    Args:
        schedule: holds at least what was open in the step.
        begin_ns: of the step.
        end_ns: of the step.
    """
    return walk_back(build(schedule, begin_ns, [end_ns]), end_ns)


def walk_back(graph: Graph, end_ns: int) -> CriticalPath:
    """The path through a graph from its last mark."""
    begin_ns, nodes = graph.begin_ns, graph.nodes
    pieces: list[Piece] = []
    carried_in: Piece | None = None

    def put(since: int, until: int, stage: str, role: str, place: str) -> None:
        if since < begin_ns:
            since = begin_ns
        if since < until:
            if pieces and pieces[-1].stage == stage and pieces[-1].place == place:
                until = pieces.pop().end_ns
            pieces.append(Piece(since, until, stage, role, place))

    node = nodes[graph.marks[-1]]
    put(node.finish_ns, end_ns, UNACCOUNTED, "", node.place)
    while True:
        latest = last_arriving(nodes, node)
        since = begin_ns if latest is None else latest.finish_ns
        put(since, node.start_ns, UNACCOUNTED, "", node.place)
        if latest is None:
            break
        node = latest
        put(node.start_ns, node.finish_ns, node.stage, node.role, node.place)
        if node.start_ns <= begin_ns:
            if node.start_ns < begin_ns:
                carried_in = Piece(
                    node.start_ns, begin_ns, node.stage, node.role, node.place
                )
            break
    return CriticalPath(begin_ns, end_ns, pieces[::-1], carried_in)


def last_arriving(nodes: Sequence[Node], node: Node) -> Node | None:
    """Which of those before a node finished last; of several, the last in order."""
    found: Node | None = None
    for at in node.before:
        if found is None or nodes[at].finish_ns >= found.finish_ns:
            found = nodes[at]
    return found
