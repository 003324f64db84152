"""`perf.export`: the metrics of v1, on every way of sharing devices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from perf.export import PerfMetricsExport
from perf.metrics import MetricsT
from tests.public.drive import (
    PLAN,
    Launch,
    Plan,
    Roles,
    V1Run,
    play,
    play_launches,
)
from tests.public.expected import (
    ALL_APART,
    APART,
    BASE,
    CONDITIONAL,
    ONE_MESH,
    ROLLOUT_APART,
    TRAINER_TOGETHER,
    values,
)


def export(roles: Roles, plan: Plan = PLAN, **options: Any) -> MetricsT:
    """The metrics of one step played on these roles."""
    devices = sorted({id_ for ids in roles.values() for id_ in ids})
    run = V1Run(devices, PerfMetricsExport.from_role_to_devices(roles, **options))
    play(run, roles, plan)
    return run.tracer.export()


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        pytest.param(ONE_MESH, BASE, id="one mesh"),
        pytest.param(
            {"rollout": ["a0"], "actor": ["b0"], "refer": ["b0"]},
            {**BASE, **ROLLOUT_APART, **TRAINER_TOGETHER},
            id="rollout apart",
        ),
        pytest.param(
            {"rollout": ["a0"], "actor": ["a0"], "refer": ["b0"]},
            BASE,
            id="reference apart",
        ),
        pytest.param(
            {"rollout": ["a0"], "actor": ["b0"], "refer": ["a0"]},
            {**BASE, **ROLLOUT_APART},
            id="actor apart",
        ),
        pytest.param(
            APART, {**BASE, **ROLLOUT_APART, **ALL_APART}, id="all three apart"
        ),
    ],
)
@pytest.mark.row("P13", "P14", "P15")
def test_the_metrics_of_each_layout(roles: Roles, expected: dict[str, float]) -> None:
    """Each way of sharing devices has its metrics (P13–P15; mended; field 20)."""
    found = values(export(roles))
    assert expected == pytest.approx({name: found.get(name) for name in expected})
    assert set() == set(CONDITIONAL) & set(found) - set(expected)


@pytest.mark.parametrize(
    ("roles", "like"),
    [
        pytest.param(
            {"rollout": ["a0", "a1"], "actor": ["a1", "a0"], "refer": ["a0", "a1"]},
            BASE,
            id="one mesh",
        ),
        pytest.param(
            {"rollout": ["a0"], "actor": ["b0", "b1"], "refer": ["b1", "b0"]},
            {**BASE, **ROLLOUT_APART, **TRAINER_TOGETHER},
            id="rollout apart",
        ),
    ],
)
def test_reordered_devices_are_the_same_mesh(
    roles: Roles, like: dict[str, float]
) -> None:
    """The order of a mesh's devices says nothing (mended; field 20)."""
    found = values(export(roles))
    assert like == pytest.approx({name: found.get(name) for name in like})
    assert set() == set(CONDITIONAL) & set(found) - set(like)


def test_a_launch_over_many_devices_counts_once() -> None:
    """Work on a mesh of four devices is one piece of work (P14)."""
    mesh = ["a0", "a1", "a2", "a3"]
    found = values(export({"rollout": mesh, "actor": mesh, "refer": mesh}))
    assert BASE == pytest.approx({name: found.get(name) for name in BASE})


def test_values_come_with_their_aggregation() -> None:
    """Built-in exports are averaged over the values of a step (P28)."""
    assert {np.mean} == {aggregate for _, aggregate in export(APART).values()}


def test_the_flags_change_no_number() -> None:
    """The two logging flags are about the log, not about the metrics (P12)."""
    flags: dict[str, Any] = {
        "log_rollout_time_at_micro_batch_level": True,
        "log_actor_train_time_at_micro_batch_level": True,
    }
    assert pytest.approx(values(export(APART))) == values(export(APART, **flags))


