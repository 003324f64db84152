"""What is made ahead of training, and that it cannot get in training's way."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from perf.demo.config import DemoConfig
from perf.demo.experience import ExperienceMaker
from perf.demo.model import ModelConfig, init_policy, sample, token_logps
from perf.demo.task import SortTask
from perf.demo.topology import Role, Topology, copy_to, make_cluster_config, split
from tests.demo.recording import RecordingTracer, stages_on

CONFIG = DemoConfig(prompts=2, group_size=4, task=SortTask(length=3, symbols=4))
MODEL = ModelConfig(symbols=4, context=6)


@pytest.mark.parametrize(
    ("made_ahead", "topology"),
    [
        (0, Topology.COLOCATED),
        (0, Topology.REFERENCE_APART),
        (3, Topology.ROLLOUT_APART),
        (3, Topology.ACTOR_APART),
        (3, Topology.ALL_APART),
    ],
)
def test_experience_is_made_ahead_where_the_rollout_has_its_own_devices(
    made_ahead: int, topology: Topology
) -> None:
    """There all of a mini-batch is rolled out though nobody has asked for it yet."""
    tracer = RecordingTracer()
    policy = init_policy(0, MODEL)
    cluster = make_cluster_config(topology)
    stages = stages_on(tracer, tracer)
    with ThreadPoolExecutor(1) as ahead:
        maker = ExperienceMaker(CONFIG, cluster, stages, policy, ahead)
        behaviour = copy_to(cluster.role_to_mesh[Role.ACTOR], policy)
        pending = maker.make(CONFIG.mini_batch(0, 0), behaviour)
        ahead.shutdown(wait=True)
        assert made_ahead == len(tracer.named("advantage_computation")) // 2
    assert [0, 1, 2] == [experience.micro_batch.micro_batch for experience in pending]


def test_experience_holds_what_its_policy_did() -> None:
    """Old and reference probabilities are those of the policy that wrote the answers,
    rewards are the checker's, in groups of one prompt each.
    """
    tracer = RecordingTracer()
    policy = init_policy(0, MODEL)
    cluster = make_cluster_config(Topology.ALL_APART)
    stages = stages_on(tracer, tracer)
    with ThreadPoolExecutor(1) as ahead:
        maker = ExperienceMaker(CONFIG, cluster, stages, policy, ahead)
        behaviour = copy_to(cluster.role_to_mesh[Role.ACTOR], policy)
        experience = next(maker.make(CONFIG.mini_batch(0, 0), behaviour))
    batch = jax.tree.map(np.asarray, experience.batch)
    logps = token_logps(policy, batch.prompts, batch.completions)
    np.testing.assert_allclose(logps, batch.old_logps, rtol=1e-5)
    np.testing.assert_allclose(logps, batch.reference_logps, rtol=1e-5)
    groups = batch.prompts.reshape(2, 4, 3)
    assert np.array_equal(groups, np.repeat(groups[:, :1], 4, axis=1))
    rewards = CONFIG.task.rewards(batch.prompts, batch.completions)
    assert np.array_equal(rewards.reshape(2, 4), experience.rewards)


def test_only_training_communicates_between_devices() -> None:
    """Sampling and inference compile to programs without collectives.

    Two threads that launch programs with collectives on the same devices can deadlock:
    each device may begin with another one and wait for its partner for ever.
    """
    mesh = make_cluster_config(Topology.COLOCATED).role_to_mesh[Role.ROLLOUT]
    policy = copy_to(mesh, init_policy(0, MODEL))
    rows = jax.device_put(np.zeros((8, 3), np.int32), split(mesh))
    programs = [
        jax.jit(sample, static_argnames="count").lower(policy, rows, 3, np.uint32(0)),
        jax.jit(token_logps).lower(policy, rows, rows),
    ]
    for program in programs:
        text = str(program.compile().as_text())
        for collective in ("all-reduce", "all-gather", "all-to-all", "permute"):
            assert collective not in text
