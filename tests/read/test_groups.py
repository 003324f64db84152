"""The lazily built tree: the same as one built of all records, at less cost."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perf._model.spans import (
    COUNTER,
    DEVICE,
    GROUP,
    INSTANT,
    NO_PARENT,
    OPEN,
    QUEUED,
    SPAN,
    RawRecord,
    Record,
    TimelineInfo,
    TimelineKind,
)
from perf._model.tree import Span, SpanGroup
from perf._read import groups as groups_module
from perf._read.groups import GroupIndex, StoredGroup
from perf._record.store import Store
from perf.trace import PerfTracer
from tests.public.drive import V1Run

MAIN = TimelineInfo("main", TimelineKind.HOST, "main", is_main=True)
WORKER = TimelineInfo("worker", TimelineKind.HOST, "worker")
TPU = TimelineInfo("tpu0", TimelineKind.DEVICE, "tpu0")
QUEUE = TimelineInfo("tpu0_queue", TimelineKind.QUEUE, "tpu0_queue")
EVERY = (MAIN, WORKER, TPU)
S = 1_000_000_000

Row = tuple[Any, ...]
"""(name, begin, end, is a group, *rows inside), seconds; end is None while open."""


def record(
    name: str,
    begin_s: int,
    end_s: int | None,
    span_id: int,
    parent_id: int = NO_PARENT,
    kind: int = SPAN,
) -> RawRecord:
    """A record; times in seconds, None is open."""
    end_ns = OPEN if end_s is None else end_s * S
    return (name, begin_s * S, end_ns, span_id, parent_id, kind, None, None)


def rows(group: SpanGroup) -> list[Row]:
    """What is inside, in an order that does not depend on how it was found."""
    found = []
    for node in group.inner:
        end = None if node.end == float("inf") else node.end
        inside = rows(node) if isinstance(node, SpanGroup) else []
        is_group = isinstance(node, SpanGroup)
        found.append((node.name, node.begin, end, is_group, *inside))
    return sorted(found, key=repr)


def index_of(*some: tuple[TimelineInfo, list[RawRecord]]) -> GroupIndex:
    """An index over these records."""
    index = GroupIndex()
    index.fill([])
    for info, records in some:
        index.add([(info, records)])
    return index


def tree(index: GroupIndex, timeline_id: str, opened: Any = None) -> SpanGroup:
    """The tree of a timeline."""
    return index.tree(timeline_id, "main", 0, opened or {})


# Where a span shows


def test_groups_of_the_main_thread_show_everywhere() -> None:
    """Empty where nothing belongs into them."""
    index = index_of(
        (MAIN, [record("micro", 2, 4, 2, 1, GROUP), record("step", 1, 9, 1, 0, GROUP)]),
        (TPU, [record("rollout", 3, 5, 3, 2, DEVICE)]),
        (WORKER, [record("w", 0, 1, 4)]),
    )
    empty = ("step", 1.0, 9.0, True, ("micro", 2.0, 4.0, True))
    rollout = ("rollout", 3.0, 5.0, False)
    full = ("step", 1.0, 9.0, True, ("micro", 2.0, 4.0, True, rollout))
    assert [empty] == rows(tree(index, "main"))
    assert [full] == rows(tree(index, "tpu0"))
    assert [empty, ("w", 0.0, 1.0, False)] == rows(tree(index, "worker"))
    assert [empty] == rows(tree(index, "never seen"))


def test_groups_of_other_threads_show_on_their_own() -> None:
    """With what was opened in them."""
    index = index_of(
        (WORKER, [record("x", 2, 3, 2, 1), record("own", 1, 4, 1, 0, GROUP)]),
        (MAIN, [record("m", 5, 6, 3)]),
    )
    own = ("own", 1.0, 4.0, True, ("x", 2.0, 3.0, False))
    assert [own] == rows(tree(index, "worker"))
    assert [("m", 5.0, 6.0, False)] == rows(tree(index, "main"))


@pytest.mark.parametrize(
    ("begin_s", "inside"),
    [(0, ""), (1, "step"), (2, "micro"), (4, "step"), (9, ""), (10, "")],
)
def test_what_a_thread_did_belongs_to_the_group_open_when_it_began(
    begin_s: int, inside: str
) -> None:
    """The innermost of the main thread's; a group is open from its begin, not at its
    end.
    """
    index = index_of(
        (MAIN, [record("micro", 2, 4, 2, 1, GROUP), record("step", 1, 9, 1, 0, GROUP)]),
        (WORKER, [record("w", begin_s, 12, 3)]),
    )
    root = tree(index, "worker")
    step = root.find_first_inner_group("step")
    assert step is not None
    micro = step.find_first_inner_group("micro")
    assert micro is not None
    places = {"": root, "step": step, "micro": micro}
    found = {name for name, place in places.items() if place.find_all_inner_spans("w")}
    assert {inside} == found


def test_late_device_work_sits_where_it_was_launched() -> None:
    """Though it began and ended after that group's end."""
    index = index_of(
        (MAIN, [record("first", 1, 2, 1, 0, GROUP), record("next", 2, 9, 2, 0, GROUP)]),
        (TPU, [record("rollout", 5, 8, 3, 1, DEVICE)]),
    )
    rollout = ("rollout", 5.0, 8.0, False)
    expected = [("first", 1.0, 2.0, True, rollout), ("next", 2.0, 9.0, True)]
    assert expected == rows(tree(index, "tpu0"))


