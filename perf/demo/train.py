"""The training loop: make experience, learn from it, hand the weights over; traced.

A global step makes `mini_batches` × `micro_batches` micro-batches with one version of
the policy, updates the policy once per mini-batch, then gives the rollout the new
weights. Training is on-policy from step to step; from the second mini-batch of a step
on, the policy has moved on from the one that wrote the completions, and clipping limits
how far.

Where rollout and actor have devices of their own they work at the same time. That
changes when things happen and never what is learned.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from perf.demo.actor import accumulate, init_state, update
from perf.demo.config import DemoConfig
from perf.demo.experience import Experience, ExperienceMaker
from perf.demo.grpo import LossStats
from perf.demo.model import ModelConfig, init_policy
from perf.demo.stages import Stage, Stages
from perf.demo.topology import ClusterConfig, Role, copy_to
from perf.experimental.tracer import Tracer as TracerV2
from perf.metrics import MetricsT
from perf.trace import Tracer


@dataclasses.dataclass(frozen=True, slots=True)
class StepResult:
    """What one global step taught, and what it cost. Means over the step's work."""

    step: int
    """From 0."""
    reward: float
    """0 … 1."""
    exact: float
    """Share of completions that are right throughout."""
    loss: float
    kl: float
    """Divergence from the reference, nats per symbol."""
    clip_fraction: float
    """Share of symbols whose gradient the clipping stopped."""
    perf_metrics: MetricsT
    """What the v1 tracer's `export` returned."""
    perf_metrics_v2: MetricsT
    """What the v2 tracer's `export` returned."""


def train(
    config: DemoConfig, cluster: ClusterConfig, perf: Tracer, perf_v2: TracerV2
) -> Generator[StepResult, None, None]:
    """Trains, and hands out the result of each global step as it ends.

    Args:
        config: What is trained.
        cluster: Where; see `topology.make_cluster_config`.
        perf: A tracer of v1, real or no-op.
        perf_v2: A tracer of v2, real or no-op.

    Yields:
        One result per global step, its spans exported.

    Raises:
        ValueError: a micro-batch cannot be split evenly over the devices of a mesh.
    """
    rows = config.prompts * config.group_size
    for mesh in cluster.role_to_mesh.values():
        if rows % mesh.size:
            raise ValueError(
                f"a micro-batch of {config.prompts} × {config.group_size} completions"
                f" cannot be split evenly over the {mesh.size} devices of a mesh"
            )
    with ThreadPoolExecutor(1, thread_name_prefix="rollout") as ahead:
        trainer = _Trainer(config, cluster, Stages(perf, perf_v2), ahead)
        for step in range(config.steps):
            yield trainer.global_step(step)


class _Trainer:
    def __init__(
        self,
        config: DemoConfig,
        cluster: ClusterConfig,
        stages: Stages,
        ahead: ThreadPoolExecutor,
    ) -> None:
        length = config.task.length
        model = ModelConfig(symbols=config.task.symbols, context=2 * length)
        policy = init_policy(config.seed, model)
        self._config = config
        self._stages = stages
        self._mesh = cluster.role_to_mesh[Role.ACTOR]
        self._state = copy_to(self._mesh, init_state(policy))
        self._maker = ExperienceMaker(config, cluster, stages, policy, ahead)

    def global_step(self, step: int) -> StepResult:
        rewards: list[np.ndarray] = []
        stats: list[LossStats] = []
        trained: list[Stage] = []
        with self._stages.global_step(step):
            # Training replaces the policy and changes no array of it, so this stays
            # what the rollout has, whichever thread reads it when.
            behaviour = self._state.policy
            for i in range(self._config.mini_batches):
                micro_batches = self._config.mini_batch(step, i)
                with (
                    self._stages.group("mini_batch_step"),
                    self._stages.group("micro_batch_steps"),
                ):
                    for experience in self._maker.make(micro_batches, behaviour):
                        rewards.append(experience.rewards)
                        loss_stats, stage = self._learn(experience)
                        stats.append(loss_stats)
                        trained.append(stage)
            self._maker.sync_weights(self._state.policy, step, after=trained[-1:])

        reward, exact = float(np.mean(rewards)), float(np.mean(np.equal(rewards, 1)))
        loss, kl, clip_fraction = np.mean(stats, axis=0).tolist()
        self._stages.counter("reward", reward)
        self._stages.counter("kl", kl, "nats")
        metrics, metrics_v2 = self._stages.export()
        return StepResult(
            step, reward, exact, loss, kl, clip_fraction, metrics, metrics_v2
        )

    def _learn(self, experience: Experience) -> tuple[LossStats, Stage]:
        """Adds a micro-batch's gradient; a mini-batch's last updates the policy."""
        config, micro_batch = self._config, experience.micro_batch
        tags = {**micro_batch.tags(), "role": Role.ACTOR.value}
        with self._stages.group("actor_training"):
            with self._stages.span(
                "peft_train", self._mesh.devices, tags=tags, after=experience.stages
            ) as stage:
                self._state, stats = accumulate(
                    self._state,
                    experience.batch,
                    clip=config.clip,
                    kl_weight=config.kl_weight,
                )
                if micro_batch.micro_batch == config.micro_batches - 1:
                    self._state = update(
                        self._state, config.micro_batches, config.learning_rate
                    )
                stage.ends_with(self._state.gradients)
                # Reading the numbers waits for the devices, so that span and group
                # show how long the trainer's thread is held up.
                return jax.device_get(stats), stage
