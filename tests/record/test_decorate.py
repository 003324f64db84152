"""Decorated functions, coroutines and generators of both kinds."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import pytest

from perf._record.noop import NOOP_SPAN, NoopTracer
from tests.record.recording import Recording, in_thread


@pytest.fixture
def rec() -> Recording:
    """A tracer on a clock that stands still."""
    return Recording(["a0"])


class OddError(Exception):
    """Raised by what is decorated."""


# Functions and coroutines


def test_each_call_is_a_span_of_its_own(rec: Recording) -> None:
    """Calls of a function that calls itself nest; arguments and result pass."""

    @rec.tracer.span("f", tags={"kind": "recursive"})
    def factorial(number: int, *, step: int = 1) -> int:
        return number * factorial(number - step) if number else 1

    assert 6 == factorial(3, step=1)
    records = rec.read()
    assert [{"kind": "recursive"}] * 4 == [r.tags for r in records]
    ids = [record.id for record in records]
    assert [*ids[1:], 0] == [record.parent_id for record in records]


def test_what_is_decorated_keeps_its_looks(rec: Recording) -> None:
    """Name, documentation and kind of each function stay."""

    def plain() -> None:
        """Plain."""

    async def coroutine() -> None:
        """Coroutine."""

    def generator() -> Iterator[int]:
        """Generator."""
        yield 1

    async def async_generator() -> AsyncIterator[int]:
        """Async generator."""
        yield 1

    kinds = (
        inspect.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
    )
    for fn in (plain, coroutine, generator, async_generator):
        wrapped: Any = rec.tracer.span("x")(fn)
        assert (fn.__name__, fn.__doc__) == (wrapped.__name__, wrapped.__doc__)
        assert [kind(fn) for kind in kinds] == [kind(wrapped) for kind in kinds]


def test_a_decorated_group_is_a_group(rec: Recording) -> None:
    """A decorator made of a group opens groups."""
    rec.tracer._group("g")(lambda: None)()
    with rec.tracer._group("g"):
        pass
    first, second = rec.read()
    assert second.kind == first.kind


def test_devices_and_predecessors_hold_for_each_call(rec: Recording) -> None:
    """What the span was made with goes for each of its calls."""
    with rec.tracer.span("before") as before:
        pass
    fn = rec.tracer.span("launch", ["a0"], {"step": 1}, after=before)(lambda: None)
    fn()
    fn()
    found = [r for r in rec.read() if r.name == "launch"]
    assert [({"step": 1}, (before.id,))] * 4 == [(r.tags, r.after) for r in found]
    assert 2 == len({record.id for record in found})


@pytest.mark.parametrize("devices", [None, ["a0"]], ids=["host", "device"])
def test_a_tracer_switched_off_costs_nothing_here_either(
    rec: Recording, devices: Any
) -> None:
    """What was decorated while it was on is not recorded while it is off."""
    fn = rec.tracer.span("x", devices)(lambda: rec.tracer.current_span())
    rec.tracer.enabled = False
    assert NOOP_SPAN is fn()
    assert [] == rec.read()
    rec.tracer.enabled = True
    assert fn()
    assert 1 + (devices is not None) == len(rec.read())


@pytest.mark.parametrize("form", ["call", "coroutine", "generator", "async generator"])
def test_a_tracer_that_is_off_leaves_a_function_alone(
    rec: Recording, form: str
) -> None:
    """A generator whose tracer is off at its first step works undisturbed, too."""
    span = rec.tracer.span("x")

    def generator() -> Generator[int, int, str]:
        got = yield 1
        yield got
        return "end"

    async def async_generator() -> Any:
        yield 1
        yield 2

    async def coroutine() -> int:
        return 3

    assert generator is NoopTracer().span("x")(generator)
    fns: list[Any] = [lambda: 4, coroutine, generator, async_generator]
    wrapped = [span(fn) for fn in fns]
    rec.tracer.enabled = False
    if form == "call":
        assert 4 == wrapped[0]()
    elif form == "coroutine":
        assert 3 == asyncio.run(wrapped[1]())
    elif form == "generator":
        running = wrapped[2]()
        assert (1, 7) == (next(running), running.send(7))
        with pytest.raises(StopIteration, match="end"):
            next(running)
    else:
        assert [1, 2] == asyncio.run(collected(wrapped[3]()))
    assert [] == rec.read()


def test_what_is_decorated_while_off_is_traced_once_it_is_on(rec: Recording) -> None:
    """Whether to record is asked at each call, not when modules are imported."""
    rec.tracer.enabled = False
    fn = rec.tracer.span("x", tags={"a": 1})(lambda: None)
    fn()
    rec.tracer.enabled = True
    fn()
    assert [("x", {"a": 1})] == [(record.name, record.tags) for record in rec.read()]


async def collected(items: AsyncIterator[int]) -> list[int]:
    """All items."""
    return [item async for item in items]


# Generators


def test_a_generator_lasts_from_its_first_step_to_its_end(rec: Recording) -> None:
    """Not from the call that made it, and its consumer's time is inside."""

    @rec.tracer.span("g")
    def generator() -> Iterator[int]:
        yield 1
        yield 2

    running = generator()
    rec.at(10)
    for time_ns, _ in enumerate(running, start=11):
        rec.at(time_ns)
    assert [("g", 10, 12)] == rec.rows()


