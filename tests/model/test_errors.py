"""The errors of the package."""

from __future__ import annotations

from perf._model.errors import PerfError, TraceFormatError


def test_all_errors_are_of_one_kind() -> None:
    """So that they can be caught by one name."""
    assert issubclass(TraceFormatError, PerfError)
    assert issubclass(PerfError, Exception)
