"""What a micro-batch goes through before it is trained on.

Prompts are drawn and completed, the completions' probabilities computed under the
frozen reference and under the policy that wrote them, rewards checked and compared.
Each part runs on the devices of its role; arrays are copied from mesh to mesh between.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from typing import NamedTuple

import jax
import numpy as np

from perf.demo.actor import TrainBatch
from perf.demo.config import DemoConfig, MicroBatch
from perf.demo.grpo import group_advantages
from perf.demo.model import Policy, sample, token_logps
from perf.demo.stages import Stage, Stages
from perf.demo.topology import ClusterConfig, Role, copy_to, split

_sample = jax.jit(sample, static_argnames="count")
_token_logps = jax.jit(token_logps)


class Experience(NamedTuple):
    """A micro-batch, ready to train on."""

    micro_batch: MicroBatch
    batch: TrainBatch
    rewards: np.ndarray
    """float32 [prompts, group size], on the host."""
    stages: list[Stage]
    """The stages it came out of."""


class ExperienceMaker:
    """The rollout, the reference and the checker of rewards.

    Args:
        config: What is trained.
        cluster: Where each role lives.
        stages: Where the work is recorded.
        policy: What the rollout begins with, and the reference stays.
        ahead: Where to make experience ahead of training, if the rollout has devices
            of its own. It must run one call after the other.
    """

    def __init__(
        self,
        config: DemoConfig,
        cluster: ClusterConfig,
        stages: Stages,
        policy: Policy,
        ahead: Executor,
    ) -> None:
        self._config = config
        self._stages = stages
        self._meshes = cluster.role_to_mesh
        self._reference = copy_to(self._meshes[Role.REFERENCE], policy)
        self._rollout = copy_to(self._meshes[Role.ROLLOUT], policy)
        self._weight_sync: list[Stage] = []
        self._ahead = ahead

    @property
    def works_ahead(self) -> bool:
        """Whether the rollout shares no device with the actor."""
        rollout, actor = self._meshes[Role.ROLLOUT], self._meshes[Role.ACTOR]
        return set(rollout.devices.flat).isdisjoint(actor.devices.flat)

    def make(
        self, micro_batches: list[MicroBatch], behaviour: Policy
    ) -> Iterator[Experience]:
        """Makes the experience of `micro_batches`, in order.

        Where the rollout has devices of its own, a second thread makes it ahead while
        the caller trains. Elsewhere it is made when asked for: the devices could not do
        both at a time.

        Args:
            micro_batches: What to make.
            behaviour: The policy that the rollout has, on the actor's devices.
        """
        make_one = functools.partial(self._make_one, behaviour=behaviour)
        if self.works_ahead:
            return self._ahead.map(make_one, micro_batches)
        return map(make_one, micro_batches)

    def sync_weights(self, policy: Policy, step: int, after: list[Stage]) -> None:
        """Gives the rollout a copy of `policy`, and waits until it is there."""
        devices = self._meshes[Role.ROLLOUT].devices
        tags = {"step": step, "role": Role.ROLLOUT.value}
        with self._stages.span("weight_sync", devices, tags=tags, after=after) as stage:
            self._rollout = copy_to(self._meshes[Role.ROLLOUT], policy)
            stage.ends_with(self._rollout)
            jax.block_until_ready(self._rollout)
        self._weight_sync = [stage]

    def _make_one(self, micro_batch: MicroBatch, behaviour: Policy) -> Experience:
        config, task = self._config, self._config.task
        rng = np.random.default_rng([config.seed, *micro_batch[:3]])
        span = functools.partial(self._span, micro_batch)

        with span("data_loading"):
            prompts = task.prompts(rng, config.prompts)
            prompts = prompts.repeat(config.group_size, axis=0)

        with span("rollout", Role.ROLLOUT, after=self._weight_sync) as rollout:
            completions = _sample(
                self._rollout,
                *self._put(Role.ROLLOUT, prompts),
                count=task.length,
                seed=rng.integers(2**32, dtype=np.uint32),
            )
            rollout.ends_with(completions)
            # The checker reads them on the host; until they are there it is rollout.
            answers = np.asarray(completions)

        with span("reference_inference", Role.REFERENCE, after=[rollout]) as reference:
            inputs = self._put(Role.REFERENCE, prompts, completions)
            reference_logps = _token_logps(self._reference, *inputs)
            reference.ends_with(reference_logps)

        with span("old_actor_inference", Role.ACTOR, after=[rollout]) as old_actor:
            inputs = self._put(Role.ACTOR, prompts, completions)
            old_logps = _token_logps(behaviour, *inputs)
            old_actor.ends_with(old_logps)

        with span("advantage_computation", after=[rollout]) as advantage:
            rewards = task.rewards(prompts, answers).reshape(-1, config.group_size)
            advantages = group_advantages(rewards).reshape(-1)

        others = self._put(Role.ACTOR, old_logps, reference_logps, advantages)
        return Experience(
            micro_batch,
            TrainBatch(*inputs, *others),
            rewards,
            [reference, old_actor, advantage],
        )

    def _span(
        self,
        micro_batch: MicroBatch,
        name: str,
        role: Role | None = None,
        after: Iterable[Stage] = (),
    ) -> AbstractContextManager[Stage]:
        tags = micro_batch.tags()
        if role is None:
            return self._stages.span(name, tags=tags, after=after)
        tags["role"] = role.value
        devices = self._meshes[role].devices
        return self._stages.span(name, devices, tags=tags, after=after)

    def _put(self, role: Role, *arrays: jax.Array | np.ndarray) -> list[jax.Array]:
        """Splits arrays over the devices of a role, wherever they are now."""
        sharding = split(self._meshes[role])
        return [jax.device_put(array, sharding) for array in arrays]