def test_a_generator_that_is_never_started_is_no_span(rec: Recording) -> None:
    """Nothing happened in it."""

    @rec.tracer.span("g")
    def generator() -> Iterator[int]:
        yield 1

    running = generator()
    del running
    gc.collect()
    assert [] == rec.read()


def test_values_go_in_and_out(rec: Recording) -> None:
    """`send`, `throw` and the value of `return` work as without the decorator."""

    @rec.tracer.span("g")
    def generator() -> Generator[Any, Any, str]:
        received = yield "first"
        try:
            yield received
        except OddError as error:
            yield error
        return "returned"

    def delegating() -> Generator[Any, Any, str]:
        return (yield from generator())

    running, error = delegating(), OddError()
    assert "first" == next(running)
    assert "sent" == running.send("sent")
    assert error is running.throw(error)
    with pytest.raises(StopIteration) as stop:
        next(running)
    assert "returned" == stop.value.value
    assert [None] == [record.tags for record in rec.read()]


def test_an_exception_out_of_a_generator_is_tagged(rec: Recording) -> None:
    """Whether its own or thrown into it, it arrives as the same object."""

    @rec.tracer.span("g")
    def generator() -> Iterator[int]:
        with rec.tracer.span("inside"):
            yield 1

    error = OddError("no")
    running: Any = generator()
    next(running)
    with pytest.raises(OddError) as caught:
        running.throw(error)
    assert caught.value is error
    assert [{"error": "OddError: no"}] * 2 == [record.tags for record in rec.read()]
    assert not rec.tracer.current_span()


def test_a_closed_generator_cleans_up_inside_its_span(rec: Recording) -> None:
    """What its `finally` opens is inside, and nothing stays open."""

    @rec.tracer.span("g")
    def generator() -> Iterator[int]:
        try:
            yield 1
        finally:
            with rec.tracer.span("cleanup"):
                pass

    running: Any = generator()
    with rec.tracer.span("consumer"):
        next(running)
        running.close()
        assert "consumer" == rec.tracer.current_span().name
    expected = {"cleanup": "g", "g": "consumer", "consumer": None}
    assert expected == rec.parents()
    assert 0 == rec.tracer.stats().open


def test_an_abandoned_generator_ends_when_it_is_collected(rec: Recording) -> None:
    """Its span closes there and disturbs nobody."""

    @rec.tracer.span("g")
    def generator() -> Iterator[int]:
        with rec.tracer.span("inside"):
            yield 1

    with rec.tracer.span("consumer") as consumer:
        running = generator()
        next(running)
        rec.at(5)
        del running
        gc.collect()
        assert consumer is rec.tracer.current_span()
        rec.at(6)
    assert [("inside", 0, 5), ("g", 0, 5), ("consumer", 0, 6)] == rec.rows()


def test_an_abandoned_generator_may_be_collected_by_another_thread(
    rec: Recording,
) -> None:
    """Its span ends on the timeline on which it began."""

    @rec.tracer.span("g")
    def generator() -> Iterator[int]:
        with rec.tracer.span("inside"):
            yield 1

    running: list[Any] = [generator()]
    next(running[0])
    in_thread(running.clear)
    gc.collect()
    assert not rec.tracer.current_span()
    (pair,) = rec.feed.drain().records
    assert rec.tracer._main_log.info.id == pair[0].id
    assert ["inside", "g"] == [record[0] for record in pair[1]]
    assert 0 == rec.tracer.stats().open


