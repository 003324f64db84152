"""Names as a framework logs them, and as its document has them."""

from __future__ import annotations

import numpy as np
import pytest

from perf import collect
from tests.collect.batches import PPO, TOKENS


@pytest.mark.parametrize(
    ("logged", "documented"),
    [
        ("rewards/score/mean", "score/mean"),
        ("rewards/reward/max", "rewards/max"),
        ("rewards/reward_kl_penalty", "reward_kl_penalty"),
        ("advantages/returns/min", "returns/min"),
        ("advantages/old_values/mean", "values/mean"),
        ("generation/completions/max_length", "completions/max_length"),
        ("advantages/mean", "advantages/mean"),
        ("perf/global_step_time", "perf/global_step_time"),
    ],
)
def test_a_logged_name_becomes_the_documented_one(logged: str, documented: str) -> None:
    """With its value and aggregation; others stay."""
    entry = (1.0, np.mean)
    assert {documented: entry} == collect.with_documented_names({logged: entry})


def test_no_metric_takes_the_place_of_another() -> None:
    """Where both names occur, each keeps its own."""
    metrics = {
        "rewards/mean": (1.0, np.mean),
        "rewards/reward/mean": (2.0, np.mean),
    }
    assert metrics == collect.with_documented_names(metrics)


def test_documented_names_are_those_that_are_collected() -> None:
    """Every name that another one stands for is a metric of `ppo`."""
    collected = collect.ppo(**PPO, kl=TOKENS, kl_coefficient=0.5)
    assert set(collect.ALIASES.values()) <= set(collected)
