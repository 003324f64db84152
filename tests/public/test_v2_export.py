"""`perf.experimental.export` and `.trace_writer`: what v2 writes and returns."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from perf.experimental import export, trace_writer
from perf.experimental.export import PerfMetricsExport
from perf.experimental.timeline import Timeline
from perf.experimental.tracer import PerfTracer
from perf.metrics import MetricsT, PerfMetricsOptions
from perf.testing import ManualWait
from tests.public.drive import V2Run, play, play_launches
from tests.public.trace_file import TraceFile

ROLES = {"rollout": ["a0"], "actor": ["b0"], "reference": ["b0"]}
PLAYED = {"rollout": ["a0"], "actor": ["b0"], "refer": ["b0"]}


def traced(folder: Path, devices: Any = ("a0", "b0"), **options: Any) -> V2Run:
    """A v2 run whose built-in export function writes a trace."""
    built_in = PerfMetricsExport(trace_dir=str(folder), role_to_devices=ROLES)
    return V2Run(list(devices), built_in.export_metrics, watch=False, **options)


def closed(run: V2Run, folder: Path) -> TraceFile:
    """The trace of a run, ended."""
    run.tracer.export()
    run.tracer.close()
    return TraceFile(folder)


@pytest.mark.row("P21")
def test_the_default_folder() -> None:
    """Without a folder traces go to /tmp/perf_traces (P21)."""
    assert "/tmp/perf_traces" == export.DEFAULT_TRACE_DIR


@pytest.mark.row("P20", "P31")
def test_the_documented_export(tmp_path: Path) -> None:
    """`PerfMetricsExport(trace_dir=…).export_metrics` writes a v2 file (P20, P29)."""
    built_in = PerfMetricsExport(trace_dir=str(tmp_path))
    run = V2Run(["a0"], built_in.export_metrics, watch=False)
    with run.tracer.span("rollout"):
        run.at(1.0)
    run.tracer.export()
    built_in.shutdown()
    file = TraceFile(tmp_path)
    assert re.fullmatch(r"perfetto_trace_v2_\d+\.pb", file.path.name)
    assert [1_000_000_000] == [row.dur for row in file.named("rollout")]


def test_an_export_function_around_the_built_in_one_has_the_trace(
    tmp_path: Path,
) -> None:
    """With all that the tracer recorded, from the first step on (P20)."""
    built_in = PerfMetricsExport(trace_dir=str(tmp_path), role_to_devices=ROLES)

    def with_more(timelines: Any) -> MetricsT:
        return built_in.export_metrics(timelines) | {"mine": (1.0, None)}

    run = V2Run(["a0"], with_more, watch=False)
    tracer = run.tracer
    for step in range(3):
        with tracer.span("rollout") as rollout:
            run.at(2.0 * step + 1.0)
            tracer.counter("reward", step)
        with tracer.span("peft_train", after=[rollout]):
            run.at(2.0 * step + 2.0)
        assert 1.0 == tracer.export()["mine"][0]
    with tracer.span("evaluation"):
        run.at(7.0)
    tracer.close()
    file = TraceFile(tmp_path)
    assert (str(file.path),) == tracer.stats().trace_paths
    assert 3 == len(file.named("rollout")) == len(file.counters) == len(file.flows)
    assert 1 == len(file.named("evaluation"))


def test_each_tracer_of_such_a_function_has_its_trace(tmp_path: Path) -> None:
    """Once each; a tracer that is closed has no second one."""
    built_in = PerfMetricsExport(trace_dir=str(tmp_path))
    runs = [
        V2Run(["a0"], lambda t: built_in.export_metrics(t), watch=False)
        for _ in range(2)
    ]
    for _ in range(2):
        for run in runs:
            with run.tracer.span("rollout"):
                run.at(1.0)
            run.tracer.export()
    paths = []
    for run in runs:
        run.tracer.close()
        run.tracer.export()
        paths += run.tracer.stats().trace_paths
    assert 2 == len(set(paths)) == len(list(tmp_path.iterdir()))


def test_shutting_down_twice_is_no_error(tmp_path: Path) -> None:
    """`shutdown` may be called again, and the export may be a `with` (H14)."""
    with PerfMetricsExport(trace_dir=str(tmp_path)) as built_in:
        built_in.export_metrics({"host-1": timeline("host-1", "rollout")})
    built_in.shutdown()
    built_in.shutdown(wait=False)
    assert TraceFile(tmp_path).named("rollout")


def test_no_trace_when_the_writer_is_off(tmp_path: Path) -> None:
    """`enable_trace_writer=False` writes no file, but gives metrics (P8)."""
    built_in = PerfMetricsExport(
        enable_trace_writer=False, trace_dir=str(tmp_path), role_to_devices=ROLES
    )
    run = V2Run(["a0", "b0"], built_in.export_metrics, watch=False)
    play(run, PLAYED)
    assert pytest.approx(4.0) == run.tracer.export()["perf/sum/rollout_time"][0]
    run.tracer.close()
    built_in.shutdown()
    assert [] == list(tmp_path.iterdir())


def test_metrics_come_back(tmp_path: Path) -> None:
    """`export_metrics` returns the step's metrics with np.mean (P23; mended)."""
    run = traced(tmp_path)
    play(run, PLAYED)
    metrics = run.tracer.export()
    expected = {
        "perf/sum/rollout_time": 4.0,
        "perf/mean/rollout_time": 4.0 / 3,
        "perf/sum/refer_inference_time": 2.5,
        "perf/sum/actor_train_time": 7.0,
        "perf/sum/actor_train_step_time": 7.0,
        "perf/weight_sync_time": 1.5,
        "perf/rollout_idle_time": 2.5,
        "perf/sum/between_micro_batch_gap_time": 2.0,
    }
    assert pytest.approx(expected) == {name: metrics[name][0] for name in expected}
    assert {np.mean} == {aggregate for _, aggregate in metrics.values()}


