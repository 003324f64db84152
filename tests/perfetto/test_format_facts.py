"""What Perfetto makes of the format's corners that the writer relies on.

None of these tests runs code of ours: they hold the ground that it stands on.
"""

import pytest
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from tests.perfetto.packets import (
    CLEARED,
    begin,
    clocks,
    defaults,
    end,
    instant,
    interned,
    packet,
    start,
    trace,
    track,
)
from tools.perfetto.trace_processor import TraceProcessor, slices

Row = tuple[str, str | None, int, int]


def rows(data: bytes) -> list[Row]:
    """Returns (track, name, begin, duration) of each slice, of a trace without loss."""
    with TraceProcessor(data) as tp:
        tp.assert_clean()
        return [("/".join(row.track), row.name, row.ts, row.dur) for row in slices(tp)]


def nesting(data: bytes) -> list[tuple[str | None, int, int]]:
    """Returns (name, duration, depth) of each slice, of a trace without loss."""
    with TraceProcessor(data) as tp:
        tp.assert_clean()
        return [(row.name, row.dur, row.depth) for row in slices(tp)]


def a_file(uuid: int, name: str, *, at_ns: int, interned_name: str) -> bytes:
    """Returns a file of `SEQUENCE` with two slices, 10 and 20 ns after its start."""
    return trace(
        start(uuid, at_ns=at_ns, names=(interned_name,)),
        track(uuid, name),
        begin(10, 1),
        end(5),
        begin(5, 1),
        end(7),
    )


def on_track(*events: object) -> bytes:
    """Returns a trace with these events on one track, beginning at 1,000 ns."""
    return trace(start(1, at_ns=1000, names=("interned",)), track(1, "track"), *events)


class TestFilesPutTogether:
    """Files written one after the other into one, with the same sequence id."""

    @pytest.mark.parametrize("second_ns", [1000, 1015, 5000])
    def test_both_are_whole(self, second_ns):
        """Each keeps its names, tracks and times, though they share ids and overlap."""
        data = a_file(1, "one", at_ns=1000, interned_name="a")
        data += a_file(2, "two", at_ns=second_ns, interned_name="b")
        assert sorted(
            [
                ("one", "a", 1010, 5),
                ("one", "a", 1020, 7),
                ("two", "b", second_ns + 10, 5),
                ("two", "b", second_ns + 20, 7),
            ]
        ) == sorted(rows(data))

    def test_one_sequence_must_not_go_back_in_time(self):
        """A later file that starts before the earlier one loses its times, and counts.

        So files that may be put together in any order need sequence ids of their own.
        """
        data = a_file(1, "one", at_ns=5000, interned_name="a")
        data += a_file(2, "two", at_ns=1000, interned_name="b")
        with TraceProcessor(data) as tp:
            assert {"invalid_clock_snapshots": 1} == tp.losses()
            assert [5010, 5020, 5037, 5047] == [row.ts for row in slices(tp)]

    def test_other_sequences_may_start_earlier(self):
        """With a sequence id of its own a later file may start at any time."""
        other = {"trusted_packet_sequence_id": 8}
        data = a_file(1, "one", at_ns=5000, interned_name="a")
        data += trace(
            start(2, at_ns=1000, names=("b",), **other),
            track(2, "two"),
            begin(10, 1, **other),
            end(5, **other),
        )
        expected = [("two", "b", 1010, 5), ("one", "a", 5010, 5), ("one", "a", 5020, 7)]
        assert expected == rows(data)


@pytest.mark.parametrize("first", [CLEARED, CLEARED | 2])
def test_flags_are_needed_on_the_first_packet_only(first):
    """Packets without `sequence_flags` use names, defaults and clock all the same."""
    bare = {"sequence_flags": None}
    head = start(1, at_ns=1000, names=("a",))
    head.sequence_flags = first
    data = trace(head, track(1, "track"), begin(10, 1, **bare), end(5, **bare))
    assert [("track", "a", 1010, 5)] == rows(data)


