"""The hot path: the compiled half and the Python half are one and the same."""

from __future__ import annotations

import gc
import inspect
import os
import weakref
from typing import Any

import pytest

from perf._record import hot
from perf._record.span import Span
from tests.programs import printed_by
from tests.record.recording import Recording

compiled = pytest.mark.skipif(
    not hot.is_compiled, reason="no compiled half: no C compiler, or it was left alone"
)


@pytest.fixture
def rec() -> Recording:
    """A tracer on a clock that stands still."""
    return Recording(["a0"])


def test_the_compiled_half_can_be_left_alone() -> None:
    """By an environment variable, for whoever suspects it; spans are recorded too."""
    code = """
from perf._record import hot
from perf.trace import PerfTracer
tracer = PerfTracer()
with tracer.span("a"):
    pass
print(hot.is_compiled, hot.HotSpan.__module__, tracer.stats().recorded)
"""
    assert "False perf._record.hot 1\n" == printed_by(
        "-c", code, RLPERF_PURE_PYTHON="1"
    )


@compiled
def test_both_halves_have_one_signature_and_one_documentation() -> None:
    """`help(tracer.span)` says the same, whichever is at work."""
    code = """
import inspect
from perf._record import hot
print(inspect.signature(hot.HotTracer.span).replace(return_annotation=None))
print(inspect.getdoc(hot.HotTracer.span))
"""
    python = printed_by("-c", code, RLPERF_PURE_PYTHON="1").splitlines()
    own = inspect.signature(hot.HotTracer.span).parameters.values()
    told = inspect.getdoc(hot.HotTracer.span) or ""
    assert python[1:] == told.splitlines()
    assert ["self", "name", "devices", "tags", "after"] == [p.name for p in own]
    for parameter in own:
        assert parameter.name in python[0]


def test_a_span_opened_twice_is_one_span(
    rec: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    """The second opening is refused, said once, and leaves nothing open."""
    span = rec.tracer.span("twice")
    for _ in range(2):
        with rec.tracer.span("around"), span, span:
            rec.tracer.instant("inside")
        span = rec.tracer.span("twice")
    assert not rec.tracer.current_span()
    names = [record.name for record in rec.read()]
    assert ["inside", "twice", "around"] * 2 == names
    assert 1 == caplog.text.count("opened twice")


def test_arguments_are_checked_as_python_checks_them(rec: Recording) -> None:
    """Too many, unknown, doubled or missing ones are a TypeError of the caller's."""
    span: Any = rec.tracer.span
    for wrong in (
        lambda: span(),
        lambda: span("a", None, None, None, None),
        lambda: span("a", nonsense=1),
        lambda: span("a", name="b"),
    ):
        with pytest.raises(TypeError, match="span"):
            wrong()
    with span(name="a", tags={"b": 1}), span("c", None, {"d": 2}):
        pass
    found = [(record.name, record.tags) for record in rec.read()]
    assert [("c", {"d": 2}), ("a", {"b": 1})] == found


def test_tags_of_any_mapping_are_copied(rec: Recording) -> None:
    """A dict, a subclass or another mapping; what is none is refused, not raised."""

    class Own(dict[str, int]):
        """A dict of somebody's."""

    plain, own = {"a": 1}, Own(a=2)
    given: list[Any] = [plain, own, os.environ, 3]
    for tags in given:
        with rec.tracer.span("x", tags=tags):
            plain["a"] = own["a"] = 0
    found = [record.tags for record in rec.read()]
    assert [{"a": 1}, {"a": 0}, dict(os.environ), None] == found


def test_spans_are_freed_when_nobody_holds_them(rec: Recording) -> None:
    """With all that they refer to, at once; and in a cycle by the collector."""

    class Tag:
        """Something whose end can be seen."""

    tag = Tag()
    seen = weakref.ref(tag)
    with rec.tracer.span("outer"), rec.tracer.span("inner", tags={"tag": tag}) as span:
        span.tag("itself", span)
    del tag, span
    rec.read()
    rec.tracer._collector.store = rec.tracer._collector.store.emptied(0)
    gc.collect()
    assert seen() is None


def test_a_clock_that_fails_is_the_callers_error(rec: Recording) -> None:
    """Only tests have a clock of their own; nothing stays open."""

    def broken() -> int:
        raise OSError("no time")

    rec.tracer._own_log().now = broken
    with pytest.raises(OSError, match="no time"):
        rec.tracer.span("x").__enter__()
    assert not rec.tracer.current_span()


@compiled
@pytest.mark.parametrize(
    "misuse",
    [
        lambda: Span.__new__(Span).__enter__(),
        lambda: Span.__new__(Span).__exit__(),  # type: ignore[call-arg]
        lambda: Span(object(), "x", 0, None, None, None),  # type: ignore[arg-type]
        lambda: hot.HotTracer().span("x"),
    ],
)
def test_unmade_objects_are_errors_not_crashes(misuse: Any) -> None:
    """The compiled half checks what it is handed before it looks inside."""
    with pytest.raises((TypeError, AttributeError)):
        misuse()
