"""The page on collected metrics says what the code does: names and aggregations."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from perf import collect
from perf._model.metrics import MetricsT
from perf.collect import rl
from tests.collect.batches import MASK, PPO, TOKENS

PAGE = Path(__file__).parents[2] / "docs/reference/collected_metrics.md"
AGGREGATIONS: dict[Callable[..., Any] | None, str] = {
    np.mean: "mean",
    np.max: "max",
    np.min: "min",
    collect.geometric_mean: "geometric mean",
    collect.harmonic_mean: "harmonic mean",
    None: "all",
}


def rows(heading: str) -> Iterator[list[str]]:
    """The rows of the table under a heading, cell by cell."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1]
    for line in section.split("\n## ")[0].splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def names(cell: str) -> list[str]:
    """The names that a cell stands for: `a/{b,c}` are two."""
    parts = re.split(r"\{([a-z,]+)\}", cell.strip("`"))
    choices = [part.split(",") if i % 2 else [part] for i, part in enumerate(parts)]
    return ["".join(each) for each in itertools.product(*choices)]


def everything() -> Iterator[tuple[str, MetricsT]]:
    """All metrics that there are, by the call that gives them."""
    state = optax.inject_hyperparams(optax.sgd)(0.1).init(jnp.ones(3))
    step = jax.jit(lambda x: x @ x)
    yield "collect.loss", collect.loss(1.0)
    yield "collect.learning_rate", collect.learning_rate(state)
    yield "collect.StepMeter", collect.StepMeter().step_done()
    yield "collect.tflops_per_step", collect.tflops_per_step(step, jnp.ones((8, 8)))
    yield "rl.rewards", rl.rewards([[1.0]], ["<function>"])
    yield "rl.scores", rl.scores([1.0])
    yield "rl.kl_penalty", rl.kl_penalty(TOKENS, MASK, 1.0)
    yield "rl.advantages", rl.advantages(TOKENS, MASK)
    yield "rl.returns", rl.returns(TOKENS, MASK)
    yield "rl.values", rl.values(TOKENS, MASK)
    yield (
        "rl.pg_clipfrac",
        rl.pg_clipfrac(TOKENS, TOKENS, TOKENS, MASK, low=0.2, high=0.2),
    )
    yield "rl.vf_clipfrac", rl.vf_clipfrac(TOKENS, TOKENS, TOKENS, MASK, clip=0.2)
    yield "rl.entropy", rl.entropy(TOKENS, MASK, 1.0)
    yield "rl.kl", rl.kl(TOKENS, MASK)
    yield "rl.texts", rl.texts(["a"], ["b"])
    yield "rl.completion_lengths", rl.completion_lengths(MASK)
    yield "rl.trajectory_ids", rl.trajectory_ids(0, 1)
    waits: list[MetricsT] = []
    assert [0] == list(rl.timed([0], waits.append))
    yield "rl.timed", waits[0]


def test_the_table_has_every_metric_with_its_call_and_aggregation() -> None:
    """Neither more nor less than the code gives."""
    documented = {}
    for metric, source, _, aggregation in rows("Names"):
        found = names(metric)
        hows = aggregation.split(", ")
        for name, how in zip(
            found, hows if len(hows) > 1 else hows * len(found), strict=True
        ):
            documented[name] = (source.split("`")[1], how)
    given = {
        name: (call, AGGREGATIONS[aggregation])
        for call, metrics in everything()
        for name, (_, aggregation) in metrics.items()
    }
    assert given == documented


def test_what_an_algorithm_has_is_in_the_table() -> None:
    """One call gives no name that the table lacks."""
    documented = {name for metric, *_ in rows("Names") for name in names(metric)}
    metrics = collect.ppo(
        **{**PPO, "reward_functions": ["<function>", "exact"]},
        kl=TOKENS,
        kl_coefficient=0.5,
        prompts=["a"],
        completions=["b"],
    )
    assert {"rewards/exact"} == set(metrics) - documented


def test_the_table_of_other_names_is_the_codes() -> None:
    """Each alias with what it stands for."""
    pairs = [
        pair
        for logged, documented in rows("Names in other trainings")
        for pair in zip(names(logged), names(documented.strip()), strict=True)
    ]
    assert dict(collect.ALIASES) == dict(pairs)
    assert len(collect.ALIASES) == len(pairs)
