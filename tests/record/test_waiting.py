"""Waiting for device work: order, bounds, failures, and the end of the process."""

from __future__ import annotations

import gc
import sys
import textwrap
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from perf._model.log import OnceLog
from perf._model.spans import DEVICE
from perf._model.waits import own_waits
from perf._record import waiting as waiting_module
from perf._record.waiting import MAX_THREADS, Waited, WaitingService
from tests.programs import run_python
from tests.public.trace_file import TraceFile
from tests.record.recording import Recording, in_thread, on


class Array:
    """Stands for an array; ready when the test says so."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.asked = threading.Event()
        self.ready = threading.Event()
        self.error = error

    def block(self) -> None:
        """Returns when it is ready."""
        self.asked.set()
        self.ready.wait()


def arrays_of(tree: Any) -> list[Any]:
    """The arrays of a list, which may have numbers in it."""
    return [leaf for leaf in tree if isinstance(leaf, Array)]


def block(arrays: list[Array]) -> None:
    """Returns when all are ready; raises the first error."""
    for array in arrays:
        array.block()
    for array in arrays:
        if array.error is not None:
            raise array.error


@pytest.fixture
def service() -> Iterator[WaitingService]:
    """Waits for fake arrays; has no work left at the end."""
    service = WaitingService(arrays_of, block)
    yield service
    service.close()


class Log:
    """What ended, in the order of ending."""

    def __init__(self, service: WaitingService) -> None:
        self.service = service
        self.ended: list[tuple[str, str | None]] = []

    def submit(self, name: str, key: Any, *arrays: Any, owner: Any = None) -> Waited:
        """Hands work over, its own or another owner's."""

        def done(error: BaseException | None) -> None:
            self.ended.append((name, None if error is None else str(error)))

        work = Waited(owner or self, list(arrays), done)
        assert self.service.submit(key, work)
        return work

    def names(self) -> list[str]:
        """The names of what ended."""
        return [name for name, _ in self.ended]


@pytest.fixture
def log(service: WaitingService) -> Log:
    """Work and its ends."""
    return Log(service)


def ready(error: BaseException | None = None) -> Array:
    """An array that is ready."""
    array = Array(error)
    array.ready.set()
    return array


# Order


def test_work_of_a_device_set_ends_in_the_order_of_launch(log: Log) -> None:
    """Whichever array is ready first."""
    first, second = Array(), ready()
    work = log.submit("first", "a", first)
    log.submit("second", "a", second)
    first.asked.wait()
    assert [False] == [work.ended]
    assert ([], False) == (log.ended, second.asked.is_set())
    assert 2 == len(log.service.pending(log))
    first.ready.set()
    log.service.settle(log)
    assert ["first", "second"] == log.names()
    assert [True] == [work.ended]
    assert [] == log.service.pending(log)


def test_device_sets_do_not_wait_for_each_other(log: Log) -> None:
    """One that is busy does not hold up another."""
    slow, fast = Array(), ready()
    log.submit("slow", "a", slow)
    log.submit("fast", "b", fast)
    ended = threading.Event()
    log.service.submit("b", Waited(None, [], lambda error: ended.set()))
    ended.wait()
    assert ["fast"] == log.names()
    slow.ready.set()


def test_concurrent_work_overtakes(log: Log) -> None:
    """Work without a device set waits for no other, as far as there are threads."""
    slow = [Array() for _ in range(MAX_THREADS - 1)]
    for number, array in enumerate(slow):
        log.submit(f"slow-{number}", None, array)
    for array in slow:
        array.asked.wait()
    ended = threading.Event()
    log.service.submit(None, Waited(log, [ready()], lambda error: ended.set()))
    ended.wait()
    assert [] == log.ended
    for array in slow[::-1]:
        array.ready.set()


def test_concurrent_work_beyond_the_threads_queues_at_the_shortest(log: Log) -> None:
    """It is waited for all the same."""
    slow = [Array() for _ in range(MAX_THREADS)]
    for number, array in enumerate(slow):
        log.submit(f"slow-{number}", None, array)
    for array in slow:
        array.asked.wait()
    log.submit("next", None, ready())
    log.submit("after", None, ready())
    lengths = sorted(len(worker.works) for worker in log.service._overtaking)
    assert [1] * (MAX_THREADS - 2) + [2, 2] == lengths
    for array in slow:
        array.ready.set()
    log.service.settle(log)
    assert {"next", "after"} < set(log.names())