def test_interleaved_generators_keep_their_own_parents(rec: Recording) -> None:
    """Each one's spans are in it, the consumer's are in neither."""

    def generator(name: str) -> Iterator[int]:
        @rec.tracer.span(name)
        def run() -> Iterator[int]:
            for turn in range(2):
                with rec.tracer.span(f"{name}{turn}"):
                    yield turn

        return run()

    with rec.tracer.span("consumer") as consumer:
        for turn, _ in enumerate(zip(generator("a"), generator("b"), strict=True)):
            assert consumer is rec.tracer.current_span()
            with rec.tracer.span(f"between{turn}"):
                pass
    assert {
        "consumer": None, "a": "consumer", "b": "consumer",
        "a0": "a", "a1": "a", "b0": "b", "b1": "b",
        "between0": "consumer", "between1": "consumer",
    } == rec.parents()  # fmt: skip


def test_a_generator_may_run_in_a_generator(rec: Recording) -> None:
    """The inner one's span is in the outer one's, whoever consumes them."""

    @rec.tracer.span("inner")
    def inner() -> Iterator[int]:
        with rec.tracer.span("inside"):
            yield 1
        yield 2

    @rec.tracer.span("outer")
    def outer() -> Iterator[int]:
        yield from inner()
        with rec.tracer.span("own"):
            yield 3

    with rec.tracer.span("consumer") as consumer:
        for _ in outer():
            assert consumer is rec.tracer.current_span()
    assert {
        "consumer": None, "outer": "consumer", "inner": "outer",
        "inside": "inner", "own": "outer",
    } == rec.parents()  # fmt: skip


def test_a_generator_outlives_the_span_it_was_started_in(rec: Recording) -> None:
    """Resumed under another span, it leaves that one current afterwards."""

    @rec.tracer.span("g")
    def generator() -> Iterator[int]:
        yield 1
        with rec.tracer.span("inside"):
            pass
        yield 2

    running = generator()
    with rec.tracer.span("first"):
        next(running)
    with rec.tracer.span("second") as second:
        next(running)
        assert second is rec.tracer.current_span()
    assert [] == list(running)
    assert not rec.tracer.current_span()
    expected = {"first": None, "g": "first", "inside": "g", "second": None}
    assert expected == rec.parents()


def test_a_generator_resumed_by_another_thread_stays_off_its_timeline(
    rec: Recording,
) -> None:
    """Its own span stays where it began; what it opens there is that thread's."""

    @rec.tracer.span("g")
    def generator() -> Iterator[int]:
        yield 1
        with rec.tracer.span("inside"):
            yield 2
        yield 3

    running = generator()
    next(running)

    def elsewhere() -> int:
        with rec.tracer.span("there"):
            next(running)
            next(running)
            assert "there" == rec.tracer.current_span().name
        return len(list(running))

    assert 0 == in_thread(elsewhere)
    assert {"g": None, "there": None, "inside": "there"} == rec.parents()
    assert not rec.tracer.current_span()
    assert 0 == rec.tracer.stats().open


def test_a_suspended_generator_is_seen_as_open(rec: Recording) -> None:
    """A flush between two steps shows it and what is open inside, once each."""

    @rec.tracer.span("g")
    def generator() -> Iterator[int]:
        with rec.tracer.span("inside"):
            yield 1

    running = generator()
    with rec.tracer.span("consumer"):
        next(running)
        names = [r[0] for _, some in rec.tracer._collector.open_records() for r in some]
        assert ["consumer", "g", "inside"] == names
        assert [] == list(running)
    assert 0 == rec.tracer.stats().open


def test_a_suspended_generator_makes_its_timeline_tangled(rec: Recording) -> None:
    """Its span and its consumer's need not nest."""

    @rec.tracer.span("g")
    def generator() -> Iterator[int]:
        yield 1

    assert not rec.tracer._main_log.tangled
    list(generator())
    assert rec.tracer._main_log.tangled


def test_a_generator_in_a_task_keeps_its_parents(rec: Recording) -> None:
    """In a loop the spans of a generator are the task's."""

    @rec.tracer.span("g")
    def generator() -> Iterator[int]:
        with rec.tracer.span("inside"):
            yield 1
        with rec.tracer.span("again"):
            yield 2

    async def main() -> None:
        with rec.tracer.span("consumer") as consumer:
            for _ in generator():
                assert consumer is rec.tracer.current_span()
                with rec.tracer.span("between"):
                    await asyncio.sleep(0)
        assert not rec.tracer.current_span()
        assert [1, 2] == list(generator())
        assert not rec.tracer.current_span()

    asyncio.run(main())
    expected = {"consumer": None, "between": "consumer", "inside": "g", "again": "g"}
    found = rec.parents()
    assert expected == {name: found[name] for name in expected}


