"""What a micro-batch adds: the document's names, right for a case made by hand."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from perf.demo.actor import TrainBatch, init_state
from perf.demo.config import DemoConfig
from perf.demo.experience import Experience
from perf.demo.grpo import LossStats
from perf.demo.measures import experience_metrics, gradient_work, loss_metrics
from perf.demo.model import ModelConfig, init_policy
from perf.demo.task import SortTask
from tests.collect.batches import found

CONFIG = DemoConfig(prompts=1, group_size=2, task=SortTask(length=2, symbols=3))
TOKENS = jnp.array([[2, 1], [2, 1]])
BATCH = TrainBatch(
    prompts=TOKENS,
    completions=jnp.array([[1, 2], [2, 2]]),
    old_logps=jnp.zeros((2, 2)),
    reference_logps=jnp.zeros((2, 2)),
    advantages=jnp.array([1.0, -1.0]),
)
EXPERIENCE = Experience(
    CONFIG.mini_batch(1, 0)[2], BATCH, np.array([[1.0, 0.5]], np.float32), []
)


def test_experience_by_hand() -> None:
    """Two completions of one prompt, one of them right throughout."""
    metrics = experience_metrics(CONFIG, EXPERIENCE)
    numbers = found(metrics)
    assert 0.75 == numbers["rewards/mean"] == numbers["rewards/right_places"]
    assert 0.75 == numbers["score/mean"]
    assert 0.5 == numbers["exact"]
    assert [0, 1, -1] == [numbers[f"advantages/{s}"] for s in ("mean", "max", "min")]
    assert 2 == numbers["completions/mean_length"]


def test_texts_come_if_asked_for() -> None:
    """The ninth micro-batch has the ninth prompt (M18, M20)."""
    asked = DemoConfig(prompts=1, group_size=2, task=CONFIG.task, texts=True)
    metrics = experience_metrics(asked, EXPERIENCE)
    assert ["2 1", "2 1"] == metrics["prompts"][0]
    assert ["1 2", "2 2"] == metrics["completions"][0]
    assert ["8_0", "8_1"] == metrics["trajectory_ids"][0]


def test_loss_metrics_by_hand() -> None:
    """The loss's parts under the document's names."""
    stats = LossStats(jnp.float32(0.0), jnp.float32(0.25), jnp.float32(0.5))
    expected = {"loss": 0.0, "perplexity": 1.0, "kl": 0.25, "pg_clipfrac": 0.5}
    assert expected == found(loss_metrics(stats))


def test_work_is_summed_over_the_step() -> None:
    """At least the 6 operations per parameter and symbol of forward and backward."""
    policy = init_policy(0, ModelConfig(symbols=3, context=4))
    state = init_state(policy)
    ((name, (tflops, aggregation)),) = gradient_work(CONFIG, state, BATCH).items()
    assert ("tflops_per_step", np.sum) == (name, aggregation)
    matrices = sum(each.size for layer in policy.layers for each in layer)
    symbols_read = 2 * 3
    least = 6 * matrices * symbols_read / 1e12
    assert least < float(np.asarray(tflops)) < 2 * least