def cluster(options: PerfMetricsOptions | None = None) -> Any:
    """A cluster configuration by shape alone."""

    def role(value: str) -> Any:
        return type("Role", (), {"value": value})()

    return SimpleNamespace(
        role_to_mesh={
            role("rollout"): SimpleNamespace(devices=np.array(["a0"])),
            role("actor"): SimpleNamespace(devices=np.array(["b0"])),
            role("reference"): SimpleNamespace(devices=np.array(["b0"])),
        },
        training_config=SimpleNamespace(perf_metrics_options=options),
    )


def test_an_export_from_a_cluster_config(tmp_path: Path) -> None:
    """Roles and their devices are read from the meshes (H14)."""
    built_in = PerfMetricsExport.from_cluster_config(cluster(), trace_dir=str(tmp_path))
    run = V2Run(["a0", "b0"], built_in.export_metrics, watch=False)
    play(run, PLAYED)
    assert pytest.approx(2.5) == run.tracer.export()["perf/rollout_idle_time"][0]
    run.tracer.close()
    built_in.shutdown()
    assert TraceFile(tmp_path).named("weight_sync")


def test_an_export_from_a_cluster_config_without_a_writer(tmp_path: Path) -> None:
    """The writer can be switched off there too (H14)."""
    built_in = PerfMetricsExport.from_cluster_config(
        cluster(), enable_trace_writer=False, trace_dir=str(tmp_path)
    )
    run = V2Run(["a0", "b0"], built_in.export_metrics, watch=False)
    play(run, PLAYED)
    run.tracer.export()
    run.tracer.close()
    assert [] == list(tmp_path.iterdir())


def test_the_export_that_logs(caplog: pytest.LogCaptureFixture) -> None:
    """`log_metric_export_fn` writes to the log and returns no metrics (P26)."""
    caplog.set_level("INFO")
    metrics = export.log_metric_export_fn({"host-1": timeline("host-1", "rollout")})
    assert {} == metrics
    assert "host-1" in caplog.text


# Tracks


def timeline(id_: str, *names: str, tags: Any = None) -> Timeline:
    """A timeline of one committed step, a second for each span."""
    made = Timeline(id_, 0.0)
    for begin, name in enumerate(names):
        made.start_span(name, float(begin), tags=tags)
        made.stop_span(begin + 1.0)
    made.commit_step()
    return made


