"""Device work from its launch to its record, where the device timelines' tests end."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest

from perf._model.spans import DEVICE, QUEUED
from tests.record.recording import BORN_NS, Recording, in_thread, on


@pytest.fixture
def rec() -> Recording:
    """A tracer on a clock that stands still."""
    return Recording(["a0"])


def row(rec: Recording, timeline_id: str = "a0") -> list[tuple[str, int, int]]:
    """(name, begin, end) of a timeline's records since the last read."""
    return [
        (record.name, record.begin_ns - BORN_NS, record.end_ns - BORN_NS)
        for record in on(rec.feed.drain(), timeline_id)
    ]


def test_work_lasts_until_its_last_waitlist_is_ready(rec: Recording) -> None:
    """Several calls add up, whichever is ready first."""
    first, second = rec.wait.arrays("1"), rec.wait.arrays("2")
    with rec.tracer.span("x", ["a0", "b0"]) as span:
        span.device_end(first)
        span.device_end([second])
    rec.at(3)
    rec.wait.finish(second)
    assert [] == row(rec)
    rec.at(5)
    rec.wait.finish(first)
    batch = rec.feed.drain()
    assert [5] == [r.end_ns - BORN_NS for r in on(batch, "a0")]
    assert [5] == [r.end_ns - BORN_NS for r in on(batch, "b0")]


def test_work_that_is_ready_before_its_span_is_closed(rec: Recording) -> None:
    """It ended when it was ready; its record comes when the host closes it."""
    work = rec.wait.arrays("x")
    with rec.tracer.span("x", ["a0"]) as span:
        span.device_end(work)
        rec.at(3)
        rec.wait.finish(work)
        assert [] == row(rec)
        assert 0 == rec.tracer.stats().pending
        span.tag("step", 1)
        rec.at(7)
    (record,) = [r for r in rec.read() if r.kind == DEVICE]
    assert (BORN_NS + 3, {"step": 1}) == (record.end_ns, record.tags)


def test_work_that_goes_on_after_a_pause_is_one_span(rec: Recording) -> None:
    """From its launch to the end of what was handed over last."""
    first, second = rec.wait.arrays("1"), rec.wait.arrays("2")
    with rec.tracer.span("x", ["a0"]) as span:
        span.device_end(first)
        rec.at(2)
        rec.wait.finish(first)
        rec.at(4)
        span.device_end(second)
    rec.at(6)
    rec.wait.finish(second)
    assert [("x", 0, 6)] == row(rec)


def test_a_wait_is_told_once_for_work_that_goes_on(rec: Recording) -> None:
    """The queue shows what it waited for at first."""
    before = rec.launch("before", ["a0"])
    first, second = rec.wait.arrays("1"), rec.wait.arrays("2")
    with rec.tracer.span("x", ["a0"]) as span:
        span.device_end(first)
        for time_ns, work in ((2, before), (3, first)):
            rec.at(time_ns)
            rec.wait.finish(work)
        span.device_end(second)
    rec.at(5)
    rec.wait.finish(second)
    batch = rec.feed.drain()
    spans = [
        (r.name, r.begin_ns - BORN_NS, r.end_ns - BORN_NS) for r in on(batch, "a0")
    ]
    waits = [(r.begin_ns - BORN_NS, r.end_ns - BORN_NS) for r in on(batch, "a0_queue")]
    assert ([("before", 0, 2), ("x", 2, 5)], [(0, 2)]) == (spans, waits)


def test_work_is_waited_for_in_the_order_of_handing_over(rec: Recording) -> None:
    """Not of closing: a thread that holds its span open does not reorder a device."""
    early, late = rec.wait.arrays("early"), rec.wait.arrays("late")
    with rec.tracer.span("early", ["a0"]) as outer:
        outer.device_end(early)
        with rec.tracer.span("late", ["a0"]) as inner:
            inner.device_end(late)
    rec.at(3)
    rec.wait.finish(early)
    rec.at(5)
    rec.wait.finish(late)
    assert [("early", 0, 3), ("late", 3, 5)] == row(rec)


