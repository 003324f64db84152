from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perf._model.spans import OPEN
from perf._model.tracks import Process
from perf._write.layout import V1Layout, V2Layout
from perf._write.stream import TraceStream
from tests.perfetto.trace_processor import TraceProcessor, counters, flows, slices
from tests.write.recorded import Recorder, operations

PROCESS = Process(42, "train.py", ("python", "train.py"))
TOP = ("train.py", "Post-Training Run")
V1_PATHS = {
    "host-1": (*TOP, "Main"),
    "host-2": (*TOP, "Main worker"),
    "host-3": (*TOP, "Main asyncio"),
    "server": (*TOP, "server"),
    "tpu0": (*TOP, "Devices", "tpu0"),
    "tpu0_queue": (*TOP, "Devices", "tpu0_queue"),
    "tpu1": (*TOP, "Devices", "tpu1"),
}


def check(recorder, data, paths):
    with TraceProcessor(data) as tp:
        tp.assert_clean()
        rows = [row for row in slices(tp) if row.track[-1] != "Run"]
        samples = counters(tp)
        arrows = flows(tp)
    whole = [row for row in rows if "cut" not in row.args]
    timelines = {path: timeline for timeline, path in paths.items()}
    expected = Counter(
        (paths[s.timeline], s.name, s.begin_ns,
         -1 if s.end_ns == OPEN else s.end_ns - s.begin_ns, tuple(sorted(s.tags.items())))
        for s in recorder.shown()
    )
    found = Counter(
        (r.track, r.name, r.ts, r.dur, tuple(sorted(r.args.items()))) for r in whole
    )
    assert expected == found, (expected-found, found-expected)
    by_id = {row.id: row for row in rows}
    for row in whole:
        if row.parent_id is not None and row.track != paths["tpu0_queue"]:
            ancestors = []
            name = recorder.parents.get(row.name)
            while name:
                ancestors.append(name)
                name = recorder.parents[name]
            around = by_id[row.parent_id].name
            assert around in ancestors or around in recorder.moments, (row, by_id[row.parent_id])
    assert sorted(recorder.counters) == sorted((s.track[-1], s.ts, s.value) for s in samples)
    check_arrows(recorder, [
        tuple((timelines[by_id[i].track], by_id[i].name) for i in (f.slice_out, f.slice_in))
        for f in arrows
    ])


def check_arrows(recorder, found):
    """Exact where the two ends begin at different times and alone; else near."""
    begins = Counter((s.timeline, s.begin_ns) for s in recorder.seen)
    seen = {(s.timeline, s.name): s for s in recorder.seen}
    near = set()
    for start, end in recorder.arrows:
        arrow = (start.timeline, start.name), (end.timeline, end.name)
        moment = end.end_ns if end.timeline == "tpu0" else end.begin_ns
        alone = end.timeline == "tpu0" or begins[end.timeline, end.begin_ns] == 1
        if start.begin_ns < moment and alone:
            assert arrow in found, (arrow, found)
            found.remove(arrow)
        else:
            near.add((arrow[0], end.timeline, end.begin_ns))
    for start, end in found:
        assert (start, end[0], seen[end].begin_ns) in near, (start, end)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(operations())
def test_every_slice_comes_back_whole(ops):
    """Any spans, split into any batches, are read back one by one."""
    recorder = Recorder()
    stream = TraceStream(V1Layout(), PROCESS, {"schema_version": 1}, b"seed")
    data = b"".join(stream.encode(batch) for batch in recorder.run(ops))
    check(recorder, data, V1_PATHS)
