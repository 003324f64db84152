"""One call per algorithm: it returns what the single functions do."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from perf import collect
from perf.collect import rl
from tests.collect.batches import GRPO, MASK, PPO, REWARDS, TOKENS, found


def test_grpo_is_its_parts() -> None:
    """Rewards by function, their sums as scores, advantages, lengths."""
    expected = {
        **found(rl.rewards(REWARDS, ["exact", "short"])),
        **found(rl.scores([3.0, 7.0])),
        **found(rl.advantages([-1.0, 1.0], MASK)),
        **found(rl.completion_lengths(MASK)),
    }
    assert expected == found(collect.grpo(**GRPO))


def test_texts_are_collected_when_given() -> None:
    """Nothing else changes (M18)."""
    metrics = collect.grpo(**GRPO, prompts=["a", "b"], completions=["c", "d"])
    assert (["a", "b"], None) == metrics.pop("prompts")
    assert (["c", "d"], None) == metrics.pop("completions")
    assert found(collect.grpo(**GRPO)) == found(metrics)


def test_ppo_is_grpo_with_a_critic() -> None:
    """Returns and values besides; without a coefficient KL changes nothing."""
    expected = {
        **found(collect.grpo(**{**GRPO, "advantages": TOKENS})),
        **found(rl.returns(2 * TOKENS, MASK)),
        **found(rl.values(-TOKENS, MASK)),
    }
    assert expected == found(collect.ppo(**PPO))
    assert expected == found(collect.ppo(**PPO, kl=TOKENS, kl_coefficient=0))


def test_with_a_penalty_scores_are_before_and_rewards_after_it() -> None:
    """Half of 3 and of 6 nats is taken off 3 and 7 (M9, M10)."""
    metrics = found(collect.ppo(**PPO, kl=TOKENS, kl_coefficient=0.5))
    assert [5.0, 7.0, 3.0] == [metrics[f"score/{s}"] for s in ("mean", "max", "min")]
    assert [2.75, 4.0, 1.5] == [metrics[f"rewards/{s}"] for s in ("mean", "max", "min")]
    assert 2.75 == metrics["rewards/sum"]
    assert [2.0, 3.0] == [metrics[f"rewards/{name}"] for name in ("exact", "short")]
    assert 3.75 == metrics["reward_kl_penalty"]


def test_a_penalty_needs_kl() -> None:
    """The message says what to pass."""
    with pytest.raises(ValueError, match=r"kl_coefficient is 0\.5, and there is no kl"):
        collect.ppo(**PPO, kl_coefficient=0.5)


@pytest.mark.parametrize(
    ("collection", "arrays"), [(collect.grpo, GRPO), (collect.ppo, PPO)]
)
def test_jax_arrays_are_accepted(collection: Any, arrays: dict[str, Any]) -> None:
    """And give the same numbers."""
    on_device = {
        name: jnp.asarray(array) if isinstance(array, np.ndarray) else array
        for name, array in arrays.items()
    }
    assert found(collection(**arrays)) == found(collection(**on_device))


def test_rewards_may_be_of_a_single_function() -> None:
    """A vector is a column."""
    vector = collect.grpo(**{**GRPO, "rewards": [3.0, 7.0], "reward_functions": ["a"]})
    table = collect.grpo(
        **{**GRPO, "rewards": [[3.0], [7.0]], "reward_functions": ["a"]}
    )
    assert found(vector) == found(table)
