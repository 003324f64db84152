from __future__ import annotations

import contextlib
import os
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from perf._model.errors import PerfError, TraceFormatError
from perf._model.spans import OPEN, ClockSnapshot
from perf._model.tracks import SCHEMA_KEY, SCHEMA_VERSION, Process, Thread
from perf._read.load import LoadedTrace, load
from perf._write.layout import V1Layout
from perf._write.run_info import run_info
from perf._write.stream import TraceStream
from perf._write.wire import blob
from tests.programs import printed_by
from tests.write.traces import (
    MAIN,
    PROCESS,
    WORKER,
    batch,
    clocks,
    packets,
    span,
    stream,
    written,
)

RECORDS = batch(
    (
        MAIN,
        [
            span(3, 12, 14, parent=2, tags={"a": {"b": [1, None]}, "c": "x"}),
            ("tick", 15, 15, 4, 2, 4, {"n": 1}, None),
            ("loss", 16, 0.25, 5, 0, 5, "nats", None),
            ("loss", 18, 3, 6, 0, 5, "nats", None),
            span(2, 10, 20),
        ],
    ),
    (WORKER, [span(7, 30, 40, after=(3,))]),
    opened=[(MAIN, [span(8, 50)])],
    at_ns=60,
)


def loaded(data: bytes, folder: Path) -> LoadedTrace:
    """What is read of a file with these bytes."""
    path = folder / "trace.pb"
    path.write_bytes(data)
    return load(path)


def test_slices_come_back(tmp_path: Path) -> None:
    """By begin, with track, times, tags and the slice around them."""
    trace = loaded(written(RECORDS), tmp_path)
    assert [
        ("Main", "span 2", 10, 20, {}, None),
        ("Main", "span 3", 12, 14, {"a": {"b": [1, "None"]}, "c": "x"}, 0),
        ("Main worker", "span 7", 30, 40, {}, None),
        ("Main", "span 8", 50, OPEN, {}, None),
    ] == [
        (s.track.name, s.name, s.begin_ns, s.end_ns, s.tags, s.parent_id)
        for s in trace.slices
    ]


def test_instants_samples_and_flows_come_back(tmp_path: Path) -> None:
    """Whole numbers stay whole; arrows name slices by their position."""
    trace = loaded(written(RECORDS), tmp_path)
    assert [("Main", "tick", 15, {"n": 1})] == [
        (i.track.name, i.name, i.time_ns, i.tags) for i in trace.instants
    ]
    assert [("loss", "nats", 16, 0.25), ("loss", "nats", 18, 3)] == [
        (s.track.name, s.track.unit, s.time_ns, s.value) for s in trace.samples
    ]
    (flow,) = trace.flows
    assert ("span 3", "span 7") == (
        trace.slices[flow.source].name,
        trace.slices[flow.target].name,
    )


def test_clocks_and_metadata_come_back(tmp_path: Path) -> None:
    """Of each run, as it was when the file was begun."""
    file = TraceStream(V1Layout(), PROCESS, run_info())
    trace = loaded(file.encode(RECORDS), tmp_path)
    assert (clocks(60),) == trace.clocks
    assert isinstance(trace.clocks[0], ClockSnapshot)
    assert [run_info() | {"started": trace.runs[0]["started"]}] == list(trace.runs)


def test_tracks_come_back(tmp_path: Path) -> None:
    """With process, threads and units; parents before children."""
    trace = loaded(written(RECORDS), tmp_path)
    by_path = {track.path: track for track in trace.tracks}
    root = by_path["train.py",]
    assert Process(42, "train.py", ("python", "train.py")) == root.process
    assert Thread(42, 11, "MainThread") == by_path["train.py", "MainThread"].thread
    assert by_path["train.py", "Post-Training Run"].parent is root
    positions = {track.key: n for n, track in enumerate(trace.tracks)}
    assert all(
        positions[track.parent.key] < positions[track.key]
        for track in trace.tracks
        if track.parent
    )


def test_tags_that_came_late_are_there(tmp_path: Path) -> None:
    """Those of a slice's end replace those of its begin."""
    data = written(
        batch(opened=[(MAIN, [span(1, 10, tags={"a": 1, "b": "x"})])]),
        batch((MAIN, [span(1, 10, 20, tags={"a": 2, "b": "x", "c": 2.5})])),
    )
    (piece,) = loaded(data, tmp_path).slices
    assert ({"a": 2, "b": "x", "c": 2.5}, 20) == (piece.tags, piece.end_ns)


def test_files_put_together_are_two_runs(tmp_path: Path) -> None:
    """Nothing of one is taken for the other's."""
    one, other = stream(seed=b"one"), stream(seed=b"other")
    trace = loaded(one.encode(RECORDS) + other.encode(RECORDS), tmp_path)
    assert 2 == len(trace.runs)
    assert 8 == len(trace.slices)
    assert 2 == len({s.track.key for s in trace.slices if s.name == "span 2"})


