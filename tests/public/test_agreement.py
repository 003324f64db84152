"""v1 and v2 on the same run: both together, and the same numbers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from perf import trace
from perf._read.recording import read_recording, the_trace
from perf.experimental.export import PerfMetricsExport as ExportV2
from perf.experimental.tracer import PerfTracer as TracerV2
from perf.export import PerfMetricsExport as ExportV1
from perf.metrics import MetricsT
from perf.perfetto import PerfettoTraceWriter
from tests.public.drive import PLAN, Roles, Timer, V1Run, V2Run, play_both
from tests.public.expected import values

LAYOUTS = [
    pytest.param({"rollout": "a", "actor": "a", "refer": "a"}, id="one mesh"),
    pytest.param({"rollout": "a", "actor": "b", "refer": "b"}, id="rollout apart"),
    pytest.param({"rollout": "a", "actor": "a", "refer": "b"}, id="reference apart"),
    pytest.param({"rollout": "a", "actor": "b", "refer": "a"}, id="actor apart"),
    pytest.param({"rollout": "a", "actor": "b", "refer": "c"}, id="all three apart"),
]

# The window of v2 begins where the group of v1 does: with the first work.
WINDOW = PLAN._replace(begin=PLAN.micros[0].rollout[0])


def both(meshes: dict[str, str]) -> tuple[MetricsT, MetricsT]:
    """The metrics of v1 and of v2 of one step; each mesh has two devices."""
    roles: Roles = {role: [f"{mesh}0", f"{mesh}1"] for role, mesh in meshes.items()}
    v2_roles = {role.replace("refer", "reference"): ids for role, ids in roles.items()}
    devices = sorted({id_ for ids in roles.values() for id_ in ids})
    timer = Timer()
    timer.at(WINDOW.begin)
    built_in = ExportV2(enable_trace_writer=False, role_to_devices=v2_roles)
    v1 = V1Run(devices, ExportV1.from_role_to_devices(roles), timer)
    v2 = V2Run(devices, built_in.export_metrics, timer)
    play_both(v1, v2, roles, WINDOW)
    return v1.tracer.export(), v2.tracer.export()


@pytest.mark.parametrize("meshes", LAYOUTS)
@pytest.mark.row("P23")
def test_both_versions_measure_the_same(meshes: dict[str, str]) -> None:
    """Every metric of v1 is in v2's, with the same value and aggregation (P23)."""
    v1, v2 = both(meshes)
    assert set(v1) <= set(v2)
    assert pytest.approx({name: value for name, (value, _) in v1.items()}) == {
        name: v2[name][0] for name in v1
    }
    assert {name: fn for name, (_, fn) in v1.items()} == {
        name: v2[name][1] for name in v1
    }


def test_queued_work_is_the_same_in_both() -> None:
    """Both read one device timeline: overlapping launches queue up in both (P23)."""
    timer = Timer()
    roles = {"rollout": ["a0"], "actor": ["a0"]}
    built_in = ExportV2(enable_trace_writer=False, role_to_devices=roles)
    v1 = V1Run(["a0"], ExportV1.from_role_to_devices(roles), timer)
    v2 = V2Run(["a0"], built_in.export_metrics, timer)
    with v1.tracer.span_group("global_step"):
        first = [(run, run.launch("rollout", ["a0"])) for run in (v1, v2)]
        timer.at(1.0)
        second = [(run, run.launch("rollout", ["a0"])) for run in (v1, v2)]
        timer.at(4.0)
        for run, work in first:
            run.finish(work)
        timer.at(6.0)
        for run, work in second:
            run.finish(work)
    found = [run.tracer.export() for run in (v1, v2)]
    for metrics in found:
        assert pytest.approx(6.0) == metrics["perf/sum/rollout_time"][0]
        assert pytest.approx(3.0) == metrics["perf/mean/rollout_time"][0]


