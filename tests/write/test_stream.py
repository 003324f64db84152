from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from perf._model.spans import OPEN, TimelineInfo, TimelineKind
from perf._read.load import load
from perf._write.layout import Layout, V1Layout, V2Layout
from perf._write.stream import TraceStream
from tests.write.recorded import Op, Recorder, Seen, operations
from tests.write.traces import (
    MAIN,
    PROCESS,
    QUEUE,
    RUN,
    TPU,
    WORKER,
    batch,
    packets,
    shown,
    span,
    stream,
    written,
)
from tools.perfetto.trace_processor import (
    CounterSample,
    Flow,
    Slice,
    TraceProcessor,
    counters,
    flows,
    slices,
)

TOP = ("train.py", "Post-Training Run")
PATHS = {
    "host-1": (*TOP, "Main"),
    "host-2": (*TOP, "Main worker"),
    "host-3": (*TOP, "Main asyncio"),
    "server": (*TOP, "server"),
    "tpu0": (*TOP, "Devices", "tpu0"),
    "tpu0_queue": (*TOP, "Devices", "tpu0_queue"),
    "tpu1": (*TOP, "Devices", "tpu1"),
}
TIMELINES = {path: timeline for timeline, path in PATHS.items()}


def recorded(ops: Sequence[Op], pid: int = PROCESS.pid) -> tuple[Recorder, bytes]:
    """A recorder that carried out the operations, and the file it led to."""
    process = dataclasses.replace(PROCESS, pid=pid)
    recorder, file = Recorder(), TraceStream(V1Layout(), process, RUN, bytes([pid]))
    return recorder, b"".join([file.encode(part) for part in recorder.run(ops)])


def as_rows(seen: Sequence[Seen]) -> Counter[object]:
    """Slices that were recorded, as `as_found` gives those that are shown."""
    return Counter(
        (
            PATHS[s.timeline],
            s.name,
            s.begin_ns,
            -1 if s.end_ns == OPEN else s.end_ns - s.begin_ns,
            tuple(sorted(s.tags.items())),
        )
        for s in seen
    )


def as_found(rows: Sequence[Slice]) -> Counter[object]:
    """Slices that Perfetto shows, each once."""
    return Counter(
        (r.track, r.name, r.ts, r.dur, tuple(sorted(r.args.items()))) for r in rows
    )


def check_nesting(recorder: Recorder, rows: Sequence[Slice]) -> None:
    """A slice lies in nothing but its ancestors.

    Perfetto takes a moment for open as long as its time lasts: what begins just then is
    shown in it. And waits are named by what waits.
    """
    by_id = {row.id: row for row in rows}
    for row in rows:
        if row.parent_id is None or row.track == PATHS["tpu0_queue"]:
            continue
        ancestors, name = set(), recorder.parents.get(row.name or "")
        while name:
            ancestors.add(name)
            name = recorder.parents[name]
        around = by_id[row.parent_id].name
        assert around in ancestors | recorder.moments


def check_arrows(
    recorder: Recorder, arrows: Sequence[Flow], by_id: Mapping[int, Slice]
) -> None:
    """All arrows are there; those end elsewhere only whose ends are not alone.

    An arrow finds its slices by time. On a clock that stands still several begin at one
    moment, or one ends when the other begins: then it may be missing or end at another
    slice of that moment.
    """
    found = [(_place(by_id[a.slice_out]), _place(by_id[a.slice_in])) for a in arrows]
    begins = Counter((s.timeline, s.begin_ns) for s in recorder.seen)
    begin_of = {(s.timeline, s.name): s.begin_ns for s in recorder.seen}
    close = set()
    for start, end in recorder.arrows:
        arrow = (start.timeline, start.name), (end.timeline, end.name)
        on_device = end.timeline == TPU.id
        moment_ns = end.end_ns if on_device else end.begin_ns
        alone = on_device or begins[end.timeline, end.begin_ns] == 1
        if start.begin_ns < moment_ns and alone:
            assert arrow in found
            found.remove(arrow)
        else:
            close.add((arrow[0], end.timeline, end.begin_ns))
    for source, target in found:
        assert (source, target[0], begin_of[target]) in close


