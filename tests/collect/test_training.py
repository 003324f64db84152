"""Metrics of any training: loss, learning rate, time, floating-point operations."""

from __future__ import annotations

import dataclasses
import logging
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf import collect
from perf._model.metrics import MetricsT


def aggregated(additions: list[MetricsT]) -> dict[str, float]:
    """What a step comes to whose micro-batches have added these."""
    steps: list[collect.StepMetrics] = []
    buffer = collect.StepBuffer(steps.append)
    for metrics in additions:
        buffer.add(metrics, step=1)
    buffer.close()
    (step,) = steps
    return dict(step.scalars)


@pytest.mark.parametrize("kind", [float, np.float32, jnp.float32, jnp.bfloat16])
@pytest.mark.row("M1")
def test_loss_is_the_mean_over_micro_batches(kind: Any) -> None:
    """Losses 1 and 3 log 2, and the perplexity is exp(2) (M1)."""
    found = aggregated([collect.loss(kind(1)), collect.loss(kind(3))])
    assert {"loss": 2.0, "perplexity": pytest.approx(math.exp(2))} == found


@pytest.mark.row("M2")
def test_perplexity_is_exp_of_the_loss() -> None:
    """A loss of ln 10 has a perplexity of 10 (M2)."""
    assert 10.0 == pytest.approx(aggregated([collect.loss(math.log(10))])["perplexity"])


@pytest.mark.row("M2")
def test_perplexities_are_averaged_geometrically() -> None:
    """10 and 100 average √1000 (M2)."""
    assert 31.62 == pytest.approx(collect.geometric_mean([10.0, 100.0]), abs=0.01)


@pytest.mark.parametrize("kind", [float, np.float32, np.float16, jnp.float32])
@pytest.mark.parametrize("value", [math.nan, math.inf, 1000.0])
def test_a_loss_beyond_bounds_is_kept(kind: Any, value: float) -> None:
    """NaN and infinities are what they are, an overflow is infinite; no warning."""
    found = aggregated([collect.loss(kind(value))])
    assert kind(value) == pytest.approx(found["loss"], nan_ok=True)
    assert (math.nan if math.isnan(value) else math.inf) == pytest.approx(
        found["perplexity"], nan_ok=True
    )


def test_a_loss_stays_on_its_device() -> None:
    """Nothing is read until the step is handed over: both values are JAX arrays."""
    metrics = collect.loss(jnp.float32(1))
    assert all(isinstance(value, jax.Array) for value, _ in metrics.values())


@given(st.lists(st.floats(1e-3, 1e3), min_size=1))
def test_harmonic_mean_is_the_rate_of_the_mean_time(times_s: list[float]) -> None:
    """The mean of rates 1/t, each over equal work, is 1 / mean(t)."""
    rates = [1 / time_s for time_s in times_s]
    assert 1 / np.mean(times_s) == pytest.approx(collect.harmonic_mean(rates))


SCHEDULE = optax.linear_schedule(1.0, 0.5, 2)
PARAMETERS = {"w": jnp.ones(3), "layers": [jnp.ones(2), jnp.ones(2)]}


@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param(optax.inject_hyperparams(optax.sgd)(SCHEDULE), id="plain"),
        pytest.param(
            optax.chain(
                optax.clip(1.0), optax.inject_hyperparams(optax.adam)(SCHEDULE)
            ),
            id="chain",
        ),
        pytest.param(
            optax.masked(
                optax.inject_hyperparams(optax.sgd)(SCHEDULE),
                {"w": True, "layers": False},
            ),
            id="masked",
        ),
        pytest.param(
            optax.multi_transform(
                {"a": optax.inject_hyperparams(optax.sgd)(SCHEDULE)},
                {"w": "a", "layers": "a"},
            ),
            id="several",
        ),
    ],
)
@pytest.mark.row("M3")
def test_the_learning_rate_is_the_schedules(optimizer: Any) -> None:
    """Each update's own, out of whatever wraps it (M3)."""
    assert [1.0, 0.75, 0.5, 0.5] == learning_rates(optimizer)


def test_a_learning_rate_outlives_its_state() -> None:
    """The next update reuses a constant's memory; what was collected is a copy."""
    optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=0.5)
    assert [0.5, 0.5, 0.5, 0.5] == learning_rates(optimizer)


def learning_rates(optimizer: Any) -> list[float]:
    """Those of four updates, read at the end.

    The state's memory is given away at each update, as trainings do.
    """
    state = optimizer.init(PARAMETERS)
    update = jax.jit(
        lambda state: optimizer.update(PARAMETERS, state)[1], donate_argnums=0
    )
    collected = []
    for _ in range(4):
        state = update(state)
        collected.append(collect.learning_rate(state)["learning_rate"][0])
    return [float(np.asarray(each)) for each in collected]


