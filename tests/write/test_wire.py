from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from perf._model.spans import DEVICE, GROUP, INSTANT, SPAN, RawRecord
from perf._write import wire
from perf._write.wire import blob, double, number, readable, timed_packets, varint


@given(st.integers(0, 2**64 - 1))
@example(127)
@example(128)
def test_a_varint_is_what_protobuf_reads(value: int) -> None:
    """Unsigned numbers of up to 64 bits come back."""
    event = pb.TrackEvent.FromString(number(11, value))
    assert value == event.track_uuid


@given(st.integers(-(2**63), -1))
def test_a_negative_number_wraps(value: int) -> None:
    """Fields of type int64 hold two's complement, in ten bytes."""
    assert 10 == len(varint(value))
    assert value == pb.TrackEvent.FromString(number(30, value)).counter_value


@given(st.floats(allow_nan=False))
def test_a_double_is_what_protobuf_reads(value: float) -> None:
    """To the last bit."""
    event = pb.TrackEvent.FromString(double(44, value))
    assert value == event.double_counter_value


@given(
    st.lists(st.tuples(st.integers(-(2**40), 2**40), st.integers(0, 400)), min_size=1),
    st.integers(0, 2**40),
)
@example([(0, 5), (127, 5), (255, 5), (16639, 255), (33023, 256), (2**28, 5)], 0)
def test_timestamps_count_from_one_packet_to_the_next(
    events: list[tuple[int, int]], last_ns: int
) -> None:
    """The sum of all up to a packet is its time; bodies of any size stay whole."""
    check_packets(events, last_ns)
    check_packets(events * 600, last_ns)  # put together in another way


@pytest.mark.parametrize("count", [1, 600])
def test_times_beyond_64_bits_wrap(count: int) -> None:
    """A user may give any time; it is nonsense, but costs nothing else."""
    check_packets([(2**70, 5), (3, 5)] * count, 0)


def check_packets(events: list[tuple[int, int]], last_ns: int) -> None:
    """Packets of these times and sizes come back as they were."""
    times = [time_ns for time_ns, _ in events]
    bodies = [blob(20, b"x" * size) for _, size in events]
    trace = pb.Trace.FromString(timed_packets(times, bodies, last_ns))
    assert len(events) == len(trace.packet)
    now_ns = last_ns
    for packet, time_ns, body in zip(trace.packet, times, bodies, strict=True):
        now_ns = (now_ns + packet.timestamp) % 2**64
        assert time_ns % 2**64 == now_ns
        packet.ClearField("timestamp")
        assert body == packet.SerializeToString()


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_becomes_utf8_without_nul(text: str) -> None:
    """Lone surrogates and NULs are shown as escapes, everything else as it is."""
    data = readable(text, 1000)
    assert b"\0" not in data
    proper = "".join(c for c in text if c != "\0" and not "\ud800" <= c <= "\udfff")
    assert proper == text or b"\\" in data
    assert proper != text or text == data.decode()


def test_a_long_text_is_cut_and_says_how_long_it_was() -> None:
    """The limit is in characters."""
    assert "ääää… (10 characters)" == readable("ä" * 10, 4).decode()
    assert "ääää" == readable("ä" * 4, 4).decode()


compiled = pytest.mark.skipif(
    wire.timed_packets.__module__ == wire.__name__, reason="none here"
)


def plain_slices(
    records: list[RawRecord],
    names: dict[Any, bytes],
    *,
    nests: bool = True,
    since_ns: int = 10,
    last_ns: int = 0,
    event_key: bytes = b"key",
) -> bytes | None:
    """With one known key and text."""
    keys, texts = {"tag": b"K"}, {"text": 1}
    return wire.plain_slices(
        records, nests, since_ns, last_ns, event_key, names, keys, texts
    )


# C does not know what types forbid: what it is misused with is the point below.
untyped_packets: Any = timed_packets
untyped_event: Any = wire.plain_event
untyped_slices: Any = plain_slices

PLAIN: RawRecord = ("a", 10, 15, 2, 1, SPAN, {"tag": "text"}, None)
NEXT: RawRecord = ("a", 15, 18, 3, 1, DEVICE, None, None)
AROUND: RawRecord = ("a", 9, 20, 1, 0, GROUP, {}, None)
LATER: RawRecord = (*PLAIN[:3], 4, *PLAIN[4:])
"""Opened after the one that comes next."""


