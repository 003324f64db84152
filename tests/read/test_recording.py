"""A trace file as the tracer recorded it."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import json
import math
import os
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf._model.errors import TraceFormatError
from perf._model.lock import LockDemand
from perf._model.names import END_ERROR
from perf._model.spans import (
    DEVICE,
    OPEN,
    SPAN,
    Batch,
    ClockSnapshot,
    RawRecord,
    TimelineInfo,
    TimelineKind,
)
from perf._model.tracks import SCHEMA_KEY, SCHEMA_VERSION, Process
from perf._read.check import check_trace
from perf._read.events import read_events
from perf._read.load import load
from perf._read.packets import lock_demand
from perf._read.recording import folder_traces, read_recording, the_trace
from perf._write.layout import V1Layout, V2Layout
from perf._write.stream import TraceStream
from perf._write.wire import blob
from perf.report.analysis import analyse
from tests.report.runs import TrainingRun
from tests.write.recorded import Recorder, operations
from tests.write.traces import MAIN, SERVER, TPU, WORKER, batch, span, written

RUN = {SCHEMA_KEY: SCHEMA_VERSION, "command": "x"}


def rows(records: Sequence[RawRecord]) -> list[tuple[Any, ...]]:
    """Name, begin and end, in order."""
    return sorted((r[0], r[1], r[2]) for r in records)


def test_how_late_an_end_was_seen_is_no_reason_to_lose_a_launch(tmp_path):
    """Work that queued finds its span by its tags, whatever bound its end has."""
    ms, tags = 1_000_000, [{"step": 0}, {"step": 1}]
    hosts: list[RawRecord] = [
        ("train", (n + 1) * ms, (n + 2) * ms, n + 1, 0, SPAN, tags[n], None)
        for n in range(2)
    ]
    late = [{**some, END_ERROR: 5 * ms} for some in tags]
    parts: list[RawRecord] = [
        ("train", begin * ms, (begin + 9) * ms, n + 1, 0, DEVICE, late[n], None)
        for n, begin in enumerate((1, 10))
    ]
    stream = TraceStream(V2Layout({"actor": ["tpu0"]}), Process(1, "python"), RUN)
    on_device = TimelineInfo("tpu0", TimelineKind.DEVICE, "tpu0")
    records = [(MAIN, hosts), (on_device, parts)]
    clocks = ClockSnapshot(0, 0, 0)
    path = tmp_path / "a.pb"
    path.write_bytes(stream.encode(Batch(records, [], frozenset(), clocks)))
    launches = read_recording(path).schedule().launches.values()
    assert [(ms, 10 * ms), (2 * ms, 19 * ms)] == sorted(
        (la.host[1], la.end_ns) for la in launches if la.host
    )


@pytest.mark.parametrize(
    "topology",
    ["colocated", "rollout-apart", "reference-apart", "actor-apart", "all-apart"],
)
def test_what_was_recorded_is_read_back(tmp_path, topology):
    """Timelines, launches and arrows of a training come back from its file."""
    run = TrainingRun(3, topology)
    found = read_recording(run.write(tmp_path / "a.pb"))
    expected = {info.id: records for info, records in run.records.items()}
    kinds = {TimelineKind.HOST: "host", TimelineKind.DEVICE: "device"}
    for info, records in found.timelines:
        if info.kind in kinds:
            assert rows(expected[info.id.split()[0]]) == rows(records)
    want = {
        (launch.record[0], launch.begin_ns, tuple(d for d, _ in launch.parts))
        for launch in run.recording().schedule().launches.values()
        if launch.parts and launch.host
    }
    schedule = found.schedule()
    got = {
        (launch.record[0], launch.begin_ns, tuple(d for d, _ in launch.parts))
        for launch in schedule.launches.values()
        if launch.parts and launch.host
    }
    assert want == got
    assert [(s.begin_ns, s.end_ns) for s in run.windows] == [
        (s.begin_ns, s.end_ns) for s in found.steps
    ]
    assert ["reward"] == [counter.name for counter in found.counters]
    trained = [la for la in schedule.launches.values() if la.record[0] == "peft_train"]
    named = {p.record[0] for la in trained for p in schedule.predecessors(la)}
    assert named >= {"reference_inference"}


@given(operations(), st.sampled_from([V1Layout(), V2Layout()]))
def test_fast_and_full_readers_agree(tmp_path_factory, ops, layout):
    """Slices, instants and samples are those of `load`, whatever was recorded."""
    recorder = Recorder()
    stream = TraceStream(layout, Process(1, "python"), RUN)
    data = b"".join(stream.encode(batch) for batch in recorder.run(ops))
    data += stream.lost(3) + stream.end()
    path = tmp_path_factory.mktemp("events") / "a.pb"
    path.write_bytes(data)
    full, fast = load(path), read_events(path)
    expected = sorted(
        (s.track.path, s.name, s.begin_ns, s.end_ns, repr(dict(s.tags)))
        for s in full.slices
    )
    found = sorted(
        (fast.rows[uuid].path, name, begin_ns, end_ns, repr(tags or {}))
        for uuid, events in fast.slices.items()
        for name, begin_ns, end_ns, _, _, tags in events
    )
    assert expected == found
    assert len(full.instants) == len(fast.instants)
    assert (3, 3) == (full.lost, fast.lost)
    assert len(full.samples) == sum(map(len, fast.samples.values()))
    ends = {e[3]: e[:2] for some in fast.slices.values() for e in some}
    drawn = [(full.slices[f.source], full.slices[f.target]) for f in full.flows]
    shown = Counter(((a.name, a.begin_ns), (b.name, b.begin_ns)) for a, b in drawn)
    # A picture has no arrow whose start comes later in the file, at one moment.
    assert not shown - Counter((ends[a], ends[b]) for a, b in fast.arrows)


def test_many_names_and_tags_are_told_apart(tmp_path):
    """More than one byte numbers; tags alike in part, long, and of every kind."""
    values = [*range(-3, 3), 2**40, 0.5, "x", "x" * 200, True, [1, {"a": 2}]]
    spans = [
        span(
            n + 1,
            10 * n,
            10 * n + 5,
            name=f"n{n % 300}",
            tags={f"k{n % 200}": v, "s": n},
        )
        for n, v in enumerate(values * 100)
    ]
    path = tmp_path / "a.pb"
    path.write_bytes(written(batch((MAIN, spans), at_ns=10**6)))
    found = [event for some in read_events(path).slices.values() for event in some]
    assert [(s[0], s[1], s[2], repr(s[6])) for s in spans] == [
        (name, begin_ns, end_ns, repr(tags))
        for name, begin_ns, end_ns, _, _, tags in found
    ]


def test_a_cut_file_is_read_up_to_the_cut(tmp_path):
    """What is missing is said; spans without an end too."""
    path = TrainingRun(2).write(tmp_path / "a.pb")
    path.write_bytes(path.read_bytes()[:-200])
    found = read_recording(path)
    assert any("ends inside a packet" in note for note in found.limits)
    assert found.spans > 10


def test_what_the_writer_lost_is_said(tmp_path):
    """In a note: what tells of the file is no instant of the run's."""
    stream = TraceStream(V2Layout(), Process(1, "python"), RUN)
    ticks: list[RawRecord] = [("tick", 15, 15, 4, 2, 4, None, None)]
    data = stream.encode(batch((MAIN, [span(1, 10, 20), *ticks])))
    path = tmp_path / "a.pb"
    path.write_bytes(data)
    whole = read_recording(path)
    path.write_bytes(data + stream.lost(300) + stream.lost(200) + stream.end())
    found = read_recording(path)
    assert ["tick"] == [name for _, name, _ in found.instants]
    said = "spans, instants and samples that the writer had to drop: 500"
    assert [said] == [note for note in found.limits if note not in whole.limits]


