from __future__ import annotations

import math

import pytest
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from perf._model.tracks import Process, Thread, Track
from perf._write.packets import MAX_EVENT_NAMES, PacketSequence
from tests.write.traces import MAIN, batch, clocks, packets, span, stream


def event(data: bytes) -> pb.TrackEvent:
    """The track event of a packet without its timestamp."""
    return pb.TracePacket.FromString(data).track_event


def test_a_slice_takes_few_bytes() -> None:
    """Bare 28 at most, with one tag 35: a run of weeks is written all the time."""
    file = stream()
    file.encode(batch((MAIN, [span(1, 0, 1, name="a", tags={"step": 0})]), at_ns=0))
    bare = [
        span(n, n * 100_000, n * 100_000 + 50_000, name="a") for n in range(1, 1001)
    ]
    assert 28 >= len(file.encode(batch((MAIN, bare)))) / 1000
    tagged = [(*r[:6], {"step": r[3] // 50}, None) for r in bare]
    assert 35 >= len(file.encode(batch((MAIN, tagged)))) / 1000


def test_names_are_said_once() -> None:
    """Later slices of a name refer to it by number."""
    file = stream()
    first = file.encode(batch((MAIN, [span(1, 0, 1, name="rollout")])))
    second = file.encode(batch((MAIN, [span(2, 2, 3, name="rollout")])))
    assert 1 == first.count(b"rollout")
    assert 0 == second.count(b"rollout")


def test_names_that_do_not_fit_the_table_are_written_out() -> None:
    """The table is bounded, the names are not."""
    sequence = PacketSequence(b"seed")
    for n in range(MAX_EVENT_NAMES):
        sequence.begin(str(n), b"")
    assert MAX_EVENT_NAMES == event(sequence.begin(str(n), b"")).name_iid
    assert "one more" == event(sequence.begin("one more", b"")).name
    assert "one more" == event(sequence.bare_begins["one more"]).name


@pytest.mark.parametrize(
    ("expected", "name"), [("1", 1), ("True", True), ("None", None)]
)
def test_a_name_that_is_no_text_is_made_one(expected: str, name: object) -> None:
    """Also where Python takes two for the same key."""
    sequence = PacketSequence(b"seed")
    for other in (1, True, None, 1.0):
        sequence.begin(other, b"")  # type: ignore[arg-type]
    iid = event(sequence.bare_begins[name]).name_iid
    data = sequence.events(1, [0], [sequence.bare_end])
    names = pb.Trace.FromString(data).packet[0].interned_data.event_names
    assert expected == next(entry.name for entry in names if entry.iid == iid)


def test_ids_differ_from_file_to_file() -> None:
    """Tracks and arrows of files that are put together must not be mixed up."""
    one, other = PacketSequence(b"one"), PacketSequence(b"other")
    assert one.id_of("a", "b") != other.id_of("a", "b")
    assert one.id_of("a", "b") == PacketSequence(b"one").id_of("a", "b")
    assert one.id_of("a", "b") != one.id_of("ab")
    assert one.id_of("\udc80") != 0


def test_sequence_and_clock_fit_their_fields() -> None:
    """The id takes two bytes; clocks from 64 to 127 belong to a sequence."""
    for n in range(200):
        data = PacketSequence(bytes([n])).snapshot(clocks(5), is_first=True)
        (packet,) = packets(data)
        assert 1 <= packet.trusted_packet_sequence_id < 1 << 14
        (own,) = [c for c in packet.clock_snapshot.clocks if c.is_incremental]
        assert 64 <= own.clock_id < 128


def test_the_trace_is_shown_on_the_clock_of_the_tracer() -> None:
    """Monotonic is primary, and the sequence's own clock shows the same."""
    (packet,) = packets(PacketSequence(b"seed").snapshot(clocks(5), is_first=True))
    assert 3 == packet.clock_snapshot.primary_trace_clock
    times = {c.clock_id: c.timestamp for c in packet.clock_snapshot.clocks}
    assert (5, 10**18 + 5, 7 * 10**9 + 5) == (times[3], times[1], times[6])
    assert [5, 5] == [t for c, t in times.items() if c not in (1, 6)]


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        pytest.param(3, 3, id="int"),
        pytest.param(-3, -3, id="negative"),
        pytest.param(0.5, 0.5, id="float"),
        pytest.param(2.0**70, 2**70, id="beyond 64 bits"),
        pytest.param(math.inf, 10**400, id="beyond a float"),
        pytest.param(-math.inf, -(10**400), id="far below"),
    ],
)
def test_counters_take_any_number(expected: float, value: float) -> None:
    """Whole ones exactly, unless they are too large for 64 bits."""
    found = event(PacketSequence(b"seed").counter(value))
    exact = found.HasField("counter_value")
    assert expected == (found.counter_value if exact else found.double_counter_value)
    assert exact == (isinstance(value, int) and abs(value) < 2**63)


def test_descriptors_tell_what_a_track_is() -> None:
    """Processes and threads by their ids and names, counters by their unit."""
    sequence = PacketSequence(b"seed")
    root = Track("train.py", process=Process(42, "train.py", ("python", "x\0y")))
    thread = Track("main", root, thread=Thread(42, 43, "main"))
    counter = Track("loss", root, 7, unit="nats", description="of the policy")
    data = b"".join(
        sequence.descriptor(track, uuid, parent)
        for track, uuid, parent in ((root, 1, 0), (thread, 2, 1), (counter, 3, 1))
    )
    found = [packet.track_descriptor for packet in packets(data)]
    assert (42, "train.py") == (found[0].process.pid, found[0].process.process_name)
    assert ["python", "x\\x00y"] == list(found[0].process.cmdline)
    assert (42, 43, "main") == (
        found[1].thread.pid, found[1].thread.tid, found[1].thread.thread_name,
    )  # fmt: skip
    assert ("loss", 1, 7, "nats", "of the policy") == (
        found[2].name, found[2].parent_uuid, found[2].sibling_order_rank,
        found[2].counter.unit_name, found[2].description,
    )  # fmt: skip


def test_ends_have_no_names() -> None:
    """Perfetto closes the innermost slice; a name would only cost."""
    assert 0 == event(PacketSequence(b"seed").end(b"")).name_iid
