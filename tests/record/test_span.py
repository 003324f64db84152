"""The span: times, parents and errors, in threads and in tasks, also when misused."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf._model.spans import DEVICE, GROUP, NO_PARENT, OPEN, SPAN, Record
from perf._record.hot import RELIEF_AT
from perf._record.span import ROOT, Span, ThreadLog
from tests.record.recording import BORN_NS, Recording, flat, in_thread


@pytest.fixture
def rec() -> Recording:
    """A tracer on a clock that stands still."""
    return Recording(["a0"])


# What a span leaves and tells


def test_a_closed_span_is_one_record(rec: Recording) -> None:
    """Name, begin, end, id, parent, kind, tags and predecessors, in this order."""
    with rec.tracer.span("outer") as outer:
        rec.at(1)
        with rec.tracer.span("inner", tags={"step": 3}) as inner:
            rec.at(5)
    expected = Record(
        "inner", BORN_NS + 1, BORN_NS + 5, inner.id, outer.id, SPAN, {"step": 3}, None
    )
    assert expected == rec.read()[0]


def test_a_group_is_one_record(rec: Recording) -> None:
    """Likewise of a group, which is told apart by its kind."""
    with rec.tracer.span("outer") as outer:
        rec.at(1)
        with rec.tracer._group("group") as group:
            rec.at(5)
    expected = Record(
        "group", BORN_NS + 1, BORN_NS + 5, group.id, outer.id, GROUP, None, None
    )
    assert expected == rec.read()[0]


def test_a_decorator_opens_what_it_was_made_as(rec: Recording) -> None:
    """Groups stay groups, spans with devices have them at each call."""
    for span in (
        rec.tracer.span("x"),
        rec.tracer._group("x"),
        rec.tracer.span("x", ["a0"]),
    ):
        span(lambda: None)()
    assert [SPAN, GROUP, SPAN, DEVICE] == [record.kind for record in rec.read()]


def test_a_span_after_others_keeps_their_ids(rec: Recording) -> None:
    """Predecessors may be spans, ids, or a mixture; none is recorded as None."""
    with rec.tracer.span("a") as a, rec.tracer.span("b") as b:
        pass
    with rec.tracer.span("c", after=[a, b.id]), rec.tracer.span("d", after=[]):
        pass
    after = {record.name: record.after for record in rec.read()}
    assert {"a": None, "b": None, "c": (a.id, b.id), "d": None} == after


def test_ids_grow_in_the_order_of_opening(rec: Recording) -> None:
    """A span opened later has a greater id, in whatever thread; before it has none."""

    def opened(span: Any) -> int:
        with span:
            return span.id

    late, early = rec.tracer.span("late"), rec.tracer.span("early", ["a0"])
    assert (NO_PARENT, NO_PARENT) == (late.id, early.id)
    ids = [opened(early), in_thread(lambda: opened(rec.tracer.span("x")))]
    ids.append(opened(late))
    assert sorted(set(ids)) == ids


def test_times_are_told_in_seconds(rec: Recording) -> None:
    """`begin`, `end` and `duration` are float seconds; inf while open."""
    span = rec.tracer.span("x")
    assert not span.ended
    rec.at(500_000_000)
    with span:
        assert (1.5, float("inf"), float("inf")) == (
            span.begin,
            span.end,
            span.duration,
        )
        assert not span.ended
        rec.at(2_500_000_000)
    assert (1.5, 3.5, 2.0, True) == (span.begin, span.end, span.duration, span.ended)


def test_a_span_shows_what_it_is(rec: Recording) -> None:
    """Its text tells name, id and length."""
    with rec.tracer.span("x") as span:
        assert f"<span 'x' id={span.id} open>" == repr(span)
        rec.at(1_500_000_000)
    assert f"<span 'x' id={span.id} 1.500000 s>" == repr(span)


def test_tags_are_added_while_open(rec: Recording) -> None:
    """`tag` adds and replaces, returns the span, and copies what was given."""
    given_tags = {"step": 1}
    with rec.tracer.span("x", tags=given_tags) as span:
        assert span is span.tag("step", 2).add_tag("role", "actor")
    assert ({"step": 1}, {"step": 2, "role": "actor"}) == (
        given_tags,
        rec.read()[0].tags,
    )


def test_a_tag_leaves_what_was_read_before(rec: Recording) -> None:
    """A flush reads the tags of an open span; a later tag does not change those."""
    with rec.tracer.span("x", tags={"a": 1}) as span:
        (seen,) = flat(rec.feed.drain().open)
        span.tag("b", 2)
    assert {"a": 1} == seen.tags


def test_a_tag_whose_key_cannot_be_hashed(rec: Recording) -> None:
    """It is refused; the other tags stay."""
    with rec.tracer.span("x", tags={"a": 1}) as span:
        span.tag([], 2)  # type: ignore[arg-type]  # what this test is about
    assert {"a": 1} == rec.read()[0].tags


def test_a_span_without_devices_waits_for_nothing(rec: Recording) -> None:
    """Arrays given to it are not kept."""
    with rec.tracer.span("plain") as plain, rec.tracer._group("group") as group:
        for span in (plain, group):
            span.device_end(rec.wait.arrays("never"))
    assert [] == rec.wait.pending(rec.tracer)


def test_a_device_span_waits_for_all_it_was_given(rec: Recording) -> None:
    """Several calls add up; what comes after the end does not count."""
    first, second, late = (rec.wait.arrays(name) for name in ("1", "2", "late"))
    with rec.tracer.span("x", ["a0"]) as span:
        span.device_end(first)
        span.async_end(second)
    span.device_end(late)
    rec.wait.finish(first)
    assert 1 == len(rec.wait.pending(rec.tracer))
    rec.wait.finish(second)
    assert [] == rec.wait.pending(rec.tracer)


# Exceptions


class BrokenError(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize("devices", [None, ["a0"]], ids=["host", "device"])
@pytest.mark.parametrize(
    ("error", "tag"),
    [
        (ValueError("no such key"), "ValueError: no such key"),
        (KeyboardInterrupt(), "KeyboardInterrupt: "),
        (SystemExit(3), "SystemExit: 3"),
        (GeneratorExit(), "GeneratorExit: "),
        (asyncio.CancelledError("stop"), "CancelledError: stop"),
        (BrokenError(), "BrokenError"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_exception_is_tagged_and_goes_on(
    rec: Recording, devices: Any, error: BaseException, tag: str
) -> None:
    """The very same object arrives outside, of whatever kind it is."""
    with pytest.raises(type(error)) as caught:
        with rec.tracer.span("x", devices, tags={"step": 1}):
            raise error
    assert caught.value is error
    records = rec.read()
    assert [{"step": 1, "error": tag}] * len(records) == [r.tags for r in records]


def test_an_exception_is_tagged_in_async_with(rec: Recording) -> None:
    """The asynchronous form does the same."""

    async def main() -> None:
        async with rec.tracer.span("x"):
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(main())
    assert {"error": "ValueError: no"} == rec.read()[0].tags


# Parents in threads


def test_threads_do_not_see_each_others_spans(rec: Recording) -> None:
    """What another thread has open is nobody's parent here."""

    def work() -> int:
        with rec.tracer.span("theirs"), rec.tracer.span("inside"):
            return rec.tracer.current_span().id

    with rec.tracer.span("ours") as ours:
        inside = in_thread(work)
        assert ours is rec.tracer.current_span()
    assert inside != ours.id
    assert {"ours": None, "theirs": None, "inside": "theirs"} == rec.parents()