def written(folder: Path, *timelines: Timeline, **options: Any) -> TraceFile:
    """The trace that a writer makes of timelines."""
    writer = trace_writer.PerfettoTraceWriter(str(folder), **options)
    writer.write_timelines({each.id: each for each in timelines})
    return TraceFile(folder)


def test_host_threads_are_told_apart_by_what_they_do(tmp_path: Path) -> None:
    """Threads with rollouts only have a group of their own (H17, P30)."""
    file = written(
        tmp_path,
        timeline("host-1", "data_loading", "peft_train"),
        timeline("host-2", "rollout", "rollout"),
    )
    (main,), (rollouts,) = file.tracks("peft_train"), file.tracks("rollout")
    assert "Host - Main threads" in main
    assert "Host - Rollout threads" in rollouts


def test_the_trainer_s_thread_is_a_main_one_whatever_it_does_first(
    tmp_path: Path,
) -> None:
    """A rollout may be all that it has done when the file is first written to."""
    run = traced(tmp_path)
    for name in ("rollout", "peft_train"):
        with run.tracer.span(name):
            run.timer.clock.advance_ns(10**9)
        run.tracer.flush()
    file = closed(run, tmp_path)
    assert all("Host - Main threads" in track for track in file.tracks("rollout"))


def test_devices_are_grouped_by_cluster(tmp_path: Path) -> None:
    """Devices lie under the roles that use them (H17, P30)."""
    file = written(
        tmp_path,
        timeline("a0", "rollout"),
        timeline("b0", "peft_train"),
        role_to_devices=ROLES,
    )
    (rollout,), (train,) = file.tracks("rollout"), file.tracks("peft_train")
    assert "Rollout Cluster" in rollout
    assert "a0" in rollout
    assert any(
        re.fullmatch(r"(Actor, Reference|Reference, Actor) Cluster", name)
        for name in train
    )
    assert "b0" in train


def test_a_device_without_a_role_is_there_too(tmp_path: Path) -> None:
    """No role is no reason to leave a device out (field 21)."""
    (track,) = written(tmp_path, timeline("d7", "mine")).tracks("mine")
    assert "d7" in track


def test_slices_bear_the_plain_name_and_all_tags(tmp_path: Path) -> None:
    """Names stay short; every tag is an annotation (mended; field 21)."""
    tags = {"step": 3, "group_id": "g7", "mine": 0.5, "flag": True}
    file = written(tmp_path, timeline("host-1", "rollout", tags=tags))
    (row,) = file.named("rollout")
    assert tags.items() <= row.args.items()


@pytest.mark.parametrize(
    ("name", "documented"),
    [
        (
            "peft_train",
            "peft_train (step=1, role=actor, mini_batch=2, micro_batch=3)",
        ),
        ("rollout", "rollout (step=1, group_id=4, pair_index=5)"),
        ("reference_inference", "reference_inference (step=1, group_id=4)"),
        ("old_actor_inference", "old_actor_inference (step=1, group_id=4)"),
        ("advantage_computation", "advantage_computation (step=1, group_id=4)"),
        ("environment", "environment (step=1, group_id=4, pair_index=5)"),
        ("queue", "queue (step=1, name=rollout)"),
        ("weight_sync", "weight_sync (step=1)"),
        ("mine", "mine (step=1)"),
    ],
)
def test_the_documented_names(tmp_path: Path, name: str, documented: str) -> None:
    """With `documented_names=True` the tags that matter are in the name (H17)."""
    tags = {
        "step": 1,
        "role": "actor",
        "mini_batch_step": 2,
        "micro_batch_step": 3,
        "group_id": 4,
        "pair_index": 5,
        "NAME": "rollout",
    }
    file = written(tmp_path, timeline("host-1", name, tags=tags), documented_names=True)
    assert [documented] == [row.name for row in file.slices if row.dur]


def test_documented_names_without_tags(tmp_path: Path) -> None:
    """A span without tags has its name and no brackets (H17)."""
    file = written(tmp_path, timeline("host-1", "rollout"), documented_names=True)
    assert file.named("rollout")


