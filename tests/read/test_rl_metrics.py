"""Each formula by hand: borders of steps, what is open, what is empty or unknown."""

from __future__ import annotations

import math
from typing import Any

import pytest

from perf._model.roles import Roles
from perf._model.spans import DEVICE
from perf._read.rl_metrics import Metrics, step_metrics
from perf._read.steps import BEGIN, ID, NAME, Interval, StepSpans, by_stage, interval

INF = float("inf")
TOGETHER = {"rollout": ["a0"], "actor": ["a0"], "refer": ["a0"]}
TRAINER_APART = {"rollout": ["a0"], "actor": ["b0"], "refer": ["b0"]}
ACTOR_APART = {"rollout": ["a0"], "actor": ["b0"], "refer": ["a0"]}
REFERENCE_APART = {"rollout": ["a0"], "actor": ["a0"], "refer": ["c0"]}
APART = {"rollout": ["a0"], "actor": ["b0"], "refer": ["c0"]}

Span = tuple[str, float, float]
"""(name, begin, end), seconds."""


def numbered(spans: list[Span], first: int) -> list[Interval]:
    """Spans that have nothing to do with each other."""
    return [interval(*span, first + n) for n, span in enumerate(spans)]


def measure(
    roles: dict[str, Any],
    *,
    main: list[Span] = [],  # noqa: B006  # only read
    hosts: list[Span] = [],  # noqa: B006
    window: tuple[float, float] = (10.0, 30.0),
    global_step: tuple[float, float] | None = None,
    **devices: list[Span],
) -> Metrics:
    """The metrics of a step with these spans on its threads and devices."""
    step = StepSpans(
        1.0,
        *window,
        None if global_step is None else interval("global_step", *global_step, 1),
        by_stage(numbered(main, 100)),
        by_stage(numbered(hosts, 200)),
        {name: numbered(s, 1000 * n) for n, (name, s) in enumerate(devices.items(), 1)},
    )
    return step_metrics(step, Roles.of(roles))


def pick(metrics: Metrics, name: str) -> tuple[float | None, float | None]:
    """Sum and mean of a metric; None where there is none."""
    return metrics.get(f"perf/sum/{name}"), metrics.get(f"perf/mean/{name}")


# The step


@pytest.mark.parametrize(
    ("global_step", "expected"),
    [
        pytest.param(None, 20.0, id="the window where there is no group"),
        pytest.param((10.0, 25.0), 15.0, id="the group's length"),
        pytest.param((10.0, INF), 20.0, id="up to the export while it is open"),
    ],
)
def test_the_time_of_a_step(
    global_step: tuple[float, float] | None, expected: float
) -> None:
    """From the window's begin to the end of the global step, or of the window."""
    assert (
        expected == measure(TOGETHER, global_step=global_step)["perf/global_step_time"]
    )


@pytest.mark.parametrize(
    ("syncs", "expected"),
    [
        pytest.param([], 0.0, id="none"),
        pytest.param(
            [("weight_sync", 12, 13), ("weight_sync", 20, 23)], 3.0, id="last"
        ),
        pytest.param([("weight_sync", 28, INF)], 2.0, id="open"),
        pytest.param([("weight_sync", 8, 11)], 1.0, id="from the step before"),
        pytest.param([("weight_sync", 7, 9)], 0.0, id="wholly before"),
    ],
)
def test_the_time_of_the_weight_sync(syncs: list[Span], expected: float) -> None:
    """Of the last one, as far as it lies in the step."""
    assert expected == measure(TOGETHER, main=syncs)["perf/weight_sync_time"]


def test_a_weight_sync_of_another_thread_does_not_count() -> None:
    """The trainer's thread says what it waited for."""
    metrics = measure(TOGETHER, hosts=[("weight_sync", 12, 13)])
    assert 0.0 == metrics["perf/weight_sync_time"]