def test_siblings_have_one_parent(rec: Recording) -> None:
    """A closed span is no parent of the next one."""
    with rec.tracer.span("outer"):
        for name in ("first", "second"):
            with rec.tracer.span(name):
                pass
    with rec.tracer.span("after"):
        pass
    expected = {"outer": None, "first": "outer", "second": "outer", "after": None}
    assert expected == rec.parents()


def test_two_tracers_do_not_mix(rec: Recording) -> None:
    """Each has a current span of its own, in threads and in tasks."""
    other = Recording()

    async def main() -> None:
        with rec.tracer.span("outer"), other.tracer.span("others"):
            with rec.tracer.span("inner"):
                pass
            await asyncio.create_task(child())

    async def child() -> None:
        with other.tracer.span("child"):
            pass

    with rec.tracer.span("outer"), other.tracer.span("others"):
        with rec.tracer.span("inner"):
            pass
    expected = {"outer": None, "inner": "outer"}
    assert (expected, {"others": None}) == (rec.parents(), other.parents())
    asyncio.run(main())
    assert expected == rec.parents()
    assert {"others": None, "child": "others"} == other.parents()


# Parents in tasks


def test_tasks_inherit_the_span_they_were_made_in(rec: Recording) -> None:
    """Children of a gather have their maker's span as parent, theirs have them."""

    async def leaf(name: str) -> None:
        with rec.tracer.span(name):
            await asyncio.sleep(0)

    async def branch(name: str) -> None:
        with rec.tracer.span(name):
            await asyncio.gather(leaf(f"{name}0"), leaf(f"{name}1"))
            assert name == rec.tracer.current_span().name

    async def main() -> None:
        with rec.tracer.span("loop"):
            await asyncio.gather(branch("a"), branch("b"))

    with rec.tracer.span("thread"):
        asyncio.run(main())
    assert {
        "thread": None, "loop": "thread", "a": "loop", "b": "loop",
        "a0": "a", "a1": "a", "b0": "b", "b1": "b",
    } == rec.parents()  # fmt: skip


