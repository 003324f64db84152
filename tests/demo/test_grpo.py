"""GRPO's formulas against cases worked out by hand."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf.demo.grpo import group_advantages, grpo_loss, kl_k3

REWARDS = st.lists(
    st.lists(st.integers(0, 5).map(lambda n: n / 5), min_size=4, max_size=4),
    min_size=1,
    max_size=5,
)


def test_advantages_are_deviations_from_the_group_in_units_of_its_spread() -> None:
    """Rewards 1, 1, 0, 0 have mean and deviation ½: two are 1 above, two 1 below."""
    rewards = np.array([[1.0, 1.0, 0.0, 0.0], [0.0, 0.4, 0.8, 0.4]])
    expected = np.array([[1, 1, -1, -1], [-math.sqrt(2), 0, math.sqrt(2), 0]])
    np.testing.assert_allclose(expected, group_advantages(rewards), atol=1e-3)


def test_a_group_of_equal_rewards_has_nothing_to_learn_from() -> None:
    """All right and all wrong give an advantage of exactly 0."""
    rewards = np.array([[1.0, 1.0], [0.0, 0.0]])
    assert [[0, 0], [0, 0]] == group_advantages(rewards).tolist()


def test_a_spread_of_rounding_errors_is_not_blown_up() -> None:
    """A deviation of 1e-4 counts half; below that, less and less."""
    advantages = group_advantages(np.array([[0.5, 0.5 + 2e-4]]))
    np.testing.assert_allclose([[-0.5, 0.5]], advantages, rtol=1e-6)


@given(REWARDS)
def test_advantages_keep_the_order_of_rewards_and_sum_to_zero(
    rewards: list[list[float]],
) -> None:
    """In each group: a mean of 0, and a higher reward never a lower advantage."""
    advantages = group_advantages(np.array(rewards))
    np.testing.assert_allclose(0, advantages.sum(axis=1), atol=1e-9)
    for group_rewards, group in zip(rewards, advantages, strict=True):
        ordered = group[np.argsort(group_rewards)]
        assert np.all(np.diff(ordered) >= 0)


@pytest.mark.parametrize(
    ("kl", "ratio"),
    [
        pytest.param(0.0, 1.0, id="equal"),
        pytest.param(0.5 + math.log(2) - 1, 0.5, id="half as likely to the reference"),
        pytest.param(2 - math.log(2) - 1, 2.0, id="twice as likely to the reference"),
    ],
)
def test_k3_is_ratio_minus_one_minus_log_ratio(kl: float, ratio: float) -> None:
    """With ratio r of the reference's probability to the policy's: r − 1 − log r."""
    logp = jnp.float32(-1.5)
    assert pytest.approx(kl, abs=1e-6) == float(kl_k3(logp, logp + math.log(ratio)))


def test_k3_averages_to_the_divergence() -> None:
    """Weighted by the policy's own probabilities it sums to KL(policy ‖ reference)."""
    policy, reference = np.array([0.7, 0.2, 0.1]), np.array([0.3, 0.3, 0.4])
    divergence = np.sum(policy * np.log(policy / reference))
    estimates = kl_k3(jnp.log(policy), jnp.log(reference))
    assert pytest.approx(divergence, rel=1e-5) == float(jnp.sum(policy * estimates))


@pytest.mark.parametrize(
    ("loss", "clipped", "ratio", "advantage"),
    [
        pytest.param(-1.0, 0.0, 1.0, 1.0, id="on-policy"),
        pytest.param(-1.2, 1.0, 1.5, 1.0, id="good, raised enough"),
        pytest.param(-0.5, 0.0, 0.5, 1.0, id="good, lowered by mistake"),
        pytest.param(1.5, 0.0, 1.5, -1.0, id="bad, raised by mistake"),
        pytest.param(0.8, 1.0, 0.5, -1.0, id="bad, lowered enough"),
    ],
)
def test_clipping_ends_the_reward_for_moving_on_never_for_turning_back(
    loss: float, clipped: float, ratio: float, advantage: float
) -> None:
    """The gain is min(ratio · A, clip(ratio, 0.8, 1.2) · A); the loss its negative."""
    old = jnp.array([[-1.0]])
    new = old + math.log(ratio)
    stats = grpo_loss(new, old, new, jnp.array([advantage]), clip=0.2, kl_weight=0.1)
    assert pytest.approx(loss, abs=1e-6) == float(stats.loss)
    assert clipped == float(stats.clip_fraction)
    assert 0.0 == float(stats.kl)


def test_the_loss_is_a_mean_over_symbols_and_charges_the_divergence() -> None:
    """Two completions of two symbols; one symbol half as likely to the reference.

    Gains are 1, 1, −0.5, −0.5, so their mean is 0.25; the divergence is 0.1931 / 4.
    """
    logps = jnp.array([[-1.0, -2.0], [-1.0, -3.0]])
    reference = logps.at[0, 0].add(-math.log(2))
    advantages = jnp.array([1.0, -0.5])
    stats = grpo_loss(logps, logps, reference, advantages, clip=0.2, kl_weight=2.0)
    kl = (math.log(2) - 0.5) / 4
    assert pytest.approx(kl, abs=1e-6) == float(stats.kl)
    assert pytest.approx(2 * kl - 0.25, abs=1e-6) == float(stats.loss)