def test_one_failed_waitlist_fails_the_work(rec: Recording) -> None:
    """The span ends with the last one ready."""
    good, bad = rec.wait.arrays("good"), rec.wait.arrays("bad")
    with rec.tracer.span("x", ["a0"], tags={"step": 1}) as span:
        span.device_end(bad)
        span.device_end(good)
    rec.wait.fail(bad, RuntimeError("no memory"))
    rec.at(4)
    rec.wait.finish(good)
    (record,) = on(rec.feed.drain(), "a0")
    error = {"step": 1, "error": "RuntimeError: no memory"}
    assert (BORN_NS + 4, error) == (record.end_ns, record.tags)
    assert 1 == rec.tracer.stats().failed


def test_work_that_fails_in_several_ways_is_counted_once(
    rec: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its first failure, which its span tells."""
    arrays = [rec.wait.arrays(name) for name in "123"]
    with rec.tracer.span("x", ["a0"]) as span:
        for array in arrays[:2]:
            span.device_end(array)
        with monkeypatch.context() as patch:
            rec.wait.fail(arrays[0], RuntimeError("no memory"))
            rec.wait.fail(arrays[1], RuntimeError("its input failed"))
            patch.setattr(rec.wait, "submit", lambda key, work: False)
            span.device_end(arrays[2])
    with rec.tracer.span("y", ["a0"]) as span:
        with monkeypatch.context() as patch:
            patch.setattr(rec.wait, "submit", lambda key, work: False)
            for array in arrays:
                span.device_end(array)
    assert (1, 1) == (rec.tracer.stats().failed, rec.tracer.stats().unwaited)
    found = [record.tags["error"] for record in on(rec.feed.drain(), "a0")]
    assert ["RuntimeError: no memory", "not waited for: too much is pending"] == found


def test_pending_work_is_counted_once(rec: Recording) -> None:
    """However many waitlists and devices it has."""
    with rec.tracer.span("x", ["a0", "b0"]) as span:
        for name in "12":
            span.device_end(rec.wait.arrays(name))
        assert 1 == rec.tracer.stats().pending
    assert 1 == rec.tracer.stats().pending
    assert {"a0_queue", "b0_queue"} == {info.id for info, _ in rec.feed.drain().open}


def test_work_has_ended_when_nothing_more_can_come_of_it(rec: Recording) -> None:
    """Closed by the host, and all of its waitlists ready, in whatever order."""
    array = rec.wait.arrays("x")
    with rec.tracer.span("x", ["a0"]) as span:
        span.device_end(array)
        (work,) = rec.tracer._launches.pending()
        (wait,) = rec.wait.pending(rec.tracer)
        assert ("x", False, False) == (wait.name, wait.ended, work.ended)
        rec.wait.finish(array)
        assert not work.ended
    assert (True, True) == (wait.ended, work.ended)


def test_work_that_is_not_waited_for_is_counted(
    rec: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its device span says so; it ends where it was handed over."""
    monkeypatch.setattr(rec.wait, "submit", lambda key, work: False)
    assert 0 == rec.tracer.stats().unwaited
    for _ in range(2):
        with rec.tracer.span("x", ["a0"]) as span:
            span.device_end(rec.wait.arrays("x"))
    assert (2, 0) == (rec.tracer.stats().unwaited, rec.tracer.stats().failed)
    tags = [record.tags for record in on(rec.feed.drain(), "a0")]
    assert [{"error": "not waited for: too much is pending"}] * 2 == tags


@pytest.mark.parametrize("make", [list, dict], ids=["list", "mapping"])
@pytest.mark.parametrize("is_deep", [False, True], ids=["itself", "deep in another"])
def test_a_waitlist_is_what_it_was_when_handed_over(
    rec: Recording, make: Any, is_deep: bool
) -> None:
    """Its owner may empty it, and gather what comes next in it."""
    work = rec.wait.arrays("x")
    waitlist = make([("out", work)])
    with rec.tracer.span("x", ["a0"]) as span:
        span.device_end({"inside": [waitlist]} if is_deep else waitlist)
    waitlist.clear()
    rec.at(4)
    rec.wait.finish(work)
    assert [BORN_NS + 4] == [record.end_ns for record in on(rec.feed.drain(), "a0")]


def test_many_records_are_relieved(
    rec: Recording,
    monkeypatch: pytest.MonkeyPatch,
    set_relief_at: Callable[[int], None],
) -> None:
    """Of all devices together, by whoever ends work or closes a span then."""
    set_relief_at(4)
    relieved: list[bool] = []
    collector = rec.tracer._collector

    def relieve(**options: bool) -> None:
        relieved.append(True)

    monkeypatch.setattr(collector, "relieve_devices", relieve)
    counts = []
    for devices in (["a0"], ["a0", "b0"], ["b0"], ["a0", "b0"]):
        rec.wait.finish(rec.launch("x", devices))
        counts.append(len(relieved))
    assert [0, 0, 1, 3] == counts


def test_collecting_on_a_waiting_thread_is_counted_once(
    rec: Recording, set_relief_at: Callable[[int], None]
) -> None:
    """With all else that the thread does, not by the collector again."""
    set_relief_at(1)
    collector = rec.tracer._collector
    work = rec.launch("x", ["a0"])
    (wait,) = rec.wait.pending(rec.tracer)
    wait.own_ns = 1  # as a waiting thread does
    before_ns, before = collector.own_ns, collector.collected_count
    rec.wait.finish(work)
    assert (before_ns, before + 1) == (collector.own_ns, collector.collected_count)


def test_collecting_on_the_launching_thread_is_counted(
    rec: Recording, set_relief_at: Callable[[int], None]
) -> None:
    """Nobody else counts it where work ends when it is handed over."""
    set_relief_at(1)
    collector = rec.tracer._collector
    with rec.tracer.span("x", ["a0"]) as span:
        before_ns = collector.own_ns
        rec.tracer._devices.count = 1
        span.device_end([])
        assert before_ns < collector.own_ns


def test_arrays_for_a_span_that_was_never_opened(
    rec: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    """They are not waited for; the training goes on."""
    for _ in range(2):
        rec.tracer.span("x", ["a0"]).device_end(rec.wait.arrays("x"))
    assert (0, 0) == (rec.tracer.stats().pending, rec.tracer.stats().recorded)
    assert 1 == caplog.text.count("never opened")


def test_arrays_for_a_span_that_has_ended(rec: Recording) -> None:
    """They come too late."""
    with rec.tracer.span("x", ["a0"]) as span:
        pass
    span.device_end(rec.wait.arrays("late"))
    assert (0, [("x", 0, 0)]) == (rec.tracer.stats().pending, row(rec))


def test_arrays_for_what_is_no_device(
    rec: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    """They are not waited for, and it is said once."""
    for _ in range(2):
        with rec.tracer.span("x", [3]) as span:
            span.device_end(rec.wait.arrays("x"))
    assert (0, ["x", "x"]) == (rec.tracer.stats().pending, [r.name for r in rec.read()])
    assert 1 == caplog.text.count("unsupported device 3")


def test_work_closed_by_another_thread(rec: Recording) -> None:
    """It belongs to the group in which it was launched."""
    with rec.tracer._group("step") as group:
        span = rec.tracer.span("x", ["a0"])
        span.__enter__()
        work = rec.wait.arrays("x")
        span.device_end(work)
    in_thread(lambda: span.__exit__(None, None, None))
    rec.wait.finish(work)
    assert [group.id] == [record.parent_id for record in on(rec.feed.drain(), "a0")]


def test_many_threads_end_work_on_one_device(rec: Recording) -> None:
    """Each is recorded once, and no two overlap."""
    barrier = threading.Barrier(8)

    def launch() -> None:
        barrier.wait()
        for _ in range(50):
            with rec.tracer.span("x", ["a0"]):
                rec.clock.advance_ns(1)

    threads = [threading.Thread(target=launch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = on(rec.feed.drain(), "a0")
    assert 400 == len(found) == len({record.id for record in found})
    for before, after in itertools.pairwise(found):
        assert before.end_ns <= after.begin_ns


@pytest.mark.parametrize(
    ("concurrent", "queued"),
    [("all", 0), (frozenset(["x"]), 0), (frozenset(["y"]), 1), (frozenset(), 1)],
)
def test_names_that_may_overlap(concurrent: Any, queued: int) -> None:
    """All, some, or none."""
    rec = Recording(["a0"], concurrent=concurrent)
    works = [rec.launch("x", ["a0"]) for _ in range(2)]
    for time_ns, work in enumerate(works, start=1):
        rec.at(time_ns)
        rec.wait.finish(work)
    assert queued == sum(record.kind == QUEUED for record in rec.read())


class Late:
    """Waits for work that ends when the test says so, and how late that is seen."""

    def __init__(self) -> None:
        self.works: list[Any] = []

    def submit(self, key: Any, work: Any) -> bool:
        self.works.append(work)
        return True

    def pending(self, tracer: Any) -> list[Any]:
        return []

    def finish(
        self,
        late_ns: int | None,
        error: Exception | None = None,
        waited: bool = True,
    ) -> None:
        """The oldest work ends."""
        self.works.pop(0).finish(error, late_ns, waited)


MS = 1_000_000


@pytest.fixture
def late() -> Recording:
    """A tracer whose devices' ends are seen late; names with "free" may overlap."""
    return Recording(["a0", "b0"], wait=Late(), concurrent=frozenset(["free"]))


def launch(
    rec: Recording, name: str = "x", devices: Any = ("a0",), **tags: int
) -> None:
    """Opens and closes a span with work."""
    with rec.tracer.span(name, list(devices), tags=tags or None) as span:
        span.device_end([])


def tags(rec: Recording) -> list[Any]:
    """The tags of the device spans since the last read."""
    return [record.tags for record in on(rec.feed.drain(), "a0")]


def test_a_span_says_by_how_much_its_end_may_be_late(late: Recording) -> None:
    """Beside its own tags, on every device; not where it is less than a millisecond."""
    for late_ns in (30 * MS, MS, MS - 1, 0):
        launch(late, step=1)
        late.clock.advance_ns(100 * MS)
        late.wait.finish(late_ns)
    own = {"step": 1}
    error = [{**own, "end_error_ns": n} for n in (30 * MS, MS)]
    assert [*error, own, own] == tags(late)


def test_work_did_not_end_before_it_was_launched(late: Recording) -> None:
    """If nothing else is known, its end may be wrong by all of its time."""
    launch(late)
    late.clock.advance_ns(7 * MS)
    late.wait.finish(None)
    late.clock.advance_ns(50 * MS)
    launch(late)
    late.clock.advance_ns(5 * MS)
    late.wait.finish(70 * MS)
    assert [{"end_error_ns": 7 * MS}, {"end_error_ns": 5 * MS}] == tags(late)


def test_work_did_not_end_before_what_was_launched_before_it(late: Recording) -> None:
    """On its device; work that may overlap is no measure, nor has it one."""
    for name in ("x", "free", "x"):
        launch(late, name)
    late.clock.advance_ns(100 * MS)
    late.wait.finish(20 * MS)
    late.clock.advance_ns(3 * MS)
    late.wait.finish(None)
    late.wait.finish(None)
    errors = [tag["end_error_ns"] for tag in tags(late)]
    assert [20 * MS, 103 * MS, 23 * MS] == errors


def test_other_devices_are_no_measure(late: Recording) -> None:
    """Though the first is the same: the work may have waited for the second."""
    launch(late, devices=["a0", "b0"])
    launch(late)
    late.clock.advance_ns(100 * MS)
    late.wait.finish(20 * MS)
    late.wait.finish(None)
    errors = [tag["end_error_ns"] for tag in tags(late)]
    assert [20 * MS, 100 * MS] == errors


def test_work_without_arrays_ended_when_it_was_handed_over(late: Recording) -> None:
    """Not when a thread came to it; so its end is known."""
    with late.tracer.span("x", ["a0"]) as span:
        late.clock.advance_ns(3 * MS)
        span.device_end([])
    late.clock.advance_ns(50 * MS)
    late.wait.finish(None, waited=False)
    (record,) = on(late.feed.drain(), "a0")
    assert (3 * MS, None) == (record.end_ns - record.begin_ns, record.tags)


def test_the_latest_of_several_waitlists_counts(late: Recording) -> None:
    """The work ended no earlier than the one of which that is known."""
    with late.tracer.span("x", ["a0"]) as span:
        span.device_end([])
        span.device_end([])
    late.clock.advance_ns(50 * MS)
    late.wait.finish(10 * MS)
    late.clock.advance_ns(2 * MS)
    late.wait.finish(None)
    assert [{"end_error_ns": 12 * MS}] == tags(late)


def test_failed_work_tells_its_error_alone(late: Recording) -> None:
    """When it ended is no longer of interest."""
    launch(late)
    late.clock.advance_ns(50 * MS)
    late.wait.finish(None, ValueError("no"))
    assert [["error"]] == [list(found) for found in tags(late)]
