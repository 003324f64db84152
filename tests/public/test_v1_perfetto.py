"""`perf.perfetto`: the trace that v1 writes."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from perf import perfetto
from perf.export import PerfMetricsExport
from perf.perfetto import PerfettoTraceWriter
from perf.span import Span, SpanGroup
from tests.public.drive import V1Run, play
from tests.public.trace_file import TraceFile

ROLES = {"rollout": ["a0"], "actor": ["b0"], "refer": ["c0"]}


def closed(name: str, begin: float, end: float) -> Span:
    """A span that has ended."""
    span = Span(name, begin)
    span.end = end
    return span


def group(name: str, begin: float, end: float, *inner: Any) -> SpanGroup:
    """A group that has ended."""
    node = SpanGroup(name)
    node.begin, node.end = begin, end
    node.inner.extend(inner)
    return node


def written_by_hand(folder: Path) -> TraceFile:
    """A trace written from groups and spans that were made by hand."""
    PerfettoTraceWriter(str(folder)).log_trace(
        [group("global_step", 1.0, 9.0, closed("data_loading", 1.0, 2.0))],
        [closed("rollout", 2.0, 3.0)],
        [closed("refer_inference", 3.0, 4.0)],
        [group("actor_training", 4.0, 6.0, closed("peft_train_step", 4.0, 5.0))],
    )
    return TraceFile(folder)


@pytest.mark.row("P29")
def test_the_file_is_named_by_its_time(tmp_path: Path) -> None:
    """The file is `perfetto_trace_<unix seconds>.pb` (P29)."""
    before = int(time.time())
    name = written_by_hand(tmp_path).path.name
    match = re.fullmatch(r"perfetto_trace_(\d+)\.pb", name)
    assert match
    assert before <= int(match[1]) <= time.time()


def test_an_export_function_around_the_built_in_one_has_the_trace(
    tmp_path: Path,
) -> None:
    """With all that the tracer recorded, from the first step on (P29)."""
    writer = PerfettoTraceWriter(str(tmp_path))
    built_in = PerfMetricsExport.from_role_to_devices(ROLES, writer)
    run = V1Run(["a0"], lambda q: built_in(q) | {"mine": (1.0, None)}, watch=False)
    tracer = run.tracer
    for step in range(3):
        with tracer.span_group("global_step"), tracer.span("rollout"):
            tracer.counter("reward", step)
            run.at(step + 1.0)
        assert 1.0 == tracer.export()["mine"][0]
    with tracer.span("evaluation"):
        run.at(4.0)
    tracer.close()
    file = TraceFile(tmp_path)
    assert (str(file.path),) == tracer.stats().trace_paths
    assert 3 == len(file.named("rollout")) == len(file.counters)
    assert 1 == len(file.named("evaluation"))


@pytest.mark.row("P29")
def test_the_file_is_a_perfetto_trace(tmp_path: Path) -> None:
    """It parses as `perfetto.protos.Trace` and holds packets (P29)."""
    assert written_by_hand(tmp_path).packets()


@pytest.mark.row("P30")
def test_the_four_tracks(tmp_path: Path) -> None:
    """Each role has its track below "Post-Training Run" (P30)."""
    file = written_by_hand(tmp_path)
    root = "Post-Training Run"
    assert [("global_step", 0.0, 8.0), ("data_loading", 0.0, 1.0)] == file.rows(
        (root, "Main")
    )
    assert [("rollout", 1.0, 1.0)] == file.rows((root, "Rollout"))
    assert [("refer_inference", 2.0, 1.0)] == file.rows((root, "Reference"))
    assert [("actor_training", 3.0, 2.0), ("peft_train_step", 3.0, 1.0)] == file.rows(
        (root, "Actor")
    )


def test_groups_of_threads_are_merged(tmp_path: Path) -> None:
    """Steps of two threads that fit together are one Main track (P30)."""
    PerfettoTraceWriter(str(tmp_path)).log_trace(
        [
            group("global_step", 1.0, 9.0, closed("a", 1.0, 2.0)),
            group("global_step", 1.0, 9.0, closed("b", 3.0, 4.0)),
        ],
        [],
        [],
        [],
    )
    file = TraceFile(tmp_path)
    assert [("global_step", 0.0, 8.0), ("a", 0.0, 1.0), ("b", 2.0, 1.0)] == file.rows(
        ("Post-Training Run", "Main")
    )


def test_groups_that_cannot_be_merged_have_a_track_each(tmp_path: Path) -> None:
    """Steps of two threads that overlap are two Main tracks, both whole (P30)."""
    PerfettoTraceWriter(str(tmp_path)).log_trace(
        [
            group("global_step", 1.0, 9.0, closed("a", 1.0, 3.0)),
            group("global_step", 1.0, 9.0, closed("b", 2.0, 4.0)),
        ],
        [],
        [],
        [],
    )
    file = TraceFile(tmp_path)
    tracks = file.tracks("a") | file.tracks("b")
    assert 2 == len(tracks)
    assert all(track[-1].startswith("Main") for track in tracks)
    assert tracks == file.tracks("global_step")


def test_steps_are_appended_to_one_file(tmp_path: Path) -> None:
    """Every step adds to the run's file (P29)."""
    writer = PerfettoTraceWriter(str(tmp_path))
    for step in range(3):
        writer.log_trace([group("global_step", step, step + 1.0)], [], [], [])
    assert [("global_step", float(step), 1.0) for step in range(3)] == (
        TraceFile(tmp_path).rows(("Post-Training Run", "Main"))
    )