def test_a_thread_of_a_task_starts_anew(rec: Recording) -> None:
    """`to_thread` copies the context, but parents stay within a timeline."""

    def work() -> None:
        assert not rec.tracer.current_span()
        with rec.tracer.span("there"), rec.tracer.span("inside"):
            pass

    async def main() -> None:
        with rec.tracer.span("here"):
            await asyncio.to_thread(work)

    asyncio.run(main())
    assert {"here": None, "there": None, "inside": "there"} == rec.parents()


def test_a_loop_in_a_thread_of_a_task_starts_anew(rec: Recording) -> None:
    """Likewise where that thread runs a loop of its own."""

    async def inner() -> None:
        with rec.tracer.span("there"):
            pass

    async def main() -> None:
        with rec.tracer.span("here"):
            await asyncio.to_thread(lambda: asyncio.run(inner()))

    asyncio.run(main())
    assert {"here": None, "there": None} == rec.parents()


def test_a_cancelled_task_leaves_nothing_open(rec: Recording) -> None:
    """Its spans end with the cancellation, the innermost first."""

    async def forever() -> None:
        with rec.tracer.span("outer"), rec.tracer.span("inner"):
            await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(forever())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not rec.tracer.current_span()

    asyncio.run(main())
    closed = [(r.name, r.tags) for r in rec.read()]
    error = {"error": "CancelledError: "}
    assert [("inner", error), ("outer", error)] == closed
    assert 0 == rec.tracer.stats().open


def test_a_task_that_outlives_the_span_it_was_made_in(rec: Recording) -> None:
    """Its spans belong to what is still open around that."""

    async def child(closed: asyncio.Event) -> None:
        await closed.wait()
        for name in ("first", "second"):
            with rec.tracer.span(name):
                pass

    async def main() -> None:
        closed = asyncio.Event()
        with rec.tracer.span("outer"):
            with rec.tracer.span("inner"):
                task = asyncio.create_task(child(closed))
            closed.set()
            await task

    asyncio.run(main())
    expected = {"outer": None, "inner": "outer", "first": "outer", "second": "outer"}
    assert expected == rec.parents()


def test_a_callback_of_the_loop_sees_the_span_it_was_asked_in(rec: Recording) -> None:
    """`call_soon` copies the context, as a task does."""

    def callback(done: asyncio.Event) -> None:
        with rec.tracer.span("callback"):
            done.set()

    async def main() -> None:
        done = asyncio.Event()
        with rec.tracer.span("outer"):
            asyncio.get_running_loop().call_soon(callback, done)
            await done.wait()

    asyncio.run(main())
    assert {"outer": None, "callback": "outer"} == rec.parents()