def test_each_step_has_its_own_metrics() -> None:
    """Metrics are those of the last global step, not of the run (P16)."""
    run = V1Run(["a0"], PerfMetricsExport.from_role_to_devices(ONE_MESH))
    for step in range(3):
        begin = 10.0 * step
        run.at(begin)
        with run.tracer.span_group("global_step"):
            work = run.launch("rollout", ["a0"])
            run.at(begin + step + 1)
            run.finish(work)
        found = values(run.tracer.export())
        assert pytest.approx(step + 1.0) == found["perf/sum/rollout_time"]
        assert pytest.approx(step + 1.0) == found["perf/global_step_time"]


def step_with(run: V1Run, *launches: Launch) -> dict[str, float]:
    """The metrics of one global step from 0 to 20 with these launches in it."""
    with run.tracer.span_group("global_step"):
        play_launches(run, *launches)
        run.at(20.0)
    return values(run.tracer.export())


def test_a_step_without_work() -> None:
    """Nothing to add up is 0; nothing to average has no mean (P14; field 11)."""
    found = step_with(V1Run(["a0"], PerfMetricsExport.from_role_to_devices(ONE_MESH)))
    assert 0.0 == found["perf/sum/rollout_time"]
    assert 0.0 == found["perf/sum/refer_inference_time"]
    assert 0.0 == found["perf/sum/actor_train_time"]
    assert 0.0 == found["perf/weight_sync_time"]
    assert pytest.approx(20.0) == found["perf/global_step_time"]
    assert [] == [name for name in found if name.startswith("perf/mean/")]


def test_a_run_without_a_step() -> None:
    """An export before the first step has no metrics and no complaint (field 11)."""
    run = V1Run(["a0"], PerfMetricsExport.from_role_to_devices(ONE_MESH))
    found = values(run.tracer.export())
    assert not any(np.isnan(value) for value in found.values())


def test_no_reference() -> None:
    """A run without a reference model has no NaN (field 28)."""
    roles = {"rollout": ["a0"], "actor": ["b0"]}
    found = values(export(roles))
    assert pytest.approx(4.0) == found["perf/sum/rollout_time"]
    assert pytest.approx(2.5) == found["perf/rollout_idle_time"]
    assert "perf/mean/refer_inference_time" not in found
    assert not any(np.isnan(value) for value in found.values())


def test_overlapping_launches_queue_up() -> None:
    """Work launched behind other work counts from when the device was free (P14)."""
    run = V1Run(["a0"], PerfMetricsExport.from_role_to_devices(ONE_MESH))
    found = step_with(run, ("rollout", ["a0"], 1.0, 5.0), ("rollout", ["a0"], 2.0, 7.0))
    assert pytest.approx(6.0) == found["perf/sum/rollout_time"]
    assert pytest.approx(3.0) == found["perf/mean/rollout_time"]


def test_a_rollout_that_overlaps_training_counts() -> None:
    """Where rollout has its own devices, it runs while the actor trains (field 13)."""
    run = V1Run(["a0", "b0", "c0"], PerfMetricsExport.from_role_to_devices(APART))
    tracer = run.tracer
    with (
        tracer.span_group("global_step"),
        tracer.span_group("mini_batch_step"),
        tracer.span_group("micro_batch_steps"),
    ):
        with tracer.span_group("actor_training"):
            run.at(2.0)
            rollout = run.launch("rollout", ["a0"])
            run.at(6.0)
        run.at(9.0)
        run.finish(rollout)
    found = values(tracer.export())
    assert pytest.approx(7.0) == found["perf/sum/rollout_time"]
    assert pytest.approx(6.0) == found["perf/sum/actor_train_time"]


def test_work_counts_at_any_depth_of_the_step() -> None:
    """A rollout launched before, between or in micro-batches is one (P14)."""
    run = V1Run(["a0"], PerfMetricsExport.from_role_to_devices(ONE_MESH))
    tracer = run.tracer

    def rollout(begin: float) -> None:
        run.at(begin)
        work = run.launch("rollout", ["a0"])
        run.at(begin + 0.5)
        run.finish(work)

    with tracer.span_group("global_step"):
        rollout(0.0)
        with tracer.span_group("mini_batch_step"):
            rollout(1.0)
            with tracer.span_group("micro_batch_steps"):
                rollout(2.0)
            rollout(3.0)
        rollout(4.0)
    found = values(tracer.export())
    assert pytest.approx(2.5) == found["perf/sum/rollout_time"]
    assert pytest.approx(0.5) == found["perf/mean/rollout_time"]


