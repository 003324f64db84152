"""Spans in every form, tags, flows, moments, counters: the same on v1 and v2.

What was recorded is read back from the trace file.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest

from perf.experimental import tracer as tracer_v2
from tests.public.drive import Run, V1Run, V2Run, every_span
from tests.public.trace_file import TraceFile


def test_a_with_statement(run: Run, written: Callable[[], TraceFile]) -> None:
    """The span lasts as long as its block."""
    with run.tracer.span("work"):
        run.at(2.0)
    assert 2_000_000_000 in {row.dur for row in written().named("work")}


def test_an_async_with_statement(run: Run, written: Callable[[], TraceFile]) -> None:
    """The span lasts as long as its block, awaits included."""

    async def main() -> None:
        async with run.tracer.span("work") as span:
            await asyncio.sleep(0)
            span.tag("step", 1)
            run.at(2.0)

    asyncio.run(main())
    (row,) = (row for row in written().named("work") if row.dur)
    assert 2_000_000_000 == row.dur


def test_a_decorated_function(run: Run, written: Callable[[], TraceFile]) -> None:
    """Each call is a span; arguments, result and name stay the function's."""

    @run.tracer.span("work")
    def add(a: int, *, b: int) -> int:
        """Adds."""
        run.at(run_until.pop(0))
        return a + b

    run_until = [1.0, 4.0]
    assert 3 == add(1, b=2)
    assert 7 == add(3, b=4)
    assert ("add", "Adds.") == (add.__name__, add.__doc__)
    assert {1_000_000_000, 3_000_000_000} == {
        row.dur for row in written().named("work")
    }


def test_a_decorated_function_may_call_itself(
    run: Run, written: Callable[[], TraceFile]
) -> None:
    """Each level of a recursion is a span of its own."""

    @run.tracer.span("work")
    def down(levels: int) -> None:
        if levels:
            down(levels - 1)
        run.at(levels + 1.0)

    down(3)
    durations = sorted({row.dur / 1e9 for row in written().named("work")})
    assert [1.0, 2.0, 3.0, 4.0] == durations


def test_a_decorated_function_on_many_threads(
    run: Run, written: Callable[[], TraceFile]
) -> None:
    """Calls at the same time do not share a span."""
    together = threading.Barrier(4)

    @run.tracer.span("work")
    def work() -> None:
        together.wait()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # v1 may show a slice on two tracks; its time is the same on both.
    assert 4 <= len(written().named("work"))


def test_a_decorated_coroutine(run: Run, written: Callable[[], TraceFile]) -> None:
    """The span lasts until the coroutine is done, not until it is made."""

    @run.tracer.span("work")
    async def fetch() -> str:
        await asyncio.sleep(0)
        run.at(3.0)
        return "done"

    assert inspect.iscoroutinefunction(fetch)
    waiting = fetch()
    run.at(1.0)
    assert "done" == asyncio.run(waiting)
    assert {2_000_000_000} == {row.dur for row in written().named("work")}


def test_a_decorated_generator(run: Run, written: Callable[[], TraceFile]) -> None:
    """The span lasts from the first item asked for to the last."""

    @run.tracer.span("work")
    def items() -> Generator[int, str, None]:
        run.at(2.0)
        got = yield 1
        assert "sent" == got
        run.at(4.0)
        yield 2

    assert inspect.isgeneratorfunction(items)
    generator: Any = items()
    run.at(1.0)
    assert 1 == next(generator)
    assert 2 == generator.send("sent")
    with pytest.raises(StopIteration):
        next(generator)
    assert {3_000_000_000} == {row.dur for row in written().named("work")}


def test_a_generator_that_is_given_up_is_closed(
    run: Run, written: Callable[[], TraceFile]
) -> None:
    """Closing a generator early ends its span there."""

    @run.tracer.span("work")
    def items() -> Iterator[int]:
        yield 1
        yield 2

    generator: Any = items()
    next(generator)
    run.at(2.0)
    generator.close()
    run.at(5.0)
    assert {2_000_000_000} == {row.dur for row in written().named("work")}