def test_device_work_outside_groups_is_at_the_top() -> None:
    """Also if a group was open elsewhere when it ran."""
    index = index_of(
        (MAIN, [record("step", 1, 9, 1, 0, GROUP)]),
        (TPU, [record("x", 5, 8, 3, 0, DEVICE)]),
    )
    expected = [("step", 1.0, 9.0, True), ("x", 5.0, 8.0, False)]
    assert expected == rows(tree(index, "tpu0"))


def test_spans_in_spans_stand_beside_each_other() -> None:
    """So do groups in spans: v1's tree has groups only."""
    index = index_of(
        (
            MAIN,
            [
                record("deep", 3, 4, 4, 3),
                record("g", 2, 5, 3, 2, GROUP),
                record("inner", 2, 6, 2, 1),
                record("outer", 1, 7, 1),
            ],
        )
    )
    assert [
        ("g", 2.0, 5.0, True, ("deep", 3.0, 4.0, False)),
        ("inner", 2.0, 6.0, False),
        ("outer", 1.0, 7.0, False),
    ] == rows(tree(index, "main"))


def test_nodes_are_in_the_order_of_their_begins() -> None:
    """Though records come in the order of closing."""
    index = index_of(
        (MAIN, [record("b", 2, 3, 2), record("a", 1, 5, 1), record("c", 4, 5, 3)])
    )
    names = [node.name for node in tree(index, "main").inner]
    assert ["a", "b", "c"] == names


def test_other_records_are_no_nodes() -> None:
    """Instants, counters and waits in the queue."""
    index = index_of(
        (MAIN, [record("i", 1, 1, 1, 0, INSTANT), record("c", 1, 5, 2, 0, COUNTER)]),
        (QUEUE, [record("queue", 1, 2, 3, 0, QUEUED)]),
    )
    for timeline_id in ("main", "tpu0", "tpu0_queue"):
        assert [] == rows(tree(index, timeline_id))


def test_the_root_begins_with_the_tracer() -> None:
    """It is its own outer group and never ends."""
    root = GroupIndex().tree("main", "main", 3 * S, {})
    assert ("root", 3.0, float("inf")) == (root.name, root.begin, root.end)
    assert root.outer is root
    assert [] == root.inner


def test_nodes_are_linked_and_made_once() -> None:
    """A group looked up by name is the one in `inner`."""
    index = index_of((MAIN, [record("g", 1, 2, 1, 0, GROUP)]))
    root = tree(index, "main")
    group = root.find_first_inner_group("g")
    assert group is not None
    assert root is group.outer
    assert group is root.inner[0] is root.find_last_inner_group("g")
    assert [group] == root.find_all_inner_groups("g")
    assert group is root.find_nth_inner_group("g", 0)
    assert root.inner is root.inner


# Open spans


def test_open_spans_and_groups_are_in_the_tree() -> None:
    """With what is inside, on every timeline."""
    index = index_of((MAIN, [record("done", 2, 3, 2, 1)]))
    opened = {
        "main": [record("step", 1, None, 1, 0, GROUP), record("x", 3, None, 3, 1)],
        "tpu0": [record("rollout", 4, None, 4, 1, DEVICE)],
        "worker": [record("w", 5, None, 5)],
    }
    done, x = ("done", 2.0, 3.0, False), ("x", 3.0, None, False)
    assert [("step", 1.0, None, True, done, x)] == rows(tree(index, "main", opened))
    rollout = ("rollout", 4.0, None, False)
    assert [("step", 1.0, None, True, rollout)] == rows(tree(index, "tpu0", opened))
    w = ("w", 5.0, None, False)
    assert [("step", 1.0, None, True, w)] == rows(tree(index, "worker", opened))


