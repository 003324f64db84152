"""A tracer of either version that remembers what it was asked to record."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from typing import Any, cast

from perf.demo.stages import Stages


@dataclasses.dataclass(eq=False)
class RecordedSpan:
    """A span as the training described it."""

    name: str
    devices: Any
    tags: dict[str, Any] | None
    after: list[RecordedSpan]
    thread: str
    groups: list[str]
    """The groups open on the opening thread, outermost first."""
    ends_with: list[Any] = dataclasses.field(default_factory=list)

    def device_end(self, arrays: Any) -> None:
        """v1's name."""
        self.ends_with.append(arrays)

    async_end = device_end


class RecordingTracer:
    """Keeps spans in the order of opening. Usable from several threads."""

    def __init__(self) -> None:
        self.spans: list[RecordedSpan] = []
        self.counters: list[tuple[str, float, str]] = []
        self.exports = 0
        self.open_groups_at_export: list[list[str]] = []
        self._groups = threading.local()

    @contextlib.contextmanager
    def span_group(self, name: str) -> Iterator[None]:
        self._open_groups().append(name)
        try:
            yield
        finally:
            self._open_groups().pop()

    @contextlib.contextmanager
    def span(
        self, name: str, devices: Any = None, tags: Any = None, after: Any = ()
    ) -> Iterator[RecordedSpan]:
        thread = threading.current_thread().name
        groups = list(self._open_groups())
        span = RecordedSpan(name, devices, tags, list(after), thread, groups)
        self.spans.append(span)
        yield span

    def counter(self, name: str, value: float, unit: str = "") -> None:
        self.counters.append((name, value, unit))

    def export(self) -> dict[str, Any]:
        self.exports += 1
        self.open_groups_at_export.append(list(self._open_groups()))
        return {"perf/exports": (self.exports, None)}

    def named(self, name: str) -> list[RecordedSpan]:
        """The spans of that name, in the order of opening."""
        return [span for span in self.spans if span.name == name]

    def _open_groups(self) -> list[str]:
        if not hasattr(self._groups, "names"):
            self._groups.names = []
        names: list[str] = self._groups.names
        return names


def stages_on(v1: RecordingTracer, v2: RecordingTracer) -> Stages:
    """Stages that these two remember, each in the place of its version's tracer."""
    return Stages(cast("Any", v1), cast("Any", v2))