def test_a_decorated_async_generator(
    run: Run, written: Callable[[], TraceFile]
) -> None:
    """The span lasts from the first item asked for to the last."""

    @run.tracer.span("work")
    async def items() -> AsyncIterator[int]:
        for item in (1, 2):
            await asyncio.sleep(0)
            run.at(float(item))
            yield item

    async def main() -> list[int]:
        return [item async for item in items()]

    assert inspect.isasyncgenfunction(items)
    assert [1, 2] == asyncio.run(main())
    assert {2_000_000_000} == {row.dur for row in written().named("work")}


@pytest.mark.parametrize("make", [V1Run, V2Run])
def test_a_generator_s_span_does_not_leak_to_its_consumer(
    make: Callable[[], Run],
) -> None:
    """Between two items the consumer's current span is its own."""
    run = make()
    inside: list[Any] = []

    @run.tracer.span("producer")
    def items() -> Iterator[int]:
        for item in (1, 2):
            inside.append(run.tracer.current_span().id)
            yield item

    with run.tracer.span("consumer") as consumer:
        for _ in items():
            assert consumer.id == run.tracer.current_span().id
        assert consumer.id == run.tracer.current_span().id
    assert not run.tracer.current_span()
    assert 1 == len(set(inside))
    assert consumer.id not in inside


def test_device_work_in_every_form(run: Run, written: Callable[[], TraceFile]) -> None:
    """A decorator with devices puts each call on them."""

    @run.tracer.span("work", devices=["a0"])
    def work() -> None:
        run.at(2.0)

    work()
    run.tracer.synchronize()
    assert any("a0" in row.track for row in written().named("work"))


# Tags, parents, predecessors


def test_a_tag_is_written(run: Run, written: Callable[[], TraceFile]) -> None:
    """Tags added while the span is open are annotations of its slice."""
    with run.tracer.span("work") as span:
        span.tag("tokens", 512)
        span.tag("model", "tiny")
        run.at(1.0)
    (args,) = (row.args for row in written().named("work")[:1])
    assert {"tokens": 512, "model": "tiny"}.items() <= args.items()


@pytest.mark.parametrize("make", [V1Run, V2Run])
def test_the_current_span(make: Callable[[], Run]) -> None:
    """It is the innermost open span of the thread, or a falsy no-op."""
    run = make()
    assert not run.tracer.current_span()
    with run.tracer.span("outer") as outer:
        assert outer.id == run.tracer.current_span().id
        with run.tracer.span("inner") as inner:
            assert inner.id == run.tracer.current_span().id
            assert run.tracer.current_span()
        assert outer.id == run.tracer.current_span().id
    assert not run.tracer.current_span()


def test_the_current_span_can_be_tagged(
    run: Run, written: Callable[[], TraceFile]
) -> None:
    """A library can say something on a span that it did not open."""
    with run.tracer.span("work"):
        run.tracer.current_span().tag("tokens", 512)
        run.at(1.0)
    assert 512 == written().named("work")[0].args["tokens"]


@pytest.mark.parametrize("make", [V1Run, V2Run])
def test_another_thread_has_no_current_span(make: Callable[[], Run]) -> None:
    """A span that is open here is not open there."""
    run = make()
    seen: list[Any] = []
    with run.tracer.span("work"):
        thread = threading.Thread(target=lambda: seen.append(run.tracer.current_span()))
        thread.start()
        thread.join()
    assert not seen[0]


@pytest.mark.parametrize("by", ["span", "id"])
def test_predecessors_are_arrows(
    run: Run, written: Callable[[], TraceFile], by: str
) -> None:
    """`after` draws a flow from each recorded predecessor."""
    earlier = []
    for number in range(2):
        with run.tracer.span(f"rollout-{number}") as span:
            run.at(number + 1.0)
        earlier.append(span if by == "span" else span.id)
    run.at(3.0)
    with run.tracer.span("train", after=earlier):
        run.at(4.0)
    flows = written().flows
    assert {("rollout-0", "train"), ("rollout-1", "train")} <= set(flows)