# Async generators


def test_an_async_generator_keeps_its_parents(rec: Recording) -> None:
    """Interleaved in one task, each one's spans are in it."""

    def generator(name: str) -> AsyncIterator[int]:
        @rec.tracer.span(name)
        async def run() -> AsyncIterator[int]:
            for turn in range(2):
                with rec.tracer.span(f"{name}{turn}"):
                    await asyncio.sleep(0)
                    yield turn

        return run()

    async def main() -> None:
        with rec.tracer.span("consumer") as consumer:
            a, b = generator("a"), generator("b")
            for _ in range(2):
                await anext(a)
                await anext(b)
                assert consumer is rec.tracer.current_span()
            assert [[], []] == [await collected(a), await collected(b)]
        assert not rec.tracer.current_span()

    asyncio.run(main())
    assert {
        "consumer": None, "a": "consumer", "b": "consumer",
        "a0": "a", "a1": "a", "b0": "b", "b1": "b",
    } == rec.parents()  # fmt: skip


def test_values_go_in_and_out_of_an_async_generator(rec: Recording) -> None:
    """`asend`, `athrow` and `aclose` work as without the decorator."""
    closed = []

    @rec.tracer.span("g")
    async def generator() -> Any:
        try:
            received = yield "first"
            try:
                yield received
            except OddError as error:
                yield error
            yield "last"
        finally:
            with rec.tracer.span("cleanup"):
                await asyncio.sleep(0)
            closed.append(True)

    async def main() -> None:
        running, error = generator(), OddError()
        assert "first" == await anext(running)
        assert "sent" == await running.asend("sent")
        assert error is await running.athrow(error)
        await running.aclose()
        assert [True] == closed
        assert not rec.tracer.current_span()

    asyncio.run(main())
    assert {"g": None, "cleanup": "g"} == rec.parents()
    assert 0 == rec.tracer.stats().open


def test_an_exception_out_of_an_async_generator_is_tagged(rec: Recording) -> None:
    """It arrives as the same object."""
    error = OddError("no")

    @rec.tracer.span("g")
    async def generator() -> AsyncIterator[int]:
        yield 1
        raise error

    async def main() -> None:
        with pytest.raises(OddError) as caught:
            await collected(generator())
        assert caught.value is error

    asyncio.run(main())
    assert [{"error": "OddError: no"}] == [record.tags for record in rec.read()]


def test_a_task_cancelled_inside_an_async_generator(rec: Recording) -> None:
    """Its spans end, the cancellation goes on."""

    @rec.tracer.span("g")
    async def generator() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(collected(generator()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert [{"error": "CancelledError: "}] == [record.tags for record in rec.read()]
    assert 0 == rec.tracer.stats().open


def test_an_abandoned_async_generator_is_closed_by_its_loop(rec: Recording) -> None:
    """Its span ends at the latest with the loop."""

    @rec.tracer.span("g")
    async def generator() -> AsyncIterator[int]:
        with rec.tracer.span("inside"):
            yield 1

    kept: list[Any] = []

    async def main() -> None:
        with rec.tracer.span("consumer") as consumer:
            kept.append(generator())
            await anext(kept[0])
            assert consumer is rec.tracer.current_span()

    asyncio.run(main())
    assert {"consumer": None, "g": "consumer", "inside": "g"} == rec.parents()
    assert 0 == rec.tracer.stats().open


def test_an_async_generator_in_two_tasks(rec: Recording) -> None:
    """Each task consumes one of its own; their spans do not mix."""

    @rec.tracer.span("g")
    async def generator(name: str) -> AsyncIterator[int]:
        for _ in range(2):
            with rec.tracer.span(name):
                await asyncio.sleep(0)
                yield 1

    async def consume(name: str) -> None:
        with rec.tracer.span(f"task {name}") as own:
            async for _ in generator(name):
                assert own is rec.tracer.current_span()
                await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(consume("a"), consume("b"))

    asyncio.run(main())
    records = rec.read()
    by_id = {record.id: record for record in records}
    ways = set()
    for record in records:
        if record.name in "ab":
            around = by_id[record.parent_id]
            ways.add((record.name, around.name, by_id[around.parent_id].name))
    assert {("a", "g", "task a"), ("b", "g", "task b")} == ways
