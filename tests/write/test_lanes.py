from __future__ import annotations

from collections.abc import Mapping

from perf._write.lanes import MAX_REMEMBERED, Lanes, Node, in_order

NOW_NS = 10**6


def place(
    lanes: Lanes,
    span_id: int,
    begin_ns: int,
    end_ns: int | None,
    *,
    parents: Mapping[int, int] | None = None,
) -> Node:
    """Places a slice; the parent of each span is as the mapping says."""
    node = Node(span_id, begin_ns, end_ns)
    parent_of = dict(parents or {})
    lanes.place(
        node, parent_of.get(span_id, 0), lambda other: parent_of.get(other, 0), NOW_NS
    )
    return node


def test_slices_that_lie_apart_share_a_lane() -> None:
    """Touching is no overlap."""
    lanes = Lanes()
    assert [0, 0, 0] == [
        place(lanes, 1, 0, 10).lane,
        place(lanes, 2, 10, 20).lane,
        place(lanes, 3, 20, 20).lane,
    ]


def test_overlap_gets_another_lane() -> None:
    """The lowest that is free."""
    lanes = Lanes()
    assert [0, 1, 2, 0, 1] == [
        place(lanes, 1, 0, 10).lane,
        place(lanes, 2, 5, 15).lane,
        place(lanes, 3, 6, 30).lane,
        place(lanes, 4, 12, 20).lane,
        place(lanes, 5, 16, 18).lane,
    ]


def test_a_slice_nests_in_its_ancestor_alone() -> None:
    """What merely lies in another one's time gets its own lane."""
    lanes = Lanes()
    outer = place(lanes, 1, 0, 100)
    child = place(lanes, 2, 10, 20, parents={2: 1})
    grandchild = place(lanes, 4, 30, 40, parents={4: 3, 3: 1})
    stranger = place(lanes, 5, 50, 60)
    assert [0, 0, 0, 1] == [n.lane for n in (outer, child, grandchild, stranger)]
    assert [outer, outer, None] == [child.parent, grandchild.parent, stranger.parent]


def test_concurrent_children_do_not_share_their_parents_lane() -> None:
    """One of them nests, the other stands beside."""
    lanes = Lanes()
    place(lanes, 1, 0, 100)
    assert [0, 1] == [
        place(lanes, 2, 10, 50, parents={2: 1}).lane,
        place(lanes, 3, 20, 60, parents={3: 1}).lane,
    ]


def test_parents_that_go_in_a_circle_are_seen_through() -> None:
    """Ids may be given by a user; the search ends."""
    lanes = Lanes()
    place(lanes, 1, 0, 100)
    assert 1 == place(lanes, 2, 10, 20, parents={2: 3, 3: 2}).lane


def test_an_open_slice_holds_its_lane() -> None:
    """Nobody knows when it ends: neither it nor its open child is nested."""
    lanes = Lanes()
    outer = place(lanes, 1, 0, None)
    assert [1, 0, 2] == [
        place(lanes, 2, 10, None, parents={2: 1}).lane,
        place(lanes, 3, 20, 30, parents={3: 1}).lane,
        place(lanes, 4, 40, 50).lane,
    ]
    lanes.close(outer, 60)
    assert 0 == place(lanes, 5, 60, 70).lane


def test_nothing_nests_in_an_open_slice_that_may_outlive_it() -> None:
    """A span timed elsewhere may end in the future."""
    lanes = Lanes()
    place(lanes, 1, 0, None)
    assert 0 == place(lanes, 2, 10, NOW_NS, parents={2: 1}).lane
    assert 1 == place(lanes, 3, NOW_NS, NOW_NS + 1, parents={3: 1}).lane


def test_an_open_slice_remembers_what_lies_in_it() -> None:
    """From batch to batch, as long as it is open."""
    lanes = Lanes()
    place(lanes, 1, 0, None)
    place(lanes, 2, 10, 20, parents={2: 1})
    lanes.end_batch()
    assert [1, 0] == [
        place(lanes, 3, 15, 25, parents={3: 1}).lane,
        place(lanes, 4, 20, 30, parents={4: 1}).lane,
    ]


def test_a_late_slice_fills_a_gap_but_touches_nothing_behind_it() -> None:
    """At one moment Perfetto takes events in the file's order."""
    lanes = Lanes()
    place(lanes, 1, 0, 10)
    place(lanes, 2, 50, 60)
    lanes.end_batch()
    assert [0, 1, 1] == [
        place(lanes, 3, 10, 49).lane,
        place(lanes, 4, 49, 50).lane,
        place(lanes, 5, 55, 58).lane,
    ]


def test_what_has_ended_takes_no_late_child() -> None:
    """Its END is in the file already, before the child's."""
    lanes = Lanes()
    place(lanes, 1, 0, 100)
    lanes.end_batch()
    assert 1 == place(lanes, 2, 10, 20, parents={2: 1}).lane


def test_the_first_lane_may_be_taken_up_to_some_time() -> None:
    """What was written before lanes became necessary stays alone there."""
    lanes = Lanes(since_ns=100)
    assert [1, 0, 0, 1] == [
        place(lanes, 1, 50, 60).lane,
        place(lanes, 2, 200, 210).lane,
        place(lanes, 3, 100, 110).lane,
        place(lanes, 4, 99, 100).lane,
    ]


def test_slices_are_forgotten() -> None:
    """Memory does not grow with the run; before the last forgotten all is taken."""
    lanes = Lanes()
    for n in range(10 * MAX_REMEMBERED):
        assert 0 == place(lanes, n + 1, n * 10, n * 10 + 5).lane
        lanes.end_batch()
    assert MAX_REMEMBERED >= len(lanes._rows[0].nodes)
    assert {} == lanes._nodes


def test_what_is_forgotten_is_taken() -> None:
    """A gap before the last forgotten slice is no gap any more; one after it is."""
    lanes = Lanes()
    for n in range(MAX_REMEMBERED + 1):
        place(lanes, n + 1, n * 10, n * 10 + 5)
    forgotten = MAX_REMEMBERED // 2
    assert [1, 0] == [
        place(lanes, 100, forgotten * 10 - 14, forgotten * 10 - 11).lane,
        place(lanes, 101, forgotten * 10 - 5, forgotten * 10 - 1).lane,
    ]


def test_parents_come_first_and_go_last_at_one_moment() -> None:
    """The tree decides where times do not."""
    lanes = Lanes()
    outer = place(lanes, 1, 5, 5)
    inner = place(lanes, 2, 5, 5, parents={2: 1})
    after = place(lanes, 3, 5, 9)
    assert [
        (outer, True),
        (inner, True),
        (inner, False),
        (outer, False),
        (after, True),
        (after, False),
    ] == list(in_order([after, inner, outer]))