def test_spans_of_tasks_make_their_timeline_tangled(rec: Recording) -> None:
    """They need not nest; a writer is told so."""

    async def main() -> None:
        with rec.tracer.span("x"):
            pass

    with rec.tracer.span("plain"):
        pass
    own = rec.tracer._main_log.info.id
    assert frozenset() == rec.feed.drain().tangled
    asyncio.run(main())
    assert frozenset([own]) == rec.feed.drain().tangled


# Misuse


def in_task(work: Callable[[], Any]) -> Any:
    """What `work` returns, called in a task."""

    async def main() -> Any:
        return work()

    return asyncio.run(main())


def right_here(work: Callable[[], Any]) -> Any:
    """What `work` returns."""
    return work()


anywhere = pytest.mark.parametrize(
    "call", [right_here, in_task], ids=["thread", "task"]
)


@anywhere
def test_closed_in_the_order_of_opening(rec: Recording, call: Callable) -> None:
    """Each span ends when it is told to; afterwards nothing is current."""

    def work() -> None:
        spans = [rec.tracer.span(name) for name in "abc"]
        for span in spans:
            span.__enter__()
        for time_ns, span in enumerate(spans, start=1):
            rec.at(time_ns)
            span.__exit__(None, None, None)
            names = {record.name for record in flat(rec.feed.drain().open)}
            # Handed over at the first drain, once.
            assert ({"b", "c"} if time_ns == 1 else set()) == names
            assert 3 - time_ns == rec.tracer.stats().open
        assert not rec.tracer.current_span()
        with rec.tracer.span("later"):
            pass

    call(work)
    assert {"later": None} == rec.parents()


@anywhere
def test_closing_the_outer_span_first_keeps_the_times(
    rec: Recording, call: Callable
) -> None:
    """What is still open inside goes on and ends by itself."""

    def work() -> None:
        outer, inner = rec.tracer.span("outer"), rec.tracer.span("inner")
        outer.__enter__()
        inner.__enter__()
        rec.at(1)
        outer.__exit__(None, None, None)
        rec.at(2)
        inner.__exit__(None, None, None)

    call(work)
    assert [("outer", 0, 1), ("inner", 0, 2)] == rec.rows()


def test_out_of_order_makes_a_timeline_tangled(rec: Recording) -> None:
    """Only then are a thread's own spans said not to nest."""
    spans = [rec.tracer.span(name) for name in "ab"]
    for span in spans:
        span.__enter__()
    assert not rec.tracer._main_log.tangled
    for span in spans:
        span.__exit__(None, None, None)
    assert rec.tracer._main_log.tangled


