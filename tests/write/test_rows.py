from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from hypothesis import example, given, settings

from perf._model.spans import COUNTER, DEVICE, INSTANT, Batch, RawRecord
from perf._write import packets
from perf._write.layout import V2Layout
from tests.write.recorded import Op, Recorder, operations
from tests.write.traces import (
    MAIN,
    SERVER,
    TPU,
    batch,
    shown,
    span,
    stream,
    times,
    written,
)
from tools.perfetto.trace_processor import TraceProcessor

FURTHER = TPU._replace(id="tpu1", name="tpu1")


def tracks(data: bytes) -> dict[str, set[int]]:
    """The numbers of the tracks that bear slices of each name."""
    found: dict[str, set[int]] = {}
    with TraceProcessor(data) as tp:
        for row in tp.query("select name, track_id from slice"):
            found.setdefault(row["name"], set()).add(row["track_id"])
    return found


def test_an_open_span_is_in_the_file_before_it_ends() -> None:
    """Whoever is killed leaves what was open, as slices without an end."""
    data = written(
        batch((MAIN, [span(2, 20, 30, parent=1)]), opened=[(MAIN, [span(1, 10)])])
    )
    assert {"span 1": (10, -1), "span 2": (20, 10)} == times(data)


def test_an_open_span_ends_in_a_later_batch() -> None:
    """Its end closes the slice that is there; tags that were added come with it."""
    data = written(
        batch(opened=[(MAIN, [span(1, 10, tags={"a": 1, "b": 2})])]),
        batch((MAIN, [span(1, 10, 50, tags={"a": 1, "b": 3, "c": 4})])),
    )
    (row,) = shown(data)
    assert (10, 40, {"a": 1, "b": 3, "c": 4}) == (row.ts, row.dur, row.args)


def test_a_list_that_grew_while_its_span_was_open_is_shown_twice() -> None:
    """Perfetto would add its entries to the old ones: both states are kept apart."""
    data = written(
        batch(opened=[(MAIN, [span(1, 10, tags={"seen": [1], "same": ["x"]})])]),
        batch((MAIN, [span(1, 10, 50, tags={"seen": [1, 2], "same": ["x"]})])),
    )
    (row,) = shown(data)
    assert {
        "seen[0]": 1,
        "same[0]": "x",
        "seen (at the end)[0]": 1,
        "seen (at the end)[1]": 2,
    } == row.args


def test_a_span_that_outlives_the_one_around_it_is_drawn_again() -> None:
    """Two open spans closed out of order: both are there whole, one also as a stub."""
    data = written(
        batch(opened=[(MAIN, [span(1, 10), span(2, 20, parent=1)])]),
        batch((MAIN, [span(1, 10, 50), span(2, 20, 60, parent=1)]), tangled=[MAIN]),
    )
    rows = {(row.name, row.ts, row.dur, "cut" in row.args) for row in shown(data)}
    assert {
        ("span 1", 10, 40, False),
        ("span 2", 20, 30, True),
        ("span 2", 20, 40, False),
    } == rows


def test_spans_timed_elsewhere_may_come_in_any_order() -> None:
    """Late ones fill the gaps; those that overlap get a lane of their own."""
    data = written(
        batch((SERVER, [span(1, 100, 200), span(2, 300, 400), span(6, 350, 360)])),
        batch((SERVER, [span(3, 210, 290), span(4, 150, 250), span(5, 10, 99)])),
    )
    assert {
        "span 1": (100, 100),
        "span 2": (300, 100),
        "span 3": (210, 80),
        "span 4": (150, 100),
        "span 5": (10, 89),
        "span 6": (350, 10),
    } == times(data)
    with TraceProcessor(data) as tp:
        (lanes,) = tp.query(
            "select count(distinct track_id) as n from slice where name like 'span%'"
        )
    assert 2 == lanes["n"]


