"""Metrics of reinforcement learning: hand-computed cases, masks, orders, JAX arrays."""

from __future__ import annotations

import functools
import math
import queue
from typing import Any

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perf._model.metrics import MetricsT
from perf.collect import rl
from tests.collect.batches import found

MASK = [[1, 1, 0], [1, 0, 0]]
"""Three tokens of two completions."""
PADDED = [[1.0, 2.0, np.nan], [6.0, np.inf, np.nan]]
"""Values of those tokens: 1, 2 and 6. The padding holds what must not be looked at."""


def batches() -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    """Values and a mask of one shape [batch, length]; either may be 0."""
    return hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=6).flatmap(
        lambda shape: st.tuples(
            hnp.arrays(np.float32, shape, elements=st.integers(-8, 8)),
            hnp.arrays(np.bool_, shape),
        )
    )


@pytest.mark.row("M7", "M8")
def test_rewards_by_hand() -> None:
    """[[1, 2], [3, 4]] has the sums 3 and 7, the means 1.5 and 3.5 (M7, M8, M11)."""
    expected = {
        "rewards/sum": 5.0,
        "rewards/mean": 2.5,
        "rewards/max": 4.0,
        "rewards/min": 1.0,
        "rewards/exact": 2.0,
        "rewards/short": 3.0,
    }
    assert expected == found(rl.rewards([[1, 2], [3, 4]], ["exact", "short"]))


@pytest.mark.row("M8")
def test_each_reward_has_its_aggregation() -> None:
    """Of two micro-batches the mean of means, the max of max, the min of min (M8)."""
    aggregations = {
        "rewards/sum": np.mean,
        "rewards/mean": np.mean,
        "rewards/max": np.max,
        "rewards/min": np.min,
        "rewards/a": np.mean,
    }
    metrics = rl.rewards([[1.0]], ["a"])
    assert aggregations == {name: how for name, (_, how) in metrics.items()}


@pytest.mark.row("M11")
def test_reward_functions_are_named_as_they_are() -> None:
    """A function by `__name__`, a callable object by its class (M11)."""

    class Checker:
        def __call__(self) -> None: ...

    def is_short() -> None: ...

    metrics = rl.rewards([[1, 2]], [is_short, Checker()])
    assert {"rewards/is_short", "rewards/Checker"} <= set(metrics)


@pytest.mark.parametrize(
    ("functions", "said"),
    [
        (["a", "a"], "'a' of a reward function is taken"),
        (["a", "sum"], "'sum' of a reward function is taken"),
        (["a"], r"1 functions \(a\) need as many columns, found \(1, 2\)"),
    ],
)
def test_names_that_would_hide_another_are_refused(
    functions: list[str], said: str
) -> None:
    """The message names the function and what to do."""
    with pytest.raises(ValueError, match=said):
        rl.rewards([[1, 2]], functions)


def test_a_reward_that_is_nan_is_left_out_of_sum_and_mean() -> None:
    """The other functions' rewards of that trajectory count; the column says NaN."""
    metrics = found(rl.rewards([[math.nan, 2.0], [3.0, 4.0]], ["a", "b"]))
    assert 4.5 == metrics["rewards/sum"]
    assert 2.75 == metrics["rewards/mean"]
    assert math.isnan(metrics["rewards/max"])
    assert math.isnan(metrics["rewards/a"])
    assert 3.0 == metrics["rewards/b"]


def test_a_trajectory_without_any_reward_has_no_mean() -> None:
    """It adds 0 to the sums, and the mean is NaN."""
    metrics = found(rl.rewards([[math.nan], [3.0]]))
    assert 1.5 == metrics["rewards/sum"]
    assert math.isnan(metrics["rewards/mean"])


@pytest.mark.row("M9")
def test_scores_by_hand() -> None:
    """Mean, max and min over trajectories (M9)."""
    expected = {"score/mean": 2.0, "score/max": 4.0, "score/min": -1.0}
    assert expected == found(rl.scores([3, 4, -1]))


@pytest.mark.row("M9")
def test_the_penalty_is_what_parts_rewards_from_scores() -> None:
    """Of 3 nats in the first completion and 6 in the second a tenth is taken (M9)."""
    penalised = rl.penalised_rewards([1.0, 2.0], PADDED, MASK, 0.1)
    assert [0.7, 1.4] == pytest.approx(penalised.tolist())


