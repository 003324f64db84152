"""The whole training: it learns, anywhere the same, and says truly what it does."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any, cast

import jax
import numpy as np
import pytest

from perf import export, trace
from perf.demo.config import DemoConfig
from perf.demo.task import SortTask
from perf.demo.topology import Role, Topology, make_cluster_config
from perf.demo.train import StepResult, train
from perf.experimental import export as export_v2
from perf.experimental import tracer
from perf.metrics import PerfMetricsOptions
from tests.demo.recording import RecordedSpan, RecordingTracer

TINY = DemoConfig(
    steps=2,
    mini_batches=2,
    micro_batches=2,
    prompts=4,
    group_size=4,
    task=SortTask(length=3, symbols=4),
)
ROLE_OF_STAGE = {
    "rollout": Role.ROLLOUT,
    "reference_inference": Role.REFERENCE,
    "old_actor_inference": Role.ACTOR,
    "peft_train": Role.ACTOR,
    "weight_sync": Role.ROLLOUT,
}
APART = [Topology.ROLLOUT_APART, Topology.ACTOR_APART, Topology.ALL_APART]
"""Where the rollout shares no device with the actor."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A short training and what its tracers were told."""

    topology: Topology
    results: list[StepResult]
    v1: RecordingTracer
    v2: RecordingTracer


def run(topology: Topology, config: DemoConfig = TINY) -> Run:
    """Trains on `topology` with tracers that remember."""
    v1, v2 = RecordingTracer(), RecordingTracer()
    cluster = make_cluster_config(topology)
    results = list(train(config, cluster, cast("Any", v1), cast("Any", v2)))
    return Run(topology, results, v1, v2)


@pytest.fixture(scope="module", params=Topology, ids=str)
def a_run(request: pytest.FixtureRequest) -> Run:
    """Two global steps on each topology in turn."""
    return run(request.param)


@pytest.fixture(scope="module")
def colocated_run() -> Run:
    """Two global steps with all roles on the same devices."""
    return run(Topology.COLOCATED)


TIMES = {"step_time_sec", "steps_per_sec", "actor_dequeue_time"}
"""What depends on when things happen."""


def learned(results: list[StepResult]) -> list[dict[str, float]]:
    """The numbers of a training, without those of its tracing and its speed."""
    return [
        {name: value for name, value in result.metrics.items() if name not in TIMES}
        for result in results
    ]


def test_the_reward_rises() -> None:
    """From chance (1 in 6 places right) to more than twice that in 30 updates."""
    config = DemoConfig(
        steps=15,
        micro_batches=2,
        prompts=16,
        group_size=8,
        task=SortTask(length=4, symbols=6),
    )
    results = run(Topology.ROLLOUT_APART, config).results
    rewards = [result.metrics["rewards/mean"] for result in results]
    assert np.mean(rewards[-5:]) > 2 * np.mean(rewards[:5])


def test_where_roles_live_does_not_change_what_is_learned(
    a_run: Run, colocated_run: Run
) -> None:
    """Rewards and losses are equal on every topology, to the last bit."""
    assert learned(colocated_run.results) == learned(a_run.results)


def test_the_seed_decides_what_is_learned(colocated_run: Run) -> None:
    """Another seed gives another run."""
    other = run(Topology.COLOCATED, dataclasses.replace(TINY, seed=1))
    assert learned(colocated_run.results) != learned(other.results)


@pytest.mark.parametrize("name", ROLE_OF_STAGE)
def test_work_runs_on_the_devices_of_its_role(a_run: Run, name: str) -> None:
    """The arrays a stage ends with lie on exactly the devices its span names."""
    mesh = make_cluster_config(a_run.topology).role_to_mesh[ROLE_OF_STAGE[name]]
    for span in a_run.v2.named(name):
        assert np.array_equal(mesh.devices, span.devices)
        assert ROLE_OF_STAGE[name].value == (span.tags or {})["role"]
        (arrays,) = span.ends_with
        for array in jax.tree.leaves(arrays):
            assert set(mesh.devices.flat) == array.sharding.device_set


