"""Metrics that every training has, supervised or reinforcement learning.

No function that returns metrics blocks here: what lives on a device is read when its
step is handed over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from perf._model.log import OnceLog
from perf.collect._arrays import numbers

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from perf._model.metrics import MetricsT

_log = OnceLog()


@np.errstate(all="ignore")
def geometric_mean(values: ArrayLike) -> np.float64:
    """Returns exp(mean(log(values))): how perplexities are averaged.

    Args:
        values: Of any shape, none below 0.
    """
    return np.float64(np.exp(np.log(numbers(values)).mean(dtype=np.float64)))


@np.errstate(all="ignore")
def harmonic_mean(values: ArrayLike) -> np.float64:
    """Returns 1 / mean(1 / values): how rates over equal work are averaged.

    Args:
        values: Of any shape, all above 0.
    """
    return np.float64(1 / (1 / numbers(values)).mean(dtype=np.float64))


@np.errstate(all="ignore")
def loss(loss: Any) -> MetricsT:
    """`loss`, averaged over micro-batches, and `perplexity`, exp of that average.

    Does not block: with a JAX array, exp is one more launch on its device.

    Args:
        loss: A number or a scalar array, in nats; the mean of a micro-batch.
    """
    if hasattr(loss, "__array_namespace__"):
        xp = loss.__array_namespace__()
        # In half precision a perplexity has three digits and may overflow.
        is_exact = loss.dtype.itemsize >= 4  # mutate: ok float32 stays as it is
        exact = loss if is_exact else loss.astype(xp.float32)
    else:
        xp, exact = np, loss
    return {"loss": (loss, np.mean), "perplexity": (xp.exp(exact), geometric_mean)}


def learning_rate(opt_state: Any) -> MetricsT:
    """`learning_rate`, from the state of an optax optimizer; nothing where none is.

    Optax keeps it there if asked to: `optax.inject_hyperparams(optax.sgd)(…)`. Found in
    chains and wrappers as well; of several the first. The value is copied on its
    device, without blocking: the next update may reuse the state's memory.

    Args:
        opt_state: Any nest of tuples, lists and mappings.
    """
    for value in _learning_rates(opt_state):
        # A Flax variable gives its array so; an array itself.
        current = value[...] if hasattr(value, "__getitem__") else value
        if hasattr(current, "__array_namespace__"):
            current = current.__array_namespace__().asarray(current, copy=True)
        return {"learning_rate": (current, np.mean)}
    return {}


def tflops_per_step(function: Any, *args: Any, **kwargs: Any) -> MetricsT:
    """`tflops_per_step`, from XLA's cost analysis of a jitted function.

    Traces the function anew, which takes as long as it took JAX at the first call, but
    compiles nothing and runs nothing: call it once, and log the result at each step.
    Counted is the program before it is split over devices, so that it is the work of
    all of them. The body of a loop (`lax.scan`, `while_loop`) counts once, however
    often it runs: XLA does not know.

    Args:
        function: What `jax.jit` returned; anything else gives nothing.
        args: Arguments to call it with, or `jax.ShapeDtypeStruct`s like them.
        kwargs: Likewise.

    Returns:
        Floating-point operations / 10¹², or nothing where the backend has no count.
    """
    lower = getattr(function, "lower", None)
    if lower is None:
        return {}
    try:
        flops = (lower(*args, **kwargs).cost_analysis() or {}).get("flops")
    except Exception as error:  # Whatever the backend's analysis cannot do.
        _log.say("tflops", "tflops_per_step: no cost analysis", exc=error)
        return {}
    return {"tflops_per_step": (flops / 1e12, np.mean)} if flops else {}


class StepMeter:
    """`step_time_sec` and `steps_per_sec`: wall time from one step's end to the next.

    A step that is only launched ends when JAX returns. As long as launches are not far
    ahead of the devices, their distance in time is that of the steps.

    Args:
        clock: Seconds, from anywhere.
    """

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._begin = clock()

    def restart(self) -> None:
        """Leaves out what happened since the last step (an evaluation, say)."""
        self._begin = self._clock()

    def step_done(self) -> MetricsT:
        """Ends a step and returns its time and rate.

        The first one began with the meter, or with `restart`.
        """
        begin, self._begin = self._begin, self._clock()
        seconds = self._begin - begin
        return {
            "step_time_sec": (seconds, np.mean),
            "steps_per_sec": (1 / (seconds + 1e-9), harmonic_mean),
        }


def _learning_rates(state: Any) -> Iterator[Any]:
    hyperparams = getattr(state, "hyperparams", None)
    if isinstance(hyperparams, Mapping) and "learning_rate" in hyperparams:
        yield hyperparams["learning_rate"]
    if isinstance(state, Mapping):
        state = state.values()
    elif not isinstance(state, tuple | list):
        return
    for part in state:
        yield from _learning_rates(part)
