"""What metrics look like on their way to a logger."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
else:
    ArrayLike = Any

Aggregation = Callable[[Any], ArrayLike]
"""From the values of a step, one or several, to the one that is logged."""

Entry = tuple[ArrayLike, Aggregation | None]
"""A metric's value (a number, an array of JAX or numpy, texts) and, for values buffered
over several calls, the function that aggregates them (None: each is logged)."""

MetricsT = dict[str, Entry]
"""Metric names to values and aggregation functions."""


@dataclasses.dataclass(slots=True)
class MetricsBuffer:
    """Metrics gathered for one global step."""

    global_steps: int
    metrics: dict[str, tuple[list[ArrayLike], Aggregation | None]] = dataclasses.field(
        default_factory=dict
    )
    mode: str = "train"
