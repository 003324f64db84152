"""What one span costs, as the tracer says of itself."""

from __future__ import annotations

import pytest

from perf._record import cost
from perf._record.cost import span_cost_s


def test_the_cost_of_a_span_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best of several runs, divided by their spans, in seconds."""
    span_cost_s.cache_clear()
    runs = iter([9_000_000, 5_000_000, 7_000_000])
    monkeypatch.setattr(cost, "_run_ns", lambda tracer: next(runs))
    try:
        assert 5e-6 == pytest.approx(span_cost_s())
        assert 5e-6 == pytest.approx(span_cost_s())
    finally:
        span_cost_s.cache_clear()


def test_a_span_costs_something_and_not_much() -> None:
    """More than nothing, less than a millisecond on any machine."""
    assert 0 < span_cost_s() < 1e-3
