"""The queue of one sink: bounded, and each open span shown once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf._model.spans import (
    NO_PARENT,
    OPEN,
    SPAN,
    Batch,
    ClockSnapshot,
    RawRecord,
    TimelineInfo,
    TimelineKind,
)
from perf._record import feed as feed_module
from perf._record.feed import Feed
from tests.record.recording import QuietSink

A = TimelineInfo("a", TimelineKind.HOST, "a")
B = TimelineInfo("b", TimelineKind.HOST, "b")
BOUND = 6


def span(span_id: int, end_ns: int = 5) -> RawRecord:
    """The record of a span; only its id matters here."""
    return ("x", 1, end_ns, span_id, NO_PARENT, SPAN, None, None)


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> Feed:
    """A feed that takes six records."""
    monkeypatch.setattr(feed_module, "MAX_WAITING", BOUND)
    return Feed(QuietSink(), lambda feed: pytest.fail("nobody asked"), print)


def put(feed: Feed, *parts: tuple[TimelineInfo, list[RawRecord]]) -> None:
    """As the collector does."""
    feed.put([*parts], sum(len(records) for _, records in parts))


def woken(feed: Feed) -> int:
    """How often its sink was woken."""
    assert isinstance(feed.sink, QuietSink)
    return feed.sink.woken


def ids(taken: list[tuple[TimelineInfo, list[RawRecord]]]) -> list[tuple[str, int]]:
    """Timeline and id of each record."""
    return [(info.id, record[3]) for info, records in taken for record in records]


def test_what_is_put_is_taken_once(feed: Feed) -> None:
    """In the order of putting, with the timelines."""
    put(feed, (A, [span(1), span(2)]))
    put(feed, (B, [span(3)]))
    assert [("a", 1), ("a", 2), ("b", 3)] == ids(feed.take())
    assert [] == feed.take()
    assert (0, 0, 0) == (feed.waiting_count, feed.dropped, feed.told)


def test_what_does_not_fit_is_counted_to_the_last_one(feed: Feed) -> None:
    """The first to come stay; a list that fits in part is cut."""
    put(feed, (A, [span(n) for n in range(1, 5)]))
    put(feed, (A, [span(n) for n in range(5, 9)]))
    put(feed, (B, [span(9), span(10)]))
    assert 4 == feed.dropped
    assert [("a", n) for n in range(1, 7)] == ids(feed.take())
    put(feed, (A, [span(n) for n in range(11, 11 + BOUND)]))
    assert 4 == feed.dropped
    assert BOUND == feed.waiting_count


def test_of_several_timelines_the_first_records_fit(feed: Feed) -> None:
    """A batch is cut where the bound is, and its lists stay as they are."""
    first, second = [span(n) for n in range(4)], [span(n) for n in range(4, 9)]
    put(feed, (A, first), (B, second), (A, [span(9)]))
    assert (4, 5, 4) == (len(first), len(second), feed.dropped)
    taken = feed.take()
    assert [*(("a", n) for n in range(4)), ("b", 4), ("b", 5)] == ids(taken)
    assert 2 == len(taken)


def test_a_full_feed_keeps_no_empty_lists(feed: Feed) -> None:
    """Dropping for weeks takes no memory."""
    put(feed, (A, [span(n) for n in range(BOUND)]))
    for _ in range(3):
        put(feed, (A, [span(99)]))
    assert 1 == len(feed.waiting)
    assert 3 == feed.dropped


def test_the_sink_is_woken_when_more_than_half_waits(feed: Feed) -> None:
    """So that there is time to take it before the feed is full."""
    put(feed, (A, [span(n) for n in range(3)]))
    assert 0 == woken(feed)
    put(feed, (A, [span(4)]))
    assert 1 == woken(feed)


def test_tangled_timelines_of_ended_threads_are_told_once(feed: Feed) -> None:
    """Nobody else knows of them any more."""
    feed.keep_tangled("a")
    feed.keep_tangled("b")
    assert {"a", "b"} == feed.take_tangled()
    assert set() == feed.take_tangled()


def test_an_open_span_is_shown_once(feed: Feed) -> None:
    """Its sink knows of it from then on."""
    assert [] == feed.newly_open([], [])
    opened = [(A, [span(1, OPEN), span(2, OPEN)])]
    assert [("a", 1), ("a", 2)] == ids(feed.newly_open(opened, []))
    opened = [(A, [span(1, OPEN), span(3, OPEN)]), (B, [span(1, OPEN)])]
    assert [("a", 3), ("b", 1)] == ids(feed.newly_open(opened, []))
    assert [] == feed.newly_open(opened, [])


def test_a_span_that_ended_meanwhile_is_not_shown(feed: Feed) -> None:
    """It was open when the open ones were listed, and is in the records now."""
    assert [] == feed.newly_open([(A, [span(1, OPEN)])], [(A, [span(1)])])


def test_device_work_that_ended_meanwhile_is_not_shown_as_waiting(feed: Feed) -> None:
    """In flight it was on the queue's timeline; its record is on the device's."""
    device = TimelineInfo("tpu0", TimelineKind.DEVICE, "tpu0")
    queue = TimelineInfo("tpu0_queue", TimelineKind.QUEUE, "tpu0_queue")
    opened = [(queue, [span(1, OPEN), span(2, OPEN)])]
    found = feed.newly_open(opened, [(device, [span(1)])])
    assert [("tpu0_queue", 2)] == ids(found)


def test_a_span_that_ended_is_no_longer_remembered(feed: Feed) -> None:
    """What a feed remembers is bounded by what is open."""
    feed.newly_open([(A, [span(1, OPEN), span(2, OPEN)])], [])
    feed.newly_open([], [(A, [span(1)])])
    assert {("a", 2)} == feed._handed_over


def test_an_end_that_was_lost_is_noticed_once(feed: Feed) -> None:
    """What was shown as open, is so no more, and never came."""
    opened = [(A, [span(1, OPEN), span(2, OPEN), span(3, OPEN)])]
    feed.newly_open(opened, [])
    opened = [(A, [span(1, OPEN)])]
    feed.newly_open(opened, [(A, [span(2)])])
    assert not feed.lost_ends(opened), "nothing was dropped, so the end is to come"
    feed.may_lack_ends = True
    assert [True, False] == [feed.lost_ends(opened) for _ in range(2)]
    assert not feed.may_lack_ends
    assert {("a", 1)} == feed._handed_over
    feed.may_lack_ends = True
    assert not feed.lost_ends(opened)


def test_after_a_fork_a_feed_is_empty(feed: Feed) -> None:
    """What waited is the parent's, and so are the spans it was shown."""
    put(feed, (A, [span(1)] * (BOUND + 1)))
    feed.may_lack_ends = True
    feed.newly_open([(A, [span(2, OPEN)])], [])
    feed.forget()
    assert (0, 0, False) == (feed.dropped, feed.told, feed.may_lack_ends)
    assert ([], 0) == (feed.take(), feed.waiting_count)
    assert [("a", 2)] == ids(feed.newly_open([(A, [span(2, OPEN)])], []))


