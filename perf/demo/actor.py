"""The policy in training: gradients of several micro-batches, then a step of Adam."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from perf.demo.grpo import LossStats, grpo_loss
from perf.demo.model import Policy, token_logps

_BETA1, _BETA2 = 0.9, 0.99


class TrainBatch(NamedTuple):
    """A micro-batch on the actor's mesh, its rows split over the devices."""

    prompts: jax.Array
    """int [batch, length]"""
    completions: jax.Array
    """int [batch, length]"""
    old_logps: jax.Array
    """float [batch, length]"""
    reference_logps: jax.Array
    """float [batch, length]"""
    advantages: jax.Array
    """float [batch]"""


class TrainState(NamedTuple):
    """Everything training changes; each part but the last is shaped like the policy."""

    policy: Policy
    gradients: Policy
    """Summed over the micro-batches since the last update."""
    mean: Policy
    """Adam's running mean of the gradients."""
    square: Policy
    """Adam's running mean of their squares."""
    updates: jax.Array
    """int scalar"""


def init_state(policy: Policy) -> TrainState:
    """Returns the state before the first update of a policy that is on the host."""
    zeros = jax.tree.map(np.zeros_like, policy)
    return TrainState(policy, zeros, zeros, zeros, jnp.zeros((), jnp.int32))


@functools.partial(jax.jit, static_argnames=("clip", "kl_weight"))
def accumulate(
    state: TrainState, batch: TrainBatch, *, clip: float, kl_weight: float
) -> tuple[TrainState, LossStats]:
    """Adds the gradient of one micro-batch. The policy stays as it is."""

    def loss(policy: Policy) -> tuple[jax.Array, LossStats]:
        logps = token_logps(policy, batch.prompts, batch.completions)
        stats = grpo_loss(
            logps,
            batch.old_logps,
            batch.reference_logps,
            batch.advantages,
            clip=clip,
            kl_weight=kl_weight,
        )
        return stats.loss, stats

    gradients, stats = jax.grad(loss, has_aux=True)(state.policy)
    total = jax.tree.map(jnp.add, state.gradients, gradients)
    return state._replace(gradients=total), stats


@jax.jit
def update(state: TrainState, micro_batches: float, learning_rate: float) -> TrainState:
    """Takes one step of Adam (arXiv 1412.6980) along the mean gradient.

    A mean gradient longer than 1 is cut to that length.

    Args:
        state: Holds the gradients of `micro_batches` micro-batches.
        micro_batches: How many were added up.
        learning_rate: The step size.

    Returns:
        The new state, its gradients zero again.
    """
    gradients = jax.tree.map(lambda g: g / micro_batches, state.gradients)
    norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in jax.tree.leaves(gradients)))
    gradients = jax.tree.map(lambda g: g / jnp.maximum(1, norm), gradients)

    updates = state.updates + 1
    mean = jax.tree.map(
        lambda m, g: _BETA1 * m + (1 - _BETA1) * g, state.mean, gradients
    )
    square = jax.tree.map(
        lambda s, g: _BETA2 * s + (1 - _BETA2) * g * g, state.square, gradients
    )
    # Both means start at zero; dividing by the weight they have seen makes up for it.
    mean_weight, square_weight = 1 - _BETA1**updates, 1 - _BETA2**updates
    rate = learning_rate / mean_weight
    policy = jax.tree.map(
        lambda p, m, s: p - rate * m / (jnp.sqrt(s / square_weight) + 1e-8),
        state.policy,
        mean,
        square,
    )
    zeros = jax.tree.map(jnp.zeros_like, gradients)
    return TrainState(policy, zeros, mean, square, updates)
