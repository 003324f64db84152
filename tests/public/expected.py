"""What the scripted step `drive.PLAN` measures, worked out by hand, in seconds."""

from __future__ import annotations

import numpy as np

from perf.metrics import MetricsT
from tests.public.drive import Roles

BASE = {
    "perf/global_step_time": 19.5,
    "perf/weight_sync_time": 1.5,
    "perf/sum/rollout_time": 2.0 + 1.5 + 0.5,
    "perf/mean/rollout_time": 4.0 / 3,
    "perf/sum/refer_inference_time": 1.0 + 1.0 + 0.5,
    "perf/mean/refer_inference_time": 2.5 / 3,
    "perf/sum/actor_train_time": 2.0 + 4.0 + 1.0,
    "perf/mean/actor_train_time": 7.0 / 3,
    "perf/sum/actor_train_step_time": 2.0 + 4.0 + 1.0,
    "perf/mean/actor_train_step_time": 7.0 / 3,
}
"""What `PLAN` gives on any layout, worked out by hand."""
ROLLOUT_APART = {
    # The weight sync begins at 17.0, the last rollout ended at 14.5.
    "perf/rollout_idle_time": 2.5,
    # The first rollout ended at 3.0, the step began at 0.5.
    "perf/first_micro_batch_rollout_time": 2.5,
}
TRAINER_TOGETHER = {
    # From 7.0 to 8.5 and from 14.0 to 14.5.
    "perf/sum/between_micro_batch_gap_time": 2.0,
    "perf/mean/between_micro_batch_gap_time": 1.0,
}
ALL_APART = {
    # Reference inference: from 4.0 to 8.5 and from 9.5 to 14.5.
    "perf/sum/refer_gap_time": 9.5,
    "perf/mean/refer_gap_time": 4.75,
    # Actor training: from 7.0 to 10.0 and from 14.0 to 15.0.
    "perf/sum/actor_gap_time": 4.0,
    "perf/mean/actor_gap_time": 2.0,
}
CONDITIONAL = {**ROLLOUT_APART, **TRAINER_TOGETHER, **ALL_APART}

ONE_MESH: Roles = {"rollout": ["a0"], "actor": ["a0"], "refer": ["a0"]}
APART: Roles = {"rollout": ["a0"], "actor": ["b0"], "refer": ["c0"]}


def values(metrics: MetricsT) -> dict[str, float]:
    """Names and numbers, without the aggregation functions."""
    return {name: float(np.asarray(value)) for name, (value, _) in metrics.items()}
