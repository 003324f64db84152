"""All that can be said of a micro-batch of experience, in one call per algorithm.

What the update itself shows (`loss`, `pg_clipfrac`, `vf_clipfrac`, `entropy`, `kl`) is
known later and collected where it is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from perf.collect import rl
from perf.collect._arrays import numbers

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from perf._model.metrics import MetricsT


def grpo(
    *,
    rewards: ArrayLike,
    advantages: ArrayLike,
    completion_mask: ArrayLike,
    reward_functions: Sequence[str | Callable[..., Any]] = (),
    prompts: Sequence[str] = (),
    completions: Sequence[str] = (),
) -> MetricsT:
    """`rewards/…`, `score/…`, `advantages/…`, `completions/…` and the texts.

    The scores are the rewards' sums over functions. Blocks until JAX arrays are there.

    Args:
        rewards: [batch, functions], or [batch] of a single function; NaN where one has
            nothing to say.
        advantages: [batch] or [batch, length].
        completion_mask: [batch, length].
        reward_functions: The functions, or their names, for a metric of each.
        prompts: Texts, if they are to be collected, one per row of the batch.
        completions: Likewise.

    Raises:
        ValueError: The shapes or the functions' names do not fit.
    """
    metrics = {
        **rl.rewards(rewards, reward_functions),
        **rl.scores(_scores(rewards)),
        **rl.advantages(advantages, completion_mask),
        **rl.completion_lengths(completion_mask),
    }
    if len(prompts) or len(completions):
        metrics |= rl.texts(prompts, completions)
    return metrics


def ppo(
    *,
    rewards: ArrayLike,
    advantages: ArrayLike,
    returns: ArrayLike,
    values: ArrayLike,
    completion_mask: ArrayLike,
    kl: ArrayLike | None = None,
    kl_coefficient: float | None = None,
    reward_functions: Sequence[str | Callable[..., Any]] = (),
    prompts: Sequence[str] = (),
    completions: Sequence[str] = (),
) -> MetricsT:
    """What GRPO has, and `returns/…`, `values/…`, `reward_kl_penalty`.

    With a KL penalty `rewards/{sum,mean,max,min}` are of the whole rewards of
    trajectories after it; `score/…` and `rewards/<function>` are before. Blocks until
    JAX arrays are there.

    Args:
        rewards: [batch, functions], or [batch]: before the penalty.
        advantages: [batch, length].
        returns: [batch, length].
        values: [batch, length], the critic's estimates of that time.
        completion_mask: [batch, length].
        kl: [batch, length], nats per token; needed if it costs something.
        kl_coefficient: What a nat costs in reward; 0 or None for no penalty.
        reward_functions: The functions, or their names, for a metric of each.
        prompts: Texts, if they are to be collected, one per row of the batch.
        completions: Likewise.

    Raises:
        ValueError: The shapes or the functions' names do not fit, or there is a
            coefficient and no KL.
    """
    metrics = {
        **grpo(
            rewards=rewards,
            advantages=advantages,
            completion_mask=completion_mask,
            reward_functions=reward_functions,
            prompts=prompts,
            completions=completions,
        ),
        **rl.returns(returns, completion_mask),
        **rl.values(values, completion_mask),
    }
    if not kl_coefficient:
        return metrics
    if kl is None:
        raise ValueError(
            f"kl_coefficient is {kl_coefficient}, and there is no kl: pass the "
            "divergences, or no coefficient"
        )
    penalised = rl.penalised_rewards(
        _scores(rewards), kl, completion_mask, kl_coefficient
    )
    return {
        **metrics,
        **rl.rewards(penalised),
        **rl.kl_penalty(kl, completion_mask, kl_coefficient),
    }


def _scores(rewards: ArrayLike) -> Any:
    table = numbers(rewards)
    return np.nansum(table, axis=1, dtype=np.float64) if table.ndim == 2 else table