def _place(row: Slice) -> tuple[str, str]:
    return TIMELINES[row.track], row.name or ""


def check(
    recorder: Recorder,
    rows: Sequence[Slice],
    samples: Sequence[CounterSample],
    arrows: Sequence[Flow],
) -> None:
    """What Perfetto shows of one file is what was recorded."""
    whole = [row for row in rows if "cut" not in row.args]
    assert as_rows(recorder.shown()) == as_found(whole)
    check_nesting(recorder, rows)
    check_arrows(recorder, arrows, {row.id: row for row in rows})
    assert sorted(recorder.counters) == sorted(
        (sample.track[-1], sample.ts, sample.value) for sample in samples
    )


@settings(max_examples=60)
@given(operations())
@example([(6, 80, 47), (6, 75, 58), (6, 143, 51), (6, 20, 25), (7, 109, 34), (7, 2, 5)])
def test_perfetto_shows_every_span_as_it_was_recorded(ops: list[Op]) -> None:
    """Any spans in any batches come back one by one, and nothing is complained about.

    Nested, touching, empty, overlapping and concurrent ones; open and closed in other
    batches; with tags that were added while open; on a clock that stands still.
    """
    recorder, data = recorded(ops)
    with TraceProcessor(data) as tp:
        tp.assert_clean()
        rows = [row for row in slices(tp) if row.track[-1] != "Run"]
        check(recorder, rows, counters(tp), flows(tp))


@settings(max_examples=15)
@given(st.lists(operations(), min_size=2, max_size=4), st.randoms())
def test_files_can_be_put_together(parts: list[list[Op]], random: object) -> None:
    """Files of several processes, one after the other in any order, lose nothing.

    Their tracks do not mix: no slice lies in one of another file.
    """
    files = [recorded(ops, pid) for pid, ops in enumerate(parts, start=50)]
    random.shuffle(files)  # type: ignore[attr-defined]
    rows = shown(b"".join([data for _, data in files]))
    whole = [row for row in rows if "cut" not in row.args]
    everything = [seen for recorder, _ in files for seen in recorder.shown()]
    assert as_rows(everything) == as_found(whole)


@settings(max_examples=100)
@given(operations())
def test_what_is_written_loads_again(tmp_path_factory: object, ops: list[Op]) -> None:
    """Our own reader gives the same slices, tags, tracks and samples."""
    recorder, data = recorded(ops)
    path: Path = tmp_path_factory.mktemp("load") / "trace.pb"  # type: ignore[attr-defined]
    path.write_bytes(data)
    trace = load(path)
    found = Counter(
        (
            s.track.path,
            s.name,
            s.begin_ns,
            -1 if s.end_ns == OPEN else s.end_ns - s.begin_ns,
            tuple(sorted(s.tags.items())),
        )
        for s in trace.slices
        if "cut" not in s.tags
    )
    moments = [s for s in recorder.shown() if s.name in recorder.moments]
    lasting = [s for s in recorder.shown() if s.name not in recorder.moments]
    assert as_rows(lasting) == found
    assert sorted((s.name, s.begin_ns) for s in moments) == sorted(
        (i.name, i.time_ns) for i in trace.instants
    )
    assert sorted(recorder.counters) == sorted(
        (s.track.name, s.time_ns, float(s.value)) for s in trace.samples
    )


@settings(max_examples=100)
@given(operations())
def test_the_end_tells_how_many_slices_there_are(ops: list[Op]) -> None:
    """Those written, and those of them that are open, whatever was cut or redrawn."""
    recorder, file = Recorder(), TraceStream(V1Layout(), PROCESS, RUN, b"seed")
    data = b"".join([file.encode(part) for part in recorder.run(ops)])
    assume(data)
    data += file.end()
    types = Counter(packet.track_event.type for packet in packets(data))
    begun, ended = (
        types[kind]
        for kind in (pb.TrackEvent.TYPE_SLICE_BEGIN, pb.TrackEvent.TYPE_SLICE_END)
    )
    (_, end) = about_file(data)
    assert ("end", {"slices": begun, "open_slices": begun - ended}) == end


