"""The process-wide tracer, for code that is not handed one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from perf._record.noop import NOOP_SPAN, NoopSpan, NoopTracer

if TYPE_CHECKING:
    from perf._record.tracer import Tracer

_F = TypeVar("_F", bound=Callable[..., Any])


class _LateSpan(NoopSpan):
    """Records nothing, but a function decorated with it finds the tracer later."""

    __slots__ = ("_arguments",)

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        self._arguments = arguments

    def __call__(self, fn: _F) -> _F:
        from perf._record.decorate import traced

        wrapped: _F = traced(fn, lambda: get_tracer().span(*self._arguments))
        return wrapped


class _UnsetTracer(NoopTracer):
    """Stands in until a tracer is set."""

    def span(
        self,
        name: str,
        devices: Any = None,
        tags: Mapping[str, Any] | None = None,
        after: Any = None,
    ) -> NoopSpan:
        return _LateSpan((name, devices, tags, after))

    def span_group(self, name: str) -> NoopSpan:
        return NOOP_SPAN

    def process_and_commit_timelines(self) -> None:
        return None


_unset = _UnsetTracer()
_current: Tracer | NoopTracer = _unset


def get_tracer() -> Tracer | NoopTracer:
    """The process's tracer; one that records nothing until `set_tracer` was called.

    Functions decorated with `@perf.get_tracer().span("name")` before a tracer is set
    are recorded from then on.
    """
    return _current


def set_tracer(tracer: Tracer | NoopTracer | None) -> None:
    """Makes `tracer` the process's tracer; None puts back the one that does nothing."""
    global _current
    _current = _unset if tracer is None else tracer