class TestDefaults:
    """`trace_packet_defaults` sent again in the middle of a sequence."""

    @pytest.mark.parametrize("flags", [None, 2])
    def test_switch_the_track(self, flags):
        """Later packets go to the new track; names and the clock's sum stay."""

        def switch(uuid):
            return packet(sequence_flags=flags, trace_packet_defaults=defaults(uuid))

        data = trace(
            start(1, at_ns=1000, names=("a",)),
            track(1, "one"),
            track(2, "two"),
            *[begin(10, 1), end(5)],
            *[switch(2), begin(10, 1), end(5)],
            *[switch(1), begin(10, 1), end(5)],
        )
        expected = [("one", "a", 1010, 5), ("two", "a", 1025, 5), ("one", "a", 1040, 5)]
        assert expected == rows(data)

    def test_hold_for_the_event_that_brings_them(self):
        """Defaults on an event's own packet hold for that event already."""
        data = trace(
            start(1, at_ns=1000, names=("a",)),
            track(1, "one"),
            track(2, "two"),
            begin(10, 1, trace_packet_defaults=defaults(2)),
            end(5),
        )
        assert [("two", "a", 1010, 5)] == rows(data)

    def test_replace_the_old_ones_whole(self):
        """Defaults without a clock take the clock away, not only the track."""
        no_clock = pb.TracePacketDefaults(
            track_event_defaults=pb.TrackEventDefaults(track_uuid=1)
        )
        data = on_track(begin(10, "a", trace_packet_defaults=no_clock), end(10))
        assert [("track", "a", 10, 0)] == rows(data)

    def test_may_come_with_new_names(self):
        """Names interned later are added to those before."""
        added = interned("b", first=2)
        data = on_track(
            packet(trace_packet_defaults=defaults(1), interned_data=added),
            *[begin(10, 1), begin(10, 2), end(5), end(5)],
        )
        assert [("track", "interned", 1010, 20), ("track", "b", 1020, 5)] == rows(data)


class TestIncrements:
    """The clock of a sequence whose timestamps are increments."""

    def test_may_be_negative(self):
        """An increment below zero, wrapped to 64 bits, may go back past the start."""
        data = on_track(begin(100, "late"), end(50), begin(-450, "early"), end(10))
        assert [("track", "early", 700, 10), ("track", "late", 1100, 50)] == rows(data)

    @pytest.mark.parametrize("at_ns", [1200, 2000])
    @pytest.mark.parametrize("flags", [None, 2])
    def test_count_from_the_latest_snapshot(self, at_ns, flags):
        """A snapshot resets the sum, also to a time before the latest event."""
        data = on_track(
            *[begin(500, "a"), end(50)],
            packet(sequence_flags=flags, clock_snapshot=clocks(at_ns)),
            *[begin(10, "b"), end(5)],
        )
        expected = [("track", "a", 1500, 50), ("track", "b", at_ns + 10, 5)]
        assert sorted(expected) == sorted(rows(data))

    @pytest.mark.parametrize("sequence", [7, 8])
    def test_go_on_over_a_snapshot_of_other_clocks(self, sequence):
        """A snapshot without the sequence's clock leaves the sum as it is."""
        data = on_track(
            *[begin(100, "a"), end(50)],
            packet(
                trusted_packet_sequence_id=sequence,
                clock_snapshot=clocks(2000, own=False),
            ),
            *[begin(10, "b"), end(5)],
        )
        assert [("track", "a", 1100, 50), ("track", "b", 1160, 5)] == rows(data)

    def test_snapshots_must_not_go_back(self):
        """A snapshot before the sequence's last one is not applied, and is counted."""
        data = on_track(
            begin(500, "a"),
            end(50),
            packet(clock_snapshot=clocks(900)),
            begin(10, "b"),
            end(5),
        )
        with TraceProcessor(data) as tp:
            assert {"invalid_clock_snapshots": 1} == tp.losses()
            assert [1500, 1560] == [row.ts for row in slices(tp)]

    def test_are_converted_by_the_snapshot_before(self):
        """Where clocks drift, the latest snapshot not after a time converts it."""
        data = on_track(
            packet(clock_snapshot=clocks(2000, own_ns=2100)),
            instant(10, "after"),
            instant(-200, "before"),
        )
        assert [("track", "before", 1910, 0), ("track", "after", 2010, 0)] == rows(data)