def test_what_was_seen_of_the_interpreters_lock_is_read_back(tmp_path):
    """With the end of its stretch; it is no instant of the run's."""
    stream = TraceStream(V2Layout(), Process(1, "python"), RUN)
    first = LockDemand(10, 3, 2, 5, 4, 1, 6, 7, ["a", "prompt"], [4, 3])
    second = dataclasses.replace(first, taken=0, threads=["b"], threads_ns=[7])
    data = stream.encode(batch((MAIN, [span(1, 10, 20)])))
    data += stream.lock_demand(15, first) + stream.lock_demand(18, second)
    path = tmp_path / "a.pb"
    path.write_bytes(data + stream.end())
    found = read_recording(path)
    assert ([(15, first), (18, second)], []) == (found.lock, found.instants)
    assert () == load(path).instants
    assert check_trace(path).is_sound


@pytest.mark.parametrize(
    "change",
    [
        {"more": 1},
        {"taken": "2"},
        {"taken": -1},
        {"taken": 4},
        {"threads": "a"},
        {"threads": [1]},
        {"threads_ns": 4},
        {"threads_ns": ["4"]},
    ],
)
def test_what_another_version_saw_of_the_lock_is_passed_over(change):
    """As it is where a file is damaged."""
    tags = dataclasses.asdict(LockDemand(10, 3, 2, 5, 4, 1, 6, 7, ["a"], [4]))
    assert lock_demand(tags) == LockDemand(**tags)
    assert lock_demand(tags | change) is None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "an empty file"),
        (b"\xff\xff", "the byte 0xff"),
        (b"\x1f\x8b\x08", "a gzip file: unpack it first"),
        (b"\x0a" + b"\x80" * 100, "the byte 0x0a where a packet"),
        (b"\x0a\x02\x40\xff\x0a\x01", "a damaged packet at offset 0"),
        (b"{", "expected JSON"),
        (b"[1, 2]", "without a single span"),
        (b'{"a": 1}', "without traceEvents"),
        (b"\x0a\x02\x50\x01", "without saying which version"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path, data, said):
    """The message says what was found."""
    path = tmp_path / "a.pb"
    path.write_bytes(data)
    with pytest.raises(TraceFormatError, match=said):
        read_recording(path)


