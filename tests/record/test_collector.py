"""The collector: nothing lost, nothing doubled, and how much may wait where."""

from __future__ import annotations

import gc
import itertools
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from perf._model.spans import DEVICE, QUEUED, SPAN, Batch, TimelineKind
from perf._read.groups import GroupIndex
from perf._record import collector as collector_module
from perf._record.clock import now
from perf._record.hot import RELIEF_AT
from perf._record.names import MAX_LENGTH, OTHER
from tests.record.recording import (
    BORN_NS,
    QuietSink,
    Recording,
    flat,
    held_elsewhere,
    in_thread,
    on,
)

THREADS = 8
SPANS = RELIEF_AT + RELIEF_AT // 2
"""Of each thread: enough that the threads collect for themselves too."""


@pytest.fixture
def rec() -> Recording:
    """A tracer on a clock that stands still."""
    return Recording(["a0"])


def own_id(rec: Recording) -> str:
    """The timeline of the calling thread."""
    return rec.tracer._own_log().info.id


# Threads record while a sink drains


def recorded_while_draining(
    rec: Recording, work: Callable[[int], list[int]]
) -> tuple[list[int], list[Batch]]:
    """What eight threads said they recorded, and what a ninth drained meanwhile."""
    start, done = threading.Barrier(THREADS + 1), threading.Event()
    recorded: list[list[int]] = [[] for _ in range(THREADS)]
    batches: list[Batch] = []

    def record(number: int) -> None:
        start.wait()
        recorded[number] = work(number)

    def drain() -> None:
        start.wait()
        while not done.is_set():
            batches.append(rec.feed.drain())

    threads = [threading.Thread(target=record, args=(n,)) for n in range(THREADS)]
    drainer = threading.Thread(target=drain)
    for thread in (*threads, drainer):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    drainer.join()
    batches.append(rec.feed.drain())
    return [span_id for some in recorded for span_id in some], batches