@compiled
def test_plain_slices_are_written_at_once() -> None:
    """The BEGINs and ENDs of spans that nest, or lie apart, in the order of a track."""
    begin, end = b"key\x03\x48\x01A", b"key\x02\x48\x02"
    tagged = b"key\x09\x48\x01A\x22\x04K\x88\x01\x01"
    times = [9, 10, 15, 15, 18, 20]
    bodies = [begin, tagged, end, begin, end, end]
    names = {"a": b"A"}
    nested = plain_slices([PLAIN, NEXT, AROUND], names, since_ns=9)
    assert timed_packets(times, bodies, 0) == nested
    apart = plain_slices([LATER, NEXT], names, nests=False)
    assert timed_packets(times[1:5], bodies[1:5], 0) == apart


@compiled
@pytest.mark.parametrize(
    "change",
    [
        pytest.param({0: "b"}, id="a name that is not known"),
        pytest.param({0: 1}, id="a name that is no text"),
        pytest.param({0: "long"}, id="a name that is written out"),
        pytest.param({1: 9}, id="begins before the end of what is written"),
        pytest.param({1: 10.5}, id="no whole time"),
        pytest.param({1: 2**63}, id="a time beyond 64 bits"),
        pytest.param({1: 15}, id="no length"),
        pytest.param({1: 16}, id="ends before it begins"),
        pytest.param({2: 16}, id="overlaps the next one"),
        pytest.param({3: "2"}, id="no number"),
        pytest.param({5: INSTANT}, id="an instant"),
        pytest.param({6: [("tag", "text")]}, id="no tags"),
        pytest.param({6: {"new": 1}}, id="a key that is not known"),
        pytest.param({6: {"tag": "new"}}, id="a text that is not known"),
        pytest.param({6: {"tag": None}}, id="a value that is not plain"),
        pytest.param({7: (1,)}, id="an arrow"),
    ],
)
@pytest.mark.parametrize("nests", [True, False])
def test_slices_that_are_not_plain_are_left_to_others(
    change: dict[int, Any], nests: bool
) -> None:
    """One of them is enough for none to be written."""
    record = tuple(change.get(at, value) for at, value in enumerate(PLAIN))
    names = {"a": b"A", "long": b"x" * 17}
    assert plain_slices([PLAIN, NEXT], names, nests=nests) is not None
    assert plain_slices([record, NEXT], names, nests=nests) is None


@compiled
def test_slices_that_should_lie_apart_and_nest_are_left_to_others() -> None:
    """Nor are those that begin at one time, or what is no record at all."""
    names = {"a": b"A"}
    assert plain_slices([PLAIN, AROUND], names, since_ns=9) is not None
    assert plain_slices([PLAIN, AROUND], names, since_ns=9, nests=False) is None
    assert plain_slices([PLAIN, (*AROUND[:1], 10, *AROUND[2:])], names) is None
    assert plain_slices([LATER, NEXT], names) is None
    assert plain_slices([PLAIN[:7]], names) is None
    assert untyped_slices([list(PLAIN)], names) is None
    assert plain_slices([], names) == b""


@compiled
@pytest.mark.parametrize(
    "misuse",
    [
        lambda: timed_packets([1], [], 0),
        lambda: untyped_packets([1], ["text"], 0),
        lambda: untyped_packets([1.5], [b"x"], 0),
        lambda: untyped_packets((1,), (b"x",), 0),
        lambda: untyped_event(b"", b"", {}, (), {}),
        lambda: untyped_event(b"", "", {}, {}, {}),
        lambda: untyped_slices((), {}),
        lambda: untyped_slices([], ()),
        lambda: untyped_slices([], {}, last_ns=0.5),
        lambda: plain_slices([], {}, event_key=b"x" * 17),
    ],
)
def test_the_compiled_half_checks_what_it_is_given(misuse: Callable[[], Any]) -> None:
    """It reads memory by size: nothing but lists of the right things will do."""
    with pytest.raises(TypeError):
        misuse()