def test_a_worker_may_roll_out() -> None:
    """As google-tunix does it: v2 has no groups, and the trainer waits without a span.

    The step begins with the worker's first span, not with the trainer's (P23).
    """
    roles = {"rollout": ["a0"], "actor": ["a0"]}
    timer = Timer()
    timer.at(1.0)
    built_in = ExportV2(enable_trace_writer=False, role_to_devices=roles)
    v1 = V1Run(["a0"], ExportV1.from_role_to_devices(roles), timer)
    v2 = V2Run(["a0"], built_in.export_metrics, timer)

    def launch_and_finish(name: str, end_s: float) -> None:
        works = [(run, run.launch(name, ["a0"])) for run in (v1, v2)]
        timer.at(end_s)
        for run, work in works:
            run.finish(work)

    with v1.tracer.span_group("global_step"):
        with ThreadPoolExecutor(1) as worker:
            worker.submit(launch_and_finish, "rollout", 3.0).result()
        launch_and_finish("peft_train", 4.0)
    for run in (v1, v2):
        metrics = values(run.tracer.export())
        assert pytest.approx(3.0) == metrics["perf/global_step_time"]
        assert pytest.approx(2.0) == metrics["perf/sum/rollout_time"]
        assert pytest.approx(2.0) == metrics["perf/mean/rollout_time"]


def test_a_report_has_the_steps_of_the_metrics(tmp_path: Path) -> None:
    """A trace without groups is cut where the metrics of its steps are, as tunix's.

    A worker rolls out and the trainer waits without a span.
    """
    timer = Timer()
    built_in = ExportV2(trace_dir=str(tmp_path))
    run = V2Run(["a0"], built_in.export_metrics, timer, watch=False)

    def launch_and_finish(name: str, step: int, end_s: float) -> None:
        work = run.launch(name, ["a0"], tags={"step": step})
        timer.at(end_s)
        run.finish(work)

    measured = []
    with ThreadPoolExecutor(1) as worker:
        for step in range(3):
            begin_s = 10.0 * step + 1.0
            timer.at(begin_s)
            until_s = begin_s + 4.0 + step
            worker.submit(launch_and_finish, "rollout", step, until_s).result()
            timer.at(until_s + 1.0)
            with run.tracer.span("peft_train", tags={"step": step}):
                timer.at(until_s + 2.0)
            measured.append(values(run.tracer.export())["perf/global_step_time"])
    run.tracer.close()
    found = read_recording(the_trace(tmp_path)).steps
    assert pytest.approx([6.0, 7.0, 8.0]) == measured
    assert pytest.approx(measured) == [step.length_ns / 1e9 for step in found]


@pytest.mark.row("P3")
def test_both_run_side_by_side(tmp_path: Path) -> None:
    """One real run, two tracers: two sets of metrics and two files (P3)."""
    devices = jax.devices()[:1]
    ids = [f"{devices[0].platform}{devices[0].id}"]
    roles = {"rollout": ids, "actor": ids}
    built_in = ExportV2(trace_dir=str(tmp_path), role_to_devices=roles)
    v1 = trace.PerfTracer(
        devices,
        ExportV1.from_role_to_devices(roles, PerfettoTraceWriter(str(tmp_path))),
    )
    v2 = TracerV2(devices, built_in.export_metrics)
    with v1.span_group("global_step"):
        with v1.span("rollout", devices) as span1, v2.span("rollout", devices) as span2:
            tokens = jnp.ones((64, 64)) @ jnp.ones((64, 64))
            span1.device_end([tokens])
            span2.async_end([tokens])
        v1.synchronize()
        v2.synchronize()
    for tracer in (v1, v2):
        assert values(tracer.export())["perf/sum/rollout_time"] > 0
        tracer.close()
    built_in.shutdown()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert 2 == len(names)
    assert names[0].startswith("perfetto_trace_")
    assert names[1].startswith("perfetto_trace_v2_")