@given(st.integers(0, 5000))
def test_a_cut_file_is_read_up_to_the_cut(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    """What is there is as in the whole file; ends may be missing, and nothing else."""
    whole, folder = written(RECORDS), tmp_path_factory.getbasetemp()
    all_slices = {s.name: s for s in loaded(whole, folder).slices}
    at = BEGINNING + cut % (len(whole) - BEGINNING)
    for piece in loaded(whole[:at], folder).slices:
        original = all_slices[piece.name]
        assert piece.begin_ns == original.begin_ns
        assert piece.end_ns in (OPEN, original.end_ns)


BEGINNING = len(stream().encode(batch((MAIN, [])))) + 100
"""Bytes of a file by which it has told of its run."""


def test_a_file_cut_too_early_says_so(tmp_path: Path) -> None:
    """It does not say which version wrote it."""
    with pytest.raises(TraceFormatError, match="before it says which version"):
        loaded(written(RECORDS)[:50], tmp_path)


def test_a_cut_is_told(tmp_path: Path) -> None:
    """In the middle of a packet, also of its length."""
    data = written(RECORDS)
    assert not loaded(data, tmp_path).is_cut
    assert loaded(data[:-1], tmp_path).is_cut
    assert loaded(data + b"\x0a", tmp_path).is_cut
    assert loaded(data + b"\x0a\x80", tmp_path).is_cut


@pytest.mark.parametrize(
    ("found", "data"),
    [
        pytest.param("the byte 0x89", b"\x89PNG", id="another format"),
        pytest.param("cannot be read", b"\x0a\x02\xff\xff", id="broken packet"),
        pytest.param("an empty file", b"", id="empty"),
        pytest.param("JSON, a trace of Chrome", b'{"traceEvents": []}', id="Chrome's"),
        pytest.param("JSON, a trace of Chrome", b"[\n", id="Chrome's array"),
        pytest.param("gzip file: unpack it first", b"\x1f\x8b\x08", id="gzip"),
        pytest.param("ZIP file: unpack it first", b"PK\x03\x04", id="zip"),
        pytest.param(
            "a packet of 536870911 bytes", b"\x0a" + b"\xff" * 4 + b"\x01", id="size"
        ),
        pytest.param("a packet of 0 bytes at offset 0", b"\x0a\x00", id="nothing"),
        pytest.param("the byte 0x0a where", b"\x0a" + b"\xff" * 11, id="no length"),
        pytest.param(
            "without saying which version",
            pb.Trace(packet=[pb.TracePacket(timestamp=1)]).SerializeToString(),
            id="another program's",
        ),
        pytest.param(
            r"a clock snapshot of the clocks \[6\]",
            pb.Trace(
                packet=[
                    pb.TracePacket(
                        clock_snapshot={"clocks": [{"clock_id": 6, "timestamp": 1}]}
                    )
                ]
            ).SerializeToString(),
            id="another program's clocks",
        ),
        pytest.param(
            "an event before its clocks",
            pb.Trace(
                packet=[pb.TracePacket(track_event={"type": 1, "track_uuid": 5})]
            ).SerializeToString(),
            id="another program's event",
        ),
    ],
)
def test_other_files_are_refused(found: str, data: bytes, tmp_path: Path) -> None:
    """The message names the file and what was found."""
    with pytest.raises(TraceFormatError, match=rf"trace\.pb.*{found}"):
        loaded(data, tmp_path)


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, SCHEMA_VERSION - 3, "x"])
def test_other_schema_versions_are_refused(version: object, tmp_path: Path) -> None:
    """Newer ones, and those that are too old; the message says which can be read."""
    file = TraceStream(V1Layout(), PROCESS, {SCHEMA_KEY: version})
    with pytest.raises(
        PerfError, match=rf"schema version {version}; this version reads 1 to"
    ):
        loaded(file.encode(RECORDS), tmp_path)


@pytest.mark.parametrize("version", [SCHEMA_VERSION, SCHEMA_VERSION - 1])
def test_the_two_schema_versions_before_are_read(version: int, tmp_path: Path) -> None:
    """Old traces stay readable for a while."""
    file = TraceStream(V1Layout(), PROCESS, {SCHEMA_KEY: version})
    assert loaded(file.encode(RECORDS), tmp_path).slices


def test_an_event_called_run_is_an_event(tmp_path: Path) -> None:
    """Only the one with a schema version tells of the run."""
    trace = loaded(
        written(batch((MAIN, [("run", 5, 5, 1, 0, 4, {"n": 1}, None)]))), tmp_path
    )
    assert ["run"] == [instant.name for instant in trace.instants]
    assert 1 == len(trace.runs)