def recorded(*, packed: bool = False) -> bytes:
    """A file with spans in spans, instants, samples, arrows and an open span."""
    main = [
        span(3, 12, 14, name="abc", parent=2, tags={"a": {"b": [1, None]}, "c": "xyz"}),
        ("tick", 15, 15, 4, 2, 4, {"n": 1}, None),
        ("loss", 16, 0.25, 5, 0, 5, "nats", None),
        span(2, 10, 20),
    ]
    records = batch(
        (MAIN, main),
        (WORKER, [span(7, 30, 40, after=(3,))]),
        opened=[(MAIN, [span(8, 50)])],
        at_ns=60,
    )
    data = written(records)
    return blob(1, blob(50, zlib.compress(data))) if packed else data


@given(
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=3),
    st.integers(0, 10**6),
)
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, packed, changes, cut):
    """Whatever bytes are changed and wherever it ends: no other error than ours."""
    data = bytearray(recorded())
    for at, byte in changes:
        data[at % len(data)] = byte
    del data[len(data) - cut % len(data) :]
    path = tmp_path_factory.getbasetemp() / "damaged.pb"
    path.write_bytes(blob(1, blob(50, zlib.compress(data))) if packed else data)
    with contextlib.suppress(TraceFormatError):
        read_recording(path)


def test_every_byte_may_be_damaged(tmp_path):
    """One after the other, by its first bit: it is part of text, length or number."""
    data = bytearray(recorded())
    path = tmp_path / "damaged.pb"
    read = 0
    for at in range(len(data)):
        data[at] ^= 0x80
        path.write_bytes(data)
        with contextlib.suppress(TraceFormatError):
            read += read_recording(path).spans > 0
        data[at] ^= 0x80
    assert 0 < read < len(data)


def test_texts_that_are_damaged_are_shown(tmp_path):
    """Names of spans and tracks, and tags, that are no UTF-8 are escaped."""
    data = recorded()
    for whole in (b"abc", b"xyz", b"worker", b"nats"):
        assert whole in data
        data = data.replace(whole, whole[:-1] + b"\xff")
    (tmp_path / "a.pb").write_bytes(data)
    found = read_recording(tmp_path / "a.pb")
    records = {r[0]: r for _, some in found.timelines for r in some}
    assert "xy\\xff" == records["ab\\xff"][6]["c"]
    assert "Main worke\\xff" in [info.name for info, _ in found.timelines]
    assert ["nat\\xff"] == [counter.unit for counter in found.counters]


def test_packed_packets_are_read_as_those_that_are_not(tmp_path):
    """They are packed once: what is packed in what is packed is refused."""
    path = tmp_path / "a.pb"
    found = []
    for packed in (False, True):
        path.write_bytes(recorded(packed=packed))
        found.append(read_recording(path))
    assert found[0].spans
    assert found[0] == found[1]
    data = recorded()
    for _ in range(1200):
        data = blob(1, blob(50, zlib.compress(data)))
    path.write_bytes(data)
    with pytest.raises(TraceFormatError, match="packed twice"):
        read_recording(path)