@pytest.mark.row("M10")
def test_kl_penalty_by_hand() -> None:
    """Means of 1.5 and 6 per completion; none at a coefficient of 0 (M10)."""
    assert {"reward_kl_penalty": 3.75} == found(rl.kl_penalty(PADDED, MASK, 0.1))
    assert {} == rl.kl_penalty(PADDED, MASK, 0)
    assert {} == rl.kl_penalty(PADDED, MASK, None)


def test_an_empty_completion_has_no_kl() -> None:
    """It does not count as one of 0 nats."""
    mask = [[1, 1, 0], [0, 0, 0]]
    assert {"reward_kl_penalty": 1.5} == found(rl.kl_penalty(PADDED, mask, 0.1))


def test_kl_is_the_mean_over_tokens() -> None:
    """1, 2 and 6, whichever completion they are in."""
    assert {"kl": 3.0} == found(rl.kl(PADDED, MASK))


@pytest.mark.parametrize("name", ["advantages", "returns", "values"])
@pytest.mark.row("M12", "M13", "M14")
def test_statistics_of_tokens_by_hand(name: str) -> None:
    """1, 2 and 6; the padding does not count (M12, M13, M14)."""
    expected = {f"{name}/mean": 3.0, f"{name}/max": 6.0, f"{name}/min": 1.0}
    metrics = getattr(rl, name)(PADDED, MASK)
    assert expected == found(metrics)
    assert [np.mean, np.max, np.min] == [how for _, how in metrics.values()]


def test_an_advantage_per_sequence_counts_for_each_of_its_tokens() -> None:
    """As GRPO has it: two tokens of 3, one of −3."""
    expected = {
        "advantages/mean": 1.0,
        "advantages/max": 3.0,
        "advantages/min": -3.0,
    }
    assert expected == found(rl.advantages([3.0, -3.0], MASK))


@pytest.mark.row("M15")
def test_pg_clipfrac_by_hand() -> None:
    """A ratio of 2 on half of the tokens, beyond 1 + 0.2, pays no more (M15)."""
    logps = [[math.log(2), 0.0, 9.0], [math.log(2), 0.0, 9.0]]
    mask = [[1, 1, 0], [1, 1, 0]]
    zeros = np.zeros((2, 3))
    clipfrac = functools.partial(
        rl.pg_clipfrac, logps, zeros, completion_mask=mask, low=0.2, high=0.2
    )
    assert {"pg_clipfrac": 0.5} == found(clipfrac(advantages=[1.0, 1.0]))
    # Of a bad completion made likelier the whole loss counts.
    assert {"pg_clipfrac": 0.25} == found(clipfrac(advantages=[1.0, -1.0]))
    assert {"pg_clipfrac": 0.0} == found(clipfrac(advantages=[0.0, 0.0]))


def test_the_ratio_is_of_new_to_old_probability() -> None:
    """From 1/8 to 1/4 doubles, from 1/4 to 1/4 does not."""
    metrics = rl.pg_clipfrac(
        np.log([[1 / 4, 1 / 4]]),
        np.log([[1 / 8, 1 / 4]]),
        [1.0],
        [[1, 1]],
        low=0.2,
        high=0.2,
    )
    assert {"pg_clipfrac": 0.5} == found(metrics)


def test_pg_clipping_may_differ_up_and_down() -> None:
    """Ratios of 0.5 (bad) and 1.25 (good), within and beyond either bound."""
    logps = np.log([[0.5, 1.25]])
    for low, high, expected in [(0.4, 0.2, 1.0), (0.6, 0.2, 0.5), (0.6, 0.3, 0.0)]:
        metrics = rl.pg_clipfrac(
            logps, [[0.0, 0.0]], [[-1.0, 1.0]], [[1, 1]], low=low, high=high
        )
        assert {"pg_clipfrac": expected} == found(metrics)


@pytest.mark.row("M16")
def test_vf_clipfrac_by_hand() -> None:
    """Of estimates only those that moved towards their return too far are cut.

    With 1 as the return and a clip of 0.2: from 0 to 1 or 0.9 is cut back to 0.2, a
    larger loss; from 0 to 0.1 is not cut; from 0 to −1 is cut to −0.2, a smaller loss;
    the fifth is padding.
    """
    metrics = rl.vf_clipfrac(
        values=[[1.0, 0.9, 0.1, -1.0, 1.0]],
        old_values=np.zeros((1, 5)),
        returns=np.ones((1, 5)),
        completion_mask=[[1, 1, 1, 1, 0]],
        clip=0.2,
    )
    assert {"vf_clipfrac": 0.5} == found(metrics)


