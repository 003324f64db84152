"""What several tests of recording need."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from perf._record import collector, hot, launches, tracer


@pytest.fixture
def set_relief_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Sets how many records a list has when whoever appends has it collected."""

    def set_relief_at(count: int) -> None:
        for module in (collector, hot, launches, tracer):
            monkeypatch.setattr(module, "RELIEF_AT", count)
        hot.bind()

    yield set_relief_at
    monkeypatch.undo()
    hot.bind()