@pytest.mark.parametrize(
    ("packed", "said"),
    [
        (b"nonsense", "cannot be unpacked"),
        (zlib.compress(bytes(65 << 20)), "more than 67108864 bytes"),
        (zlib.compress(recorded())[:-1], "cut off at offset 0"),
    ],
)
def test_packed_packets_that_are_none_are_said(tmp_path, packed, said):
    """Damaged, cut, or of a size that would fill the memory."""
    (tmp_path / "a.pb").write_bytes(blob(1, blob(50, packed)))
    with pytest.raises(TraceFormatError, match=said):
        read_recording(tmp_path / "a.pb")


def test_packed_packets_together_have_a_bound(tmp_path):
    """A small file does not fill the memory, however many packets it has."""
    packed = zlib.compress(blob(1, blob(60, blob(2, bytes(1 << 20)))) * 60, 9)
    (tmp_path / "a.pb").write_bytes(recorded() + blob(1, blob(50, packed)) * 2)
    with pytest.raises(TraceFormatError, match="compressed packets of more than"):
        read_recording(tmp_path / "a.pb")


def test_what_is_no_file_is_said(tmp_path):
    """A pipe is not waited for."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TraceFormatError, match="a pipe, socket or device"):
        read_recording(tmp_path / "pipe")


EVENTS = [
    {"ph": "M", "pid": 1, "tid": 2, "name": "thread_name", "args": {"name": "main"}},
    {"ph": "M", "pid": 1, "tid": 3, "name": "thread_name", "args": {"name": "GPU 0"}},
    {"ph": "X", "pid": 1, "tid": 2, "name": "step", "ts": 0, "dur": 100},
    {"ph": "X", "pid": 1, "tid": 2, "name": "step", "ts": 110, "dur": 90},
    {"ph": "B", "pid": 1, "tid": 2, "name": "load", "ts": 5, "args": {"n": 3}},
    {"ph": "E", "pid": 1, "tid": 2, "ts": 10.5},
    {"ph": "X", "pid": 1, "tid": 3, "name": "gemm", "ts": 20, "dur": 50},
    {"ph": "b", "pid": 1, "tid": 2, "cat": "req", "id": 7, "name": "gen", "ts": 1},
    {"ph": "b", "pid": 1, "tid": 2, "cat": "req", "id": 8, "name": "gen", "ts": 2},
    {"ph": "e", "pid": 1, "tid": 2, "cat": "req", "id": 7, "name": "gen", "ts": 9},
    {"ph": "e", "pid": 1, "tid": 2, "cat": "req", "id": 8, "name": "gen", "ts": 30},
    {"ph": "s", "pid": 1, "tid": 2, "cat": "f", "id": 1, "name": "x", "ts": 6},
    {"ph": "f", "pid": 1, "tid": 3, "cat": "f", "id": 1, "name": "x", "ts": 20},
    {"ph": "C", "pid": 1, "name": "memory", "ts": 3, "args": {"MB": 12}},
    {"ph": "i", "pid": 1, "tid": 2, "name": "saved", "ts": 4},
]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("as_object", [False, True])
def test_chromes_format_is_read(tmp_path, packed, as_object):
    """Slices of every kind, arrows, counters, threads and devices; packed or not."""
    text = json.dumps({"traceEvents": EVENTS} if as_object else EVENTS).encode()
    path = tmp_path / ("a.json.gz" if packed else "a.json")
    path.write_bytes(gzip.compress(text) if packed else text)
    found = read_recording(path)
    spans = {(i.name, r[0], r[1], r[2]) for i, some in found.timelines for r in some}
    assert ("main", "load", 5_000, 10_500) in spans
    assert ("GPU 0", "gemm", 20_000, 70_000) in spans
    gens = [s for s in spans if s[1] == "gen"]
    assert {("gen", 1_000, 9_000), ("gen", 2_000, 30_000)} == {g[1:] for g in gens}
    assert [(0, 100_000), (110_000, 200_000)] == [
        (s.begin_ns, s.end_ns) for s in found.steps
    ]
    schedule = found.schedule()
    (gemm,) = [la for la in schedule.launches.values() if la.record[0] == "gemm"]
    assert ["load"] == [p.record[0] for p in schedule.predecessors(gemm)]
    assert ["memory MB"] == [counter.name for counter in found.counters]
    assert [(4_000, "saved")] == [i[:2] for i in found.instants]


def test_a_cut_array_is_read_up_to_its_last_event(tmp_path):
    """Chrome's format lets the closing bracket be missing."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps(EVENTS)[:-20])
    assert 4 < read_recording(path).spans


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (gzip.compress(json.dumps(EVENTS).encode())[:-9], "cannot be unpacked"),
        (b"\x1f\x8b\x08\x00" + bytes(20), "cannot be unpacked"),
        (b"\x1f\x8b\x07" + bytes(20), "cannot be unpacked"),
        (gzip.compress(bytes(96 << 20)), r"more than \d+ bytes"),
        (b"[" * 10**5, "recursion depth"),
        (b'[{"ts": 1' + b"0" * 5000 + b"}]", "4300 digits"),
        (b'{"ph": "X", "ts": \xff}', "other bytes"),
    ],
)
def test_json_that_is_damaged_is_refused(tmp_path, data, said):
    """Cut, of no format, of a size that would fill the memory, or too deep."""
    path = tmp_path / "a.json.gz"
    path.write_bytes(data)
    with pytest.raises(TraceFormatError, match=said):
        read_recording(path)


