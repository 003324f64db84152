"""A small decoder-only transformer that samples with a key-value cache.

A policy is its parameters: nested containers of arrays, never changed, only replaced.
Whoever holds a policy therefore holds that version of it, whatever training does next.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Cache = list[tuple[jax.Array, jax.Array]]
"""Keys and values of each layer, each [batch, context, heads, head size]."""


@dataclasses.dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of a policy."""

    symbols: int
    """Size of the alphabet."""
    context: int
    """Longest sequence, prompt and completion together."""
    layers: int = 2
    width: int = 64
    heads: int = 4


class Layer(NamedTuple):
    """One block. `qkv` is [3, width, heads, head size], its way back `out`."""

    qkv: jax.Array
    out: jax.Array
    up: jax.Array
    down: jax.Array


class Policy(NamedTuple):
    """All parameters of a policy."""

    embedding: jax.Array
    """[symbols, width]"""
    positions: jax.Array
    """[context, width]"""
    layers: list[Layer]
    unembedding: jax.Array
    """[width, symbols]"""


def init_policy(seed: int, config: ModelConfig) -> Policy:
    """Draws a policy whose answers are nearly uniform.

    Drawn by numpy on the host: placing it on a mesh is the caller's choice.
    """
    rng = np.random.default_rng(seed)
    width, heads = config.width, config.heads

    def normal(*shape: int, scale: float) -> Any:
        return rng.normal(0.0, scale, shape).astype(np.float32)

    def layer() -> Layer:
        scale = width**-0.5
        return Layer(
            qkv=normal(3, width, heads, width // heads, scale=scale),
            out=normal(heads, width // heads, width, scale=scale),
            up=normal(width, 4 * width, scale=scale),
            down=normal(4 * width, width, scale=scale / 2),
        )

    return Policy(
        embedding=normal(config.symbols, width, scale=1.0),
        positions=normal(config.context, width, scale=1.0),
        layers=[layer() for _ in range(config.layers)],
        unembedding=normal(width, config.symbols, scale=0.1 * width**-0.5),
    )


def empty_cache(policy: Policy, batch: int, context: int) -> Cache:
    """Returns a cache for `batch` sequences of at most `context` symbols."""
    _, _, heads, size = policy.layers[0].qkv.shape
    zeros = jnp.zeros((batch, context, heads, size))
    return [(zeros, zeros) for _ in policy.layers]


def forward(
    policy: Policy, tokens: jax.Array, cache: Cache, start: jax.Array | int
) -> tuple[jax.Array, Cache]:
    """Reads `tokens` at positions `start`, `start` + 1, … after what the cache holds.

    Args:
        policy: The parameters.
        tokens: int [batch, count].
        cache: Keys and values of the positions before `start`.
        start: The position of the first token.

    Returns:
        (logits of the next symbol [batch, count, symbols], the cache with the tokens).
    """
    count, context = tokens.shape[1], cache[0][0].shape[1]
    places = start + jnp.arange(count)
    visible = jnp.arange(context) <= places[:, None]
    x = policy.embedding[tokens] + policy.positions[places]
    filled = []
    for layer, (keys, values) in zip(policy.layers, cache, strict=True):
        q, k, v = jnp.einsum("btw,cwhd->cbthd", _normalise(x), layer.qkv)
        keys = jax.lax.dynamic_update_slice_in_dim(keys, k, start, axis=1)
        values = jax.lax.dynamic_update_slice_in_dim(values, v, start, axis=1)
        filled.append((keys, values))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, keys) * q.shape[-1] ** -0.5
        weights = jax.nn.softmax(jnp.where(visible, scores, -jnp.inf))
        x += jnp.einsum("bhqk,bkhd,hdw->bqw", weights, values, layer.out)
        x += jax.nn.relu(_normalise(x) @ layer.up) @ layer.down
    return _normalise(x) @ policy.unembedding, filled


def sample(
    policy: Policy, prompts: jax.Array, count: int, seed: jax.Array | int
) -> jax.Array:
    """Samples a completion of `count` symbols for each prompt, at temperature 1.

    Args:
        policy: The parameters.
        prompts: int [batch, length].
        count: Symbols to write.
        seed: Equal seeds give equal completions, however the batch is sharded.

    Returns:
        int [batch, count].
    """
    batch, length = prompts.shape
    cache = empty_cache(policy, batch, length + count)
    logits, cache = forward(policy, prompts, cache, 0)

    # argmax(logits + Gumbel noise) is a draw from softmax(logits), and all the noise of
    # a completion can be drawn at once.
    shape = (count, *logits[:, -1].shape)
    noise = jax.random.gumbel(jax.random.key(seed), shape)

    def write(
        carry: tuple[Cache, jax.Array], step: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[Cache, jax.Array], jax.Array]:
        cache, logits = carry
        place, noise = step
        token = jnp.argmax(logits + noise, axis=-1)
        logits, cache = forward(policy, token[:, None], cache, place)
        return (cache, logits[:, -1]), token

    places = length + jnp.arange(count)
    _, tokens = jax.lax.scan(write, (cache, logits[:, -1]), (places, noise))
    return tokens.T


def token_logps(
    policy: Policy, prompts: jax.Array, completions: jax.Array
) -> jax.Array:
    """Returns the log-probability of each symbol of the completions.

    Args:
        policy: The parameters.
        prompts: int [batch, length].
        completions: int [batch, count].

    Returns:
        float32 [batch, count].
    """
    length = prompts.shape[1]
    # The last symbol is only predicted, never read.
    read = jnp.concatenate([prompts, completions[:, :-1]], axis=1)
    cache = empty_cache(policy, *read.shape)
    logits, _ = forward(policy, read, cache, 0)
    logps = jax.nn.log_softmax(logits[:, length - 1 :])
    return jnp.take_along_axis(logps, completions[..., None], axis=-1)[..., 0]


def _normalise(x: jax.Array) -> jax.Array:
    """Scales each vector to a root mean square of 1."""
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6)
