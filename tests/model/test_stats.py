"""A tracer's account of itself."""

from __future__ import annotations

import dataclasses

import pytest

from perf._model.stats import TracerStats


def test_an_account_begins_with_nothing() -> None:
    """As the tracer that does nothing tells."""
    numbers = dataclasses.asdict(TracerStats())
    assert {"": "", (): ()} == {
        v: v for v in numbers.values() if not isinstance(v, (int, float))
    }
    assert {0} == {v for v in numbers.values() if isinstance(v, (int, float))}


def test_an_account_does_not_change() -> None:
    """It is what it was when it was asked for."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        TracerStats().recorded = 1  # type: ignore[misc]  # what this is about