# Sums and means


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        pytest.param([], (0.0, None), id="none"),
        pytest.param([(11, 14), (15, 16)], (4.0, 2.0), id="inside"),
        pytest.param([(5, 12), (15, 16)], (3.0, 1.0), id="over the begin"),
        pytest.param([(5, 12)], (2.0, None), id="only over the begin"),
        pytest.param([(10, 12)], (2.0, 2.0), id="at the begin"),
        pytest.param([(25, INF)], (5.0, 5.0), id="open"),
        pytest.param([(25, 35), (11, 12)], (6.0, 3.0), id="over the end"),
        pytest.param([(5, INF)], (20.0, None), id="open since before"),
        pytest.param([(1, 5)], (0.0, None), id="wholly before"),
        pytest.param([(20, 20)], (0.0, 0.0), id="of no length"),
    ],
)
@pytest.mark.parametrize(
    ("metric", "name", "where"),
    [
        ("rollout_time", "rollout", "a0"),
        ("refer_inference_time", "refer_inference", "c0"),
        ("refer_inference_time", "reference_inference", "c0"),
        ("actor_train_step_time", "peft_train_step", "main"),
        ("actor_train_step_time", "peft_train", "main"),
        ("actor_train_time", "actor_training", "main"),
    ],
)
def test_sums_are_clipped_and_means_are_whole(
    metric: str,
    name: str,
    where: str,
    spans: list[tuple[float, float]],
    expected: tuple[float, float | None],
) -> None:
    """A sum has what lies in the window, a mean what began in it, up to its end."""
    named: list[Span] = [(name, begin, end) for begin, end in spans]
    on: Any = {where: named}
    metrics = measure(APART, **on)
    assert expected == pick(metrics, metric)


def test_an_empty_step_has_sums_and_no_means() -> None:
    """Nothing is divided by nothing, in any topology."""
    for roles in (TOGETHER, TRAINER_APART, ACTOR_APART, REFERENCE_APART, APART):
        metrics = measure(roles, window=(10.0, 10.0))
        assert {0.0} == set(metrics.values())
        assert not any("/mean/" in name for name in metrics)
        assert "perf/rollout_idle_time" not in metrics


def test_a_launch_over_many_devices_counts_once() -> None:
    """From its first begin to its last end."""
    on = {
        "a0": [interval("rollout", 12, 14, 7), interval("rollout", 20, 21, 8)],
        "a1": [interval("rollout", 11, 15, 7), interval("rollout", 20, 22, 8)],
        "a2": [interval("rollout", 13, 16, 7)],
    }
    step = StepSpans(1.0, 10.0, 30.0, None, by_stage([]), by_stage([]), on)
    roles = {**APART, "rollout": ["a2", "a0", "a1"]}
    metrics = step_metrics(step, Roles.of(roles))
    assert (7.0, 3.5) == pick(metrics, "rollout_time")
    assert 6.0 == metrics["perf/first_micro_batch_rollout_time"]


def test_a_role_is_measured_on_its_own_devices() -> None:
    """Spans of its name on other devices are not its own."""
    metrics = measure(APART, b0=[("rollout", 11, 12)], a0=[("rollout", 11, 14)])
    assert (3.0, 3.0) == pick(metrics, "rollout_time")
    assert (0.0, None) == pick(measure(APART, b0=[("rollout", 11, 12)]), "rollout_time")


def test_work_that_no_device_knows_is_measured_on_the_host() -> None:
    """On the trainer's thread and the others, in the order of begin."""
    metrics = measure(
        APART,
        main=[("rollout", 15, 16), ("peft_train", 16, 17)],
        hosts=[("rollout", 12, 15)],
    )
    assert (4.0, 2.0) == pick(metrics, "rollout_time")
    assert 5.0 == metrics["perf/first_micro_batch_rollout_time"]
    assert (1.0, 1.0) == pick(metrics, "actor_train_time")


def test_a_device_that_knows_only_other_work_leaves_it_to_the_host() -> None:
    """Rollouts may be of a server that records no device work."""
    metrics = measure(APART, main=[("rollout", 11, 14)], a0=[("weight_load", 11, 12)])
    assert (3.0, 3.0) == pick(metrics, "rollout_time")


def test_host_spans_do_not_count_where_a_device_knows() -> None:
    """The same work would count twice."""
    metrics = measure(APART, main=[("rollout", 11, 12)], a0=[("rollout", 11, 14)])
    assert (3.0, 3.0) == pick(metrics, "rollout_time")