def test_two_writers_of_one_second_write_two_files(tmp_path: Path) -> None:
    """Runs that start within a second share no file (field 16)."""
    for name in ("a", "b"):
        PerfettoTraceWriter(str(tmp_path)).log_trace(
            [group(name, 1.0, 2.0)], [], [], []
        )
    first, second = tmp_path.glob("perfetto_trace_*.pb")
    assert first != second


WRITE_WITHOUT_A_FOLDER = """
from perf.perfetto import PerfettoTraceWriter
from perf.span import SpanGroup

group = SpanGroup("global_step")
group.begin, group.end = 1.0, 2.0
PerfettoTraceWriter(None).log_trace([group], [], [], [])
"""


@pytest.mark.row("P17")
def test_the_default_folder() -> None:
    """Without a folder traces go to /tmp/perf_traces (P17)."""
    assert "/tmp/perf_traces" == perfetto.DEFAULT_EXPORT_DIR
    folder = Path(perfetto.DEFAULT_EXPORT_DIR)
    before = set(folder.glob("*"))
    # In a process of its own, so that the file is closed when it is taken away.
    subprocess.run([sys.executable, "-c", WRITE_WITHOUT_A_FOLDER], check=True)
    (new,) = set(folder.glob("*")) - before
    new.unlink()


def traced(folder: Path, **options: Any) -> V1Run:
    """A v1 run whose built-in export function writes a trace."""
    writer = PerfettoTraceWriter(str(folder))
    export_fn = PerfMetricsExport.from_role_to_devices(ROLES, writer)
    return V1Run(["a0", "b0", "c0"], export_fn, watch=False, **options)


def test_a_run_is_in_its_trace(tmp_path: Path) -> None:
    """What was recorded is on the tracks of its role, at its time (P2, P30)."""
    run = traced(tmp_path)
    play(run, ROLES)
    run.tracer.export()
    run.tracer.close()
    file = TraceFile(tmp_path)
    root = "Post-Training Run"
    assert [
        ("rollout", 0.5, 2.0),
        ("rollout", 6.5, 1.5),
        ("rollout", 13.5, 0.5),
    ] == file.rows((root, "Rollout"))
    assert [2.5, 8.0, 14.0] == [row[1] for row in file.rows((root, "Reference"))]
    trained = [row for row in file.rows((root, "Actor")) if row[0] == "actor_training"]
    assert [(4.5, 2.0), (9.5, 4.0), (14.5, 1.0)] == [row[1:] for row in trained]
    main = file.rows((root, "Main"))
    assert ("global_step", 0.0, 19.5) in main
    assert ("weight_sync", 16.5, 1.5) in main


