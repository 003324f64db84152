"""The metrics that every training and every RL job has, from arrays.

    buffer = collect.StepBuffer(sink)
    buffer.add(collect.loss(loss), step)
    buffer.add(collect.grpo(rewards=…, advantages=…, completion_mask=…), step)

Each function returns `perf.metrics.MetricsT`; a `StepBuffer` gathers those of a step's
micro-batches and hands one point of each to a sink. docs/reference/collected_metrics.md
lists the names.
"""

from perf.collect.algorithms import grpo, ppo
from perf.collect.aliases import DOCUMENTED_NAMES, with_documented_names
from perf.collect.buffer import BufferStats, StepBuffer, StepMetrics, split_name
from perf.collect.rl import (
    advantages,
    completion_lengths,
    entropy,
    kl,
    kl_penalty,
    penalised_rewards,
    pg_clipfrac,
    returns,
    rewards,
    scores,
    texts,
    timed,
    token_entropies,
    trajectory_ids,
    values,
    vf_clipfrac,
)
from perf.collect.training import (
    StepMeter,
    geometric_mean,
    harmonic_mean,
    learning_rate,
    loss,
    tflops_per_step,
)

__all__ = [
    "DOCUMENTED_NAMES",
    "BufferStats",
    "StepBuffer",
    "StepMeter",
    "StepMetrics",
    "advantages",
    "completion_lengths",
    "entropy",
    "geometric_mean",
    "grpo",
    "harmonic_mean",
    "kl",
    "kl_penalty",
    "learning_rate",
    "loss",
    "penalised_rewards",
    "pg_clipfrac",
    "ppo",
    "returns",
    "rewards",
    "scores",
    "split_name",
    "texts",
    "tflops_per_step",
    "timed",
    "token_entropies",
    "trajectory_ids",
    "values",
    "vf_clipfrac",
    "with_documented_names",
]