@pytest.mark.parametrize("devices", [[], None])
def test_a_role_whose_devices_are_unknown_is_measured_on_all(devices: Any) -> None:
    """A mesh outside its context does not say which it has."""
    roles = {"rollout": devices, "actor": ["b0"]}
    metrics = measure(roles, a0=[("rollout", 11, 12)], b0=[("rollout", 13, 15)])
    assert (3.0, 1.5) == pick(metrics, "rollout_time")


def test_without_a_reference_nothing_is_odd() -> None:
    """Its sum is nought; every number is one."""
    for shared in ("a0", "b0"):
        metrics = measure(
            {"rollout": ["a0"], "actor": [shared]},
            a0=[("rollout", 11, 12), ("rollout", 13, 14)],
            main=[("actor_training", 15, 16), ("actor_training", 18, 19)],
        )
        assert (0.0, None) == pick(metrics, "refer_inference_time")
        assert all(map(math.isfinite, metrics.values()))


# Training


def test_training_is_the_trainers_groups() -> None:
    """Where there are groups, the steps in them are measured for themselves."""
    metrics = measure(
        APART,
        main=[("actor_training", 12, 16), ("peft_train_step", 13, 14)],
        b0=[("peft_train_step", 13, 18)],
    )
    assert (4.0, 4.0) == pick(metrics, "actor_train_time")
    assert (1.0, 1.0) == pick(metrics, "actor_train_step_time")


def test_training_without_groups_is_the_union_of_its_steps() -> None:
    """On the actor's devices: those that overlap are one, those that touch are two."""
    metrics = measure(
        APART,
        main=[("peft_train", 11, 12)],
        b0=[
            ("peft_train", 11, 14),
            ("peft_train", 12, 13),
            ("peft_train", 14, 16),
            ("peft_train", 20, 21),
        ],
    )
    assert (6.0, 2.0) == pick(metrics, "actor_train_time")
    assert (0.0, 1.0) == (
        measure(APART, b0=[("peft_train", 11, 14)])["perf/sum/actor_train_time"],
        measure(APART, main=[("peft_train", 11, 12)])["perf/sum/actor_train_time"],
    )


def test_the_critic_is_measured_where_there_is_one() -> None:
    """By its groups on the trainer's thread."""
    assert not any("critic" in name for name in measure(APART))
    metrics = measure(
        {**APART, "critic": ["d0"]},
        main=[("critic_training", 12, 14), ("critic_training", 28, INF)],
    )
    assert (4.0, 2.0) == pick(metrics, "critic_train_time")
    assert (0.0, None) == pick(metrics, "actor_train_time")


def test_steps_in_a_group_of_the_critic_are_the_critic_s() -> None:
    """Both roles' steps have one name in v1; the group's end is not inside it."""
    metrics = measure(
        {**TOGETHER, "critic": ["a0"]},
        main=[
            ("actor_training", 11, 14),
            ("peft_train_step", 11, 12),
            ("critic_training", 14, 18),
            ("peft_train_step", 14, 16),
            ("peft_train_step", 18, 21),
        ],
    )
    assert (4.0, 2.0) == pick(metrics, "actor_train_step_time")
    assert (3.0, 3.0) == pick(metrics, "actor_train_time")
    assert (4.0, 4.0) == pick(metrics, "critic_train_time")


@pytest.mark.parametrize("critic", [["a0", "a1"], ["d0", "d1"]])
def test_steps_with_the_critic_s_tag_are_the_critic_s(critic: list[str]) -> None:
    """Both roles' steps have one name in v2, too, and there are no groups."""

    def tagged(role: str | None, begin: float, end: float, id_: int) -> Interval:
        return ("peft_train", begin, end, id_, 0, DEVICE, {"role": role}, None)

    actor, other = tagged("actor", 11, 13, 1), tagged(None, 14, 15, 2)
    trained = tagged("critic", 15, 19, 3)
    devices = {"a0": [actor, other], "a1": [actor, other]}
    for device in critic:
        devices[device] = [*devices.get(device, []), trained]
    main = [(i[NAME], i[BEGIN], i[BEGIN] + 1, *i[ID:]) for i in (actor, other, trained)]
    step = StepSpans(1.0, 10.0, 30.0, None, by_stage(main), by_stage([]), devices)
    roles = Roles.of({"rollout": ["a0"], "actor": ["a0", "a1"], "critic": critic})
    metrics = step_metrics(step, roles)
    assert (2.0, 1.0) == pick(metrics, "actor_train_step_time")
    assert (3.0, 1.5) == pick(metrics, "actor_train_time")
    assert (4.0, 4.0) == pick(metrics, "critic_train_time")


