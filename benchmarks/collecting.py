"""What collecting the metrics of a batch of GRPO costs the training thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter_ns as now
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import Case, Reading, interleaved
from perf import collect
from perf.collect import rl

_ROUNDS: Final = 100
_BATCH: Final = 64
_LENGTH: Final = 1024
_FUNCTIONS: Final = ("exact", "short", "polite")
_PROMPTS: Final = ["p" * 500] * _BATCH
_COMPLETIONS: Final = ["c" * 2000] * _BATCH
_CLIP: Final = 0.2


def measure(subject: str) -> dict[str, Reading]:
    """Readings in microseconds: of a batch's whole step, and of one `add`."""
    del subject
    buffer = collect.StepBuffer(lambda done: None)
    arrays = _arrays()
    fresh: list[dict[str, Any]] = []

    def put_on_device() -> None:
        # Anew: JAX keeps the copy on the host once an array was read.
        made = {name: jnp.array(array) for name, array in arrays.items()}
        fresh[:] = [jax.block_until_ready(made)]

    def add(count: int) -> int:
        metrics = {"x": (1.0, np.mean)}
        begin_ns = now()
        for _ in range(count):
            buffer.add(metrics, 0)
        return now() - begin_ns

    cases = {
        "numpy": Case(_step(buffer, lambda: arrays), count=1),
        "jax": Case(_step(buffer, lambda: fresh[0]), before=put_on_device, count=1),
        "add": Case(add, count=1_000, after=buffer.close),
    }
    found = interleaved(cases, rounds=_ROUNDS)
    return {name: found[name].reading(1e3) for name in cases}


def _arrays() -> dict[str, Any]:
    """What a batch has; completions of all lengths."""
    rng = np.random.default_rng(0)
    shape = (_BATCH, _LENGTH)
    lengths = rng.integers(1, _LENGTH, (_BATCH, 1))
    return {
        "rewards": rng.random((_BATCH, len(_FUNCTIONS)), np.float32),
        "advantages": rng.random(_BATCH, np.float32),
        "mask": (np.arange(_LENGTH) < lengths).astype(np.int32),
        "logps": -rng.random(shape, np.float32),
        "old_logps": -rng.random(shape, np.float32),
        "kl": rng.random(shape, np.float32),
        "entropies": rng.random(shape, np.float32),
        "loss": np.float32(1),
    }


def _step(
    buffer: collect.StepBuffer, arrays_of: Callable[[], Mapping[str, Any]]
) -> Callable[[int], int]:
    """All that GRPO has of one batch, up to the hand-over of its step."""

    def run(_: int) -> int:
        arrays = arrays_of()
        mask = arrays["mask"]
        begin_ns = now()
        experience = collect.grpo(
            rewards=arrays["rewards"],
            reward_functions=_FUNCTIONS,
            advantages=arrays["advantages"],
            completion_mask=mask,
            prompts=_PROMPTS,
            completions=_COMPLETIONS,
        )
        clipped = rl.pg_clipfrac(
            arrays["logps"],
            arrays["old_logps"],
            arrays["advantages"],
            mask,
            low=_CLIP,
            high=_CLIP,
        )
        buffer.add({**experience, **rl.trajectory_ids(1, 4, _BATCH // 4)}, 1)
        buffer.add({**collect.loss(arrays["loss"]), **clipped}, 1)
        buffer.add(rl.kl(arrays["kl"], mask), 1)
        buffer.add(rl.entropy(arrays["entropies"], mask, 0.01), 1)
        buffer.finish(1)
        return now() - begin_ns

    return run