@anywhere
@pytest.mark.parametrize("devices", [None, ["a0"]], ids=["host", "device"])
def test_closed_twice(
    rec: Recording, call: Callable, devices: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The second time changes nothing and is said once."""

    def work() -> None:
        for _ in range(2):
            span = rec.tracer.span("x", devices)
            with span:
                rec.at(1)
            with rec.tracer.span("other"):
                span.__exit__(None, None, None)
                assert "other" == rec.tracer.current_span().name

    call(work)
    names = [record.name for record in rec.read() if record.kind == SPAN]
    assert ["x", "other", "x", "other"] == names
    assert 1 == caplog.text.count("a span was closed twice")


@pytest.mark.parametrize("devices", [None, ["a0"]], ids=["host", "device"])
def test_closed_but_never_opened(
    rec: Recording, devices: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is recorded; it is said once."""
    for _ in range(2):
        rec.tracer.span("x", devices).__exit__(None, None, None)
    assert [] == rec.read()
    assert 1 == caplog.text.count("closed that was never opened")


@anywhere
@pytest.mark.parametrize("between", [0, 1], ids=["at once", "with one between"])
def test_opened_twice_hangs_nothing(
    rec: Recording, call: Callable, between: int
) -> None:
    """The chain of parents is a ring then; flushes and launches still end."""

    def work() -> None:
        span = rec.tracer.span("twice")
        others = [rec.tracer.span("between") for _ in range(between)]
        for opened in (span, *others, span):
            opened.__enter__()
        rec.tracer.stats()
        rec.feed.drain()
        with rec.tracer.span("launch", ["a0"]):
            pass
        for opened in (span, *others, span):
            opened.__exit__(None, None, None)
        with rec.tracer.span("later"), rec.tracer.span("launch", ["a0"]):
            pass

    call(work)
    found = [(r.name, r.kind) for r in rec.read()]
    assert 2 == found.count(("launch", DEVICE))
    assert 1 == found.count(("later", SPAN))


def test_used_for_two_blocks(rec: Recording) -> None:
    """A span used again records both times."""
    span = rec.tracer.span("again")
    for time_ns in (0, 10):
        rec.at(time_ns)
        with span:
            rec.at(time_ns + 1)
    assert [("again", 0, 1), ("again", 10, 11)] == rec.rows()


def test_closed_in_another_thread_while_others_are_open(rec: Recording) -> None:
    """The span's own thread keeps its order, the other thread has nothing to do."""
    outer, inner = rec.tracer.span("outer"), rec.tracer.span("inner")
    outer.__enter__()
    inner.__enter__()
    in_thread(lambda: inner.__exit__(None, None, None))
    assert outer is rec.tracer.current_span()
    outer.__exit__(None, None, None)
    assert {"outer": None, "inner": "outer"} == rec.parents()


def test_closed_in_the_context_of_another_task(rec: Recording) -> None:
    """The closing task's own current span stays what it was."""

    async def close(span: Any) -> None:
        with rec.tracer.span("closer") as closer:
            span.__exit__(None, None, None)
            assert closer is rec.tracer.current_span()

    async def main() -> None:
        span = rec.tracer.span("handed over")
        span.__enter__()
        await asyncio.create_task(close(span))
        assert not rec.tracer.current_span()
        with rec.tracer.span("later"):
            pass

    asyncio.run(main())
    expected = {"handed over": None, "closer": "handed over", "later": None}
    assert expected == rec.parents()


@pytest.mark.parametrize("devices", [None, ["a0"]], ids=["host", "device"])
def test_a_long_list_is_relieved_at_its_length(
    rec: Recording, devices: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the thread itself, when a span is closed."""
    relieved: list[Any] = []
    monkeypatch.setattr(rec.tracer._collector, "relieve", relieved.append)
    counts = []
    for _ in range(RELIEF_AT + 1):
        with rec.tracer.span("x", devices):
            pass
        counts.append(len(relieved))
    assert [0, 1, 2] == counts[-3:]
    assert rec.tracer._main_log is relieved[0]


# The chain of open spans


def test_open_spans_are_told_outermost_first() -> None:
    """Those of the chain and the loose ones, in the order of making."""
    rec = Recording()

    async def main() -> list[str]:
        with rec.tracer.span("b"), rec.tracer.span("c"):
            return [span.name for span in rec.tracer._main_log.open_spans()]

    with rec.tracer.span("x"), rec.tracer.span("y"), rec.tracer.span("a"):
        assert ["x", "y", "a", "b", "c"] == asyncio.run(main())
    assert [] == rec.tracer._main_log.open_spans()


def test_a_span_that_ended_is_not_told_as_open() -> None:
    """Also if it is still in the chain, as around a generator that outlived it."""
    rec = Recording()
    log: ThreadLog = rec.tracer._main_log
    with rec.tracer.span("x") as span:
        assert isinstance(span, Span)
        span.end_ns = 5
        assert [] == log.open_spans()
        span.end_ns = OPEN


def test_the_nearest_group_is_found_through_spans() -> None:
    """`nearest` looks outwards, itself included, and ends at the root."""
    rec = Recording()
    with rec.tracer._group("g") as group, rec.tracer.span("a"):
        with rec.tracer.span("b") as inner:
            assert isinstance(inner, Span)
            assert group is inner.nearest(GROUP)
            assert inner is inner.nearest(SPAN)
            assert ROOT is inner.nearest(DEVICE)


# Any program


class Worker:
    """A thread that does what it is told."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None]
        self._jobs = SimpleQueue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def do(self, job: Callable[[], Any]) -> Any:
        done: Future[Any] = Future()
        self._jobs.put((job, done))
        return done.result()

    def stop(self) -> None:
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        for job, done in iter(self._jobs.get, None):
            done.set_result(job())


Step = tuple[int, int]
"""(place, what): 0 opens a span there, n closes the nth that is open there."""


def programs() -> st.SearchStrategy[list[Step]]:
    """Openings and closings in four places, in any order."""
    return st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30)


class Places:
    """Two threads, and two tasks of the calling thread's loop."""

    def __init__(self) -> None:
        self._threads = [Worker(), Worker()]
        self._queues: list[asyncio.Queue[Any]] = [asyncio.Queue(), asyncio.Queue()]

    async def __aenter__(self) -> Places:
        self._tasks = [asyncio.create_task(self._serve(q)) for q in self._queues]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for thread in self._threads:
            thread.stop()
        for queue in self._queues:
            queue.put_nowait(None)
        await asyncio.gather(*self._tasks)

    async def do(self, place: int, job: Callable[[], Any]) -> Any:
        """What `job` returns, called there."""
        if place < 2:
            return self._threads[place].do(job)
        done = asyncio.get_running_loop().create_future()
        self._queues[place - 2].put_nowait((job, done))
        return await done

    async def _serve(self, queue: asyncio.Queue[Any]) -> None:
        while (item := await queue.get()) is not None:
            job, done = item
            done.set_result(job())


def run_program(program: list[Step], innermost_first: bool) -> Iterator[Any]:
    """Runs it; gives what was recorded and what should have been."""
    rec = Recording()
    expected: dict[int, tuple[int, int, int]] = {}

    def open_span(opened: list[Any]) -> None:
        parent = opened[-1].id if innermost_first and opened else None
        if parent is None:
            parent = rec.tracer.current_span().id
        span = rec.tracer.span("x")
        span.__enter__()
        opened.append(span)
        expected[span.id] = (rec.clock.now_ns, OPEN, parent)

    def close_span(opened: list[Any], which: int) -> None:
        span = opened.pop() if innermost_first else opened.pop(which % len(opened))
        span.__exit__(None, None, None)
        begin_ns, _, parent = expected[span.id]
        expected[span.id] = (begin_ns, rec.clock.now_ns, parent)

    async def main() -> None:
        opened: list[list[Any]] = [[], [], [], []]
        async with Places() as places:
            for place, what in program:
                rec.clock.advance_ns(1)
                mine = opened[place]
                if what == 0 or not mine:
                    await places.do(place, functools.partial(open_span, mine))
                else:
                    await places.do(place, functools.partial(close_span, mine, what))
            for place, mine in enumerate(opened):
                while mine:
                    rec.clock.advance_ns(1)
                    await places.do(place, functools.partial(close_span, mine, -1))
                current = await places.do(place, rec.tracer.current_span)
                assert not current

    asyncio.run(main())
    found = {r.id: (r.begin_ns, r.end_ns, r.parent_id) for r in rec.read()}
    yield expected, found


@given(programs())
def test_any_program_of_blocks_gives_every_span_its_own(program: list[Step]) -> None:
    """Begin, end, and as parent the innermost one open in its own thread or task."""
    for expected, found in run_program(program, innermost_first=True):
        assert expected == found


@given(programs())
def test_any_order_of_closing_gives_every_span_its_own(program: list[Step]) -> None:
    """Begin, end, and as parent the one that was current where it was opened."""
    for expected, found in run_program(program, innermost_first=False):
        assert expected == found


def test_no_parent_is_zero(rec: Recording) -> None:
    """Spans at the top have the root's id as parent."""
    with rec.tracer.span("x"):
        pass
    assert (NO_PARENT, NO_PARENT) == (rec.read()[0].parent_id, ROOT.id)
