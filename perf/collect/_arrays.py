"""Arrays of whatever origin, as numpy on the host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from perf._model.metrics import MetricsT

Array = np.ndarray[Any, np.dtype[Any]]

_REAL_KINDS = "biufV"
"""bool, int, unsigned, float; bfloat16 and its kin call themselves V."""


def numbers(values: ArrayLike) -> Array:
    """Returns values as float32 or float64, whichever holds them.

    Blocks until a JAX array is there. bfloat16 and the like become float32: numpy would
    add them up in their own three digits.

    Raises:
        TypeError: They are no real numbers. (numpy would make NaN of None.)
    """
    array = np.asarray(values)
    if array.dtype.kind not in _REAL_KINDS:
        raise TypeError(f"expected real numbers, found {array.dtype} {values!r:.80}")
    if array.dtype in (np.float32, np.float64):
        return array
    return array.astype(np.float32 if array.dtype.itemsize <= 2 else np.float64)


def as_mask(mask: ArrayLike) -> Array:
    """Returns a completion mask, bool [batch, length].

    Raises:
        ValueError: It has another number of axes.
    """
    array = np.asarray(mask)
    if array.ndim != 2:
        raise ValueError(
            f"completion_mask: expected [batch, length], found {array.shape}"
        )
    chosen: Array = array != 0
    return chosen


def per_token(what: str, values: ArrayLike, mask: Array) -> Array:
    """Returns the values of those tokens that the mask has, [tokens].

    What stands in the padding is never looked at, not even multiplied by 0: it may be
    NaN.

    Args:
        what: The argument's name.
        values: [batch, length], or [batch] where all tokens of a sequence share one.
        mask: bool [batch, length].

    Raises:
        ValueError: The shapes do not fit.
    """
    array = numbers(values)
    if array.shape == mask.shape:
        return array[mask]
    if array.shape == mask.shape[:1]:
        return np.repeat(array, mask.sum(axis=1))
    raise ValueError(
        f"{what}: expected the shape of completion_mask, {mask.shape}, or of its first "
        f"axis; found {array.shape}"
    )


@np.errstate(all="ignore")
def sequence_sums(what: str, values: ArrayLike, mask: Array) -> Array:
    """Returns the sum over each sequence's tokens, float64 [batch]."""
    array = np.zeros(mask.shape)
    array[mask] = per_token(what, values, mask)
    sums: Array = array.sum(axis=1)
    return sums


@np.errstate(all="ignore")
def mean(values: Array) -> np.float64:
    """Returns the mean, summed in float64; NaN and infinities without a warning."""
    return np.float64(values.mean(dtype=np.float64))


def statistics(prefix: str, values: Array, suffix: str = "") -> MetricsT:
    """Returns mean, max and min, each aggregated by its like; nothing of no values."""
    if not values.size:
        return {}
    return {
        f"{prefix}/mean{suffix}": (mean(values), np.mean),
        f"{prefix}/max{suffix}": (np.float64(values.max()), np.max),
        f"{prefix}/min{suffix}": (np.float64(values.min()), np.min),
    }


def mean_only(name: str, values: Array) -> MetricsT:
    """Returns the mean under a name; nothing of no values."""
    return {name: (mean(values), np.mean)} if values.size else {}