# Gaps


def test_rollouts_of_their_own_devices_have_two_more() -> None:
    """How long they waited for the sync, and when the first was done."""
    on: Any = {"a0": [("rollout", 11.0, 13.0), ("rollout", 14.0, 17.0)]}
    for roles in (TRAINER_APART, ACTOR_APART, APART):
        metrics = measure(roles, main=[("weight_sync", 20, 21)], **on)
        assert 3.0 == metrics["perf/rollout_idle_time"]
        assert 3.0 == metrics["perf/first_micro_batch_rollout_time"]
    for roles in (TOGETHER, REFERENCE_APART):
        metrics = measure(roles, main=[("weight_sync", 20, 21)], **on)
        assert "perf/rollout_idle_time" not in metrics
        assert "perf/first_micro_batch_rollout_time" not in metrics


def test_without_a_sync_rollouts_wait_for_the_step_s_end() -> None:
    """That is where one would be."""
    rollouts: list[Span] = [("rollout", 11, 13)]
    idle = "perf/rollout_idle_time"
    assert 17.0 == measure(APART, a0=rollouts)[idle]
    assert 12.0 == measure(APART, a0=rollouts, global_step=(10.0, 25.0))[idle]


def test_an_open_rollout_lasts_up_to_the_window_s_end() -> None:
    """It has not waited for anything yet."""
    metrics = measure(APART, a0=[("rollout", 25, INF)])
    assert 0.0 == metrics["perf/rollout_idle_time"]
    assert 20.0 == metrics["perf/first_micro_batch_rollout_time"]


def test_rollouts_that_end_after_the_sync_have_not_waited_for_it() -> None:
    """Nor those in flight when the step ended: no time is negative."""
    idle = "perf/rollout_idle_time"
    rollouts: list[Span] = [("rollout", 12, 24)]
    assert 0.0 == measure(APART, main=[("weight_sync", 20, 21)], a0=rollouts)[idle]
    assert 0.0 == measure(APART, a0=rollouts, global_step=(10.0, 23.0))[idle]


def test_a_rollout_done_before_the_step_is_not_its_first() -> None:
    """It was in flight at the export; the first one is that which the step has."""
    idle, first = "perf/rollout_idle_time", "perf/first_micro_batch_rollout_time"
    before: Span = ("rollout", 5, 10)
    metrics = measure(APART, a0=[before, ("rollout", 10, 14), ("rollout", 14, 20)])
    assert (10.0, 4.0) == (metrics[idle], metrics[first])
    metrics = measure(APART, a0=[before])
    assert (20.0, 0.0) == (metrics[idle], metrics[first])


def test_the_gap_between_training_and_the_next_reference() -> None:
    """From each training to the reference inference of the batch after it."""
    spans: Any = {
        "main": [
            ("actor_training", 13, 15),
            ("actor_training", 18, 20),
            ("actor_training", 24, 25),
        ],
        "b0": [
            ("refer_inference", 11, 12),
            ("refer_inference", 16, 17),
            ("refer_inference", 19, 22),
        ],
    }
    metrics = measure(TRAINER_APART, **spans)
    # From 15 to 16; the next began before the training ended, which is no gap.
    assert (1.0, 0.5) == pick(metrics, "between_micro_batch_gap_time")
    for roles in (TOGETHER, ACTOR_APART, REFERENCE_APART, APART):
        metrics = measure(roles, **spans)
        assert (None, None) == pick(metrics, "between_micro_batch_gap_time")


def test_more_trainings_than_references() -> None:
    """What has no partner has no gap."""
    trainings: list[Span] = [("actor_training", 12, 13), ("actor_training", 14, 15)]
    metrics = measure(TRAINER_APART, main=trainings, b0=[("refer_inference", 11, 12)])
    assert (0.0, None) == pick(metrics, "between_micro_batch_gap_time")