@pytest.mark.parametrize("name", ["rollout", "reference_inference"])
def test_devices_of_a_mesh_share_the_batch(a_run: Run, name: str) -> None:
    """Each of the two devices holds half of the sixteen rows."""
    for span in a_run.v2.named(name):
        shards = span.ends_with[0].addressable_shards
        assert [(8, 3), (8, 3)] == [shard.data.shape for shard in shards]


def test_each_stage_happens_once_per_micro_batch(a_run: Run) -> None:
    """Under both versions' names: 2 steps of 2 mini-batches of 2 micro-batches."""
    stages = [
        ("data_loading", "data_loading", 8),
        ("rollout", "rollout", 8),
        ("refer_inference", "reference_inference", 8),
        ("old_actor_inference", "old_actor_inference", 8),
        ("advantage_computation", "advantage_computation", 8),
        ("peft_train_step", "peft_train", 8),
        ("weight_sync", "weight_sync", 2),
    ]
    for v1_name, v2_name, count in stages:
        assert count == len(a_run.v1.named(v1_name))
        assert count == len(a_run.v2.named(v2_name))
    assert 8 * 6 + 2 == len(a_run.v1.spans)
    assert 8 * 6 + 2 + 2 == len(a_run.v2.spans)  # v2's global steps are spans


def test_training_runs_in_the_groups_that_v1_looks_for(a_run: Run) -> None:
    """Global step, mini-batch, micro-batches, actor training; the sync at the end."""
    nested = ["global_step", "mini_batch_step", "micro_batch_steps", "actor_training"]
    for span in a_run.v1.named("peft_train_step"):
        assert nested == span.groups
    for span in a_run.v1.named("weight_sync"):
        assert ["global_step"] == span.groups


def test_spans_are_exported_once_a_step_after_its_groups_closed(a_run: Run) -> None:
    """What either tracer returned is in the step's result."""
    assert [[], []] == a_run.v1.open_groups_at_export
    expected = [{"perf/exports": (1, None)}, {"perf/exports": (2, None)}]
    assert expected == [result.perf_metrics for result in a_run.results]
    assert expected == [result.perf_metrics_v2 for result in a_run.results]


def test_waiting_for_rollouts_is_a_metric_where_they_run_ahead(a_run: Run) -> None:
    """Elsewhere there is no queue to wait for (M21)."""
    for result in a_run.results:
        assert (a_run.topology in APART) == ("actor_dequeue_time" in result.metrics)


def test_a_step_has_one_point_of_each_metric(a_run: Run) -> None:
    """Of four micro-batches; what each step has, the next one has (M22)."""
    first, second = (result.metrics for result in a_run.results)
    assert first.keys() == second.keys()
    assert all(isinstance(value, float) for value in second.values())
    assert 1.0 == pytest.approx(second["step_time_sec"] * second["steps_per_sec"])


def test_texts_are_collected_if_asked_for(colocated_run: Run) -> None:
    """In order: 2 × 2 micro-batches of 4 prompts, 4 answers each (M18, M20)."""
    assert [{}, {}] == [result.texts for result in colocated_run.results]
    asked = run(Topology.COLOCATED, dataclasses.replace(TINY, texts=True))
    assert learned(colocated_run.results) == learned(asked.results)
    texts = asked.results[1].texts
    assert [64] * 3 == [
        len(texts[name]) for name in ("prompts", "completions", "trajectory_ids")
    ]
    assert ["16_0", "16_1"] == texts["trajectory_ids"][:2]
    assert "31_3" == texts["trajectory_ids"][-1]
    assert 1 == len(set(texts["prompts"][:4]))
    assert all(5 == len(text) for text in texts["completions"])  # three, and spaces


def test_reward_and_divergence_are_counters(a_run: Run) -> None:
    """One point each per global step, on both tracers."""
    expected = [
        point
        for result in a_run.results
        for point in [
            ("reward", result.metrics["rewards/mean"], ""),
            ("kl", result.metrics["kl"], "nats"),
        ]
    ]
    assert expected == a_run.v1.counters == a_run.v2.counters