def test_every_device_has_a_track(tmp_path: Path) -> None:
    """Beside the roles' tracks each device shows its own work (P2)."""
    run = traced(tmp_path)
    work = run.launch("mine", ["a0"])
    run.at(2.0)
    run.finish(work)
    run.tracer.export()
    run.tracer.close()
    assert any("a0" in track for track in TraceFile(tmp_path).tracks("mine"))


def test_work_pending_at_the_last_export_is_written(tmp_path: Path) -> None:
    """What ends after the last export is in the file when it is closed (field 22)."""
    run = traced(tmp_path)
    with run.tracer.span_group("global_step"):
        work = run.launch("rollout", ["a0"])
        run.at(1.0)
    run.tracer.export()
    run.at(3.0)
    run.finish(work)
    run.tracer.close()
    durations = {row.dur for row in TraceFile(tmp_path).named("rollout")}
    assert 3_000_000_000 in durations


def test_nested_spans_nest_in_the_trace(tmp_path: Path) -> None:
    """A span inside a span lies inside it (field 21)."""
    run = traced(tmp_path)
    with run.tracer.span_group("global_step"), run.tracer.span("outer"):
        run.at(1.0)
        with run.tracer.span("inner"):
            run.at(2.0)
        run.at(3.0)
    run.tracer.export()
    run.tracer.close()
    file = TraceFile(tmp_path)
    outer = {row.id for row in file.named("outer")}
    assert all(row.parent_id in outer for row in file.named("inner"))
    assert file.named("inner")


def test_the_trace_says_what_it_is_of(tmp_path: Path) -> None:
    """Process and thread have names, and there is a clock snapshot (field 27)."""
    run = traced(tmp_path)
    with run.tracer.span_group("global_step"):
        run.at(1.0)
    run.tracer.export()
    run.tracer.close()
    file = TraceFile(tmp_path)
    assert file.processes - {None}
    assert "MainThread" in file.threads
    assert any(packet.HasField("clock_snapshot") for packet in file.packets())


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("", id="empty"),
        pytest.param("\ud800", id="lone surrogate"),
        pytest.param("a\x00b", id="NUL"),
        pytest.param("\u202eabc\n", id="control characters"),
        pytest.param("x" * 100_000, id="long"),
    ],
)
def test_a_hostile_name_stops_no_writing(name: str, tmp_path: Path) -> None:
    """Whatever a span is called, the file stays whole and goes on (field 19)."""
    run = traced(tmp_path)
    for step, each in enumerate((name, "after")):
        with run.tracer.span_group("global_step"), run.tracer.span(each):
            run.at(step + 1.0)
        run.tracer.export()
    run.tracer.close()
    file = TraceFile(tmp_path)
    assert file.named("after")
    assert [row for row in file.slices if row.name not in ("global_step", "after")]


@pytest.mark.row("P32")
def test_a_folder_that_cannot_be_made_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Training goes on without a trace, and the log says why once (P32; field 18)."""
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    run = traced(blocked / "traces")
    for step in range(3):
        with run.tracer.span_group("global_step"):
            run.at(step + 1.0)
        metrics = run.tracer.export()
        assert pytest.approx(1.0) == metrics["perf/global_step_time"][0]
    run.tracer.close()
    mentions = [r for r in caplog.records if str(blocked) in r.getMessage()]
    assert 1 == len(mentions)


def test_nothing_to_write_is_no_error(tmp_path: Path) -> None:
    """A run that recorded nothing closes without a complaint (P32)."""
    run = traced(tmp_path)
    run.tracer.export()
    run.tracer.close()
