"""The tracer and the span that record nothing: shared objects, nothing allocated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Self, TypeVar

from perf._model.stats import TracerStats

_F = TypeVar("_F", bound=Callable[..., Any])


class NoopSpan:
    """Accepts all that a span accepts and does nothing. False in a condition."""

    __slots__ = ()

    id = 0
    name = ""
    begin = end = duration = 0.0
    ended = False
    tags = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        return None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    def __call__(self, fn: _F) -> _F:
        return fn

    def __bool__(self) -> bool:
        return False

    def tag(self, key: str, value: Any) -> Self:
        return self

    add_tag = tag

    def device_end(self, waitlist: Any) -> None:
        return None

    async_end = device_end


NOOP_SPAN: Final = NoopSpan()


class NoopTracer:
    """Has the methods of a tracer; none of them does anything."""

    enabled = False

    def span(
        self,
        name: str,
        devices: Any = None,
        tags: Mapping[str, Any] | None = None,
        after: Any = None,
    ) -> NoopSpan:
        return NOOP_SPAN

    def instant(self, name: str, tags: Mapping[str, Any] | None = None) -> None:
        return None

    def counter(self, name: str, value: float, unit: str = "") -> None:
        return None

    def record(
        self,
        name: str,
        begin_s: float,
        end_s: float,
        *,
        track: str | None = None,
        clock: str = "monotonic",
        tags: Mapping[str, Any] | None = None,
    ) -> int:
        return 0

    def current_span(self) -> NoopSpan:
        return NOOP_SPAN

    def synchronize(self) -> None:
        return None

    def print(self) -> None:
        return None

    def export(self) -> dict[str, Any]:
        return {}

    def flush(self, deadline_s: float | None = None) -> bool:
        return True

    def close(self) -> None:
        return None

    def stats(self) -> TracerStats:
        return TracerStats()

    @property
    def all_devices(self) -> list[str]:
        return []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        return None