@pytest.mark.parametrize("broken", ["logps", "old_logps", "advantages"])
def test_a_fraction_of_what_cannot_be_compared_is_nan(broken: str) -> None:
    """A NaN is no unclipped token."""
    arrays = {name: np.zeros((2, 3)) for name in ("logps", "old_logps", "advantages")}
    arrays[broken][0, 0] = np.nan
    metrics = rl.pg_clipfrac(**arrays, completion_mask=MASK, low=0.2, high=0.2)
    assert math.isnan(found(metrics)["pg_clipfrac"])


def test_a_ratio_may_overflow() -> None:
    """exp(200) is infinite in float32: clipped, and no warning."""
    logps = np.full((1, 1), 200, np.float32)
    metrics = rl.pg_clipfrac(logps, np.zeros((1, 1)), [1.0], [[1]], low=0.2, high=0.2)
    assert {"pg_clipfrac": 1.0} == found(metrics)


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.row("M17")
def test_entropy_of_uniform_logits_is_log_of_their_number(xp: Any) -> None:
    """The log of 7, for seven equal logits; without regularization no metric (M17)."""
    entropies = rl.token_entropies(xp.full((2, 3, 7), 5.0))
    assert (2, 3) == entropies.shape
    metrics = found(rl.entropy(entropies, MASK, coefficient=0.01))
    assert {"loss/entropy": pytest.approx(math.log(7))} == metrics
    assert {} == rl.entropy(entropies, MASK, coefficient=0)
    assert {} == rl.entropy(entropies, MASK, coefficient=None)


def test_entropy_of_unequal_logits_by_hand() -> None:
    """Probabilities 1/2, 1/4, 1/4 and 0: 1.5 bits."""
    logits = np.array([*np.log([0.5, 0.25, 0.25]), -np.inf]) + 100
    assert 1.5 * math.log(2) == pytest.approx(rl.token_entropies(logits))


def test_entropies_are_made_where_the_logits_are() -> None:
    """JAX arrays give a JAX array, in a jitted function too."""
    logits = jnp.arange(12.0).reshape(2, 2, 3)
    eager = rl.token_entropies(logits)
    assert isinstance(eager, jax.Array)
    assert np.allclose(eager, jax.jit(rl.token_entropies)(logits))
    assert np.allclose(eager, rl.token_entropies(np.asarray(logits)))


@pytest.mark.row("M18")
def test_texts_are_handed_on() -> None:
    """As lists, without an aggregation (M18)."""
    expected = {"prompts": (["2+2", "3+3"], None), "completions": (["4", "7"], None)}
    assert expected == rl.texts(("2+2", "3+3"), ["4", "7"])


@pytest.mark.row("M19")
def test_lengths_by_hand() -> None:
    """Completions of 2 and 6 tokens (M19)."""
    mask = np.arange(8) < np.array([[2], [6]])
    expected = {
        "completions/mean_length": 4.0,
        "completions/max_length": 6.0,
        "completions/min_length": 2.0,
    }
    assert expected == found(rl.completion_lengths(mask))


@pytest.mark.row("M20")
def test_trajectory_ids_by_hand() -> None:
    """The second batch of 2 × 2 completions; the third of 3 prompts with one (M20)."""
    assert {"trajectory_ids": (["2_0", "2_1", "3_0", "3_1"], None)} == (
        rl.trajectory_ids(1, 2, 2)
    )
    assert {"trajectory_ids": (["6", "7", "8"], None)} == rl.trajectory_ids(2, 3)


@pytest.mark.row("M21")
def test_waiting_for_the_rollout_is_timed() -> None:
    """Batches that come after 50 ms and after 0 (M21)."""
    now_s = [10.0]
    batches: queue.SimpleQueue[str] = queue.SimpleQueue()
    waits: list[MetricsT] = []

    def rollout() -> Any:
        batches.put("first")
        now_s[0] += 0.05
        yield batches.get()
        yield "second"

    consumed = []
    for batch in rl.timed(rollout(), waits.append, clock=lambda: now_s[0]):
        now_s[0] += 1.0  # The training, which is no waiting.
        consumed.append((batch, len(waits)))
    assert [("first", 1), ("second", 2)] == consumed
    assert [0.05, 0.0] == pytest.approx(
        [found(each)["actor_dequeue_time"] for each in waits]
    )


