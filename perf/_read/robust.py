"""What is usual, and how far from it a step is; a few odd steps change neither."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping
from typing import Final

_MAD_SCALE: Final = 1.4826
"""Of the median absolute deviation, to compare with a standard deviation."""
UNUSUAL: Final = 3.5  # mutate: ok any number of this size
"""Deviations from which a report marks a step."""
ALARMING: Final = 4.0  # mutate: ok any number of this size
"""Deviations from which a training tells somebody: it asks at every step, for weeks."""


def median_and_mad(lengths: Collection[int]) -> tuple[int, int]:
    """The median, and the median absolute deviation from it; 0 of nothing."""
    if not lengths:
        return 0, 0
    median = round(statistics.median(lengths))
    return median, round(statistics.median([abs(ns - median) for ns in lengths]))


def deviation(length: int, median: int, mad: int) -> float:
    """How many robust standard deviations a length is above the median."""
    # Steps that are all alike still differ by the clock's whim.
    return (length - median) / (_MAD_SCALE * max(mad, median // 100, 1))


def usual_stages(steps: Collection[Mapping[str, int]]) -> dict[str, int]:
    """Of every stage the median over all steps, also those without it."""
    stages = dict.fromkeys(stage for each in steps for stage in each)
    return {
        stage: round(statistics.median([each.get(stage, 0) for each in steps]))
        for stage in stages
    }


def reason(
    stages: Mapping[str, int], usual: Mapping[str, int], *, longer: bool
) -> tuple[str, int]:
    """The stage that makes a step longer than usual, or shorter, and by how much.

    Args:
        stages: of the step.
        usual: see `usual_stages`.
        longer: which of the two.
    """
    excess = {
        stage: stages.get(stage, 0) - usual.get(stage, 0)
        for stage in {**usual, **stages}
    }
    stage = (max if longer else min)(excess, key=lambda name: excess[name])
    return stage, excess[stage]
