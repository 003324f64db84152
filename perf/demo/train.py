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
import functools
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from perf import collect
from perf.collect import rl
from perf.demo.actor import accumulate, init_state, update
from perf.demo.config import DemoConfig
from perf.demo.experience import Experience, ExperienceMaker
from perf.demo.measures import experience_metrics, gradient_work, loss_metrics
from perf.demo.model import ModelConfig, init_policy
from perf.demo.stages import Stage, Stages
from perf.demo.topology import ClusterConfig, Role, copy_to
from perf.experimental.tracer import Tracer as TracerV2
from perf.metrics import MetricsT
from perf.trace import Tracer


@dataclasses.dataclass(frozen=True, slots=True)
class StepResult:
    """What one global step taught, and what it cost."""

    step: int
    """From 0."""
    metrics: Mapping[str, Any]
    """Numbers by their documented names; and `exact`, the share of completions that are
    right throughout."""
    texts: Mapping[str, list[str]]
    """Prompts, completions and trajectory ids, if the configuration asks for them."""
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
        self._collected: list[collect.StepMetrics] = []
        self._buffer = collect.StepBuffer(self._collected.append)
        self._meter = collect.StepMeter()
        self._work: MetricsT | None = None

    def global_step(self, step: int) -> StepResult:
        add = functools.partial(self._buffer.add, step=step)
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
                    experiences = self._maker.make(micro_batches, behaviour)
                    if self._maker.works_ahead:
                        experiences = rl.timed(experiences, add)
                    for experience in experiences:
                        add(experience_metrics(self._config, experience))
                        trained.append(self._learn(experience, add))
            self._maker.sync_weights(self._state.policy, step, after=trained[-1:])

        add({"learning_rate": (self._config.learning_rate, None)})
        add(self._meter.step_done())
        self._buffer.finish(step)
        collected = self._collected.pop()
        metrics = dict(collected.scalars)
        self._stages.counter("reward", metrics["rewards/mean"])
        self._stages.counter("kl", metrics["kl"], "nats")
        return StepResult(step, metrics, collected.texts, *self._stages.export())

    def _learn(self, experience: Experience, add: Callable[[MetricsT], None]) -> Stage:
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
                stats = jax.device_get(stats)
        add(loss_metrics(stats))
        if self._work is None:
            self._work = gradient_work(config, self._state, experience.batch)
        add(self._work)
        return stage
