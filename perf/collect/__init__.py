"""The metrics that every training and every RL job has, from arrays.

    buffer = collect.StepBuffer(sink)
    buffer.add(collect.grpo(rewards=…, advantages=…, completion_mask=…), step)
    buffer.add(collect.loss(loss), step)

Each function returns `perf.metrics.MetricsT`; a `StepBuffer` gathers those of a step's
micro-batches and hands one point of each to a sink. `perf.collect.rl` has the metrics
of reinforcement learning one by one. docs/reference/collected_metrics.md lists all.
"""

from perf.collect._algorithms import grpo, ppo
from perf.collect._aliases import ALIASES, with_documented_names
from perf.collect._buffer import BufferStats, StepBuffer, StepMetrics, split_name
from perf.collect._training import (
    StepMeter,
    geometric_mean,
    harmonic_mean,
    learning_rate,
    loss,
    tflops_per_step,
)

__all__ = [
    "ALIASES",
    "BufferStats",
    "StepBuffer",
    "StepMeter",
    "StepMetrics",
    "geometric_mean",
    "grpo",
    "harmonic_mean",
    "learning_rate",
    "loss",
    "ppo",
    "split_name",
    "tflops_per_step",
    "with_documented_names",
]
