"""The formulas of GRPO.

Source: group-relative advantages and the KL term, DeepSeekMath (arXiv 2402.03300,
section 4.1); the clipped ratio, PPO (arXiv 1707.06347); the KL estimator `k3`, J.
Schulman, "Approximating KL Divergence" (2020).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class LossStats(NamedTuple):
    """What a micro-batch tells about its loss; each a scalar."""

    loss: jax.Array
    kl: jax.Array
    """KL divergence from the reference, in nats per symbol."""
    clip_fraction: jax.Array
    """Share of symbols whose gradient the clipping stopped."""


def group_advantages(rewards: np.ndarray) -> np.ndarray:
    """Compares each completion with the others of the same prompt.

    The group's mean stands in for a critic.

    Args:
        rewards: float [prompts, group size].

    Returns:
        float [prompts, group size], per row of mean 0 and (nearly) deviation 1; zeros
        where the whole group got the same reward and there is nothing to choose.
    """
    mean = rewards.mean(axis=1, keepdims=True)
    deviation = rewards.std(axis=1, keepdims=True)
    advantages: np.ndarray = (rewards - mean) / (deviation + 1e-4)
    return advantages


def kl_k3(logps: jax.Array, reference_logps: jax.Array) -> jax.Array:
    """Estimates KL(policy ‖ reference) from symbols that the policy drew.

    Unbiased and, unlike the plain difference of log-probabilities, never negative.

    Args:
        logps: float [...], under the policy.
        reference_logps: float [...], of the same symbols under the reference.

    Returns:
        float [...], nats.
    """
    difference = reference_logps - logps
    return jnp.exp(difference) - difference - 1


def grpo_loss(
    logps: jax.Array,
    old_logps: jax.Array,
    reference_logps: jax.Array,
    advantages: jax.Array,
    *,
    clip: float,
    kl_weight: float,
) -> LossStats:
    """The clipped policy gradient with a leash to the reference.

    All completions have one length, so the mean over symbols is also the mean over
    completions of their means.

    Args:
        logps: float [batch, length], under the policy in training.
        old_logps: float [batch, length], under the policy that wrote the completions.
        reference_logps: float [batch, length], under the frozen reference.
        advantages: float [batch].
        clip: How far the ratio of new to old probability pays off: 1 ± clip.
        kl_weight: What a nat of divergence from the reference costs.
    """
    ratio = jnp.exp(logps - old_logps)
    clipped = jnp.clip(ratio, 1 - clip, 1 + clip)
    gain = ratio * advantages[:, None]
    clipped_gain = clipped * advantages[:, None]
    kl = kl_k3(logps, reference_logps)
    return LossStats(
        loss=jnp.mean(kl_weight * kl - jnp.minimum(gain, clipped_gain)),
        kl=jnp.mean(kl),
        clip_fraction=jnp.mean(clipped_gain < gain),
    )
