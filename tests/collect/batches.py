"""A small batch, and how to read metrics."""

from __future__ import annotations

from typing import Any

import numpy as np

from perf._model.metrics import MetricsT

MASK = np.array([[1, 1, 0], [1, 0, 0]])
TOKENS = np.array([[1.0, 2.0, 9.0], [6.0, 9.0, 9.0]])
REWARDS = np.array([[1.0, 2.0], [3.0, 4.0]])
GRPO: dict[str, Any] = {
    "rewards": REWARDS,
    "advantages": np.array([-1.0, 1.0]),
    "completion_mask": MASK,
    "reward_functions": ["exact", "short"],
}
PPO: dict[str, Any] = {
    **GRPO,
    "advantages": TOKENS,
    "returns": 2 * TOKENS,
    "values": -TOKENS,
}


def found(metrics: MetricsT) -> dict[str, float]:
    """Names and numbers."""
    return {name: float(np.asarray(value)) for name, (value, _) in metrics.items()}