def test_nesting_follows_the_order_of_opening_and_closing() -> None:
    """Not the times: on a clock that stands still the tree is right all the same."""
    data = written(
        batch(
            (
                MAIN,
                [
                    span(2, 5, 5, parent=1),
                    span(4, 5, 5, parent=3),
                    span(3, 5, 5, parent=1),
                    span(1, 5, 9),
                    span(5, 9, 9),
                ],
            )
        )
    )
    by_id: dict[int | None, str | None] = {row.id: row.name for row in shown(data)}
    assert {
        "span 1": None,
        "span 2": "span 1",
        "span 3": "span 1",
        "span 4": "span 3",
        "span 5": None,
    } == {row.name: by_id.get(row.parent_id) for row in shown(data)}


def test_moments_lie_where_they_happened() -> None:
    """In the span that was open then, also when it is drawn on a lane."""
    on_main = [("tick", 15, 15, 3, 2, INSTANT, {"n": 1}, None), span(2, 10, 20)]
    for tangled in ([], [MAIN]):
        rows = shown(written(batch((MAIN, on_main), tangled=tangled)))
        assert [("span 2", 0, {}), ("tick", 1, {"n": 1})] == [
            (row.name, row.depth, row.args) for row in rows
        ]


def test_samples_are_no_slices() -> None:
    """They go to their counter's track, wherever they were taken."""
    sample = ("loss", 15, 0.5, 3, 0, COUNTER, None, None)
    assert {"span 2": (10, 10)} == times(
        written(batch((MAIN, [sample, span(2, 10, 20)])))
    )


def test_spans_that_lie_apart_need_no_lanes() -> None:
    """The usual case on a device; the end of one may be the begin of the next."""
    data = written(
        batch((TPU, [span(1, 0, 10, kind=2), span(2, 10, 20, kind=2)])),
        batch((TPU, [span(3, 20, 20, kind=2), span(4, 20, 30, kind=2)])),
    )
    assert 4 == len(times(data))
    assert 1 == len(set.union(*(v for k, v in tracks(data).items() if k != "run")))


def test_device_spans_that_overlap_get_lanes_though_nobody_said_so() -> None:
    """Concurrent work is recorded as it is."""
    data = written(
        batch((TPU, [span(1, 0, 10, kind=2)])),
        batch((TPU, [span(2, 5, 20, kind=2), span(3, 30, 40, kind=2)])),
    )
    assert {"span 1": (0, 10), "span 2": (5, 15), "span 3": (30, 10)} == times(data)
    found = tracks(data)
    assert found["span 1"] == found["span 3"] != found["span 2"]


def test_a_timeline_that_becomes_tangled_keeps_what_is_open() -> None:
    """What was written open ends on the first lane; others find their place in it."""
    data = written(
        batch(opened=[(MAIN, [span(1, 10), span(2, 20, parent=1)])], at_ns=25),
        batch(
            (MAIN, [span(4, 40, 60, parent=1), span(5, 50, 70, parent=1)]),
            (MAIN, [span(3, 30, 35, parent=2), span(2, 20, 38, parent=1)]),
            tangled=[MAIN],
            at_ns=80,
        ),
        batch((MAIN, [span(1, 10, 90)]), tangled=[MAIN], at_ns=100),
    )
    assert {
        "span 1": (10, 80),
        "span 2": (20, 18),
        "span 3": (30, 5),
        "span 4": (40, 20),
        "span 5": (50, 20),
    } == times(data)
    found = tracks(data)
    assert found["span 1"] == found["span 2"] == found["span 3"] == found["span 4"]
    assert found["span 5"] != found["span 1"]