def test_writing_again_writes_only_what_is_new(tmp_path: Path) -> None:
    """Each write costs what the step costs: no slice is there twice (field 14)."""
    writer = trace_writer.PerfettoTraceWriter(str(tmp_path))
    growing = Timeline("host-1", 0.0)
    for step in range(3):
        growing.start_span("peft_train", float(step))
        growing.stop_span(step + 1.0)
        growing.commit_step()
        writer.write_timelines({"host-1": growing})
    assert 3 == len(TraceFile(tmp_path).named("peft_train"))


def test_a_writer_called_by_hand_goes_on_for_the_whole_run(tmp_path: Path) -> None:
    """Also when the tracer no longer keeps the steps that were written first."""
    writer = trace_writer.PerfettoTraceWriter(str(tmp_path))
    keep = 3

    def export_fn(timelines: Any) -> MetricsT:
        writer.write_timelines(timelines)
        return {}

    tracer = PerfTracer(export_fn=export_fn, keep_steps=keep)
    for step in range(3 * keep):
        with tracer.span("peft_train", tags={"step": step}):
            pass
        tracer.export()
    writer.close()
    rows = TraceFile(tmp_path).named("peft_train")
    assert list(range(3 * keep)) == [row.args["step"] for row in rows]


def test_a_writer_that_writes_nothing(tmp_path: Path) -> None:
    """The no-op writer has the same call (H17)."""
    writer = trace_writer.NoopTraceWriter()
    assert isinstance(writer, trace_writer.TraceWriter)
    writer.write_timelines({"host-1": timeline("host-1", "rollout")})


def test_two_exports_of_one_second_write_two_files(tmp_path: Path) -> None:
    """Runs that start within a second share no file (field 16)."""
    for _ in range(2):
        with PerfMetricsExport(trace_dir=str(tmp_path)) as built_in:
            built_in.export_metrics({"host-1": timeline("host-1", "rollout")})
    assert 2 == len(list(tmp_path.glob("perfetto_trace_v2_*.pb")))


# A run and its trace


def test_a_run_is_in_its_trace(tmp_path: Path) -> None:
    """Nesting, devices, waits and tags of a run are all in its file (field 21)."""
    run = traced(tmp_path)
    with run.tracer.span("outer", tags={"step": 1}):
        with run.tracer.span("inner"):
            run.at(1.0)
        run.at(2.0)
    play_launches(
        run,
        ("rollout", ["a0"], 2.0, 6.0),
        ("environment", ["a0"], 3.0, 8.0),
    )
    file = closed(run, tmp_path)
    (outer,), (inner,) = file.named("outer"), file.named("inner")
    assert outer.id == inner.parent_id
    assert {"step": 1}.items() <= outer.args.items()
    on_device = {(row.name, row.dur / 1e9) for row in file.slices if "a0" in row.track}
    assert {("rollout", 4.0), ("environment", 2.0)} <= on_device
    waits = [row for row in file.named("queue") if row.dur]
    assert [3.0] == [row.dur / 1e9 for row in waits]


def test_concurrent_work_has_lanes(tmp_path: Path) -> None:
    """Work that overlaps is side by side, nothing nests that is no child (P30)."""
    run = traced(tmp_path, concurrent_device_spans="all")
    play_launches(run, ("rollout", ["a0"], 0.0, 4.0), ("environment", ["a0"], 1.0, 3.0))
    file = closed(run, tmp_path)
    on_device = [row for row in file.slices if "a0" in row.track]
    assert {("rollout", 4.0), ("environment", 2.0)} == {
        (row.name, row.dur / 1e9) for row in on_device
    }
    assert [None, None] == [row.parent_id for row in on_device]


def test_work_pending_at_the_last_export_is_written(tmp_path: Path) -> None:
    """What ends after the last export is in the file when it is closed (field 22)."""
    run = traced(tmp_path)
    work = run.launch("rollout", ["a0"])
    run.at(1.0)
    run.tracer.export()
    run.at(3.0)
    run.finish(work)
    run.tracer.close()
    assert 3_000_000_000 in {row.dur for row in TraceFile(tmp_path).named("rollout")}


