"""The process's tracer: code is decorated first, a tracer set later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

import perf
from perf._record.default import get_tracer, set_tracer
from perf._record.noop import NOOP_SPAN, NoopTracer
from tests.record.recording import Recording


@pytest.fixture(autouse=True)
def unset() -> Iterator[None]:
    """No tracer is set, before and after."""
    before = get_tracer()
    set_tracer(None)
    yield
    set_tracer(before)


@pytest.fixture
def rec() -> Recording:
    """A tracer that is not set yet."""
    return Recording(["a0"])


def names(rec: Recording) -> list[str]:
    """What was recorded since the last read."""
    return [record.name for record in rec.read()]


def test_a_function_decorated_early_is_recorded_late(rec: Recording) -> None:
    """While no tracer is set it is called and nothing else; then with all it was
    given.
    """
    with rec.tracer.span("before") as before:
        pass

    @get_tracer().span("f", ["a0"], {"step": 1}, before)
    def fn(number: int) -> int:
        return number + 1

    assert 2 == fn(1)
    set_tracer(rec.tracer)
    assert 2 == fn(1)
    set_tracer(None)
    assert 2 == fn(1)
    found = [(r.name, r.tags, r.after) for r in rec.read()]
    expected = ("f", {"step": 1}, (before.id,))
    assert [expected] * 2 == [row for row in found if row[0] == "f"]


def test_every_kind_of_function_is_recorded_late(rec: Recording) -> None:
    """Coroutines and generators of both kinds too."""

    @get_tracer().span("coroutine")
    async def coroutine() -> int:
        return 1

    @get_tracer().span("generator")
    def generator() -> Iterator[int]:
        yield 1

    @get_tracer().span("async generator")
    async def async_generator() -> AsyncIterator[int]:
        yield 1

    async def main() -> list[int]:
        return [await coroutine(), *generator(), *[n async for n in async_generator()]]

    assert [1, 1, 1] == asyncio.run(main())
    set_tracer(rec.tracer)
    assert [1, 1, 1] == asyncio.run(main())
    assert ["coroutine", "generator", "async generator"] == names(rec)


def test_a_decorated_function_follows_the_tracer_that_is_set(rec: Recording) -> None:
    """Each call asks anew."""
    other = Recording()
    fn = get_tracer().span("f")(lambda: None)
    for tracer in (rec.tracer, other.tracer, NoopTracer(), rec.tracer):
        set_tracer(tracer)
        fn()
    assert (["f", "f"], ["f"]) == (names(rec), names(other))


def test_what_a_set_tracer_decorates_is_its_own(rec: Recording) -> None:
    """Only the stand-in decorates for later."""
    set_tracer(rec.tracer)
    fn = get_tracer().span("f")(lambda: None)
    set_tracer(None)
    fn()
    assert ["f"] == names(rec)


def test_the_stand_in_records_nothing() -> None:
    """Its spans are false and have no number."""
    with get_tracer().span("x", ["a0"], {"a": 1}) as span:
        assert not span
        assert (0, None) == (span.id, span.tag("a", 1).tags)
    assert NOOP_SPAN is get_tracer().current_span()
    assert not get_tracer().enabled


def test_setting_none_puts_the_stand_in_back(rec: Recording) -> None:
    """The same one as at the beginning."""
    stand_in = get_tracer()
    set_tracer(rec.tracer)
    assert get_tracer() is rec.tracer
    set_tracer(None)
    assert get_tracer() is stand_in


def test_the_package_has_it_at_its_top() -> None:
    """`perf.get_tracer` and `perf.set_tracer`."""
    assert (get_tracer, set_tracer) == (perf.get_tracer, perf.set_tracer)
