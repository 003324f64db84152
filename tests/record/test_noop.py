"""The tracer that does nothing, and allocates nothing for it."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

from perf._model.stats import TracerStats
from perf._record.noop import NOOP_SPAN, NoopSpan, NoopTracer
from perf._record.span import Span
from perf._record.tracer import Tracer


def test_every_span_is_one_object() -> None:
    """Whatever it is asked for with."""
    tracer = NoopTracer()
    spans = [tracer.span("a"), tracer.span("b", ["a0"], {"c": 1}, 3)]
    assert [NOOP_SPAN] * 3 == [*spans, tracer.current_span()]
    with spans[0] as entered:
        assert entered is NOOP_SPAN


def test_the_span_does_nothing() -> None:
    """It keeps nothing, is nothing, and hides no exception."""
    assert NOOP_SPAN is NOOP_SPAN.tag("a", 1).add_tag("b", 2)
    NOOP_SPAN.device_end([object()])
    NOOP_SPAN.async_end([object()])
    assert (None, "", 0) == (
        NOOP_SPAN.tags,
        NOOP_SPAN.name,
        NOOP_SPAN.id,
    )
    assert [0.0] * 3 == [NOOP_SPAN.begin, NOOP_SPAN.end, NOOP_SPAN.duration]
    assert (False, False) == (NOOP_SPAN.ended, bool(NOOP_SPAN))
    assert not hasattr(NOOP_SPAN, "__dict__")
    with pytest.raises(KeyError), NOOP_SPAN:
        raise KeyError


def test_the_span_works_with_async_with() -> None:
    """And hides no exception there either."""

    async def main() -> None:
        async with NOOP_SPAN as span:
            assert span is NOOP_SPAN
            raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(main())


def test_what_it_decorates_is_left_as_it_is() -> None:
    """No wrapper, no cost."""

    def fn() -> None:
        pass

    assert fn is NOOP_SPAN(fn)


def test_the_tracer_does_nothing() -> None:
    """Each method returns what a tracer without spans would."""
    tracer: Any = NoopTracer()
    with tracer as entered:
        assert entered is tracer
        calls = [
            tracer.instant("x"),
            tracer.counter("x", 1),
            tracer.synchronize(),
            tracer.print(),
            tracer.close(),
        ]
    assert [None] * 5 == calls
    assert 0 == tracer.record("x", 1.0, 2.0)
    assert (True, {}, []) == (tracer.flush(), tracer.export(), tracer.all_devices)
    assert TracerStats() == tracer.stats()
    with pytest.raises(KeyError), tracer:
        raise KeyError


@pytest.mark.parametrize(("noop", "real"), [(NoopSpan, Span), (NoopTracer, Tracer)])
def test_its_methods_are_called_like_the_real_ones(noop: Any, real: Any) -> None:
    """The same parameters of the same names and defaults."""
    inner = {"kind", "after", "as_open_record", "nearest", "begin_ns", "end_ns"}
    inner |= {"parent", "devices", "work"}
    for name in {name for name in dir(real) if not name.startswith("_")} - inner:
        own, others = getattr(noop, name), getattr(real, name)
        if callable(own):
            signatures = [inspect.signature(method) for method in (own, others)]
            # Without `self`, which a compiled method takes by position alone.
            parameters = [list(s.parameters.values())[1:] for s in signatures]
            named = [[(p.name, p.default, p.kind) for p in some] for some in parameters]
            assert named[0] == named[1], name
