"""The transformer: causal, the same with and without its cache, a fair sampler."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from perf.demo import model
from perf.demo.model import (
    ModelConfig,
    Policy,
    empty_cache,
    init_policy,
)
from perf.demo.topology import split

CONFIG = ModelConfig(symbols=5, context=8, layers=2, width=16, heads=2)

forward = jax.jit(model.forward)
sample = jax.jit(model.sample, static_argnames="count")
token_logps = jax.jit(model.token_logps)


@pytest.fixture(scope="module")
def policy() -> Policy:
    """A policy with opinions: a fresh one finds all symbols about equally likely."""
    fresh = init_policy(0, CONFIG)
    return jax.tree.map(jnp.asarray, fresh._replace(unembedding=fresh.unembedding * 20))


@pytest.fixture(scope="module")
def tokens() -> np.ndarray:
    """Three sequences of full length."""
    return np.random.default_rng(1).integers(5, size=(3, 8))


def read(policy: Policy, tokens: np.ndarray) -> jax.Array:
    """The logits of whole sequences, read at once."""
    return forward(policy, tokens, empty_cache(policy, *tokens.shape), 0)[0]


def test_the_transformer_is_the_textbook_one(
    policy: Policy, tokens: np.ndarray
) -> None:
    """Pre-normalised attention and ReLU blocks on a residual stream, head by head."""

    def normalised(x: np.ndarray) -> np.ndarray:
        return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-6)

    weights = jax.tree.map(np.asarray, policy)
    x = weights.embedding[tokens[0]] + weights.positions
    for layer in weights.layers:
        normal, attended = normalised(x), np.zeros_like(x)
        for head in range(2):
            q, k, v = (normal @ layer.qkv[part, :, head] for part in range(3))
            scores = q @ k.T / np.sqrt(8)
            scores[np.triu_indices(8, 1)] = -np.inf
            exps = np.exp(scores)
            attended += exps / exps.sum(axis=1, keepdims=True) @ v @ layer.out[head]
        x = x + attended
        x = x + np.maximum(normalised(x) @ layer.up, 0) @ layer.down
    expected = normalised(x) @ weights.unembedding
    np.testing.assert_allclose(expected, read(policy, tokens)[0], atol=1e-3)


def test_a_vector_of_zeros_stays_one(policy: Policy, tokens: np.ndarray) -> None:
    """Its length cannot be divided by: no NaN, but logits that prefer nothing."""
    silent = jax.tree.map(jnp.zeros_like, policy)
    assert not np.any(read(silent, tokens))


def test_a_fresh_policy_has_no_opinions(tokens: np.ndarray) -> None:
    """Each of the 5 symbols gets between 10 % and 30 %, whatever came before.

    Or it would begin by unlearning; but at exactly 20 % for all, no gradient would
    reach the layers.
    """
    shares = jax.nn.softmax(read(init_policy(0, CONFIG), tokens))
    assert np.all((shares > 0.1) & (shares < 0.3))
    assert np.ptp(shares) > 0.01


def test_reading_in_pieces_gives_what_reading_at_once_gives(
    policy: Policy, tokens: np.ndarray
) -> None:
    """The cache holds all that later positions need of earlier ones."""
    cache = empty_cache(policy, *tokens.shape)
    pieces, start = [], 0
    for piece in np.split(tokens, [3, 4, 7], axis=1):
        logits, cache = forward(policy, piece, cache, start)
        pieces.append(logits)
        start += piece.shape[1]
    at_once = read(policy, tokens)
    np.testing.assert_allclose(at_once, jnp.concatenate(pieces, axis=1), atol=1e-4)


def test_no_position_sees_a_later_one(policy: Policy, tokens: np.ndarray) -> None:
    """Another symbol at position 5 changes the logits from there on, none before."""
    changed = tokens.copy()
    changed[:, 5] = (changed[:, 5] + 1) % 5
    before, after = np.asarray(read(policy, tokens)), np.asarray(read(policy, changed))
    assert np.array_equal(before[:, :5], after[:, :5])
    assert not np.allclose(before[:, 5:], after[:, 5:])


def test_completions_are_judged_by_what_stood_before_each_symbol(
    policy: Policy, tokens: np.ndarray
) -> None:
    """The first symbol by the logits at the prompt's end, and so on."""
    logps = np.asarray(jax.nn.log_softmax(read(policy, tokens)))
    expected = [
        [logps[row, place - 1, tokens[row, place]] for place in range(3, 8)]
        for row in range(3)
    ]
    judged = token_logps(policy, tokens[:, :3], tokens[:, 3:])
    np.testing.assert_allclose(expected, judged, rtol=1e-4)


def test_log_probabilities_of_all_answers_sum_to_one(policy: Policy) -> None:
    """Over the 25 completions of two symbols, whatever the prompt."""
    answers = np.stack(np.meshgrid(range(5), range(5)), axis=-1).reshape(25, 2)
    prompts = np.tile([[3, 0, 1]], (25, 1))
    logps = token_logps(policy, prompts, answers)
    assert (25, 2) == logps.shape
    assert pytest.approx(1, rel=1e-4) == float(jnp.exp(logps.sum(axis=1)).sum())


def test_samples_follow_the_probabilities(policy: Policy) -> None:
    """In 4,000 samples each symbol comes as often as it should, within 4 σ."""
    prompts = np.tile([[2, 2, 4]], (4000, 1))
    firsts = np.asarray(sample(policy, prompts, 1, seed=0))[:, 0]
    share = np.bincount(firsts, minlength=5) / 4000
    cases = np.arange(5)[:, None]
    expected = np.exp(token_logps(policy, prompts[:5], cases))[:, 0]
    assert np.all(np.abs(share - expected) < 4 * np.sqrt(expected / 4000))


def test_a_sure_policy_writes_what_it_finds_likeliest(policy: Policy) -> None:
    """With sharp logits each symbol written is the best one after those before it."""
    sure = policy._replace(unembedding=policy.unembedding * 1000)
    prompts = np.array([[0, 1, 2], [4, 3, 3]])
    completions = np.asarray(sample(sure, prompts, 4, seed=0))
    whole = np.concatenate([prompts, completions], axis=1)
    best = np.asarray(read(sure, whole)).argmax(axis=-1)
    assert np.array_equal(best[:, 2:-1], completions)


def test_samples_depend_on_the_seed_alone(policy: Policy) -> None:
    """Equal seeds give equal completions, also when two devices share the batch."""
    prompts = np.tile([[2, 2, 4]], (64, 1))
    mesh = Mesh(np.array(jax.devices("cpu")[:2]), ("data",))
    together = sample(policy, prompts, 4, seed=7)
    shared = sample(policy, jax.device_put(prompts, split(mesh)), 4, seed=7)
    assert np.array_equal(together, shared)
    assert not np.array_equal(together, sample(policy, prompts, 4, seed=8))
