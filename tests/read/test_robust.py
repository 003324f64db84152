"""What is usual of steps, and how far from it one is."""

from __future__ import annotations

import pytest

from perf._read import robust


def test_one_odd_length_changes_neither_median_nor_deviation():
    """As many lengths as wanted lie around 100; of none, both are 0."""
    assert (100, 2) == robust.median_and_mad([98, 100, 102, 10**9, 99])
    assert (0, 0) == robust.median_and_mad([])


def test_deviations_are_counted_in_standard_deviations():
    """Of lengths that are all alike, a hundredth stands for the deviation."""
    assert pytest.approx(10 / 14.826) == robust.deviation(1010, 1000, 10)
    assert pytest.approx(-10 / 14.826) == robust.deviation(990, 1000, 0)
    assert pytest.approx(1 / 1.4826) == robust.deviation(1, 0, 0)


def test_the_reason_is_the_stage_that_differs_most():
    """A stage that is usual and missing counts, and one that never was before."""
    usual = robust.usual_stages(
        [{"a": 10, "b": 4}, {"a": 12, "b": 4}, {"a": 11, "d": 9}]
    )
    assert {"a": 11, "b": 4, "d": 0} == usual
    assert ("c", 7) == robust.reason({"a": 12, "c": 7}, usual, longer=True)
    assert ("b", -4) == robust.reason({"a": 10}, usual, longer=False)