def test_a_free_thread_is_used_again(log: Log) -> None:
    """Concurrent work needs as many threads as there are works at a time."""
    worker = log.service._least_busy()
    assert worker is log.service._least_busy()
    array = Array()
    log.submit("x", None, array)
    other = log.service._least_busy()
    assert [worker, other] == log.service._overtaking
    assert other is log.service._least_busy()
    array.ready.set()


@pytest.mark.parametrize("keyed", [True, False], ids=["device sets", "concurrent"])
def test_threads_are_bounded(log: Log, keyed: bool) -> None:
    """64 device sets share sixteen threads, and so does work without one."""
    before = threading.active_count()
    arrays = [Array() for _ in range(64)]
    for number, array in enumerate(arrays):
        log.submit(str(number), number if keyed else None, array)
    assert MAX_THREADS == threading.active_count() - before
    for array in arrays:
        array.ready.set()
    log.service.settle(log)
    assert {str(number) for number in range(64)} == set(log.names())


def test_sets_that_share_a_thread_keep_their_order(log: Log) -> None:
    """Each set stays with its thread."""
    for key in range(MAX_THREADS):
        log.submit("filler", key, ready())
    for turn in range(6):
        log.submit(f"x{turn}", "x", ready())
        log.submit(f"y{turn}", "y", ready())
    log.service.settle(log)
    for letter in "xy":
        found = [name for name in log.names() if name.startswith(letter)]
        assert [f"{letter}{turn}" for turn in range(6)] == found