def about_file(data: bytes) -> list[tuple[str, dict[str, int]]]:
    """What the instants on the track of the run say."""
    with TraceProcessor(data) as tp:
        tp.assert_clean()
        return [
            (row.name or "", row.args) for row in slices(tp) if row.track[-1] == "Run"
        ]


def test_what_was_lost_is_told_where_it_happened() -> None:
    """On the track of the run, at the time of the batch; once, unless more is lost."""
    file = stream()
    data = file.encode(batch((MAIN, [span(1, 10, 20)]), at_ns=100)) + file.lost(3)
    data += file.encode(batch((MAIN, [span(2, 120, 130)]), at_ns=200)) + file.lost(2)
    with TraceProcessor(data) as tp:
        tp.assert_clean()
        found = [(r.name, r.ts, r.args) for r in slices(tp) if r.track[-1] == "Run"]
    assert [("lost", 100, {"records": 3}), ("lost", 200, {"records": 2})] == found[1:]


@settings(max_examples=15)
@given(operations())
def test_slices_that_share_a_lane_do_not_overlap(ops: list[Op]) -> None:
    """On each track, slices lie apart or one in the other."""
    _, data = recorded(ops)
    with TraceProcessor(data) as tp:
        rows = tp.query(
            "select track_id, ts, iif(dur < 0, 1 << 62, ts + dur) as end from slice"
            " order by ts, depth, id"
        )
    around: dict[int, list[int]] = {}
    for row in rows:
        ends = around.setdefault(row["track_id"], [])
        while ends and ends[-1] <= row["ts"]:
            ends.pop()
        assert not ends or row["end"] <= ends[-1]
        ends.append(row["end"])


def test_work_in_flight_is_shown_waiting_until_it_ends() -> None:
    """Its slice on the queue ends where its wait did."""
    wait = span(7, 10, 30, name="queue", kind=3, tags={"NAME": "train"})
    data = written(
        batch(opened=[(QUEUE, [span(7, 10, name="train", kind=2)])]),
        batch((TPU, [span(7, 30, 90, name="train", kind=2)]), (QUEUE, [wait])),
    )
    rows = {(row.track[-1], row.name, row.ts, row.dur) for row in shown(data)}
    assert {("tpu0_queue", "train", 10, 20), ("tpu0", "train", 30, 60)} == rows


def test_work_that_did_not_wait_leaves_an_empty_wait() -> None:
    """It was shown waiting; nobody recorded a wait, so it ends where the work began."""
    data = written(
        batch(opened=[(QUEUE, [span(7, 10, name="train", kind=2)])]),
        batch((TPU, [span(7, 10, 90, name="train", kind=2)])),
    )
    rows = {(row.track[-1], row.ts, row.dur) for row in shown(data)}
    assert {("tpu0_queue", 10, 0), ("tpu0", 10, 80)} == rows


def test_waits_that_overlap_get_lanes() -> None:
    """Two works in flight on one device are two open slices on two tracks."""
    opened = [span(7, 10, kind=2), span(8, 15, kind=2)]
    data = written(
        batch(opened=[(QUEUE, opened)]),
        batch(
            (TPU, [span(7, 10, 40, kind=2), span(8, 40, 60, kind=2)]),
            (QUEUE, [span(8, 15, 40, name="queue", kind=3)]),
        ),
    )
    rows = {(r.name, r.ts, r.dur) for r in shown(data) if r.track[-1] == QUEUE.id}
    assert {("span 7", 10, 0), ("span 8", 15, 25)} == rows


