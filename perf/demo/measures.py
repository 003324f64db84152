"""What each micro-batch adds to the metrics of its step.

A `perf.collect.StepBuffer` makes one number per step of them.
"""

from __future__ import annotations

import jax
import numpy as np

from perf import collect
from perf.collect import rl
from perf.demo.actor import TrainBatch, TrainState, accumulate
from perf.demo.config import DemoConfig
from perf.demo.experience import Experience
from perf.demo.grpo import LossStats
from perf.metrics import MetricsT


def experience_metrics(config: DemoConfig, experience: Experience) -> MetricsT:
    """What the completions are like, and are worth; with their texts if asked for."""
    task, batch = config.task, experience.batch
    metrics = collect.grpo(
        rewards=experience.rewards.reshape(-1),
        reward_functions=["right_places"],
        advantages=batch.advantages,
        # All completions have one length.
        completion_mask=np.ones(batch.completions.shape),
    )
    metrics["exact"] = (np.mean(experience.rewards == 1), np.mean)
    if config.texts:
        prompts, completions = jax.device_get((batch.prompts, batch.completions))
        metrics |= rl.texts(task.texts(prompts), task.texts(completions))
        number = config.number(*experience.micro_batch[:3])
        metrics |= rl.trajectory_ids(number, config.prompts, config.group_size)
    return metrics


def loss_metrics(stats: LossStats) -> MetricsT:
    """What the policy learned from a micro-batch."""
    return {
        **collect.loss(stats.loss),
        "kl": (stats.kl, np.mean),
        "pg_clipfrac": (stats.clip_fraction, np.mean),
    }


def gradient_work(config: DemoConfig, state: TrainState, batch: TrainBatch) -> MetricsT:
    """The floating-point operations of a micro-batch's gradient, of any one.

    Added with each, they sum up to those of the step.
    """
    work = collect.tflops_per_step(
        accumulate, state, batch, clip=config.clip, kl_weight=config.kl_weight
    )
    return {name: (tflops, np.sum) for name, (tflops, _) in work.items()}
