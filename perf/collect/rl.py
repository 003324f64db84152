"""Metrics of reinforcement learning, from the arrays of one micro-batch.

Each function returns names with a number and the function that aggregates the numbers
of a step's micro-batches: each micro-batch weighs the same, whatever its size.
`StepBuffer` does that.

Arrays may be numpy's, JAX's or lists. **Every function here but `token_entropies`
blocks until its JAX arrays are there** and copies them to the host, whole arrays: call
them after the work of the micro-batch has been launched, not in the midst of it.

A mask is [batch, length] and true (or 1) where a token belongs to a completion. What it
leaves out is never looked at. Where nothing is left, a metric is absent: there is no
mean of nothing. NaN and infinities among what counts are kept.

Sums are made in float64. Source of the formulas, where the document of the names says
none: what `tunix.rl` logs under them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from perf.collect._arrays import (
    Array,
    as_mask,
    mean,
    mean_only,
    numbers,
    per_token,
    sequence_sums,
    statistics,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from perf._model.metrics import MetricsT

__all__ = [
    "advantages",
    "completion_lengths",
    "entropy",
    "kl",
    "kl_penalty",
    "penalised_rewards",
    "pg_clipfrac",
    "returns",
    "rewards",
    "scores",
    "texts",
    "timed",
    "token_entropies",
    "trajectory_ids",
    "values",
    "vf_clipfrac",
]

T = TypeVar("T")

_REWARD_STATISTICS = ("sum", "mean", "max", "min")


@np.errstate(all="ignore")
def rewards(
    rewards: ArrayLike, functions: Sequence[str | Callable[..., Any]] = ()
) -> MetricsT:
    """`rewards/{sum,mean,max,min}` and one `rewards/<function>` each.

    A NaN says that a function had nothing to say of a trajectory: sum and mean go over
    the others.

    Args:
        rewards: [trajectories, functions], or [trajectories] of a single one.
        functions: The reward functions, or their names, in the order of the columns;
            none if they need no metric each.

    Returns:
        The sum over functions, averaged over trajectories; likewise the mean over
        functions; the largest and the smallest of all; the mean of each column: the
        last three are NaN where a NaN is among what they are of. Aggregated by mean,
        max and min.

    Raises:
        ValueError: The shapes do not fit, two functions have one name, or one is called
            like a statistic.
    """
    table = numbers(rewards)
    if table.ndim == 1:
        table = table[:, None]
    if table.ndim != 2:
        raise ValueError(
            f"rewards: expected [trajectories, functions], found {table.shape}"
        )
    names = [_name(function) for function in functions]
    if names and len(names) != table.shape[1]:
        raise ValueError(
            f"rewards: {len(names)} functions ({', '.join(names)}) need as many "
            f"columns, found {table.shape}"
        )
    for name, count in Counter(names).items():
        if count > 1 or name in _REWARD_STATISTICS:
            raise ValueError(
                f"rewards: the name {name!r} of a reward function is taken; pass names "
                f"that differ, other than {', '.join(_REWARD_STATISTICS)}"
            )
    if not table.size:
        return {}
    sums: Array = np.asarray(np.nansum(table, axis=1, dtype=np.float64))
    # 0/0 for a trajectory without any reward.
    means = sums / np.count_nonzero(~np.isnan(table), axis=1)
    metrics: MetricsT = {
        "rewards/sum": (mean(sums), np.mean),
        "rewards/mean": (mean(means), np.mean),
        "rewards/max": (np.float64(table.max()), np.max),
        "rewards/min": (np.float64(table.min()), np.min),
    }
    for name, column in zip(names, table.T, strict=False):
        metrics[f"rewards/{name}"] = (mean(column), np.mean)
    return metrics


def scores(scores: ArrayLike) -> MetricsT:
    """`score/{mean,max,min}`: of the scores before anything is taken off.

    Args:
        scores: [trajectories], what the reward model or the functions together gave.

    Raises:
        ValueError: Another number of axes.
    """
    return statistics("score", _per_trajectory("scores", scores))


@np.errstate(all="ignore")
def penalised_rewards(
    scores: ArrayLike, kl: ArrayLike, completion_mask: ArrayLike, coefficient: float
) -> Array:
    """Returns score − coefficient · KL summed over tokens, float64 [trajectories].

    The reward of a trajectory where the penalty is part of it (PPO): what `rewards`
    takes.

    Args:
        scores: [trajectories].
        kl: [trajectories, length], in nats per token.
        completion_mask: [trajectories, length].
        coefficient: What a nat costs; usually called beta.

    Raises:
        ValueError: The shapes do not fit.
    """
    given = _per_trajectory("scores", scores)
    penalty = coefficient * sequence_sums("kl", kl, as_mask(completion_mask))
    if given.shape != penalty.shape:
        raise ValueError(f"scores: expected {penalty.shape}, found {given.shape}")
    rewarded: Array = given - penalty
    return rewarded


def kl_penalty(
    kl: ArrayLike, completion_mask: ArrayLike, coefficient: float | None
) -> MetricsT:
    """`reward_kl_penalty`: mean over sequences of their mean KL per token.

    Without the coefficient, so that runs with different ones compare. Sequences
    without tokens do not count.

    Args:
        kl: [batch, length], nats per token.
        completion_mask: [batch, length].
        coefficient: What a nat costs in reward; 0 or None for no penalty and no metric.

    Raises:
        ValueError: The shapes do not fit.
    """
    if not coefficient:
        return {}
    mask = as_mask(completion_mask)
    counts = mask.sum(axis=1)
    sums = sequence_sums("kl", kl, mask)
    some = counts > 0
    return mean_only("reward_kl_penalty", sums[some] / counts[some])


def kl(kl: ArrayLike, completion_mask: ArrayLike) -> MetricsT:
    """`kl`: the mean over tokens, as GRPO has it in its loss.

    Args:
        kl: [batch, length], divergence from the reference in nats per token.
        completion_mask: [batch, length].

    Raises:
        ValueError: The shapes do not fit.
    """
    return mean_only("kl", per_token("kl", kl, as_mask(completion_mask)))


def advantages(advantages: ArrayLike, completion_mask: ArrayLike) -> MetricsT:
    """`advantages/{mean,max,min}` over tokens.

    Args:
        advantages: [batch, length] (PPO), or [batch] (GRPO): each token has its
            sequence's, so that long completions weigh more.
        completion_mask: [batch, length].

    Raises:
        ValueError: The shapes do not fit.
    """
    return _of_tokens("advantages", advantages, completion_mask)


def returns(returns: ArrayLike, completion_mask: ArrayLike) -> MetricsT:
    """`returns/{mean,max,min}` over tokens.

    Args:
        returns: [batch, length].
        completion_mask: [batch, length].

    Raises:
        ValueError: The shapes do not fit.
    """
    return _of_tokens("returns", returns, completion_mask)


def values(values: ArrayLike, completion_mask: ArrayLike) -> MetricsT:
    """`values/{mean,max,min}` over tokens.

    Args:
        values: [batch, length], the critic's estimates when the completions were
            written.
        completion_mask: [batch, length].

    Raises:
        ValueError: The shapes do not fit.
    """
    return _of_tokens("values", values, completion_mask)


@np.errstate(all="ignore")
def pg_clipfrac(
    logps: ArrayLike,
    old_logps: ArrayLike,
    advantages: ArrayLike,
    completion_mask: ArrayLike,
    *,
    low: float,
    high: float,
) -> MetricsT:
    """`pg_clipfrac`: share of tokens whose gradient the clipping stopped.

    With r = exp(logp − old logp): those with clip(r, 1 − low, 1 + high) · A < r · A,
    where the clipped policy gradient (arXiv 1707.06347, section 3) takes the clipped
    side.

    Args:
        logps: [batch, length], under the policy in training.
        old_logps: [batch, length], under the policy that wrote the completions.
        advantages: [batch, length] or [batch].
        completion_mask: [batch, length].
        low: How far the ratio may fall below 1.
        high: How far it may rise above.

    Raises:
        ValueError: The shapes do not fit.
    """
    mask = as_mask(completion_mask)
    advantage = per_token("advantages", advantages, mask)
    difference = per_token("logps", logps, mask) - per_token(
        "old_logps", old_logps, mask
    )
    ratio = np.exp(difference)
    gain = ratio * advantage
    clipped_gain = np.clip(ratio, 1 - low, 1 + high) * advantage
    return _fraction("pg_clipfrac", clipped_gain < gain, of=gain)


@np.errstate(all="ignore")
def vf_clipfrac(
    values: ArrayLike,
    old_values: ArrayLike,
    returns: ArrayLike,
    completion_mask: ArrayLike,
    *,
    clip: float,
) -> MetricsT:
    """`vf_clipfrac`: share of tokens where the clipped value loss is the larger one.

    Those with (clip(v, old v − c, old v + c) − return)² > (v − return)².

    Args:
        values: [batch, length], the critic's estimates now.
        old_values: [batch, length], when the completions were written.
        returns: [batch, length].
        completion_mask: [batch, length].
        clip: c, how far an estimate may move.

    Raises:
        ValueError: The shapes do not fit.
    """
    mask = as_mask(completion_mask)
    now = per_token("values", values, mask)
    old = per_token("old_values", old_values, mask)
    target = per_token("returns", returns, mask)
    loss = np.square(now - target)
    clipped_loss = np.square(np.clip(now, old - clip, old + clip) - target)
    return _fraction("vf_clipfrac", clipped_loss > loss, of=loss)


def entropy(
    entropies: ArrayLike, completion_mask: ArrayLike, coefficient: float | None
) -> MetricsT:
    """`loss/entropy`: the policy's mean entropy per token, in nats.

    Args:
        entropies: [batch, length]; `token_entropies` makes them from logits.
        completion_mask: [batch, length].
        coefficient: Of the entropy in the loss; 0 or None for no regularization and no
            metric.

    Raises:
        ValueError: The shapes do not fit.
    """
    if not coefficient:
        return {}
    mask = as_mask(completion_mask)
    return mean_only("loss/entropy", per_token("entropies", entropies, mask))


def token_entropies(logits: Any) -> Any:
    """Returns the entropy of each token's distribution, −Σ p·log p, in nats.

    Logits are large: this stays where they are. With JAX arrays it runs on their
    devices, does not block, and may be part of a jitted function.

    Args:
        logits: [..., vocabulary], an array of numpy or JAX; −inf for what cannot be
            drawn.

    Returns:
        [...], an array of the same kind.
    """
    xp = logits.__array_namespace__()
    shifted = logits - xp.max(logits, axis=-1, keepdims=True)
    weights = xp.exp(shifted)
    total = xp.sum(weights, axis=-1)
    # 0 · log 0 is 0.
    weighted = weights * xp.where(weights > 0, shifted, 0)  # mutate: ok any number does
    return xp.log(total) - xp.sum(weighted, axis=-1) / total


def texts(prompts: Sequence[str], completions: Sequence[str]) -> MetricsT:
    """`prompts` and `completions`, for sinks of texts only. Not aggregated.

    Args:
        prompts: One per trajectory.
        completions: Likewise.
    """
    return {"prompts": (list(prompts), None), "completions": (list(completions), None)}


def completion_lengths(completion_mask: ArrayLike) -> MetricsT:
    """`completions/{mean,max,min}_length`, in tokens.

    Args:
        completion_mask: [batch, length].

    Raises:
        ValueError: Another number of axes.
    """
    lengths = as_mask(completion_mask).sum(axis=1)
    return statistics("completions", lengths, "_length")


def trajectory_ids(step: int, prompts: int, generations: int | None = None) -> MetricsT:
    """`trajectory_ids`: where in the data each trajectory comes from. Not aggregated.

    Args:
        step: How many batches of prompts were read before, in this mode.
        prompts: Prompts per batch.
        generations: Completions per prompt (GRPO); None where there is but one (PPO).

    Returns:
        "{row}_{generation}" in the order of the batch, with row = step · prompts + i;
        "{row}" without generations.
    """
    rows = range(step * prompts, (step + 1) * prompts)
    if generations is None:
        ids = [str(row) for row in rows]
    else:
        ids = [f"{row}_{each}" for row in rows for each in range(generations)]
    return {"trajectory_ids": (ids, None)}


def timed(
    batches: Iterable[T],
    add: Callable[[MetricsT], Any],
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[T]:
    """Hands batches on, with `actor_dequeue_time`: how long each was waited for.

    For the consumer of a rollout that works ahead on devices or threads of its own.
    Where it does not, waiting is working, and there is no such metric.

    Args:
        batches: An iterator over the rollout's queue.
        add: Given the metric of each batch, in seconds, before the batch is handed on.
        clock: Seconds, from anywhere.
    """
    iterator = iter(batches)
    while True:
        begin = clock()
        try:
            batch = next(iterator)
        except StopIteration:
            return
        add({"actor_dequeue_time": (clock() - begin, np.mean)})
        yield batch


def _of_tokens(name: str, values: ArrayLike, completion_mask: ArrayLike) -> MetricsT:
    return statistics(name, per_token(name, values, as_mask(completion_mask)))


def _per_trajectory(what: str, values: ArrayLike) -> Array:
    array = numbers(values)
    if array.ndim != 1:
        raise ValueError(f"{what}: expected [trajectories], found {array.shape}")
    return array


def _fraction(name: str, won: Array, *, of: Array) -> MetricsT:
    """The share of tokens that `won`, NaN if one cannot be compared."""
    if np.isnan(of).any():
        return {name: (np.float64(np.nan), np.mean)}
    return mean_only(name, won)


def _name(function: str | Callable[..., Any]) -> str:
    if isinstance(function, str):
        return function
    return str(getattr(function, "__name__", type(function).__name__))
