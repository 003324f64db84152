"""A run may last for weeks."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from tests.public.drive import Run

_SPANS = 20
_KEPT = 100
"""Steps that a tracer keeps for queries."""


def _steps(run: Run, count: int) -> None:
    for step in range(count):
        for at in range(_SPANS):
            with run.tracer.span(f"stage {at}", ["a0"] if at % 5 == 0 else None):
                if at == 0:
                    run.tracer.counter("reward", step)
        run.tracer.synchronize()
        run.tracer.export()
        run.tracer.flush()


@pytest.mark.row("P1")
def test_memory_does_not_grow_with_the_run(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is held after ten times the steps is what was held before."""
    # The bounds themselves are large: reaching them would take minutes.
    monkeypatch.setattr("perf._write.flows._REMEMBERED", 1_024)
    tracemalloc.start()
    try:
        _steps(run, 2 * _KEPT)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        _steps(run, 10 * _KEPT)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    recorded = run.tracer.stats().recorded
    assert 12 * _KEPT * _SPANS <= recorded
    # A dozen bytes for each span would be more than this.
    assert after - before < 256 * 1024, f"{after - before} bytes for {recorded} spans"