@pytest.mark.parametrize("odd", [None, {}, [], "x", math.nan, math.inf, True])
def test_events_of_json_may_hold_anything(tmp_path, odd):
    """The file is read, or refused with the event that cannot be."""
    path = tmp_path / "a.json"
    refused = []
    for at, event in enumerate(EVENTS):
        for key in event:
            path.write_text(
                json.dumps([*EVENTS[:at], {**event, key: odd}, *EVENTS[at + 1 :]])
            )
            try:
                analyse(read_recording(path))
            except TraceFormatError as error:
                refused.append((f"event {at} ", str(error)))
    assert bool(refused) == (odd is not True)
    assert all(place in said for place, said in refused)


def test_without_steps_the_tags_say_them(tmp_path):
    """Steps are taken from tags; without these, the whole trace is one."""
    event = {"ph": "X", "pid": 1, "tid": 2, "name": "a", "dur": 5}
    path = tmp_path / "a.json"
    tagged = [{**event, "ts": 10 * n, "args": {"step": n}} for n in range(3)]
    path.write_text(json.dumps(tagged))
    found = read_recording(path)
    assert [(0, 5_000), (10_000, 15_000), (20_000, 25_000)] == [
        (s.begin_ns, s.end_ns) for s in found.steps
    ]
    assert any("the tag 'step'" in note for note in found.limits)
    path.write_text(json.dumps([{**event, "ts": 1}, {**event, "ts": 20}]))
    found = read_recording(path)
    assert [(1_000, 25_000)] == [(s.begin_ns, s.end_ns) for s in found.steps]
    assert any("the whole trace is one" in note for note in found.limits)


def tagged_steps(tmp_path: Path, *records: Any) -> list[tuple[int, int, int]]:
    """Number, begin and end of the steps in a file of records without groups."""
    path = tmp_path / "perfetto_trace_v2_1.pb"
    path.write_bytes(written(batch(*records), layout=V2Layout()))
    return [(s.number, s.begin_ns, s.end_ns) for s in read_recording(path).steps]


def on(step: int | None, span_id: int, begin_ns: int, end_ns: int = OPEN) -> RawRecord:
    """A span of a step."""
    tags = None if step is None else {"step": step}
    return span(span_id, begin_ns, end_ns, tags=tags)


def test_a_step_by_tag_begins_on_any_thread(tmp_path):
    """With what comes first after the step before, tagged or not.

    The first one begins with its tag: what comes before is no step.
    """
    worker = [on(None, 1, 10, 20), on(0, 2, 100, 150), on(None, 3, 210, 250)]
    main = [on(0, 5, 160, 200), on(1, 6, 260, 300), on(2, 7, 330, 400)]
    assert [(0, 100, 200), (1, 210, 300), (2, 330, 400)] == tagged_steps(
        tmp_path, (MAIN, main), (WORKER, worker)
    )


