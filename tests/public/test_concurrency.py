"""Spans of threads and of asyncio tasks, and spans closed out of order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.public.drive import Run, V1Run, V2Run

both_versions = pytest.mark.parametrize("make", [V1Run, V2Run])


@both_versions
def test_spans_closed_in_the_wrong_order(make: Callable[..., Run]) -> None:
    """Each span closes itself, not whatever was opened last."""
    run = make()
    first, second = run.tracer.span("first"), run.tracer.span("second")
    first.__enter__()
    run.at(1.0)
    second.__enter__()
    run.at(2.0)
    first.__exit__(None, None, None)
    run.at(4.0)
    second.__exit__(None, None, None)
    assert not run.tracer.current_span()
    run.tracer.export()
    assert {"first": (0.0, 2.0), "second": (1.0, 4.0)} == run.by_name()


@both_versions
def test_a_span_opened_here_and_closed_there(make: Callable[..., Run]) -> None:
    """A span may be handed to another thread to be closed."""
    run = make()
    span = run.tracer.span("handed over")
    span.__enter__()
    run.at(1.0)
    thread = threading.Thread(target=span.__exit__, args=(None, None, None))
    thread.start()
    thread.join()
    run.tracer.export()
    assert (0.0, 1.0) == run.by_name()["handed over"]


@both_versions
def test_a_span_closed_twice_or_never_opened(make: Callable[..., Run]) -> None:
    """Misuse by hand is no reason to stop a training."""
    run = make()
    run.tracer.span("never opened").__exit__(None, None, None)
    span = run.tracer.span("twice")
    with span:
        run.at(1.0)
    span.__exit__(None, None, None)
    run.tracer.export()
    assert (0.0, 1.0) == run.by_name()["twice"]


# asyncio


@both_versions
def test_tasks_keep_their_own_durations(make: Callable[..., Run]) -> None:
    """Spans of concurrent tasks end when their task says so (field 8)."""
    run = make()

    async def main() -> None:
        opened, first_done = asyncio.Event(), asyncio.Event()

        async def first() -> None:
            with run.tracer.span("first"):
                await opened.wait()
                run.at(2.0)
            first_done.set()

        async def second() -> None:
            run.at(1.0)
            with run.tracer.span("second"):
                opened.set()
                await first_done.wait()
                run.at(4.0)

        await asyncio.gather(first(), second())

    asyncio.run(main())
    run.tracer.export()
    assert {"first": (0.0, 2.0), "second": (1.0, 4.0)} == run.by_name()


def test_tasks_keep_their_own_parents() -> None:
    """A span's parent is the one that was current in its own task (field 8)."""
    run = V2Run()

    async def rollout(number: int, barrier: asyncio.Barrier) -> None:
        async with run.tracer.span(f"outer-{number}"):
            await barrier.wait()
            async with run.tracer.span(f"inner-{number}"):
                await barrier.wait()

    async def main() -> None:
        barrier = asyncio.Barrier(3)
        with run.tracer.span("step"):
            await asyncio.gather(*(rollout(number, barrier) for number in range(3)))

    asyncio.run(main())
    run.tracer.export()
    step = run.named("step")
    for number in range(3):
        outer, inner = run.named(f"outer-{number}"), run.named(f"inner-{number}")
        assert step.id == outer.parent_id
        assert outer.id == inner.parent_id


@both_versions
def test_a_cancelled_task_closes_its_spans(make: Callable[..., Run]) -> None:
    """Cancelling is an exception like any other (field 8)."""
    run = make()

    async def main() -> None:
        async def forever() -> None:
            async with run.tracer.span("rollout"):
                await asyncio.Event().wait()

        task = asyncio.create_task(forever())
        await asyncio.sleep(0)
        run.at(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert not run.tracer.current_span()
    run.tracer.export()
    assert {"rollout": (0.0, 1.0)} == run.by_name()


# Threads


THREADS, SPANS = 4, 200


@both_versions
def test_threads_record_while_the_trainer_exports(make: Callable[..., Run]) -> None:
    """No thread is killed and no rollout lost (field 7)."""
    found: set[str] = set()

    def export_fn(seen: Any) -> dict[str, Any]:
        found.update(span.name for _, span in run.spans())
        return {}

    run = make(None, export_fn, real=True)
    failures: list[BaseException] = []
    running = threading.Barrier(THREADS + 1)

    def work(number: int) -> None:
        running.wait()
        try:
            for turn in range(SPANS):
                with run.tracer.span(f"rollout-{number}-{turn}"):
                    pass
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    running.wait()
    while any(thread.is_alive() for thread in threads):
        run.tracer.export()
    run.tracer.export()
    assert [] == failures
    assert THREADS * SPANS == len(found)


@both_versions
def test_many_launches_need_few_threads(make: Callable[..., Run]) -> None:
    """Twenty launches over 64 devices are waited for by a handful (field 23)."""
    devices = [f"a{number}" for number in range(64)]
    run = make(devices)
    before = threading.active_count()
    pending = [run.launch("rollout", devices) for _ in range(20)]
    assert threading.active_count() - before < 8
    for second, work in enumerate(pending):
        run.at(second + 1.0)
        run.finish(work)
    run.tracer.export()
    assert 20 == len(run.on_device("a0"))