def test_work_per_batch_does_not_grow() -> None:
    """The thousandth batch of the same spans takes as many bytes as the second."""
    file = stream()
    sizes = []
    for step in range(1000):
        at = 1000 + step * 200
        records = [
            span(5 * step + n, at + n * 10, at + n * 10 + 5) for n in range(1, 6)
        ]
        same_names = [("step", *record[1:]) for record in records]
        sizes.append(len(file.encode(batch((MAIN, same_names), at_ns=at + 100))))
    assert sizes[1] == sizes[-1]


def test_clocks_are_related_again_every_thirty_seconds() -> None:
    """Not with each batch, and not only once: they drift."""
    file = stream()
    data = b"".join(
        [
            file.encode(
                batch(
                    (MAIN, [span(s + 1, s * 10**9 + 5, s * 10**9 + 9)]),
                    at_ns=s * 10**9 + 10,
                )
            )
            for s in range(70)
        ]
    )
    found = [p.clock_snapshot for p in packets(data) if p.HasField("clock_snapshot")]
    assert [10, 30 * 10**9 + 10, 60 * 10**9 + 10] == [
        next(c.timestamp for c in snapshot.clocks if c.clock_id == 3)
        for snapshot in found
    ]
    assert [(s * 10**9 + 5, 4) for s in range(70)] == [
        (r.ts, r.dur) for r in shown(data)
    ]


@pytest.mark.parametrize("layout", [V1Layout(), V2Layout()])
@pytest.mark.parametrize("other", [TPU, QUEUE, WORKER])
def test_a_named_track_is_not_a_timeline_of_its_name(
    layout: Layout, other: TimelineInfo
) -> None:
    """The user who calls a track `tpu0` gets one beside that of the device."""
    named = TimelineInfo(other.id, TimelineKind.NAMED, other.id)
    data = written(
        batch((named, [span(1, 10, 20)]), (other, [span(2, 10, 20)])),
        batch((other, [span(3, 30, 40)]), (named, [span(4, 30, 40)])),
        batch(opened=[(named, [span(5, 50)]), (other, [span(6, 50)])]),
        layout=layout,
    )
    tracks = {row.name: row.track for row in shown(data)}
    assert tracks["span 1"] == tracks["span 4"] == tracks["span 5"]
    assert tracks["span 2"] == tracks["span 3"] == tracks["span 6"]
    assert tracks["span 1"] != tracks["span 2"]


def test_a_thread_for_each_task_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many come at once; those with something open are remembered."""
    monkeypatch.setattr("perf._write.stream._MAX_ROWS", 20)
    file = stream()
    data = file.encode(batch(opened=[(MAIN, [span(1, 1)])]))
    for n in range(10):
        data += file.encode(
            batch(
                *[
                    (
                        WORKER._replace(id=f"host-{n}-{k}", native_thread_id=k + 1),
                        [span(2 + n * 30 + k, 10 + n * 10, 15 + n * 10)],
                    )
                    for k in range(30)
                ]
            )
        )
    assert 20 >= len(file._rows)
    assert 100 >= len(file._uuids)
    data += file.encode(batch((MAIN, [span(1, 1, 500)])))
    assert 301 == len({row.name for row in shown(data) if row.dur > 0})


def test_a_file_of_many_threads_forgets_the_dead_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is remembered is bounded; a timeline that comes back has its track again."""
    monkeypatch.setattr("perf._write.stream._MAX_ROWS", 120)
    file = stream()
    data = b""
    for n in range(300):
        info = WORKER._replace(id=f"host-{n % 250}", native_thread_id=0)
        data += file.encode(batch((info, [span(n + 1, n * 10, n * 10 + 5)])))
    assert 120 >= len(file._rows)
    with TraceProcessor(data) as tp:
        tp.assert_clean()
        (count,) = tp.query(
            "select count(*) as slices, count(distinct track_id) as tracks from slice"
            " where dur > 0"
        )
    assert {"slices": 300, "tracks": 250} == count