def test_a_set_met_by_two_threads_at_once_has_one_thread(log: Log) -> None:
    """Else its work could end in another order."""
    barrier = threading.Barrier(8)

    def launch() -> None:
        barrier.wait()
        log.submit("x", "a", ready())

    threads = [threading.Thread(target=launch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 == len(log.service._workers)
    assert log.service._assign("a") is log.service._workers[0]


# Letting go


@pytest.mark.parametrize("error", [None, ValueError("no")], ids=["fine", "failed"])
def test_arrays_are_let_go_once_waited_for(log: Log, error: Any) -> None:
    """At once, without a collection of garbage: they fill a device's memory."""
    arrays = [ready(), ready(error)]
    known = [weakref.ref(array) for array in arrays]
    following = Array()
    gc.disable()
    try:
        log.submit("x", "a", *arrays)
        log.submit("following", "a", following)
        del arrays
        following.asked.wait()
        assert [None, None] == [ref() for ref in known]
    finally:
        gc.enable()
        following.ready.set()


def test_real_arrays_are_let_go() -> None:
    """After its work a waitlist is held by nobody, though the span is."""
    from perf.adapters.jax_devices import WAITING

    rec = Recording(["a0"], wait=WAITING)
    arrays = [jnp.arange(3) + number for number in range(3)]
    known = [weakref.ref(array) for array in arrays]
    with rec.tracer.span("x", ["a0"]) as span:
        span.device_end({"tree": arrays[:2], "leaf": arrays[2]})
    WAITING.settle(rec.tracer)
    del arrays
    gc.collect()
    assert [None] * 3 == [ref() for ref in known]
    assert span.ended


# Sharing


class Blocks:
    """Counts how often arrays are waited for."""

    def __init__(self) -> None:
        self.of: list[list[Array]] = []

    def __call__(self, arrays: list[Array]) -> None:
        """Returns when all are ready."""
        self.of.append(list(arrays))
        block(arrays)


@pytest.mark.parametrize("error", [None, ValueError("no")], ids=["fine", "failed"])
def test_the_same_arrays_are_waited_for_once(error: Any) -> None:
    """Tracers of one training hand them over, each in a list of its own."""
    blocks = Blocks()
    log = Log(WaitingService(arrays_of, blocks))
    busy, one, two = Array(), ready(), ready(error)
    log.submit("busy", "a", busy)
    for name, arrays in [
        ("v1", [one, two]),
        ("v2", [one, two]),
        ("v3", [one, two]),
        ("v3", [one, two]),
        ("v1", [one]),
        ("v2", [two, one]),
        ("v1", [two]),
    ]:
        log.submit(name, "a", *arrays, owner=name)
    busy.ready.set()
    log.service.close()
    assert [[busy], [one, two], [one], [two, one], [two]] == blocks.of
    assert ["busy", "v1", "v2", "v3", "v3", "v1", "v2", "v1"] == log.names()
    told = None if error is None else "no"
    assert [None, *[told] * 4, None, told, told] == [text for _, text in log.ended]


def test_a_waitlist_is_taken_apart_once() -> None:
    """When it is handed over; to compare it with others nobody does it again."""
    taken: list[Any] = []

    def arrays(tree: Any) -> list[Any]:
        taken.extend(tree)
        return arrays_of(tree)

    log = Log(WaitingService(arrays, block))
    works = [Array(), ready(), ready()]
    for array in works:
        log.submit("x", "a", array)
    assert works == taken
    works[0].ready.set()
    log.service.close()
    assert works == taken


def test_what_is_no_tree_shares_no_wait(log: Log) -> None:
    """Each such work bears an error of its own, those beside it none."""
    busy, array = Array(), ready()
    log.submit("busy", "a", busy)
    log.submit("fine", "a", array)

    def done(error: BaseException | None) -> None:
        log.ended.append(("none", str(error)))

    for tree in (3, None):
        log.service.submit("a", Waited(log, tree, done))
    log.submit("empty", "a")
    busy.ready.set()
    log.service.settle(log)
    assert ["busy", "fine", "none", "none", "empty"] == log.names()
    errors = [error for _, error in log.ended]
    assert [None, None, None] == [errors[0], errors[1], errors[4]]
    assert ["int", "NoneType"] == [str(error).split("'")[1] for error in errors[2:4]]


def test_a_waitlist_is_what_it_was_when_handed_over(log: Log) -> None:
    """Its owner may empty it before it is its turn."""
    busy, array = Array(), Array()
    waitlist = [array]
    log.submit("busy", "a", busy)
    log.service.submit("a", Waited(log, waitlist, lambda error: None))
    waitlist.clear()
    busy.ready.set()
    assert array.asked.wait(10)
    array.ready.set()


# Nothing to wait for


@pytest.mark.parametrize("key", ["a", None], ids=["device set", "concurrent"])
def test_without_arrays_and_work_ahead_no_thread_is_woken(log: Log, key: Any) -> None:
    """Nor started: the work has ended when it is handed over."""
    before = threading.active_count()
    assert log.submit("x", key).ended
    assert ["x"] == log.names()
    assert before == threading.active_count()


def test_without_arrays_work_comes_after_that_ahead_of_it(log: Log) -> None:
    """A device did that first; what may overtake it need not wait."""
    busy = Array()
    log.submit("busy", "a", busy)
    busy.asked.wait()
    last = log.submit("last", "a")
    assert log.submit("concurrent", None).ended
    assert not last.ended
    busy.ready.set()
    log.service.settle(log)
    assert ["concurrent", "busy", "last"] == log.names()
    assert log.submit("next", "a").ended


def test_without_arrays_a_set_beyond_the_threads_comes_after_others(log: Log) -> None:
    """Those that it shares a thread with: its own earlier work may be among theirs."""
    arrays = [Array() for _ in range(MAX_THREADS)]
    for number, array in enumerate(arrays):
        log.submit(str(number), number, array)
    last = log.submit("last", "beyond")
    assert not last.ended
    for array in arrays:
        array.ready.set()
    log.service.settle(log)
    assert last.ended


def test_a_fault_of_work_without_arrays_stays_here(
    service: WaitingService, caplog: pytest.LogCaptureFixture
) -> None:
    """The launching thread goes on."""

    def done(error: BaseException | None) -> None:
        raise ArithmeticError

    assert service.submit("a", Waited(service, [], done))
    assert ["device span lost: ArithmeticError (said once)"] == caplog.messages


def test_it_is_told_whether_there_was_something_to_wait_for(
    service: WaitingService,
) -> None:
    """Arrays that no device computes were ready when they were handed over."""
    told: list[bool] = []

    class Told(Waited):
        """Keeps what it is told."""

        def finish(self, error: Any, late_ns: int | None, waited: bool) -> None:
            told.append(waited)

    for waits in ([ready()], [7], [], [7, ready()], 3):
        service.submit("a", Told(None, waits, lambda error: None))
    service.close()
    assert [True, False, False, True, False] == told


# Failures


def test_failed_work_ends_with_its_error(log: Log) -> None:
    """The first error is told; the other arrays are still waited for."""
    rest = ready(ValueError("later"))
    log.submit("failed", "a", ready(), ready(RuntimeError("no memory")), rest)
    log.submit("fine", "a", ready())
    log.service.settle(log)
    assert [("failed", "no memory"), ("fine", None)] == log.ended
    assert rest.asked.is_set()


def test_work_that_is_no_tree_ends_with_its_error(service: WaitingService) -> None:
    """Taking it apart may fail too."""
    log = Log(service)
    work = Waited(log, 3, lambda error: log.ended.append(("x", str(error))))
    service.submit("a", work)
    log.submit("fine", "a", ready())
    service.settle(log)
    assert ("fine", None) == log.ended[1]
    assert "not iterable" in str(log.ended[0][1])


def test_an_error_of_any_kind_does_not_end_the_waiting(log: Log) -> None:
    """Bindings raise what is no Exception when native code panics."""
    log.submit("failed", "a", ready(SystemExit("panic")))
    log.submit("fine", "a", ready())
    log.service.settle(log)
    assert [("failed", "panic"), ("fine", None)] == log.ended


def deleted() -> jax.Array:
    """An array whose buffer is gone."""
    array = jnp.ones(3)
    array.delete()
    return array


def donated() -> jax.Array:
    """An array whose buffer was given to a computation."""
    array = jnp.ones(3)
    jax.block_until_ready(jax.jit(lambda x: x + 1, donate_argnums=0)(array))
    return array


@pytest.mark.parametrize("make", [deleted, donated])
def test_a_buffer_that_is_gone_is_an_error(make: Callable[[], jax.Array]) -> None:
    """Its span says so; those before and after it do not."""
    from perf.adapters.jax_devices import WAITING

    rec = Recording(["a0"], wait=WAITING)
    for array in (jnp.ones(3), make(), jnp.ones(3)):
        with rec.tracer.span("x", ["a0"]) as span:
            span.device_end([array])
    WAITING.settle(rec.tracer)
    tags = [record.tags for record in on(rec.feed.drain(), "a0")]
    assert [None, None] == [tags[0], tags[2]]
    assert "deleted" in tags[1]["error"]
    assert 1 == rec.tracer.stats().failed


def test_work_that_cannot_be_finished_is_said_once(
    service: WaitingService, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of whoever gave the work; later work is waited for."""

    def done(error: BaseException | None) -> None:
        raise ArithmeticError

    for key in ("a", "a", "b"):
        assert service.submit(key, Waited(service, [ready()], done))
    service.settle(service)
    assert ["device span lost: ArithmeticError (said once)"] == caplog.messages


def test_too_much_is_pending(
    service: WaitingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work beyond the bound gets a span that says so, and is counted."""
    monkeypatch.setattr(waiting_module, "MAX_PENDING", 2)
    rec = Recording(["a0"], wait=service)
    arrays = [Array() for _ in range(4)]
    for array in arrays:
        with rec.tracer.span("x", ["a0"]) as span:
            span.device_end([array])
    stats = rec.tracer.stats()
    assert (2, 2, 0) == (stats.pending, stats.unwaited, stats.failed)
    tags = [record.tags for record in on(rec.feed.drain(), "a0")]
    assert [{"error": "not waited for: too much is pending"}] * 2 == tags
    assert [False, False] == [array.asked.is_set() for array in arrays[2:]]
    for array in arrays:
        array.ready.set()
    service.settle(rec.tracer)
    assert [None, None] == [record.tags for record in on(rec.feed.drain(), "a0")]
    known = weakref.ref(arrays[3])
    del array, arrays, span
    gc.collect()
    assert known() is None


def test_a_thread_that_cannot_be_started(
    service: WaitingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The launch is not waited for; the training goes on."""
    rec = Recording(["a0"], wait=service, concurrent=frozenset(["concurrent"]))

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for name in ("x", "concurrent"):
            with rec.tracer.span(name, ["a0"]) as span:
                span.device_end([Array()])
        refused = service.submit("b", Waited(None, [Array()], lambda error: None))
        assert refused is False
    assert (2, 0) == (rec.tracer.stats().unwaited, rec.tracer.stats().pending)
    with rec.tracer.span("later", ["a0"]) as span:
        span.device_end([ready()])
    service.settle(rec.tracer)
    names = [record.name for record in rec.read() if record.kind == DEVICE]
    assert ["x", "concurrent", "later"] == names


# How late an end is seen

MS = 1_000_000


class FakeTime:
    """The clock and the system's count of waits, as the test says."""

    def __init__(self) -> None:
        self.ns = 10**9
        self.waits = 7
        self.sleeps: list[tuple[int, int]] = []
        """What each takes, and how often the thread waits in it."""

    def perf_counter_ns(self) -> int:
        return self.ns

    def monotonic(self) -> float:
        return self.ns / 1e9

    def sleep(self, time_s: float) -> None:
        self.go_on(*self.sleeps.pop(0))

    def go_on(self, by_ns: int, waits: int) -> None:
        """Lets time pass in which the thread waits so often."""
        self.ns += by_ns
        self.waits += waits


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """Time moved by hand; a wait for the interpreter's lock takes 10 ms at most."""
    fake = FakeTime()
    monkeypatch.setattr(waiting_module, "time", fake)
    monkeypatch.setattr(waiting_module, "own_waits", lambda: fake.waits)
    monkeypatch.setattr(waiting_module, "ARE_COUNTED", True)
    monkeypatch.setattr(sys, "getswitchinterval", lambda: 0.005)
    return fake


@pytest.mark.parametrize(
    ("took_ns", "waits", "late_ns"),
    [
        pytest.param(50 * MS, 1, 3, id="for the device alone"),
        pytest.param(50 * MS, 4, 30 * MS + 3, id="then three times for the lock"),
        pytest.param(40 * MS, 4, None, id="for the lock alone, perhaps"),
        pytest.param(9 * MS, 1, None, id="so short that nobody knows"),
        pytest.param(50 * MS, 0, 3, id="without giving up the core"),
        pytest.param(0, 0, None, id="not at all: it was ready"),
    ],
)
def test_the_earliest_end_follows_from_the_waits_of_the_thread(
    fake: FakeTime, took_ns: int, waits: int, late_ns: int | None
) -> None:
    """One is for the device, all further ones are for the lock; 3 ns for waking up."""
    end = waiting_module._End(3)
    end.begin()
    fake.go_on(took_ns, waits)
    end.seen()
    assert late_ns == end.late_ns


def test_an_end_is_the_later_the_later_it_is_asked_for(fake: FakeTime) -> None:
    """What goes by until it is told counts."""
    end = waiting_module._End(3)
    end.begin()
    fake.go_on(50 * MS, 1)
    end.seen()
    fake.go_on(5 * MS, 1)
    assert 5 * MS + 3 == end.late_ns


def test_taking_a_waitlist_apart_is_no_wait(fake: FakeTime) -> None:
    """However long that takes, an array may have been ready all the while."""

    def arrays(tree: Any) -> list[Any]:
        fake.go_on(50 * MS, 3)
        return arrays_of(tree)

    work: Any = Waited(None, [ready()], lambda error: None)
    WaitingService(arrays, block).wait_for(deque([work]))
    assert (True, None) == (work.waits.waited, work.waits.late_ns)


def test_where_waits_are_not_counted_nothing_is_known(
    fake: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere than on Linux."""
    monkeypatch.setattr(waiting_module, "ARE_COUNTED", False)
    end = waiting_module._End(0)
    end.begin()
    fake.go_on(50 * MS, 1)
    end.seen()
    assert end.late_ns is None


def test_the_waits_of_a_thread_are_its_own() -> None:
    """Not those of others; each time it gives up its core counts."""
    before = own_waits()
    in_thread(lambda: [threading.Event().wait(1e-4) for _ in range(50)])
    others = own_waits() - before
    own = in_thread(
        lambda: [
            own_waits(),
            *(threading.Event().wait(1e-4) for _ in range(50)),
            own_waits(),
        ]
    )
    assert own[-1] - own[0] >= 50 > others


def test_the_system_s_delay_is_the_most_of_the_last(fake: FakeTime) -> None:
    """Those that had to wait for the lock as well tell nothing of the system."""
    canary = waiting_module._Canary()
    seen = []
    for extra_ns, waits in [(50, 1), (70, 1), (9_000, 2), (60, 1)]:
        fake.sleeps = [(100_000 + extra_ns, waits)]
        canary.try_out()
        canary.try_out()  # too early: there is no sleep for it
        seen.append(canary.late_ns)
        fake.go_on(10**9, 0)
    assert [50, 70, 70, 70] == seen
    for _ in range(waiting_module._CANARIES):
        fake.sleeps = [(100_010, 1)]
        canary.try_out()
        fake.go_on(10**9, 0)
    assert 10 == canary.late_ns


def test_nothing_is_tried_out_while_work_waits(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be seen to end late."""
    first, second = Array(), Array()
    tried: list[int] = []
    log.submit("first", "a", first)
    first.asked.wait()
    (worker,) = log.service._workers

    def try_out() -> None:
        tried.append(len(worker.works))

    monkeypatch.setattr(log.service.canary, "try_out", try_out)
    log.submit("second", "a", second)
    first.ready.set()
    second.asked.wait()
    second.ready.set()
    log.service.close()
    assert [0] == tried


# Settling and closing


def test_settling_waits_for_what_was_launched_before(log: Log) -> None:
    """On every device set, also without one; not for other tracers' work."""
    mine, others = [Array(), Array()], Array()
    log.submit("mine", "a", mine[0])
    log.submit("mine", None, mine[1])
    Log(log.service).submit("others", "b", others)
    settled = threading.Event()

    def settle() -> None:
        log.service.settle(log)
        settled.set()

    thread = threading.Thread(target=settle)
    thread.start()
    for array in mine:
        assert not settled.is_set()
        array.ready.set()
    thread.join()
    assert ["mine", "mine"] == log.names()
    others.ready.set()


def test_settling_has_an_end(log: Log) -> None:
    """It says whether all is done."""
    array = Array()
    log.submit("x", "a", array)
    log.submit("y", "b", ready())
    assert not log.service.settle(log, 0.0)
    array.ready.set()
    assert log.service.settle(log, 1e6)
    assert {"x", "y"} == set(log.names())


def test_settling_without_work_returns(log: Log) -> None:
    """Also where there never was any thread."""
    log.service.settle(log)
    log.submit("x", "a", ready())
    log.service.settle(log)
    log.service.settle(log)
    assert ["x"] == log.names()


def test_a_mark_of_settling_is_nobody_s_work(log: Log) -> None:
    """It does not show among the pending."""
    array = Array()
    log.submit("x", "a", array)
    thread = threading.Thread(target=lambda: log.service.settle(log))
    thread.start()
    array.asked.wait()
    assert 1 == len(log.service.pending(log))
    assert [] == log.service.pending(object())
    array.ready.set()
    thread.join()


def test_closing_waits_for_all_work_and_ends_the_threads(log: Log) -> None:
    """Work after that has new threads."""
    before = threading.active_count()
    arrays = [Array() for _ in range(3)]
    for key, array in zip(("a", "b", None), arrays, strict=True):
        log.submit("x", key, array)
    closer = threading.Thread(target=log.service.close)
    closer.start()
    for array in arrays:
        array.asked.wait()
        array.ready.set()
    closer.join()
    assert (3, before) == (len(log.ended), threading.active_count())
    log.submit("later", "a", ready())
    log.service.settle(log)
    assert ("later", None) == log.ended[-1]


def test_a_slow_end_is_said(
    log: Log, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody wants to know what the exit waits for."""
    array = Array()
    for number in range(7):
        work: Any = log.submit("x", "a", array)
        work.name = f"x{number}"  # as device work has one
    monkeypatch.setattr(waiting_module, "_SLOW_EXIT_S", 0.0)
    say = OnceLog.say

    def say_and_go_on(self: Any, cause: str, message: str) -> None:
        say(self, cause, message)
        array.ready.set()

    monkeypatch.setattr(OnceLog, "say", say_and_go_on)
    log.service.close()
    five = ["x0", "x1", "x2", "x3", "x4"]
    assert f"the exit waits for device work: {five} (said once)" in caplog.text


def test_after_a_fork_there_is_no_work(log: Log) -> None:
    """Threads and work are the parent's; the child's work has new threads."""
    array = Array()
    log.submit("parent's", "a", array)
    workers = log.service._workers
    log.service._lock.acquire()
    log.service.forget()
    assert [] == log.service.pending(log)
    log.submit("child's", "a", ready())
    log.service.settle(log)
    assert ["child's"] == log.names()
    array.ready.set()
    for worker in workers:
        worker.join()


# The end of a process


def run_child(source: str, folder: Path) -> str:
    """What a program writes to its standard output; it must end well by itself."""
    program = textwrap.dedent(PRELUDE) + textwrap.dedent(source)
    done = run_python("-c", program, folder=folder)
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout


PRELUDE = """
    import os, sys, threading, warnings
    import jax, jax.numpy as jnp
    from perf import trace
    from perf.export import PerfMetricsExport
    from perf.perfetto import PerfettoTraceWriter

    warnings.simplefilter("ignore")  # jax does not like forks
    roles = {"rollout": ["a0"], "actor": ["b0"]}

    def tracer():
        writer = PerfettoTraceWriter(os.getcwd())
        return trace.PerfTracer(
            export_fn=PerfMetricsExport.from_role_to_devices(roles, writer)
        )

    @jax.jit
    def slow(x):
        return jax.lax.fori_loop(0, 300, lambda i, x: jnp.tanh(x @ x), x)
"""


def test_an_exit_with_work_pending(tmp_path: Path) -> None:
    """It ends well, and the trace has the work's end and what was open."""
    seen = run_child(
        """
        perf = tracer()
        x = slow(jnp.ones((300, 300))).block_until_ready()
        stuck = perf.span("stuck")
        stuck.__enter__()
        with perf.span_group("global_step"):
            with perf.span("rollout", ["a0"]) as span:
                span.device_end([slow(x)])
        print(perf.stats().pending)
        """,
        tmp_path,
    )
    assert "1" == seen.strip()
    file = TraceFile(tmp_path)
    assert {"stuck", "global_step", "rollout"} <= {row.name for row in file.slices}
    assert [-1] == [row.dur for row in file.named("stuck")]
    assert all(row.dur >= 0 for row in file.named("rollout"))
    assert 0 < max(row.dur for row in file.named("rollout"))


def test_an_exit_in_the_midst_of_an_exception(tmp_path: Path) -> None:
    """`sys.exit` inside spans, on a thread's and a task's timeline, leaves a trace."""
    run_child(
        """
        import asyncio
        perf = tracer()

        async def main():
            with perf.span("task"):
                with perf.span("rollout", ["a0"]) as span:
                    span.device_end([slow(jnp.ones((100, 100)))])
                sys.exit(0)

        with perf.span("main"):
            asyncio.run(main())
        """,
        tmp_path,
    )
    file = TraceFile(tmp_path)
    assert {"main", "task", "rollout"} <= {row.name for row in file.slices}
    assert all(row.dur >= 0 for row in file.slices)


def test_a_fork(tmp_path: Path) -> None:
    """The child neither hangs nor writes the parent's spans; the parent goes on."""
    seen = run_child(
        """
        perf = tracer()
        with perf.span("before"):
            pass
        opened = perf.span("open")
        opened.__enter__()
        with perf.span("rollout", ["a0"]) as span:
            span.device_end([slow(jnp.ones((300, 300)))])
        child = os.fork()
        if child == 0:
            stats = perf.stats()
            print("child", stats.retained, stats.pending, flush=True)
            with perf.span("in the child"):
                pass
            perf.export()
            perf.close()
            os._exit(0)
        print("parent", os.waitpid(child, 0)[1])
        opened.__exit__(None, None, None)
        with perf.span("after"):
            pass
        perf.close()
        """,
        tmp_path,
    )
    assert {"child 0 0", "parent 0"} == set(seen.splitlines())
    names: list[list[str]] = []
    for path in sorted(tmp_path.iterdir()):
        folder = tmp_path / f"{path.name}.d"
        folder.mkdir()
        path.rename(folder / path.name)
        names.append(sorted({str(row.name) for row in TraceFile(folder).slices}))
    own, childs = sorted(names, key=lambda found: "in the child" in found)
    assert {"before", "open", "rollout", "after"} <= set(own)
    assert "in the child" not in own
    assert not {"before", "rollout", "after"} & set(childs)