def test_draining_and_closing_ask_the_tracer() -> None:
    """A sink calls them; what is done is done under the tracer's lock."""
    batch = Batch([], [], frozenset(), ClockSnapshot(1, 2, 3))
    asked: list[Any] = []
    released: list[Any] = []

    def collect(feed: Feed) -> Batch:
        asked.append(feed)
        return batch

    feed = Feed(QuietSink(), collect, released.append)
    assert batch is feed.drain()
    assert ([feed], []) == (asked, released)
    feed.close()
    assert ([feed], [feed]) == (asked, released)


def test_a_drain_anew_shows_all_open_spans_again() -> None:
    """For a sink that begins another file."""
    opened = [(A, [span(1, OPEN)])]

    def collect(feed: Feed) -> Batch:
        shown = feed.newly_open(opened, [])
        return Batch([], shown, frozenset(), ClockSnapshot(1, 2, 3))

    feed = Feed(QuietSink(), collect, print)
    batches = [feed.drain(anew=anew) for anew in (False, True)] + [feed.drain()]
    assert [[("a", 1)], [("a", 1)], []] == [ids(batch.open) for batch in batches]


@given(st.lists(st.integers(0, 5), max_size=20), st.integers(0, 5))
def test_what_is_put_is_taken_or_counted(sizes: list[int], every: int) -> None:
    """However lists and takings alternate, no record is in neither or in both."""
    feed = Feed(QuietSink(), lambda feed: pytest.fail("nobody asked"), print)
    taken, given = 0, 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed_module, "MAX_WAITING", BOUND)
        for turn, size in enumerate(sizes):
            some = [span(n) for n in range(size)]
            put(feed, (A, some), (B, some[1:]))
            given += size + len(some[1:])
            assert feed.waiting_count <= BOUND
            if every and turn % every == 0:
                taken += len(ids(feed.take()))
    assert given == taken + len(ids(feed.take())) + feed.dropped