def test_rollouts_have_a_thread_of_their_own_where_they_have_devices_of_their_own(
    a_run: Run,
) -> None:
    """Elsewhere one thread does everything, one after the other."""
    threads = {span.thread for span in a_run.v2.named("rollout")}
    trainers = {span.thread for span in a_run.v2.named("peft_train")}
    assert {threading.current_thread().name} == trainers
    assert (a_run.topology in APART) == threads.isdisjoint(trainers)


def test_every_stage_names_the_stages_it_waited_for(a_run: Run) -> None:
    """Training comes after three stages of its own micro-batch, which come after its
    rollout, which comes after the last weight sync, which comes after training.
    """

    def place(span: RecordedSpan) -> tuple[int, ...]:
        tags = span.tags or {}
        return tuple(tags[k] for k in ("step", "mini_batch_step", "micro_batch_step"))

    for train_span in a_run.v2.named("peft_train"):
        sources = [
            "reference_inference",
            "old_actor_inference",
            "advantage_computation",
        ]
        assert sources == [span.name for span in train_span.after]
        for source in train_span.after:
            (rollout,) = source.after
            assert "rollout" == rollout.name
            assert place(train_span) == place(source) == place(rollout)
    syncs = a_run.v2.named("weight_sync")
    for rollout in a_run.v2.named("rollout"):
        step = place(rollout)[0]
        assert syncs[:step][-1:] == rollout.after
    last_of_step = a_run.v2.named("peft_train")[3::4]
    assert [[span] for span in last_of_step] == [sync.after for sync in syncs]


@pytest.mark.parametrize("topology", Topology, ids=str)
def test_both_tracers_make_metrics_of_it(topology: Topology) -> None:
    """The built-in exports find every role at work, under the same names."""
    options = PerfMetricsOptions(enable_perf_v2=True, enable_trace_writer=False)
    cluster = make_cluster_config(topology, options)
    metrics = export.PerfMetricsExport.from_cluster_config(cluster)
    metrics_v2 = export_v2.PerfMetricsExport.from_cluster_config(
        cluster, enable_trace_writer=False
    )
    v1 = trace.PerfTracer(export_fn=metrics)
    v2 = tracer.PerfTracer(export_fn=metrics_v2.export_metrics)
    with v1, v2:
        for result in train(TINY, cluster, v1, v2):
            # v2 adds how idle the devices are.
            added = {"perf/bubble_frac", "perf/overlap_frac"}
            v2_names = result.perf_metrics_v2.keys() - added
            assert result.perf_metrics.keys() == v2_names
            for work in ("rollout", "refer_inference", "actor_train"):
                for found in result.perf_metrics, result.perf_metrics_v2:
                    assert 0 < cast("float", found[f"perf/sum/{work}_time"][0])


@dataclasses.dataclass(frozen=True, slots=True)
class BrokenTask(SortTask):
    """A task whose checker fails."""

    def rewards(self, prompts: np.ndarray, completions: np.ndarray) -> np.ndarray:
        raise ArithmeticError("the checker broke")


@pytest.mark.parametrize("topology", [Topology.COLOCATED, Topology.ROLLOUT_APART])
def test_an_error_in_either_thread_ends_the_training(topology: Topology) -> None:
    """The user sees the error itself, and no thread is left behind."""
    config = dataclasses.replace(TINY, task=BrokenTask(3, 4))
    with pytest.raises(ArithmeticError, match="the checker broke"):
        run(topology, config)
    assert not [t for t in threading.enumerate() if t.name.startswith("rollout")]


def test_a_training_may_be_left_early() -> None:
    """Closed after a step, it ends its thread."""
    cluster = make_cluster_config(Topology.ALL_APART)
    steps = train(TINY, cluster, trace.NoopTracer(), tracer.NoopTracer())
    assert 0 == next(steps).step
    steps.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("rollout")]


def test_a_micro_batch_must_split_evenly() -> None:
    """Three rows cannot be shared by two devices."""
    config = dataclasses.replace(TINY, prompts=1, group_size=3)
    with pytest.raises(ValueError, match="1 × 3 completions cannot be split evenly"):
        run(Topology.COLOCATED, config)
