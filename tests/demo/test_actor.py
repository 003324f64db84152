"""Gradients over micro-batches, and Adam."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perf.demo.actor import TrainBatch, TrainState, accumulate, init_state, update
from perf.demo.model import ModelConfig, Policy, init_policy, token_logps


@pytest.fixture(scope="module")
def state() -> TrainState:
    """The state before the first update."""
    model = ModelConfig(symbols=4, context=4, layers=1, width=8, heads=2)
    return jax.tree.map(jnp.asarray, init_state(init_policy(0, model)))


def on_policy_batch(state: TrainState, seed: int) -> TrainBatch:
    """Eight random completions, taken for the policy's own."""
    rng = np.random.default_rng(seed)
    prompts, completions = jnp.asarray(rng.integers(4, size=(2, 8, 2)))
    advantages = jnp.asarray(rng.normal(size=8), jnp.float32)
    logps = jax.jit(token_logps)(state.policy, prompts, completions)
    return TrainBatch(prompts, completions, logps, logps, advantages)


def assert_close(expected: Policy, actual: Policy, rtol: float = 1e-4) -> None:
    """Compares all parameters."""
    jax.tree.map(
        lambda e, a: np.testing.assert_allclose(e, a, rtol=rtol, atol=1e-6),
        expected,
        actual,
    )


def test_on_policy_the_gradient_is_the_plain_policy_gradient(state: TrainState) -> None:
    """At ratio 1 the gradient is that of −mean(A · log p), and the KL adds nothing."""
    batch = on_policy_batch(state, 0)

    def plain(policy: Policy) -> jax.Array:
        logps = token_logps(policy, batch.prompts, batch.completions)
        return -jnp.mean(batch.advantages[:, None] * logps)

    after, stats = accumulate(state, batch, clip=0.2, kl_weight=0.5)
    assert_close(jax.jit(jax.grad(plain))(state.policy), after.gradients)
    assert 0.0 == pytest.approx(float(stats.kl), abs=1e-6)


def test_gradients_add_up_until_the_update(state: TrainState) -> None:
    """Two micro-batches: the sum of their gradients, the policy as it was."""
    batches = [on_policy_batch(state, seed) for seed in (0, 1)]
    alone = [accumulate(state, b, clip=0.2, kl_weight=0.0)[0] for b in batches]
    both = accumulate(alone[0], batches[1], clip=0.2, kl_weight=0.0)[0]
    expected = jax.tree.map(jnp.add, alone[0].gradients, alone[1].gradients)
    assert_close(expected, both.gradients)
    assert_close(state.policy, both.policy, rtol=0)


def test_the_first_step_of_adam_has_the_length_of_the_learning_rate(
    state: TrainState,
) -> None:
    """Both means are then the gradient itself: each parameter moves by ± the rate."""
    signs = jax.tree.map(lambda p: jnp.where(p > 0, 0.01, -0.01), state.policy)
    after = update(state._replace(gradients=signs), 1, 0.1)
    expected = jax.tree.map(lambda p, g: p - 0.1 * jnp.sign(g), state.policy, signs)
    assert_close(expected, after.policy)
    assert 1 == int(after.updates)


def test_a_gradient_at_the_edge_of_rounding_moves_little(state: TrainState) -> None:
    """At 1e-8, as large as the guard against dividing by 0, it is half a step."""
    tiny = jax.tree.map(lambda p: jnp.full_like(p, 1e-8), state.policy)
    after = update(state._replace(gradients=tiny), 1, 0.1)
    expected = jax.tree.map(lambda p: p - 0.05, state.policy)
    assert_close(expected, after.policy)


def test_an_update_begins_a_new_sum(state: TrainState) -> None:
    """Afterwards the gradients are zero."""
    ones = jax.tree.map(jnp.ones_like, state.policy)
    after = update(state._replace(gradients=ones), 1, 0.1)
    assert_close(jax.tree.map(jnp.zeros_like, ones), after.gradients, rtol=0)


@pytest.mark.parametrize(
    ("length", "gradient_length"),
    [
        pytest.param(0.5, 1.0, id="short: kept"),
        pytest.param(1.0, 80.0, id="long: cut to 1"),
    ],
)
def test_the_mean_gradient_is_at_most_one_long(
    state: TrainState, length: float, gradient_length: float
) -> None:
    """Of the sum over 2 micro-batches half counts; Adam then sees a tenth of that."""
    count = sum(leaf.size for leaf in jax.tree.leaves(state.policy))
    each = gradient_length / count**0.5
    gradients = jax.tree.map(lambda p: jnp.full_like(p, each), state.policy)
    mean = update(state._replace(gradients=gradients), 2, 0.1).mean
    norm = sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(mean)) ** 0.5
    assert pytest.approx(0.1 * length, rel=1e-3) == norm


def test_the_second_step_of_adam_follows_the_running_means(state: TrainState) -> None:
    """Gradients 0.01, then 0: means 0.009 and 9.9e-7, weights 0.19 and 0.0199."""
    tenth = jax.tree.map(lambda p: jnp.full_like(p, 0.01), state.policy)
    once = update(state._replace(gradients=tenth), 1, 0.1)
    twice = update(once, 1, 0.1)
    move = 0.1 * (0.1 * 0.9 * 0.01 / 0.19) / (0.01 * 0.99 * 1e-4 / 0.0199) ** 0.5
    expected = jax.tree.map(lambda p: p - move, once.policy)
    assert_close(expected, twice.policy, rtol=1e-3)