def test_the_first_group_shows_before_the_main_thread_closed_anything() -> None:
    """Whose groups show everywhere is known from the tracer, not from a record."""
    run = V1Run()

    def export_fn(query: Any) -> dict[str, Any]:
        (root,) = query.timeline("a0").get()
        found.extend(rows(root))
        return {}

    found: list[Row] = []
    tracer = PerfTracer(["a0"], export_fn, _clock=run.timer.clock, _wait=run.wait)
    with tracer.span_group("global_step"):
        tracer.export()
    assert ["global_step"] == [name for name, *_ in found]


# What is no longer kept


def forget_first(index: GroupIndex, count: int, records: list[RawRecord]) -> None:
    """Lets go the first records of the main thread."""
    index.forget([(MAIN, records[:count])])


def test_positions_count_from_the_first_ever() -> None:
    """What went is not found; what is left keeps its position."""
    steps = [record("step", n, n + 1, n + 1, 0, GROUP) for n in range(5)]
    others = [record("other", n, n + 1, n + 10, 0, GROUP) for n in range(2)]
    index = index_of((MAIN, others + steps))
    forget_first(index, 3, others + steps)
    root = tree(index, "main")
    found = [root.find_nth_inner_group("step", n) for n in range(-1, 6)]
    begins = [None if group is None else group.begin for group in found]
    assert [None, None, 1.0, 2.0, 3.0, 4.0, None] == begins
    first = root.find_first_inner_group("step")
    assert first is not None
    assert 1.0 == first.begin


def test_positions_count_in_a_group_that_is_still_open() -> None:
    """Of each group on its own."""
    micros = [record("micro", n, n + 1, n + 10, 1, GROUP) for n in range(4)]
    index = index_of((MAIN, micros))
    forget_first(index, 3, micros)
    opened = {"main": [record("step", 0, None, 1, 0, GROUP)]}
    step = tree(index, "main", opened).find_last_inner_group("step")
    assert step is not None
    assert step.find_nth_inner_group("micro", 2) is None
    last = step.find_nth_inner_group("micro", 3)
    assert last is not None
    assert 3.0 == last.begin


@pytest.mark.parametrize("is_open", [True, False])
def test_positions_count_through_spans(is_open: bool) -> None:
    """Groups in a span stand in the group around it, and are counted there."""
    steps = [record("step", n, n + 1, n + 10, 1, GROUP) for n in range(4)]
    end = None if is_open else 9
    training = record("training", 0, end, 1)
    index = index_of((MAIN, [*steps, training][: 4 if is_open else 5]))
    forget_first(index, 3, steps)
    opened = {"main": [training]} if is_open else {}
    for timeline_id in ("main", "tpu0"):
        root = tree(index, timeline_id, opened)
        assert root.find_nth_inner_group("step", 0) is None
        last = root.find_nth_inner_group("step", 3)
        assert last is not None
        assert 3.0 == last.begin


def test_positions_count_through_spans_that_are_no_longer_kept() -> None:
    """What was counted in them goes on counting around them."""
    records = [
        record("step", 1, 2, 2, 1, GROUP),
        record("training", 0, 3, 1),
        record("step", 4, 5, 3, 0, GROUP),
    ]
    index = index_of((MAIN, records))
    forget_first(index, 2, records)
    group = tree(index, "main").find_nth_inner_group("step", 1)
    assert group is not None
    assert 4.0 == group.begin


def test_positions_count_on_each_timeline() -> None:
    """What other threads' groups went does not move the main thread's."""
    groups = [record("step", n, n + 1, n + 1, 0, GROUP) for n in range(3)]
    others = [record("step", n, n + 1, n, 0, GROUP) for n in range(10, 13)]
    index = index_of((MAIN, groups), (WORKER, others))
    index.forget([(WORKER, others[:2])])
    for timeline_id, begins in [
        ("main", [0.0, 1.0, 2.0, None, None, None]),
        ("tpu0", [0.0, 1.0, 2.0, None, None, None]),
        ("worker", [None, None, 0.0, 1.0, 2.0, 12.0]),
    ]:
        root = tree(index, timeline_id)
        found = [root.find_nth_inner_group("step", n) for n in range(6)]
        assert begins == [None if group is None else group.begin for group in found]