def test_a_step_by_tag_ends_with_its_work(tmp_path):
    """A trainer launches, closes its span and waits; it does so up to the next step."""
    tags = [{"step": n} for n in range(3)]
    main = [on(0, 1, 100, 120), on(1, 2, 200, 220), on(2, 3, 230, 240)]
    work = [
        span(n + 1, begin, end, name=f"span {n + 1}", kind=DEVICE, tags=tags[n])
        for n, (begin, end) in enumerate([(100, 180), (200, 250), (250, 300)])
    ]
    assert [(0, 100, 180), (1, 200, 230), (2, 230, 300)] == tagged_steps(
        tmp_path, (MAIN, main), (TPU, work)
    )


def test_steps_of_no_length_are_none(tmp_path):
    """The whole trace is one, as without tags."""
    steps = tagged_steps(tmp_path, (MAIN, [on(0, 1, 100, 100), on(None, 2, 150, 160)]))
    assert [(0, 100, 160)] == steps


def test_rollouts_ahead_begin_no_step_early(tmp_path):
    """A step begins after the one before, at once if its rollout is under way then."""
    worker = [on(0, 1, 100, 150), on(1, 2, 150, 250), on(2, 3, 260, 270)]
    worker += [on(3, 4, 270, 280), on(4, 8, 290, 600), on(5, 9, 600)]
    main = [on(0, 5, 160, 200), on(1, 6, 260, 300), on(2, 7, 330, 400)]
    main += [on(3, 10, 410, 500), on(4, 11, 610, 700), on(5, 12, 710, 800)]
    main += [on(6, 13, 810)]
    server = [on(1, 14, 205, 206)]
    assert [
        (0, 100, 200),
        (1, 200, 300),
        (2, 330, 400),
        (3, 410, 500),
        (4, 500, 700),
        (5, 700, 800),
    ] == tagged_steps(tmp_path, (MAIN, main), (WORKER, worker), (SERVER, server))


def test_a_step_by_tag_within_another_has_no_time_left(tmp_path):
    """Numbers that end together are one step: steps do not overlap."""
    inner = span(2, 150, 200, tags={"step": 1}, parent=1)
    main = [on(0, 1, 100, 200), inner, on(2, 3, 210, 300)]
    assert [(0, 100, 200), (2, 210, 300)] == tagged_steps(tmp_path, (MAIN, main))


def test_of_a_folder_v2_counts(tmp_path):
    """A run that wrote both versions is reported once."""
    for name in ("perfetto_trace_1.pb", "perfetto_trace_v2_1.pb", "a.json"):
        (tmp_path / name).touch()
    assert ["perfetto_trace_v2_1.pb"] == [p.name for p in folder_traces(tmp_path)]
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(TraceFormatError, match="without any"):
        folder_traces(empty)


def test_an_open_span_is_said(tmp_path):
    """Spans without an end are cut and counted in the notes."""
    stream = TraceStream(V2Layout(), Process(1, "python"), RUN)
    info = TimelineInfo("host-1", TimelineKind.HOST, "MainThread", True)
    opened: list[RawRecord] = [("a", 5, OPEN, 1, 0, 0, None, None)]
    ended: list[RawRecord] = [("b", 6, 9, 2, 1, 0, None, None)]
    batch = Batch(
        [(info, ended)], [(info, opened)], frozenset(), ClockSnapshot(9, 9, 9)
    )
    path = Path(tmp_path / "a.pb")
    path.write_bytes(stream.encode(batch))
    assert any("1 span has no end" in note for note in read_recording(path).notes)


def test_of_a_folder_the_one_trace_is_meant(tmp_path):
    """Of several nobody can say which: they are named, the newest first."""
    first = TrainingRun(3).write(tmp_path / "perfetto_trace_v2_1.pb")
    (tmp_path / "perfetto_trace_1.pb").write_bytes(b"")
    assert first == the_trace(tmp_path) == the_trace(first)
    for number in range(2, 6):
        newer = tmp_path / f"perfetto_trace_v2_{number}.pb"
        newer.write_bytes(first.read_bytes())
        os.utime(newer, (number + 2e9, number + 2e9))
    newest = ", ".join(f"perfetto_trace_v2_{number}.pb" for number in (5, 4, 3))
    with pytest.raises(
        TraceFormatError, match=rf"found 5: .* \(the newest: {newest}\)"
    ):
        the_trace(tmp_path)