def test_gaps_between_one_role_s_own_work() -> None:
    """From each end to the next begin, never below 0, where all three are apart."""
    spans: Any = {
        "main": [("actor_training", 11, 12), ("actor_training", 15, 17)],
        "c0": [
            ("refer_inference", 11, 14),
            ("refer_inference", 13, 15),
            ("refer_inference", 19, 20),
        ],
    }
    metrics = measure(APART, **spans)
    assert (4.0, 2.0) == pick(metrics, "refer_gap_time")
    assert (3.0, 3.0) == pick(metrics, "actor_gap_time")
    for roles in (TOGETHER, ACTOR_APART, REFERENCE_APART, TRAINER_APART):
        metrics = measure(roles, **spans)
        assert (None, None) == pick(metrics, "refer_gap_time")
        assert (None, None) == pick(metrics, "actor_gap_time")


def test_all_of_a_step_in_one_table() -> None:
    """Names and numbers of a step with all three roles apart, by hand."""
    metrics = measure(
        APART,
        global_step=(10.0, 28.0),
        main=[
            ("actor_training", 16, 20),
            ("peft_train_step", 17, 19),
            ("weight_sync", 25, 27),
        ],
        a0=[("rollout", 11, 14)],
        c0=[("refer_inference", 14, 16)],
    )
    assert metrics == {
        "perf/global_step_time": 18.0,
        "perf/weight_sync_time": 2.0,
        "perf/rollout_idle_time": 11.0,
        "perf/first_micro_batch_rollout_time": 4.0,
        "perf/sum/rollout_time": 3.0,
        "perf/mean/rollout_time": 3.0,
        "perf/sum/refer_inference_time": 2.0,
        "perf/mean/refer_inference_time": 2.0,
        "perf/sum/actor_train_time": 4.0,
        "perf/mean/actor_train_time": 4.0,
        "perf/sum/actor_train_step_time": 2.0,
        "perf/mean/actor_train_step_time": 2.0,
        "perf/sum/refer_gap_time": 0.0,
        "perf/sum/actor_gap_time": 0.0,
    }


def test_a_gap_is_to_the_next_inference_in_time() -> None:
    """Work carried in from the step before, or missing, does not shift the pairs."""
    roles = {"rollout": ["a0"], "actor": ["b0"], "refer": ["b0"]}
    metrics = measure(
        roles,
        main=[("peft_train", 12, 13), ("peft_train", 16, 17)],
        b0=[
            ("peft_train", 8, 11),  # begun in the step before, which ended at 10
            ("reference_inference", 11, 12),
            ("peft_train", 12, 14),
            ("reference_inference", 15, 16),
            ("peft_train", 16, 17),
        ],
    )
    assert (1.0, 1.0) == pick(metrics, "between_micro_batch_gap_time")


def test_an_inference_that_begins_with_the_training_is_the_next() -> None:
    """On a coarse clock; there is no gap before it."""
    trainings: list[Span] = [("actor_training", 12, 13), ("actor_training", 14, 15)]
    references: list[Span] = [("refer_inference", 12, 13)]
    metrics = measure(TRAINER_APART, main=trainings, b0=references)
    assert (0.0, 0.0) == pick(metrics, "between_micro_batch_gap_time")


def test_times_in_other_units_give_the_same_seconds() -> None:
    """Records have nanoseconds, trees of v1 have seconds."""

    def of(per_second: float) -> Metrics:
        def spans(first: int, *some: Span) -> list[Interval]:
            units = [(n, b * per_second, e * per_second) for n, b, e in some]
            return numbered(units, first)

        main = spans(
            100,
            ("actor_training", 12, 13),
            ("actor_training", 15, 17),
            ("critic_training", 18, 19),
            ("weight_sync", 20, 21),
        )
        devices = {
            "a0": spans(200, ("rollout", 11, 13)),
            "c0": spans(300, ("refer_inference", 13, 14), ("refer_inference", 16, 17)),
        }
        begin, end = 10 * per_second, 30 * per_second
        step = StepSpans(
            per_second, begin, end, None, by_stage(main), by_stage([]), devices
        )
        return step_metrics(step, Roles.of(APART))

    assert 7.0 == of(1.0)["perf/rollout_idle_time"]
    assert of(1.0) == of(1e9)