def test_counts_of_what_went_do_not_grow() -> None:
    """A run of weeks forgets groups and spans with all that was in them."""
    index = GroupIndex()
    index.fill([])
    for turn in range(50):
        base = 10 * turn + 1
        some = [
            record("micro", 0, 1, base + 3, base + 2, GROUP),
            record("inner", 0, 1, base + 2, base + 1),
            record("mini", 0, 1, base + 1, base, GROUP),
            record("step", 0, 1, base, 0, GROUP),
        ]
        index.add([(MAIN, some)])
        index.forget([(MAIN, some)])
        worker = (WORKER._replace(id=f"worker-{turn}"), some)
        index.add([worker])
        index.forget([worker])
    assert {"main": {NO_PARENT: Counter(step=50)}} == index._forgotten
    assert {} == index._by_parent


def test_positions_count_before_anybody_asked_for_a_tree() -> None:
    """The index takes nothing in until then, but counts what goes, in spans too."""
    records = [
        record("step", 1, 2, 2, 1, GROUP),
        record("training", 0, 3, 1),
        record("moment", 3, 3, 9, 2, INSTANT),
        record("step", 4, 5, 3, 0, GROUP),
        record("step", 6, 7, 4, 0, GROUP),
    ]
    index = GroupIndex()
    index.add([(MAIN, records)])
    index.forget([(MAIN, records[:4])])
    assert {"main": {NO_PARENT: Counter(step=2)}} == index._forgotten
    assert {} == index._by_parent
    index.fill([(MAIN, records[4:])])
    index.fill([(MAIN, records)])
    root = tree(index, "main")
    found = [root.find_nth_inner_group("step", n) for n in range(4)]
    begins = [None if group is None else group.begin for group in found]
    assert [None, None, 6.0, None] == begins


def test_a_cleared_index_begins_anew() -> None:
    """Nothing is in it, positions count from nought."""
    steps = [record("step", n, n + 1, n + 1, 0, GROUP) for n in range(3)]
    index = index_of((MAIN, steps))
    forget_first(index, 1, steps)
    index.clear()
    assert [] == rows(tree(index, "main"))
    index.add([(MAIN, steps)])
    group = tree(index, "main").find_nth_inner_group("step", 0)
    assert group is not None
    assert 0.0 == group.begin


def test_records_of_an_unknown_timeline_are_forgotten_without_trouble() -> None:
    """A queue's were never taken in."""
    index = index_of((QUEUE, [record("queue", 1, 2, 3, 0, QUEUED)]))
    index.forget([(QUEUE, [record("queue", 1, 2, 3, 0, QUEUED)])])
    assert [] == rows(tree(index, "tpu0_queue"))


def test_forgetting_instants_leaves_the_rest() -> None:
    """They were never taken in."""
    instant, span = record("i", 1, 1, 1, 0, INSTANT), record("x", 1, 2, 2)
    index = index_of((MAIN, [instant, span]))
    index.forget([(MAIN, [instant])])
    assert [("x", 1.0, 2.0, False)] == rows(tree(index, "main"))
    index.forget([(MAIN, [span])])
    assert [] == rows(tree(index, "main"))


# What it costs


def test_the_last_step_is_found_without_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No node is made of a step that nobody asked for."""
    made: Counter[str] = Counter()
    make = StoredGroup.__init__

    def counted(self: Any, view: Any, record: RawRecord, outer: Any = None) -> None:
        made[record[0]] += 1
        make(self, view, record, outer)

    monkeypatch.setattr(groups_module.StoredGroup, "__init__", counted)
    run = V1Run()
    for second in range(20):
        run.at(float(second))
        with run.tracer.span_group("global_step"):
            for _ in range(3):
                with run.tracer.span_group("mini"), run.tracer.span("x"):
                    pass
        run.tracer.export()
    made.clear()
    (last,) = run.seen().main().last_group("global_step").get()
    assert 19.0 == run.timer.since(last.begin)
    assert (1, 0) == (made["global_step"], made["mini"])
    assert 3 == len(last.inner)
    assert (1, 3) == (made["global_step"], made["mini"])


# Against a tree of all records


class Story:
    """Two threads and a device that do as they are told, and what they recorded."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.closed: list[tuple[TimelineInfo, RawRecord]] = []
        self._last_id = 0
        self._open: dict[str, list[RawRecord]] = {"main": [], "worker": []}
        self._flying: list[RawRecord] = []

    def do(self, info: TimelineInfo, what: str) -> None:
        """Opens or closes on a thread, launches from it, or ends a launch."""
        self.now_ns += S
        stack = self._open[info.id]
        self._last_id += 1
        parent_id = stack[-1][3] if stack else NO_PARENT
        name = f"{what[0]}{self._last_id % 3}"
        opened = (name, self.now_ns, OPEN, self._last_id, parent_id)
        if what == "close" and stack:
            self._close(info, stack.pop())
        elif what in ("span", "group"):
            kind = GROUP if what == "group" else SPAN
            stack.append((*opened, kind, None, None))
        elif what == "launch":
            around = stack if info is MAIN else self._open["main"]
            group = next((r[3] for r in reversed(around) if r[5] == GROUP), NO_PARENT)
            self._flying.append((*opened[:4], group, DEVICE, None, None))
        elif what == "end" and self._flying:
            self._close(TPU, self._flying.pop(0))

    def opened(self) -> dict[str, list[RawRecord]]:
        """What is open now."""
        return {**{k: list(v) for k, v in self._open.items()}, "tpu0": [*self._flying]}

    def _close(self, info: TimelineInfo, opened: RawRecord) -> None:
        self.closed.append((info, (*opened[:2], self.now_ns, *opened[3:])))


