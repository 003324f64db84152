from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

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


@pytest.mark.skipif(wire.timed_packets.__module__ == wire.__name__, reason="none here")
@pytest.mark.parametrize(
    "misuse",
    [
        lambda: timed_packets([1], [], 0),
        lambda: timed_packets([1], ["text"], 0),  # type: ignore[list-item]
        lambda: timed_packets([1.5], [b"x"], 0),  # type: ignore[list-item]
        lambda: timed_packets((1,), (b"x",), 0),  # type: ignore[arg-type]
        lambda: wire.plain_event(b"", b"", {}, (), {}),  # type: ignore[arg-type]
        lambda: wire.plain_event(b"", "", {}, {}, {}),  # type: ignore[arg-type]
    ],
)
def test_the_compiled_half_checks_what_it_is_given(misuse: Callable[[], Any]) -> None:
    """It reads memory by size: nothing but lists of the right things will do."""
    with pytest.raises(TypeError):
        misuse()