class TestLateEvents:
    """Events that come in the file after later ones of their track."""

    def test_nest_by_time(self):
        """An outer slice may be written after its inner ones."""
        data = on_track(
            *[begin(100, "first"), end(50), begin(50, "second"), end(50)],
            *[begin(-200, "outer"), end(300)],
        )
        assert [("outer", 300, 0), ("first", 50, 1), ("second", 50, 1)] == nesting(data)

    def test_swap_with_an_inner_slice_that_begins_with_them(self):
        """At one time the file's order decides: the late outer slice becomes inner."""
        data = on_track(begin(100, "inner"), end(50), begin(-50, "outer"), end(80))
        assert [("inner", 80, 0), ("outer", 50, 1)] == nesting(data)

    def test_end_the_slice_that_begins_where_they_end(self):
        """A late neighbour's end comes after the begin it touches, and ends that."""
        data = on_track(begin(150, "second"), end(50), begin(-100, "first"), end(50))
        assert [("first", 100, 0), ("second", 0, 1)] == nesting(data)


class TestUnfinished:
    """A begin that waits for its end."""

    def test_has_no_duration(self):
        """It lasts -1 ns; what is inside it is as it would be."""
        data = on_track(begin(100, "open"), begin(10, "inner"), end(5))
        assert [("open", -1, 0), ("inner", 5, 1)] == nesting(data)

    def test_ends_anywhere_later_in_the_file(self):
        """Its end may come after events of other tracks."""
        data = on_track(
            begin(100, "open"),
            track(2, "other"),
            begin(50, "aside", track_uuid=2),
            end(5, track_uuid=2),
            end(20),
        )
        assert [("open", 75, 0), ("aside", 5, 0)] == nesting(data)

    def test_ends_in_the_next_file(self):
        """Its end may come in a file put behind, after state was cleared."""
        data = on_track(begin(100, "open")) + trace(start(1, at_ns=2000), end(20))
        assert [("open", 920, 0)] == nesting(data)


@pytest.mark.parametrize(
    ("expected", "events"),
    [
        pytest.param(
            [("a", 50, 0), ("b", 50, 0)],
            [begin(100, "a"), end(50), begin(0, "b"), end(50)],
            id="end before begin: neighbours",
        ),
        pytest.param(
            [("a", 100, 0), ("b", 0, 1)],
            [begin(100, "a"), begin(50, "b"), end(0), end(50)],
            id="begin before end: the end is taken for the other's",
        ),
        pytest.param(
            [("outer", 50, 0), ("inner", 50, 1)],
            [begin(100, "outer"), begin(0, "inner"), end(50), end(0)],
            id="outer before inner: nested",
        ),
        pytest.param(
            [("a", 50, 0), ("zero", 0, 1)],
            [begin(100, "a"), begin(50, "zero"), end(0), end(0)],
            id="zero length before the end: inside",
        ),
        pytest.param(
            [("a", 50, 0), ("zero", 0, 0), ("b", 10, 0)],
            [
                begin(100, "a"),
                end(50),
                begin(0, "zero"),
                end(0),
                begin(0, "b"),
                end(10),
            ],
            id="zero length between end and begin: a neighbour of both",
        ),
        pytest.param(
            [("a", 50, 0), ("moment", 0, 1)],
            [begin(100, "a"), instant(10, "moment"), end(40)],
            id="instant: inside the open slice",
        ),
    ],
)
def test_events_of_one_time_keep_the_order_of_the_file(expected, events):
    """Whether slices that touch nest follows from the order of their packets."""
    assert expected == nesting(on_track(*events))
