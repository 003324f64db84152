"""google-tunix's own PeftTrainer, unmodified, that logs by this package's options."""

from __future__ import annotations

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from tunix.sft import hooks, peft_trainer

from perf import collect
from perf.metrics_logger import MetricsLoggerOptions

_VOCABULARY = 16
_STEPS = 4


# Where mypy runs, flax and tunix are not installed: their classes are of no type.
class Model(nnx.Module):  # type: ignore[misc]
    """Tells the next token from the last one alone."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.embed = nnx.Embed(_VOCABULARY, 8, rngs=rngs)
        self.unembed = nnx.Linear(8, _VOCABULARY, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        return self.unembed(self.embed(tokens))


def loss_of(model: Model, tokens: jax.Array) -> jax.Array:
    """Cross entropy of the next token."""
    logits, targets = model(tokens[:, :-1]), tokens[:, 1:]
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()


class Meter(hooks.TrainingHooks):  # type: ignore[misc]  # as above
    """Logs what the trainer itself does not: time, rate and work of a step."""

    def __init__(self, tokens: np.ndarray) -> None:
        self._tokens = jnp.asarray(tokens)
        self._meter = collect.StepMeter()

    def on_train_start(self, train_ctx: Any) -> None:
        graph, state = nnx.split(train_ctx.model)

        def step(state: Any, tokens: jax.Array) -> Any:
            return jax.grad(lambda s: loss_of(nnx.merge(graph, s), tokens))(state)

        self._work = collect.tflops_per_step(jax.jit(step), state, self._tokens)
        self._meter.restart()

    def on_train_step_end(
        self, train_ctx: Any, train_step: int, train_loss: float
    ) -> None:
        for name, (value, _) in {**self._meter.step_done(), **self._work}.items():
            train_ctx.metrics_logger.log("", name, value, "train", train_step)

    def on_train_end(self, train_ctx: Any) -> None: ...
    def on_train_step_start(self, train_ctx: Any) -> None: ...
    def on_eval_step_start(self, train_ctx: Any) -> None: ...
    def on_eval_step_end(self, train_ctx: Any, eval_loss: float) -> None: ...


def main(folder: str) -> None:
    """Trains for a moment."""
    tokens = np.random.default_rng(0).integers(0, _VOCABULARY, (8, 12))
    trainer = peft_trainer.PeftTrainer(
        Model(),
        optax.inject_hyperparams(optax.sgd)(learning_rate=0.5),
        peft_trainer.TrainingConfig(
            eval_every_n_steps=2,
            max_steps=_STEPS,
            metrics_logging_options=MetricsLoggerOptions(log_dir=folder),
        ),
    )
    trainer = trainer.with_loss_fn(loss_of)
    trainer = trainer.with_gen_model_input_fn(lambda batch: {"tokens": batch})
    trainer.with_training_hooks(Meter(tokens))
    trainer.train([tokens] * _STEPS, [tokens])


if __name__ == "__main__":
    main(sys.argv[1])