MASKED = [
    pytest.param(rl.advantages, id="advantages"),
    pytest.param(rl.returns, id="returns"),
    pytest.param(rl.values, id="values"),
    pytest.param(rl.kl, id="kl"),
    pytest.param(functools.partial(rl.kl_penalty, coefficient=1), id="kl_penalty"),
    pytest.param(functools.partial(rl.entropy, coefficient=1), id="entropy"),
    pytest.param(
        lambda values, mask: rl.pg_clipfrac(
            values / 8, np.zeros(np.shape(values)), values, mask, low=0.2, high=0.2
        ),
        id="pg_clipfrac",
    ),
    pytest.param(
        lambda values, mask: rl.vf_clipfrac(
            values, values / 2, -values, mask, clip=1.0
        ),
        id="vf_clipfrac",
    ),
]
"""Metrics of tokens, each as a function of values and mask."""


@pytest.mark.parametrize("metric", MASKED)
@given(batches(), st.data())
def test_what_is_masked_does_not_count(metric: Any, batch: Any, data: Any) -> None:
    """Whatever the padding holds, NaN and infinities included."""
    values, mask = batch
    padding = data.draw(hnp.arrays(np.float32, values.shape))
    assert found(metric(values, mask)) == found(
        metric(np.where(mask, values, padding), mask)
    )


@pytest.mark.parametrize("metric", MASKED)
@given(batches(), st.randoms())
def test_the_order_of_trajectories_does_not_matter(
    metric: Any, batch: Any, random: Any
) -> None:
    """Shuffled rows give the same numbers."""
    values, mask = batch
    order = list(range(len(values)))
    random.shuffle(order)
    shuffled = found(metric(values[order], mask[order]))
    assert found(metric(values, mask)) == pytest.approx(shuffled)


@pytest.mark.parametrize("metric", MASKED)
@given(batches())
def test_of_no_tokens_there_is_no_metric(metric: Any, batch: Any) -> None:
    """Neither 0 nor NaN, and no warning."""
    values, mask = batch
    assert {} == metric(values, np.zeros_like(mask))
    assert mask.any() == bool(metric(values, mask))


@pytest.mark.parametrize("metric", MASKED)
@settings(max_examples=20)  # Each shape is compiled.
@given(batches())
def test_jax_arrays_count_as_numpys(metric: Any, batch: Any) -> None:
    """Values and integer masks on a device give the same numbers, as numpy's."""
    values, mask = batch
    on_device = metric(jnp.asarray(values), jnp.asarray(mask, jnp.int32))
    assert found(metric(values, mask)) == found(on_device)
    assert all(isinstance(value, np.float64) for value, _ in on_device.values())


@pytest.mark.parametrize("metric", MASKED)
def test_a_shape_that_does_not_fit_is_named(metric: Any) -> None:
    """The message says what was expected and what was found."""
    with pytest.raises(ValueError, match=r"expected .*\(2, 3\).*found \(3, 2\)"):
        metric(np.zeros((3, 2)), np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"expected \[batch, length\], found \(3,\)"):
        metric(np.zeros(3), np.ones(3))


def test_numbers_per_trajectory_have_one_axis() -> None:
    """Scores and rewards of another shape are refused."""
    with pytest.raises(ValueError, match=r"scores: expected \[trajectories\]"):
        rl.scores([[1.0]])
    with pytest.raises(ValueError, match=r"scores: expected \(2,\), found \(3,\)"):
        rl.penalised_rewards([1, 2, 3], PADDED, MASK, 0.1)
    with pytest.raises(ValueError, match=r"rewards: expected .* found \(1, 1, 1\)"):
        rl.rewards([[[1.0]]])


@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 5), st.integers(0, 3))))
def test_rewards_of_any_size_and_value(rewards: Any) -> None:
    """No warning, no error; of no rewards no metric."""
    functions = [f"f{i}" for i in range(rewards.shape[1])]
    metrics = rl.rewards(rewards, functions)
    assert bool(rewards.size) == bool(metrics)
    if rewards.size and np.isfinite(rewards).all():
        sums = rewards.astype(np.float64).sum(axis=1)
        assert np.isclose(sums.mean(), found(metrics)["rewards/sum"])


def test_bfloat16_is_summed_in_float64() -> None:
    """4096 times 1.0078125, which in bfloat16 would stop growing at 256."""
    rewards = jnp.full((64, 64), 1.0078125, jnp.bfloat16)
    assert (
        1.0078125 == found(rl.advantages(rewards, np.ones((64, 64))))["advantages/mean"]
    )


def test_arrays_over_several_devices_are_read() -> None:
    """A batch that is split over two devices counts as a whole."""
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
    sharding = jax.NamedSharding(mesh, jax.P("data"))
    values = jax.device_put(np.array([[1.0, 2.0], [6.0, 0.0]]), sharding)
    mask = jax.device_put(np.array([[1, 1], [1, 0]]), sharding)
    assert 3.0 == found(rl.advantages(values, mask))["advantages/mean"]