def test_after_lanes_a_timeline_that_is_quiet_again_needs_none() -> None:
    """It goes on on its first lane; what comes late after that finds another one."""
    data = written(
        batch((TPU, [span(1, 0, 10, kind=2), span(2, 5, 20, kind=2)])),
        batch((TPU, [span(3, 20, 30, kind=2), span(4, 30, 40, kind=2)])),
        batch((TPU, [span(5, 25, 35, kind=2)])),
        batch((TPU, [span(6, 40, 50, kind=2)])),
        batch((MAIN, [span(8, 2, 3, parent=7), span(7, 1, 4)]), tangled=[MAIN]),
        batch((MAIN, [span(10, 6, 7, parent=9), span(9, 5, 8)])),
    )
    assert {
        "span 1": (0, 10),
        "span 2": (5, 15),
        "span 3": (20, 10),
        "span 4": (30, 10),
        "span 5": (25, 10),
        "span 6": (40, 10),
        "span 7": (1, 3),
        "span 8": (2, 1),
        "span 9": (5, 3),
        "span 10": (6, 1),
    } == times(data)
    found = tracks(data)
    assert found["span 1"] == found["span 3"] == found["span 4"] == found["span 6"]
    assert found["span 5"] != found["span 1"]
    assert found["span 7"] == found["span 10"]


def of_few_names(part: Batch) -> Batch:
    """The same batch with names and texts that come again and again."""

    def renamed(record: RawRecord) -> RawRecord:
        _, *times, span_id, parent_id, kind, tags, after = record
        if kind == COUNTER:
            return record
        if tags:
            tags = {**tags, "parity": ("even", "odd")[span_id % 2]}
        return (f"span {span_id % 3}", *times, span_id, parent_id, kind, tags, after)

    return part._replace(
        records=[(info, list(map(renamed, some))) for info, some in part.records],
        open=[(info, list(map(renamed, some))) for info, some in part.open],
    )


@settings(max_examples=200)
@given(operations())
@example(
    # After names and texts are known: spans that nest, touch and are empty, work in
    # order, then an arrow from what was drawn in the short way.
    [(2, 0, 0), (0, 1, 0), (4, 0, 0)] * 8
    + [(15, 0, 0), (2, 0, 0), (0, 2, 0), (2, 0, 3), (0, 2, 0), (4, 0, 0), (0, 1, 0)]
    + [(4, 0, 0), (15, 0, 0), (2, 0, 0), (4, 0, 0), (0, 1, 0), (2, 0, 0), (15, 0, 0)]
    + [(8, 0, 3), (0, 3, 0), (9, 0, 0), (0, 1, 0), (8, 0, 3), (9, 0, 0), (15, 0, 0)]
    + [(0, 3, 0), (2, 1, 9), (0, 1, 0), (4, 1, 0), (8, 0, 9), (0, 3, 0), (9, 0, 0)]
)
def test_the_short_way_for_plain_slices_gives_the_same(ops: list[Op]) -> None:
    """What is compiled writes as Python does, or leaves it to Python."""
    check_both_ways(list(map(of_few_names, Recorder().run(ops))))


@pytest.mark.parametrize("documented_names", [False, True])
def test_late_slices_and_those_of_further_devices_are_written_the_same(
    documented_names: bool,
) -> None:
    """Likewise where a batch goes back in time, or an arrow starts on a device."""

    def work(span_id: int, begin_ns: int, **more: Any) -> RawRecord:
        more = {"name": "a", "kind": DEVICE, "tags": {"step": 1}, **more}
        return span(span_id, begin_ns, begin_ns + 50, **more)

    after = {"after": (2, 3)}
    check_both_ways(
        [
            batch((TPU, [work(1, 100, tags=None)]), (FURTHER, [work(1, 110)])),
            batch((TPU, [work(2, 200)]), (FURTHER, [work(2, 210)])),
            batch((TPU, [work(3, 300)]), (FURTHER, [work(3, 240)])),
            batch((TPU, [work(4, 340)]), (FURTHER, [work(4, 310)])),
            batch((TPU, [work(5, 400, **after)]), (FURTHER, [work(5, 400, **after)])),
        ],
        documented_names=documented_names,
    )


def check_both_ways(batches: list[Batch], *, documented_names: bool = False) -> None:
    """With what is compiled and without, the bytes are the same."""
    layout = V2Layout(documented_names=documented_names)
    quick, slow = stream(layout), stream(layout)
    for part in batches:
        with mock.patch.object(packets, "plain_slices", return_value=None):
            expected = slow.encode(part)
        assert expected == quick.encode(part)
    assert slow.slices == quick.slices