@pytest.mark.parametrize(
    "state",
    [optax.sgd(0.1).init(PARAMETERS), optax.adam(0.1).init(PARAMETERS), None, (), "x"],
)
@pytest.mark.row("M3")
def test_without_a_known_learning_rate_there_is_none(state: Any) -> None:
    """Plain optimizers do not keep it (M3)."""
    assert {} == collect.learning_rate(state)


class Variable:
    """As Flax wraps arrays of an optimizer's state: one object, changed in place."""

    def __init__(self, value: jax.Array) -> None:
        self.value = value

    def __getitem__(self, key: Any) -> jax.Array:
        return self.value[key]


@dataclasses.dataclass
class HyperparamsState:
    """What Flax makes of optax's."""

    hyperparams: dict[str, Any]


def test_a_variable_that_changes_later_is_read_now() -> None:
    """The learning rate is that of its own step."""
    variable = Variable(jnp.float32(0.5))
    metrics = collect.learning_rate(({}, HyperparamsState({"learning_rate": variable})))
    variable.value = jnp.float32(0.25)
    assert {"learning_rate": 0.5} == aggregated([metrics])


@pytest.mark.row("M4", "M5")
def test_a_steps_time_is_from_end_to_end() -> None:
    """A step of 50 ms, one of 150 ms with a pause left out (M4, M5)."""
    now_s = [3.0]
    meter = collect.StepMeter(clock=lambda: now_s[0])
    now_s[0] += 0.05
    first = meter.step_done()
    now_s[0] += 10.0
    meter.restart()
    now_s[0] += 0.15
    second = meter.step_done()
    assert 0.05 == pytest.approx(aggregated([first])["step_time_sec"])
    assert 0.15 == pytest.approx(aggregated([second])["step_time_sec"])
    both = aggregated([first, second])
    assert 0.1 == pytest.approx(both["step_time_sec"])
    assert 1.0 == pytest.approx(both["step_time_sec"] * both["steps_per_sec"])


def test_a_step_of_no_time_has_a_rate() -> None:
    """A coarse clock divides nothing by zero (M5)."""
    metrics = collect.StepMeter(clock=lambda: 1.0).step_done()
    assert {"step_time_sec": 0.0, "steps_per_sec": pytest.approx(1e9)} == aggregated(
        [metrics]
    )


@pytest.mark.row("M6")
def test_tflops_of_a_matrix_product() -> None:
    """2 N³ floating-point operations, of static arguments and shapes too (M6)."""
    n = 64

    @jax.jit
    def step(a: jax.Array, b: jax.Array) -> jax.Array:
        return a @ b

    shape = jax.ShapeDtypeStruct((n, n), jnp.float32)
    for metrics in (
        collect.tflops_per_step(step, jnp.ones((n, n)), jnp.ones((n, n))),
        collect.tflops_per_step(step, shape, b=shape),
    ):
        assert {"tflops_per_step": pytest.approx(2 * n**3 / 1e12)} == aggregated(
            [metrics]
        )


def test_tflops_are_those_of_all_devices() -> None:
    """Split over four devices, the product is as much work; nothing is compiled."""
    n = 64
    mesh = jax.make_mesh((4,), ("data",), devices=jax.devices()[:4])
    rows = jax.device_put(jnp.ones((n, n)), jax.NamedSharding(mesh, jax.P("data")))
    whole = jax.device_put(jnp.ones((n, n)), jax.NamedSharding(mesh, jax.P()))
    step: Any = jax.jit(lambda a, b: a @ b)
    found = aggregated([collect.tflops_per_step(step, rows, whole)])
    assert 2 * n**3 / 1e12 == pytest.approx(found["tflops_per_step"], rel=1e-4)
    assert 0 == step._cache_size()


class Analysed:
    """A jitted function whose backend answers as told."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def lower(self) -> Analysed:
        return self

    def cost_analysis(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda: None, id="not jitted"),
        pytest.param(Analysed(None), id="no analysis"),
        pytest.param(Analysed({}), id="no count"),
        pytest.param(Analysed({"flops": 0.0}), id="zero"),
        pytest.param(Analysed(NotImplementedError("not here")), id="error"),
    ],
)
@pytest.mark.row("M6")
def test_without_a_count_there_is_none(
    function: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a plain function nor a backend without analysis fails (M6)."""
    caplog.set_level(logging.CRITICAL, "perf")
    assert {} == collect.tflops_per_step(function)