def test_an_end_without_its_begin_is_passed_over(tmp_path: Path) -> None:
    """As Perfetto does it: of a file that was begun anew, say."""
    data = written(
        batch(opened=[(MAIN, [span(1, 10)])]), batch((MAIN, [span(1, 10, 20)]))
    )
    kept = [
        p for p in packets(data) if p.track_event.type != pb.TrackEvent.TYPE_SLICE_BEGIN
    ]
    assert () == loaded(pb.Trace(packet=kept).SerializeToString(), tmp_path).slices


def test_a_missing_file_is_the_systems_error(tmp_path: Path) -> None:
    """It has a name that everybody knows."""
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.pb")


def test_importing_it_loads_no_protobuf() -> None:
    """Only reading does."""
    code = "import sys, perf._read.load; print('google.protobuf' in sys.modules)"
    assert "False\n" == printed_by("-c", code)


def test_compressed_packets_that_are_none_are_said(tmp_path: Path) -> None:
    """Damaged, or of a size that would fill the memory."""
    path = tmp_path / "trace.pb"
    for packed, said in (
        (b"nonsense", "cannot be unpacked"),
        (zlib.compress(bytes(65 << 20)), "more than 67108864 bytes"),
    ):
        path.write_bytes(blob(1, blob(50, packed)))
        with pytest.raises(TraceFormatError, match=said):
            load(path)


def test_damaged_lengths_are_told_at_once(tmp_path: Path) -> None:
    """A length without an end is no number that grows for a million bytes."""
    (tmp_path / "trace.pb").write_bytes(b"\x0a" + b"\x80" * (64 << 20))
    with pytest.raises(TraceFormatError, match="the byte 0x0a where a packet"):
        load(tmp_path / "trace.pb")


def test_packets_are_packed_once(tmp_path: Path) -> None:
    """What is packed in what is packed is refused."""
    data = written(RECORDS)
    for _ in range(2):
        data = blob(1, blob(50, zlib.compress(data)))
    with pytest.raises(TraceFormatError, match="packed twice at offset 0"):
        loaded(data, tmp_path)


def test_packed_packets_that_end_too_early_are_said(tmp_path: Path) -> None:
    """What they hold before is read."""
    packed = zlib.compress(written(RECORDS)[:-1])
    data = blob(1, blob(50, packed))
    trace = loaded(data, tmp_path)
    assert [(0, len(data))] == [(u.offset, u.size_bytes) for u in trace.unread]
    assert trace.slices
    with pytest.raises(TraceFormatError, match="cut off at offset 0"):
        loaded(blob(1, blob(50, packed[:-1])), tmp_path)


def test_packed_packets_together_have_a_bound(tmp_path: Path) -> None:
    """A small file does not fill the memory, however many packets it has."""
    packed = zlib.compress(blob(1, blob(60, blob(2, bytes(1 << 20)))) * 60, 9)
    data = written(RECORDS) + blob(1, blob(50, packed)) * 2
    with pytest.raises(TraceFormatError, match="compressed packets of more than"):
        loaded(data, tmp_path)


def test_texts_that_are_damaged_are_shown(tmp_path: Path) -> None:
    """What is no UTF-8 is escaped, as the writer does it."""
    tagged = span(1, 10, 20, name="abc", tags={"key": "xyz"})
    data = written(batch((MAIN, [tagged]))).replace(b"abc", b"a\xffc")
    (piece,) = loaded(data.replace(b"xyz", b"x\xffz"), tmp_path).slices
    assert ("a\\xffc", {"key": "x\\xffz"}) == (piece.name, piece.tags)


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    """A folder names a trace in it; a pipe is not waited for."""
    with pytest.raises(TraceFormatError, match=r"a folder without any \.pb file"):
        load(tmp_path)
    for name in ("a.pb", "b.pb"):
        (tmp_path / name).touch()
    with pytest.raises(TraceFormatError, match=r"it has b\.pb and 1 more"):
        load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TraceFormatError, match="a pipe, socket or device"):
        load(tmp_path / "pipe")


def test_a_file_tells_what_was_lost_and_that_it_ended(tmp_path: Path) -> None:
    """These are no instants of the run's."""
    file = stream()
    data = file.encode(RECORDS) + file.lost(3) + file.lost(4)
    trace = loaded(data, tmp_path)
    assert (7, False) == (trace.lost, trace.has_ended)
    trace = loaded(data + file.end(), tmp_path)
    assert (7, True) == (trace.lost, trace.has_ended)
    assert ["tick"] == [instant.name for instant in trace.instants]


@given(st.integers(0, 10**6), st.integers(0, 7), st.integers(0, 10**6))
def test_a_damaged_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, at: int, bit: int, cut: int
) -> None:
    """Whatever bit is flipped and wherever it is cut: no other error than ours."""
    data = bytearray(written(RECORDS))
    data[at % len(data)] ^= 1 << bit
    del data[len(data) - cut % len(data) :]
    with contextlib.suppress(TraceFormatError):
        loaded(bytes(data), tmp_path_factory.getbasetemp())