def test_threads_lose_and_double_nothing() -> None:
    """Every span of every thread is drained once, and counted."""
    rec = Recording(now=now)

    def work(number: int) -> list[int]:
        ids = []
        for _ in range(SPANS // 2):
            with rec.tracer.span("outer") as outer, rec.tracer.span("inner") as inner:
                pass
            ids += [outer.id, inner.id]
        return ids

    expected, batches = recorded_while_draining(rec, work)
    found = Counter(record.id for batch in batches for record in flat(batch.records))
    assert Counter(expected) == found
    stats = rec.tracer.stats()
    assert (len(expected), 0) == (stats.recorded, stats.dropped)


def test_open_spans_are_handed_over_once_and_never_late() -> None:
    """A span is shown open before it is in the records, if at all, and once."""
    rec = Recording(["a0"], now=now)

    def work(number: int) -> list[int]:
        for _ in range(200):
            with rec.tracer.span("outer"), rec.tracer.span("inner"):
                rec.launch("launched", ["a0"])
                with rec.tracer.span("done at once", ["a0"]):
                    pass
        return []

    _, batches = recorded_while_draining(rec, work)
    ended: set[tuple[str, int]] = set()
    shown: set[tuple[str, int]] = set()
    for batch in batches:
        now_ended = {(i.id, r[3]) for i, some in batch.records for r in some}
        now_shown = {(i.id, r[3]) for i, some in batch.open for r in some}
        assert set() == now_ended & ended
        assert set() == now_shown & (shown | ended | now_ended)
        ended |= now_ended
        shown |= now_shown


def test_tracks_of_all_threads_lose_nothing() -> None:
    """Eight threads record on one named track."""
    rec = Recording(now=now)

    def work(number: int) -> list[int]:
        record = rec.tracer.record
        return [record("x", 0.0, 1.0, track="server") for _ in range(SPANS)]

    expected, batches = recorded_while_draining(rec, work)
    found = Counter(r.id for batch in batches for r in on(batch, "server"))
    assert Counter(expected) == found


def test_device_work_of_all_threads_is_not_lost() -> None:
    """Work that ends while a sink drains is drained once for each device."""
    rec = Recording(["a0", "b0"], now=now)

    def work(number: int) -> list[int]:
        ids = []
        for _ in range(SPANS // 4):
            with rec.tracer.span("x", ["a0", "b0"]) as span:
                pass
            ids.append(span.id)
        return ids

    expected, batches = recorded_while_draining(rec, work)
    for device in ("a0", "b0"):
        found = Counter(r.id for batch in batches for r in on(batch, device))
        assert Counter(expected) == found


# A span that closes during a drain


def test_a_span_closed_before_the_records_are_taken(
    rec: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it was listed as open, it is in the records alone."""
    collector, span = rec.tracer._collector, rec.tracer.span("x", ["a0"])
    span.__enter__()
    collect = collector._collect

    def close_and_collect(patience_s: float) -> bool:
        monkeypatch.undo()
        span.__exit__(None, None, None)
        return collect(patience_s)

    monkeypatch.setattr(collector, "_collect", close_and_collect)
    batch = rec.feed.drain()
    assert ([span.id] * 2, []) == ([r.id for r in flat(batch.records)], batch.open)
    assert ([], []) == rec.feed.drain()[:2]


def test_a_span_closed_after_the_records_are_taken(
    rec: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is shown open now, and is in the records of the next batch alone."""
    collector, span = rec.tracer._collector, rec.tracer.span("x")
    span.__enter__()
    collect = collector._collect

    def collect_and_close(patience_s: float) -> bool:
        monkeypatch.undo()
        collected = collect(patience_s)
        span.__exit__(None, None, None)
        return collected

    monkeypatch.setattr(collector, "_collect", collect_and_close)
    batch = rec.feed.drain()
    assert ([], [span.id]) == (batch.records, [r.id for r in flat(batch.open)])
    batch = rec.feed.drain()
    assert ([span.id], []) == ([r.id for r in flat(batch.records)], batch.open)


def test_device_work_that_ends_during_a_drain(
    rec: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listed in flight, ended before the records are taken: in the records alone."""
    work = rec.launch("x", ["a0"])
    collector = rec.tracer._collector
    collect = collector._collect

    def finish_and_collect(patience_s: float) -> bool:
        monkeypatch.undo()
        rec.wait.finish(work)
        return collect(patience_s)

    monkeypatch.setattr(collector, "_collect", finish_and_collect)
    batch = rec.feed.drain()
    assert [SPAN, DEVICE] == [record.kind for record in flat(batch.records)]
    assert [] == batch.open


def test_work_in_flight_is_open_on_the_queue(rec: Recording) -> None:
    """From its launch, once, until it ends on the device."""
    work = rec.launch("x", ["a0"])
    ((info, (record,)),) = rec.feed.drain().open
    assert ("a0_queue", TimelineKind.QUEUE, "x") == (info.id, info.kind, record[0])
    assert [] == rec.feed.drain().open
    rec.at(5)
    rec.wait.finish(work)
    batch = rec.feed.drain()
    assert (["x"], []) == ([record.name for record in on(batch, "a0")], batch.open)


def test_a_feed_begins_when_it_is_made(rec: Recording) -> None:
    """What was collected before is not in it; what is open is."""
    with rec.tracer.span("before"):
        pass
    rec.tracer._collector.close_step()
    with rec.tracer.span("open"):
        feed = rec.tracer._collector.subscribe(rec.sink)
        batch = feed.drain()
    assert ([], ["open"]) == (batch.records, [r.name for r in flat(batch.open)])
    assert ["open"] == [r.name for r in flat(feed.drain().records)]


def test_every_feed_gets_everything(rec: Recording) -> None:
    """Two sinks take at their own pace."""
    other = rec.tracer._collector.subscribe(rec.sink)
    with rec.tracer.span("first"):
        pass
    assert ["first"] == [r.name for r in rec.read()]
    with rec.tracer.span("second"):
        pass
    assert ["first", "second"] == [r.name for r in flat(other.drain().records)]
    assert ["second"] == [r.name for r in rec.read()]


def test_names_of_open_spans_are_proper_too(rec: Recording) -> None:
    """A sink never sees a name that is no text."""
    with rec.tracer.span(b"raw"):  # type: ignore[arg-type]  # what this is about
        assert ["raw"] == [record.name for record in flat(rec.feed.drain().open)]


def test_a_step_wakes_a_sink_that_never_came(rec: Recording) -> None:
    """Its thread could not be started, or is the parent's; others come by themselves.

    Ringing costs the training more than it brings.
    """
    rec.tracer._collector.close_step()
    assert 1 == rec.sink.woken
    rec.feed.drain()
    rec.tracer._collector.close_step()
    assert 1 == rec.sink.woken
    rec.tracer._forget()
    rec.tracer._collector.close_step()
    assert 2 == rec.sink.woken


# Bounds


@pytest.fixture
def short(
    monkeypatch: pytest.MonkeyPatch, set_relief_at: Callable[[int], None]
) -> None:
    """Threads ask for relief at 4 records and keep 6."""
    set_relief_at(4)
    monkeypatch.setattr(collector_module, "MAX_ON_THREAD", 6)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("kind", "at_once"), [("span", 4), ("instant", 4), ("track", 4), ("device span", 8)]
)
def test_a_long_list_is_collected_by_its_thread(
    rec: Recording, kind: str, at_once: int
) -> None:
    """Without anybody asking, at the length said; a device's list by whoever ends work.

    A device span is a record of the host and one of the device.
    """
    collected = []
    for _ in range(8):
        record_one(rec, kind)
        collected.append(rec.tracer._collector.recorded)
    assert [0, 0, 0, *[at_once] * 4, 2 * at_once] == collected


def record_one(rec: Recording, kind: str) -> None:
    """Records one of that kind."""
    if kind == "instant":
        rec.tracer.instant("x")
    elif kind == "track":
        rec.tracer.record("x", 1.0, 2.0, track="server")
    else:
        with rec.tracer.span("x", ["a0"] if kind == "device span" else None):
            pass


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("kind", ["span", "instant", "track"])
def test_a_full_list_drops_and_counts(rec: Recording, kind: str) -> None:
    """While the collector is held, a list keeps its bound; the rest is counted."""
    record_one(rec, kind)  # makes the track
    rec.tracer._collector.close_step()
    with held_elsewhere(rec.tracer._collector):
        for _ in range(10):
            record_one(rec, kind)
    assert 4 == rec.tracer.stats().dropped
    assert 1 + 10 == rec.tracer.stats().recorded == 4 + len(rec.read())
    record_one(rec, kind)
    assert (4, 1) == (rec.tracer.stats().dropped, len(rec.read()))


@pytest.mark.usefixtures("short")
def test_device_records_are_kept_while_the_collector_is_held(rec: Recording) -> None:
    """Work that ends waits for nobody."""
    with held_elsewhere(rec.tracer._collector):
        for _ in range(5):
            record_one(rec, "device span")
    assert 5 == len(on(rec.feed.drain(), "a0"))


def test_a_record_collected_in_between_is_not_counted_as_dropped(
    rec: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list that was emptied just before its last record is dropped loses nothing."""
    collector, log = rec.tracer._collector, rec.tracer._main_log
    monkeypatch.setattr(collector_module, "MAX_ON_THREAD", -1)
    with held_elsewhere(collector):
        collector.relieve(log)
    assert 0 == log.dropped


def test_the_drops_of_a_thread_are_counted_after_its_end(
    rec: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead thread's list goes, what it lost stays counted."""

    def work() -> None:
        rec.tracer.instant("x")
        rec.tracer._own_log().dropped += 3

    in_thread(work)
    gc.collect()
    rec.tracer._collector.close_step()
    assert 1 == len(rec.tracer._collector._logs)
    assert 3 == rec.tracer.stats().dropped


def test_the_drops_of_feeds_are_counted(rec: Recording) -> None:
    """Also when the feed is gone."""
    rec.feed.dropped = 5
    assert 5 == rec.tracer.stats().dropped
    rec.tracer.close()
    assert 5 == rec.tracer.stats().dropped


def test_a_feed_that_is_closed_is_no_more(rec: Recording) -> None:
    """It would fill for nobody; what it never took is counted, once."""
    collector = rec.tracer._collector
    other = collector.subscribe(QuietSink())
    rec.tracer.instant("x")
    rec.feed.close()
    rec.feed.close()
    rec.tracer.instant("y")
    assert ["x", "y"] == [r.name for r in flat(other.drain().records)]
    assert (0, 1) == (rec.feed.waiting_count, collector.dropped)
    assert [other] == collector.feeds
    assert 2 == len(collector.sinks)


def test_a_feed_may_begin_with_what_is_kept(rec: Recording) -> None:
    """Of steps that have ended and the present one; each record once."""
    collector = rec.tracer._collector
    rec.tracer.instant("a")
    rec.tracer.export()
    rec.tracer.instant("b")
    rec.tracer.export()
    rec.tracer.instant("c")
    rec.read()
    rec.tracer.instant("d")
    late = collector.subscribe(QuietSink(), with_kept=True)
    batch = late.drain()
    assert ["a", "b", "c", "d"] == [r.name for r in flat(batch.records)]
    assert {info.id for info, _ in batch.records} == set(batch.tangled)
    assert [] == late.drain().records


def test_a_tracer_that_is_closed_counts_what_no_sink_took(rec: Recording) -> None:
    """Of a sink that does not let go by itself, too."""
    rec.tracer.instant("x")
    rec.tracer.close()
    assert (1, 1, []) == (
        rec.tracer.stats().recorded,
        rec.tracer.stats().dropped,
        rec.tracer._collector.feeds,
    )


@pytest.mark.usefixtures("short")
def test_a_sink_is_told_what_was_lost_since_it_came(rec: Recording) -> None:
    """On the threads and in its own queue, once; nothing of what others lost."""
    collector, other = rec.tracer._collector, rec.feed
    other.dropped = 7
    record_one(rec, "span")
    with held_elsewhere(collector):
        for _ in range(10):
            record_one(rec, "span")
    late = collector.subscribe(QuietSink())
    late.dropped = 2
    assert [5 + 7, 2] == [feed.drain().dropped for feed in (other, late)]
    assert [0, 0] == [feed.drain().dropped for feed in (other, late)]
    rec.tracer._main_log.dropped += 1
    assert [1, 1] == [feed.drain().dropped for feed in (other, late)]


def test_a_sink_is_told_that_an_end_is_lost(
    rec: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a span that it knows as open: no record of it will come."""
    monkeypatch.setattr("perf._record.feed.MAX_WAITING", 3)
    kept, lost = rec.tracer.span("kept"), rec.tracer.span("lost")
    kept.__enter__()
    lost.__enter__()
    assert 2 == len(flat(rec.feed.drain().open))
    for _ in range(4):
        rec.tracer.instant("x")
    batch = rec.feed.drain()
    assert (1, False) == (batch.dropped, batch.lost_ends)
    for _ in range(3):
        rec.tracer.instant("x")
    lost.__exit__(None, None, None)
    batch = rec.feed.drain()
    assert (1, True) == (batch.dropped, batch.lost_ends)
    batch = rec.feed.drain(anew=True)
    assert (["kept"], False) == ([r.name for r in flat(batch.open)], batch.lost_ends)


def test_what_a_parent_waited_for_is_not_its_childs(rec: Recording) -> None:
    """Its failed work, what it did not wait for, and what that took."""
    launches = rec.tracer._launches
    launches.failed, launches.unwaited, launches.own_ns = 3, 2, 5 * 10**9
    rec.tracer._forget()
    stats = rec.tracer.stats()
    assert (0, 0) == (stats.failed, stats.unwaited)
    assert stats.own_time_s < 5


def test_what_a_parent_lost_is_not_its_childs(rec: Recording) -> None:
    """After a fork the count begins anew."""
    rec.tracer._main_log.dropped = 3
    rec.feed.dropped = 4
    rec.tracer._collector.forget(rec.tracer._main_log)
    assert 0 == rec.feed.drain().dropped


def test_tracks_are_few(rec: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    """Further ones share one."""
    monkeypatch.setattr(collector_module, "MAX_TRACKS", 2)
    for name in ("a", "b", "c", "d", "a"):
        rec.tracer.record(name, 1.0, 2.0, track=name)
    found = {
        info.id: [record[0] for record in records]
        for info, records in rec.feed.drain().records
    }
    assert {"a": ["a", "a"], "b": ["b"], OTHER: ["c", "d"]} == found


def test_the_name_of_a_track_is_cut(rec: Recording) -> None:
    """As that of a span is."""
    rec.tracer.record("x", 1.0, 2.0, track="t" * 5_000)
    (timeline,) = [info.id for info, _ in rec.feed.drain().records]
    assert f"{'t' * MAX_LENGTH}… (5000 characters)" == timeline


def test_no_thread_waits_for_the_collector(
    rec: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a new one, nor one that names a track, while others collect."""
    monkeypatch.setattr(collector_module, "MAX_TRACKS", 2)

    def work() -> None:
        with rec.tracer.span("x"):
            for track in ("a", "b", "c", "d"):
                rec.tracer.record("y", 1.0, 2.0, track=track)

    with rec.tracer._collector._lock:
        in_thread(work)
    assert 5 == len(rec.read())


def test_a_track_is_named_and_tangled(rec: Recording) -> None:
    """Its spans were timed elsewhere: they need not nest."""
    rec.tracer.record("x", 1.0, 2.0, track="server")
    batch = rec.feed.drain()
    ((info, _),) = batch.records
    assert ("server", TimelineKind.NAMED, "server") == info[:3]
    assert frozenset(["server"]) == batch.tangled


# Threads come and go


def test_the_list_of_a_dead_thread_goes(rec: Recording) -> None:
    """Once its records were collected, nothing of it is kept."""
    logs: list[Any] = []

    def work() -> str:
        with rec.tracer.span("x"):
            logs.append(rec.tracer._own_log())
        return own_id(rec)

    timeline_id = in_thread(work)
    assert ["x"] == [record.name for record in on(rec.feed.drain(), timeline_id)]
    log, kept = logs.pop(), rec.tracer._collector._logs
    gc.collect()
    rec.feed.drain()
    assert [rec.tracer._main_log] == kept
    assert log not in kept


def test_a_dead_thread_that_was_tangled_is_so_in_the_next_batch(
    rec: Recording,
) -> None:
    """Its list goes before its records are drained, with whatever it knew."""

    def work() -> str:
        rec.tracer.record("timed elsewhere", 1, 2)
        return own_id(rec)

    ended_id = in_thread(work)
    gc.collect()
    other = rec.tracer._collector.subscribe(QuietSink())
    rec.tracer.export()
    assert 1 == len(rec.tracer._collector._logs)
    assert [{ended_id}, set()] == [set(rec.feed.drain().tangled) for _ in range(2)]
    assert {ended_id} == other.drain().tangled


def test_the_list_of_a_living_thread_stays(rec: Recording) -> None:
    """Also while it is empty."""
    recorded, end = threading.Event(), threading.Event()

    def work() -> None:
        rec.tracer.instant("first")
        recorded.set()
        end.wait()
        rec.tracer.instant("second")

    thread = threading.Thread(target=work)
    thread.start()
    recorded.wait()
    assert ["first"] == [record.name for record in rec.read()]
    assert [] == rec.read()
    end.set()
    thread.join()
    assert ["second"] == [record.name for record in rec.read()]


def test_a_dead_thread_s_open_span_is_kept(rec: Recording) -> None:
    """Somebody else may close it; its record is on its own timeline."""

    def work() -> tuple[str, Any]:
        span = rec.tracer.span("handed over")
        span.__enter__()
        return own_id(rec), span

    timeline_id, span = in_thread(work)
    gc.collect()
    assert ["handed over"] == [record.name for record in flat(rec.feed.drain().open)]
    rec.feed.drain()
    span.__exit__(None, None, None)
    assert ["handed over"] == [r.name for r in on(rec.feed.drain(), timeline_id)]


def test_dead_threads_with_open_spans_are_few(
    rec: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spans of the oldest end, inner ones first, and say why; none is lost."""
    monkeypatch.setattr(collector_module, "MAX_DEAD", 2)

    def work() -> None:
        rec.tracer.span("for ever", tags={"step": 1}).__enter__()
        rec.tracer.span("inside").__enter__()

    batches = []
    for time_ns in range(5):
        rec.at(time_ns)
        in_thread(work)
        gc.collect()
        batches.append(rec.feed.drain())
    assert 1 + 2 == len(rec.tracer._collector._logs)
    stats = rec.tracer.stats()
    assert (0, 4) == (stats.dropped, stats.open)
    ended = [flat(batch.records) for batch in batches]
    assert [0, 0, 2, 2, 2] == [len(records) for records in ended]
    error = {"error": "its thread ended"}
    for end_ns, (inner, outer) in enumerate(ended[2:], start=2):
        assert ("inside", error) == (inner.name, inner.tags)
        assert ("for ever", {"step": 1, **error}) == (outer.name, outer.tags)
        assert inner.parent_id == outer.id
        assert BORN_NS + end_ns == inner.end_ns == outer.end_ns
    assert not any(batch.lost_ends or batch.dropped for batch in batches)


def test_a_thread_object_may_outlive_its_thread(rec: Recording) -> None:
    """What ends a list is the end of the thread, not of the object for it."""
    thread = threading.Thread(target=lambda: rec.tracer.instant("x"))
    thread.start()
    thread.join()
    rec.feed.drain()
    rec.feed.drain()
    assert [rec.tracer._main_log] == rec.tracer._collector._logs
    assert not thread.is_alive()


def test_an_ident_that_is_given_anew_is_another_timeline(rec: Recording) -> None:
    """Two threads are not one, though the system calls them so."""
    collector = rec.tracer._collector
    ident = threading.get_ident()
    ids = [collector.new_log(self_).info.id for self_ in (Life(), Life())]
    assert f"host-{ident}" == own_id(rec)
    assert [f"host-{ident}-2", f"host-{ident}-3"] == ids


class Life:
    """What dies with a thread."""


def test_a_timeline_is_told_whole(rec: Recording) -> None:
    """Kind, the thread's name, whether it made the tracer, the system's number."""
    info = rec.tracer._main_log.info
    assert (TimelineKind.HOST, threading.current_thread().name) == info[1:3]
    assert (True, threading.get_native_id()) == info[3:]
    assert not in_thread(lambda: rec.tracer._own_log().info.is_main)


def test_a_tracer_can_be_let_go() -> None:
    """Nothing in the process keeps it alive."""
    rec = Recording(["a0"])
    with rec.tracer.span("x", ["a0"]):
        pass
    known = weakref.ref(rec.tracer)
    del rec
    gc.collect()
    assert known() is None


# A fork


def test_a_child_begins_with_nothing(rec: Recording) -> None:
    """Records, tracks, other threads' lists and drains of the parent are not its."""
    with rec.tracer.span("open"):
        with rec.tracer.span("closed", ["a0"]):
            pass
        rec.tracer.record("x", 1.0, 2.0, track="server")
        rec.tracer._collector._logs.append(rec.tracer._collector.new_log(Life()))
        rec.tracer._collector.close_step()
        rec.tracer.instant("pending")
        rec.tracer._collector._lock.acquire()
        rec.tracer._devices.lock.acquire()
        rec.tracer._forget()
        batch = rec.feed.drain()
        assert ([], ["open"]) == (batch.records, [r.name for r in flat(batch.open)])
        stats = rec.tracer.stats()
        assert (0, 1) == (stats.retained, stats.open)
        assert [rec.tracer._main_log] == rec.tracer._collector._logs
    assert ["open"] == [record.name for record in rec.read()]


def test_a_fork_in_the_midst_of_collecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another thread was storing when its process was copied is not in order."""
    index = GroupIndex()
    index.fill([])
    rec = Recording(index=index)
    with rec.tracer.span("x"):
        pass

    def die(parts: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(index, "add", die)
        with pytest.raises(SystemExit):
            rec.tracer._collector.close_step()
    rec.tracer._forget()
    with rec.tracer.span("y"):
        pass
    rec.tracer._collector.close_step()
    assert ["y"] == [record.name for record in rec.read()]
    assert 1 == rec.tracer.stats().retained


def test_a_fork_by_another_thread_makes_that_one_the_main_one(rec: Recording) -> None:
    """It is the only one that lives on in the child."""

    def fork() -> tuple[Any, Any]:
        rec.tracer.instant("x")
        rec.tracer._forget()
        return rec.tracer._main_log, rec.tracer._own_log()

    main, own = in_thread(fork)
    assert main is own


def test_a_fork_by_a_thread_that_never_recorded(rec: Recording) -> None:
    """There is no list that could live on."""

    def fork() -> list[Any]:
        rec.tracer._forget()
        return list(rec.tracer._collector._logs)

    assert [] == in_thread(fork)


# Its account


def test_records_are_counted_by_kind_of_timeline(rec: Recording) -> None:
    """A span with devices is one record for the host and one for each device."""
    works = [rec.launch("x", ["a0"]) for _ in range(2)]
    assert (2, 2, 0) == counts(rec)
    rec.at(1)
    rec.wait.finish(works[0])
    rec.at(2)
    rec.wait.finish(works[1])
    assert (5, 0, 0) == counts(rec)
    kinds = Counter(record.kind for record in rec.read())
    assert {SPAN: 2, DEVICE: 2, QUEUED: 1} == kinds


def counts(rec: Recording) -> tuple[int, int, int]:
    """Recorded, pending, dropped."""
    stats = rec.tracer.stats()
    return stats.recorded, stats.pending, stats.dropped


def test_collecting_is_the_tracer_s_own_time(
    rec: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a step all time, for the training waits; else what a processor spent."""
    monkeypatch.setattr(time, "thread_time_ns", itertools.count(100, 7).__next__)
    monkeypatch.setattr(time, "perf_counter_ns", itertools.count(100, 50).__next__)
    assert 0 == rec.tracer._collector.own_ns
    rec.tracer._collector.close_step()
    assert 50 == rec.tracer._collector.own_ns
    rec.feed.drain()
    assert 57 == rec.tracer._collector.own_ns
    rec.tracer.stats()
    assert 64 == rec.tracer._collector.own_ns


# Steps


def test_a_step_of_many_spans_is_measured_whole() -> None:
    """More than what is kept for queries."""
    rec = Recording(keep_spans=10)
    for _ in range(25):
        record_one(rec, "span")
    step = rec.tracer._collector.close_step()
    assert (25, 0) == (step.count, rec.tracer.stats().forgotten)


def test_what_a_step_forgets_is_counted_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Metrics that leave something out must not look like others."""
    rec = Recording(keep_spans=10)
    rec.tracer._collector.store.max_in_step = 20
    for _ in range(2):
        for _ in range(25):
            record_one(rec, "span")
        rec.tracer._collector.close_step()
    assert 26 == rec.tracer.stats().forgotten
    assert 1 == caplog.text.count("leave out the first 13")


def test_old_steps_are_forgotten_by_the_drain() -> None:
    """The training does not wait for it, as long as somebody drains."""
    rec = Recording(keep_steps=2)
    store = rec.tracer._collector.store
    for _ in range(4):
        rec.tracer._collector.close_step()
    assert 4 == len(store.closed)
    rec.feed.drain()
    assert 2 == len(store.closed)
    for _ in range(collector_module.MAX_OVERDUE + 3):
        rec.tracer._collector.close_step()
    assert 2 + collector_module.MAX_OVERDUE == len(store.closed)