def test_reference_inference_inside_training_counts() -> None:
    """The reference may be asked from within `actor_training` (P14)."""
    run = V1Run(["a0"], PerfMetricsExport.from_role_to_devices(ONE_MESH))
    with (
        run.tracer.span_group("global_step"),
        run.tracer.span_group("mini_batch_step"),
        run.tracer.span_group("micro_batch_steps"),
        run.tracer.span_group("actor_training"),
    ):
        work = run.launch("refer_inference", ["a0"])
        run.at(3.0)
        run.finish(work)
    found = values(run.tracer.export())
    assert pytest.approx(3.0) == found["perf/sum/refer_inference_time"]


@pytest.mark.row("P15")
def test_a_gap_is_never_negative() -> None:
    """Work that begins before the work before it ended leaves no gap (mended)."""
    roles = {"rollout": ["a0"], "actor": ["b0"], "refer": ["c0", "c1"]}
    run = V1Run(["a0", "b0", "c0", "c1"], PerfMetricsExport.from_role_to_devices(roles))
    found = step_with(
        run,
        ("refer_inference", ["c0"], 1.0, 5.0),
        ("refer_inference", ["c1"], 3.0, 6.0),
        ("refer_inference", ["c0"], 8.0, 9.0),
    )
    assert pytest.approx(2.0) == found["perf/sum/refer_gap_time"]
    assert pytest.approx(1.0) == found["perf/mean/refer_gap_time"]


def test_only_the_last_weight_sync_is_measured() -> None:
    """Of several `weight_sync` spans in a step the last one counts (P14)."""
    run = V1Run(["a0"], PerfMetricsExport.from_role_to_devices(ONE_MESH))
    with run.tracer.span_group("global_step"):
        for begin, length in ((1.0, 3.0), (5.0, 0.5)):
            run.at(begin)
            with run.tracer.span("weight_sync"):
                run.at(begin + length)
    assert pytest.approx(0.5) == values(run.tracer.export())["perf/weight_sync_time"]


def test_work_still_running_counts_up_to_the_step_s_end() -> None:
    """An export before the device is done is neither 0 nor NaN (field 11)."""
    run = V1Run(["a0"], PerfMetricsExport.from_role_to_devices(ONE_MESH))
    with run.tracer.span_group("global_step"):
        run.at(2.0)
        work = run.launch("rollout", ["a0"])
        run.at(10.0)
    found = values(run.tracer.export())
    assert pytest.approx(8.0) == found["perf/sum/rollout_time"]
    with run.tracer.span_group("global_step"):
        run.at(14.0)
        run.finish(work)
        run.at(20.0)
    found = values(run.tracer.export())
    assert pytest.approx(4.0) == found["perf/sum/rollout_time"]


@pytest.mark.parametrize(
    ("roles", "named"),
    [
        pytest.param({"generator": ["a0"]}, "generator", id="unknown role"),
        pytest.param({"rollout": ["a0"]}, "actor", id="no actor"),
        pytest.param({}, "rollout", id="no role at all"),
    ],
)
@pytest.mark.row("P4")
def test_unknown_roles_are_an_error(roles: Roles, named: str) -> None:
    """A role map that no formula fits is refused at once, by name (P4)."""
    with pytest.raises(ValueError, match=named):
        PerfMetricsExport.from_role_to_devices(roles)


@pytest.mark.row("P4")
def test_a_critic_is_welcome() -> None:
    """PPO's critic may have devices of its own (P4)."""
    found = values(export({**APART, "critic": ["d0"]}))
    expected = {**BASE, **ROLLOUT_APART}
    assert expected == pytest.approx({name: found.get(name) for name in expected})
