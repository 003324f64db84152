"""Metrics as values: as numbers, flat, named, for display."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = [
    "add_prefix",
    "as_array",
    "as_float",
    "finite_values",
    "flatten_metrics",
    "format_metrics",
    "is_gone",
    "is_number",
    "joined",
    "kept",
    "kept_step",
    "resolved",
    "snapshot",
    "step_or_zero",
]


def as_array(value: Any) -> np.ndarray:
    """An array of NumPy, JAX or PyTorch as one of NumPy.

    An array that a device still works on is waited for.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()  # PyTorch converts no others
        try:
            return np.asarray(value)
        except TypeError:  # NumPy has no bfloat16
            return np.asarray(value.float())
    return np.asarray(value)


def as_float(value: Any) -> float | None:
    """A number, or an array of one, as a float; None for all else.

    An array that a device still works on is waited for.
    """
    if type(value) is float:
        return value
    if isinstance(value, str | bytes):
        return None
    try:
        array = as_array(value)
        return float(array.reshape(())) if array.size == 1 else None
    except (TypeError, ValueError):
        return None


def is_number(value: Any) -> bool:
    """Whether a value is a number or an array of one; no device is waited for."""
    shape = getattr(value, "shape", None)
    return isinstance(value, int | float) if shape is None else math.prod(shape) == 1


def is_gone(value: Any) -> bool:
    """Whether the memory of a JAX array was given away, or deleted."""
    is_deleted = getattr(value, "is_deleted", None)
    return callable(is_deleted) and bool(is_deleted())


def finite_values(values: Any) -> np.ndarray:
    """The finite ones of an array of any shape, float64 [values]."""
    array = as_array(values).astype(np.float64).ravel()
    return array[np.isfinite(array)]


def step_or_zero(kwargs: Mapping[str, Any]) -> int:
    """The step among the arguments of a call, for services that have to have one."""
    return int(kwargs.get("step") or 0)


def kept(value: Any) -> Any:
    """A value that stays what it is now: an array may be reused by its owner."""
    if hasattr(value, "detach"):
        # Its gradients would be kept alive as long as it waits.
        return value.detach().clone()
    return value.copy() if isinstance(value, np.ndarray) else value


def kept_step(step: Any) -> Any:
    """A step that can be read later.

    That of a training's state is an array, whose memory the next step is often given.
    """
    # Of one that is on several hosts all of them would have to make the copy.
    return step.copy() if getattr(step, "is_fully_addressable", False) else kept(step)


def resolved(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics with each `(value, aggregation)` pair of a `MetricsT` made one value."""
    values = {}
    for name, value in metrics.items():
        if isinstance(value, tuple) and len(value) == 2:
            given, aggregate = value
            if aggregate is None or isinstance(given, str):
                value = given
            elif callable(aggregate):
                value = aggregate(given)
        values[name] = value
    return values


def flatten_metrics(
    metrics: Mapping[str, Any], separator: str = "/", *, keep_empty: bool = False
) -> dict[str, Any]:
    """Nested metrics as flat ones: {"a": {"b": 1}} becomes {"a/b": 1}.

    An empty mapping holds no metric; it is left out, or kept as it is.
    """
    flat: dict[str, Any] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping) and (value or not keep_empty):
            inner = flatten_metrics(value, separator, keep_empty=keep_empty)
            flat |= {f"{name}{separator}{key}": item for key, item in inner.items()}
        else:
            flat[str(name)] = value
    return flat


def snapshot(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics as they are now: flat, aggregated, and not to be changed by others."""
    flat = resolved(flatten_metrics(metrics))
    return {name: kept(value) for name, value in flat.items()}


def add_prefix(metrics: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Metrics under `prefix/`."""
    return {f"{prefix}/{name}": value for name, value in metrics.items()}


def format_metrics(metrics: Mapping[str, Any], precision: int = 4) -> dict[str, str]:
    """Metrics for display.

    Numbers have `precision` digits after the point; those too small or large for that
    have as many in scientific notation.
    """
    return {name: _text(value, precision) for name, value in metrics.items()}


def joined(texts: Mapping[str, str]) -> str:
    """Metrics for display on one line: "loss=0.5000, lr=1.0000e-04"."""
    return ", ".join(f"{name}={text}" for name, text in texts.items())


def _text(value: Any, precision: int) -> str:
    if isinstance(value, bool | int | str):
        return str(value)
    number = as_float(value)
    if number is None:
        return str(value)
    readable = 10.0**-precision <= abs(number) < 1e9
    if number and math.isfinite(number) and not readable:
        return f"{number:.{precision}e}"
    return f"{number:.{precision}f}"