def naive(info: TimelineInfo, kept: list[tuple[TimelineInfo, RawRecord]]) -> list[Row]:
    """A timeline's tree, by looking at all records for each of them."""
    by_id = {r[3]: Record(*r) for i, r in kept if i is not TPU}
    groups_of_main = [
        Record(*r) for i, r in kept if i is MAIN and r[5] == GROUP and i is not info
    ]
    nodes = [Record(*r) for i, r in kept if i is info] + groups_of_main

    def container(node: Record) -> int | None:
        parent_id = node.parent_id
        while parent_id != NO_PARENT:
            around = by_id.get(parent_id)
            if around is None:
                return None  # no longer kept: not to be found
            if around.kind == GROUP:
                return around.id if container(around) is not None else None
            parent_id = around.parent_id
        if info is WORKER and node not in groups_of_main:
            return innermost(node.begin_ns)
        return NO_PARENT

    def innermost(time_ns: int) -> int:
        found, found_at = NO_PARENT, -1
        for group in groups_of_main:
            end_ns = float("inf") if group.end_ns == OPEN else group.end_ns
            is_around = group.begin_ns <= time_ns < end_ns
            if is_around and group.begin_ns > found_at and container(group) is not None:
                found, found_at = group.id, group.begin_ns
        return found

    def inside(group_id: int) -> list[Row]:
        some = [node for node in nodes if container(node) == group_id]
        return sorted(map(row, some), key=repr)

    def row(node: Record) -> Row:
        end = None if node.end_ns == OPEN else node.end_ns / S
        is_group = node.kind == GROUP
        below = inside(node.id) if is_group else []
        return (node.name, node.begin_ns / S, end, is_group, *below)

    return inside(NO_PARENT)


STORIES = st.lists(
    st.tuples(
        st.sampled_from([MAIN, MAIN, WORKER]),
        st.sampled_from(["span", "group", "close", "close", "launch", "end"]),
    ),
    max_size=25,
)


@given(STORIES, st.integers(3, 40), st.integers(1, 6))
@settings(max_examples=200)
def test_a_lazy_tree_equals_one_of_all_records(
    story: list[tuple[TimelineInfo, str]], keep_spans: int, step_every: int
) -> None:
    """Whatever is open and whatever is no longer kept."""
    told, index = Story(), GroupIndex()
    index.fill([])
    store = Store(0, 3, keep_spans, index)
    taken = 0
    for turn, (info, what) in enumerate(story):
        told.do(info, what)
        for timeline, closed in told.closed[taken:]:
            store.add([(timeline, [closed])], 1)
        taken = len(told.closed)
        if turn % step_every == 0:
            store.close_step(told.now_ns)
    kept: list[tuple[TimelineInfo, RawRecord]] = []
    for step in (*store.closed, store.current):
        kept += [(info, r) for info, some in step.parts for r in some]
    opened = told.opened()
    for info in EVERY:
        kept += [(info, r) for r in opened[info.id]]
    for info in EVERY:
        root = tree(index, info.id, opened)
        assert naive(info, kept) == rows(root)
        begins = [node.begin for node in root.inner]
        assert sorted(begins) == begins


def test_a_node_is_a_span_or_a_group() -> None:
    """As v1's tree wants it."""
    index = index_of((MAIN, [record("g", 1, 2, 1, 0, GROUP), record("x", 1, 2, 2)]))
    group, span = tree(index, "main").inner
    assert isinstance(group, SpanGroup)
    assert isinstance(span, Span)
    assert span.ended