def test_predecessors_on_several_devices_are_arrows(
    run: Run, written: Callable[[], TraceFile]
) -> None:
    """One from the first device to the first device, however many work alike."""
    devices = ["a0", "b0"]
    rollout = run.wait.arrays("rollout")
    with run.tracer.span("rollout", devices=devices) as earlier:
        run.hand_over(earlier, [rollout])
    run.at(1.0)
    run.finish(rollout)
    train = run.wait.arrays("train")
    with run.tracer.span("train", devices=devices, after=[earlier]) as span:
        run.hand_over(span, [train])
    run.at(2.0)
    run.finish(train)
    assert [("rollout", "train")] == list(written().flows)


# Moments, counters, spans that others timed


def test_an_instant(run: Run, written: Callable[[], TraceFile]) -> None:
    """A moment has a name, a time and tags."""
    with run.tracer.span("work"):
        run.at(1.0)
        run.tracer.instant("checkpoint", tags={"step": 7})
        run.at(2.0)
    file = written()
    instant, work = file.named("checkpoint")[0], file.named("work")[0]
    assert 0 == instant.dur
    assert {"step": 7}.items() <= instant.args.items()
    assert 1_000_000_000 == instant.ts - work.ts


def test_a_counter(run: Run, written: Callable[[], TraceFile]) -> None:
    """Samples of a counter have a value and a unit."""
    for second, value in enumerate([3, 2.5, -1]):
        run.at(float(second))
        run.tracer.counter("queue_length", value, unit="samples")
    samples = [row for row in written().counters if "queue_length" in row.track]
    assert [3.0, 2.5, -1.0] == [row.value for row in samples]
    assert {"samples"} == {row.unit for row in samples}
    assert 2_000_000_000 == samples[-1].ts - samples[0].ts


def test_a_span_that_others_timed(run: Run, written: Callable[[], TraceFile]) -> None:
    """`record` takes begin and end on the tracer's clock, and a track of one's own."""
    born_s = run.timer.born_ns / 1e9
    run.at(10.0)
    with run.tracer.span("work"):
        run.at(11.0)
    run.tracer.record(
        "generate", born_s + 2.0, born_s + 5.0, track="server", tags={"step": 1}
    )
    file = written()
    (row,) = file.named("generate")
    assert "server" in row.track
    assert {"step": 1}.items() <= row.args.items()
    assert pytest.approx(3e9, abs=1e3) == row.dur
    assert pytest.approx(8e9, abs=1e3) == file.named("work")[0].ts - row.ts


def test_recorded_spans_are_seen_by_the_export_function() -> None:
    """A recorded span is on the timeline of its track (v2)."""
    run = V2Run()
    born_s = run.timer.born_ns / 1e9
    run.tracer.record("generate", born_s, born_s + 1.0, track="server")
    run.tracer.export()
    assert [("generate", 0.0, 1.0)] == run.rows("server")


def test_a_wall_clock_is_translated() -> None:
    """Times since the epoch are put on the tracer's clock."""
    found: list[Any] = []

    def export(timelines: Any) -> dict[str, Any]:
        found.extend(s for _, s in every_span(timelines) if s.name == "generate")
        return {}

    tracer = tracer_v2.PerfTracer(export_fn=export)
    wall_s, now_s = time.time(), time.perf_counter()
    tracer.record("generate", wall_s - 20.0, wall_s - 10.0, clock="wall", track="x")
    tracer.export()
    (span,) = found
    assert pytest.approx(10.0, abs=1e-3) == span.duration
    # Far less than the twenty seconds, far more than two readings are apart.
    assert pytest.approx(now_s - 20.0, abs=5.0) == span.begin


def test_overlapping_spans_of_one_track(
    run: Run, written: Callable[[], TraceFile]
) -> None:
    """A server answers many at once: each answer keeps its own time."""
    born_s = run.timer.born_ns / 1e9
    run.at(10.0)
    for number in range(3):
        begin_s = born_s + number
        run.tracer.record(f"answer-{number}", begin_s, begin_s + 5.0, track="server")
    file = written()
    for number in range(3):
        (row,) = file.named(f"answer-{number}")
        assert pytest.approx(5e9, abs=1e3) == row.dur