def test_threads_have_their_names(tmp_path: Path) -> None:
    """Ten named threads are ten named tracks (field 24, 27)."""
    run = traced(tmp_path)

    def work() -> None:
        with run.tracer.span("mine"):
            pass

    names = {f"worker-{number}" for number in range(10)}
    for name in sorted(names):
        thread = threading.Thread(target=work, name=name)
        thread.start()
        thread.join()
    file = closed(run, tmp_path)
    paths = [" ".join(track) for track in file.tracks("mine")]
    assert names == {name for name in names if any(name in path for path in paths)}


def test_the_trace_says_what_it_is_of(tmp_path: Path) -> None:
    """There is a clock snapshot, and the process has a name (field 27)."""
    run = traced(tmp_path)
    with run.tracer.span("mine"):
        run.at(1.0)
    file = closed(run, tmp_path)
    assert any(packet.HasField("clock_snapshot") for packet in file.packets())
    assert file.processes - {None}


@pytest.mark.row("P32")
def test_a_folder_that_cannot_be_made_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Training goes on without a trace, and the log says why once (P32, field 18)."""
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    run = traced(blocked / "traces")
    for step in range(3):
        with run.tracer.span("rollout"):
            run.at(step + 1.0)
        run.tracer.export()
    run.tracer.close()
    assert 1 == len([r for r in caplog.records if str(blocked) in r.getMessage()])


def test_accounting_comes_with_the_metrics() -> None:
    """By default idle time and overlap; all of it by option, or nothing."""
    keys = {}
    for level in ("off", "default", "all"):
        built_in = PerfMetricsExport(
            enable_trace_writer=False, role_to_devices=ROLES, analysis=level
        )
        run = V2Run(["a0", "b0"], built_in.export_metrics, watch=False)
        play(run, PLAYED)
        keys[level] = set(run.tracer.export())
    assert {"perf/bubble_frac", "perf/overlap_frac"} == keys["default"] - keys["off"]
    assert any(key.startswith("perf/account/occupied/") for key in keys["all"])
    assert any(key.startswith("perf/critical_path/") for key in keys["all"])


def test_an_analysis_that_fails_costs_no_other_metric(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged once; here a tag that it reads cannot be shown."""

    class Tag:
        def __str__(self) -> str:
            raise RuntimeError("tag")

    built_in = PerfMetricsExport(
        enable_trace_writer=False, role_to_devices=ROLES, analysis="all"
    )
    run = V2Run(["a0", "b0"], built_in.export_metrics, watch=False)
    for _ in range(2):
        with run.tracer.span("load", tags={"waits_for": Tag()}):
            run.timer.clock.advance_ns(10**9)
        run.launch("rollout", ["a0"], tags={"role": Tag()})
        assert "perf/global_step_time" in run.tracer.export()
    assert 1 == sum("was not analysed" in r.getMessage() for r in caplog.records)


def test_work_that_ends_during_an_export_costs_no_metric() -> None:
    """It was in flight when the export looked, and is recorded when it collects."""
    built_in = PerfMetricsExport(enable_trace_writer=False, role_to_devices=ROLES)
    wait = ManualWait()
    tracer = PerfTracer(export_fn=built_in.export_metrics, _wait=wait)
    results = wait.arrays("results")
    with tracer.span("rollout", ["a0"]) as span:
        span.async_end(results)
    look = tracer._collector.open_records

    def looked() -> Any:
        found = look()
        wait.finish(results)
        return found

    tracer._collector.open_records = looked  # type: ignore[method-assign]  # in between
    assert "perf/sum/rollout_time" in tracer.export()


def test_the_anomaly_hook_never_reaches_the_training(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is told of a long step with its number; what it raises is logged once."""
    told: list[tuple[int, str]] = []

    def hook(step: int, anomaly: export.StepAnomaly) -> None:
        told.append((step, anomaly.stage))
        raise RuntimeError("hook")

    built_in = PerfMetricsExport(enable_trace_writer=False, on_anomaly=hook)
    run = V2Run(["a0"], built_in.export_metrics, watch=False)
    for number in range(14):
        with run.tracer.span("data_loading"):
            run.timer.clock.advance_ns(10**9 * (5 if number in (12, 13) else 1))
        assert "perf/global_step_time" in run.tracer.export()
    assert [(12, "data_loading"), (13, "data_loading")] == told
    assert 1 == sum("on_anomaly failed" in r.getMessage() for r in caplog.records)
