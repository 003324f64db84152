"""What a user calls on a tracer, beyond its spans."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perf._model.spans import COUNTER, INSTANT, NO_PARENT, SPAN, ClockSnapshot, Record
from perf._model.stats import WriteStats
from perf._record import clock as clocks
from perf._record import tracer as tracer_module
from perf._record.noop import NOOP_SPAN
from perf.testing import ManualWait
from tests.record.recording import BORN_NS, QuietSink, Recording, in_thread, on


@pytest.fixture
def rec() -> Recording:
    """A tracer on a clock that stands still."""
    return Recording(["a0"])


# Moments, counters, spans that others timed


def test_an_instant_is_a_record_of_no_length(rec: Recording) -> None:
    """With the span around it as parent, and its own copy of the tags."""
    tags = {"step": 1}
    with rec.tracer.span("outer") as outer:
        rec.at(3)
        rec.tracer.instant("x", tags)
    tags["step"] = 2
    found = rec.read()[0]
    at = BORN_NS + 3
    assert Record("x", at, at, found.id, outer.id, INSTANT, {"step": 1}, None) == found


def test_an_instant_in_a_task_belongs_to_its_task(rec: Recording) -> None:
    """As a span would."""

    async def task(name: str, barrier: asyncio.Barrier) -> None:
        with rec.tracer.span(name):
            await barrier.wait()
            rec.tracer.instant(f"in {name}")
            await barrier.wait()

    async def main() -> None:
        barrier = asyncio.Barrier(2)
        await asyncio.gather(task("a", barrier), task("b", barrier))

    asyncio.run(main())
    assert {"a": None, "b": None, "in a": "a", "in b": "b"} == rec.parents()


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (3, 3),
        (2**70, 2**70),
        (0.5, 0.5),
        ("0.5", 0.5),
        (True, 1.0),
        (-math.inf, -math.inf),
    ],
)
def test_a_counter_is_a_record_of_its_value(
    rec: Recording, value: Any, kept: float
) -> None:
    """A number of either kind; what can be made one is."""
    with rec.tracer.span("outer"):
        rec.at(3)
        rec.tracer.counter("x", value, "tokens")
        rec.tracer.counter("y", value)
    found = [record for record in rec.read() if record.kind == COUNTER]
    at = BORN_NS + 3
    assert [
        Record("x", at, kept, found[0].id, NO_PARENT, COUNTER, "tokens", None),  # type: ignore[arg-type]  # a value
        Record("y", at, kept, found[1].id, NO_PARENT, COUNTER, None, None),  # type: ignore[arg-type]
    ] == found
    assert type(kept) is type(found[0].end_ns)


def test_what_is_no_number_is_no_counter(
    rec: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, by name, also of names that cannot be shown."""

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    for name in ("x", Broken()):
        rec.tracer.counter(name, None)  # type: ignore[arg-type]  # what this is about
    assert [] == rec.read()
    assert 1 == caplog.text.count("counter 'x': no number")
    other = Recording()
    other.tracer.counter(Broken(), [])  # type: ignore[arg-type]
    assert "counter <Broken>: no number" in caplog.text


def test_a_span_that_others_timed(rec: Recording) -> None:
    """In seconds of our clock; on the calling thread with a parent, on a track none."""
    tags = {"a": 1}
    with rec.tracer.span("outer") as outer:
        here = rec.tracer.record("here", 1.0, 2.5, tags=tags)
        there = rec.tracer.record("there", 1.0, 1.0, track="server")
    tags["a"] = 2
    batch = rec.feed.drain()
    own = rec.tracer._main_log.info.id
    expected = [("here", 10**9, 25 * 10**8, here, outer.id, SPAN, {"a": 1}, None)]
    assert expected == [tuple(record) for record in on(batch, own)[:1]]
    other = [("there", 10**9, 10**9, there, NO_PARENT, SPAN, None, None)]
    assert other == [tuple(record) for record in on(batch, "server")]
    assert {own, "server"} == batch.tangled


def test_a_span_timed_by_the_wall_clock(
    rec: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its times are moved by the distance of the clocks now."""
    snapshot = ClockSnapshot(5_000_000_000, 905_000_000_000, 0)
    monkeypatch.setattr(clocks, "snapshot", lambda: snapshot)
    rec.tracer.record("x", 901.0, 903.5, clock="wall")
    found = [(record.begin_ns, record.end_ns) for record in rec.read()]
    assert [(1_000_000_000, 3_500_000_000)] == found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("x", 2.0, 1.0), "it ends at 1.0 s before it begins"),
        (("x", math.nan, 1.0), "NaN"),
        (("x", 1.0, math.inf), "infinity"),
        (("x", "soon", 1.0), "refused"),
        (("x", None, 1.0), "refused"),
        (("x", 1.0, 2.0, "sun"), "clock 'sun': expected 'monotonic' or 'wall'"),
        (
            ("x", 1.8e9, 1.8e9 + 1),
            "ends +20,833 days from now on the clock 'monotonic'",
        ),
        (("x", -4e7, -4e7), "ends -463 days from now on the clock 'monotonic'"),
    ],
)
def test_a_span_timed_wrongly_is_refused(
    rec: Recording, arguments: Any, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With the reason in the log; it has no id."""
    clock = arguments[3] if len(arguments) > 3 else "monotonic"
    for track in (None, "server"):
        refused = rec.tracer.record(*arguments[:3], clock=clock, track=track)
        assert NO_PARENT == refused
    assert [] == rec.read()
    assert 1 == len(caplog.records)
    assert "record('x') refused" in caplog.text
    assert said in caplog.text


def test_times_of_another_clock_are_refused(
    rec: Recording, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Those of `perf_counter` as the wall's; a log of last week may be recorded."""
    snapshot = ClockSnapshot(1_000_000_000, 1_800_000_000 * 10**9, 0)
    monkeypatch.setattr(clocks, "snapshot", lambda: snapshot)
    assert NO_PARENT == rec.tracer.record("x", 1.0, 2.0, clock="wall")
    assert 'give clock="wall" with times of time.time()' in caplog.text
    last_week_s = 1.8e9 - 7 * 86_400.0
    assert rec.tracer.record("x", last_week_s, last_week_s + 1, clock="wall")
    assert rec.tracer.record("x", 1.8e9, 1.8e9 + 3_600.0, clock="wall")


def test_each_reason_to_refuse_a_span_is_said(
    rec: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    """Once: a typo of the clock's name after a time that was wrong."""
    for _ in range(2):
        rec.tracer.record("x", 2.0, 1.0)
        rec.tracer.record("x", 1.0, 2.0, clock="wal")
        rec.tracer.record("x", 1.8e9, 1.8e9)
        rec.tracer.record("x", "soon", 1.0)  # type: ignore[arg-type]  # likewise
    assert 4 == len(caplog.records)


def test_the_id_of_a_recorded_span_may_be_a_predecessor(rec: Recording) -> None:
    """Those refused are left out."""
    served = rec.tracer.record("x", 1.0, 2.0, track="server")
    refused = rec.tracer.record("x", 2.0, 1.0)
    with rec.tracer.span("y", after=[served, refused, NOOP_SPAN]):
        pass
    assert [(served,)] == [r.after for r in rec.read() if r.name == "y"]


@pytest.mark.parametrize("wrong", [object(), [object()], [None], "abc", 1.5])
def test_predecessors_that_are_none(
    rec: Recording, wrong: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The span is recorded without; it is said once."""
    for _ in range(2):
        with rec.tracer.span("x", after=wrong):
            pass
    assert [None, None] == [record.after for record in rec.read()]
    assert 1 == caplog.text.count("expected spans or ids of spans")


@pytest.mark.parametrize("wrong", [3, [1], "ab", [("a", 1)]])
@pytest.mark.parametrize("method", ["span", "device span", "instant", "record"])
def test_tags_that_are_no_mapping(
    rec: Recording, method: str, wrong: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """What they belong to is recorded without; it is said once."""
    calls: dict[str, Callable[[], Any]] = {
        "span": lambda: enter(rec.tracer.span("x", tags=wrong)),
        "device span": lambda: enter(rec.tracer.span("x", ["a0"], wrong)),
        "instant": lambda: rec.tracer.instant("x", wrong),
        "record": lambda: rec.tracer.record("x", 1.0, 2.0, tags=wrong),
    }
    calls[method]()
    calls[method]()
    assert {None} == {record.tags for record in rec.read()}
    assert 1 == caplog.text.count("expected a mapping of names to values")


class Unshowable:
    """An array still being computed, or deleted: looking at it blocks or raises."""

    def __repr__(self) -> str:
        raise AssertionError("looked at")

    __str__ = __float__ = __repr__


def test_what_is_refused_is_not_looked_at(rec: Recording) -> None:
    """The training would wait for an array that is handed over by mistake."""
    wrong: Any = Unshowable()
    enter(rec.tracer.span("x", tags=wrong, after=wrong))
    enter(rec.tracer.span("x", ["a0"], wrong, wrong))
    rec.tracer.record("x", wrong, 2.0)
    rec.tracer.counter("x", wrong)
    with rec.tracer.span(wrong) as span:
        span.device_end([])
    assert 3 == sum(record.kind == SPAN for record in rec.read())


def enter(span: Any) -> None:
    """Opens it and closes it."""
    with span:
        pass


# Off and on


def test_a_tracer_that_is_off_records_nothing(rec: Recording) -> None:
    """Of any kind: a span entered meanwhile is none, has no times and is false."""
    rec.tracer.enabled = False
    for span in (
        rec.tracer.span("x"),
        rec.tracer._group("x"),
        rec.tracer.span("x", ["a0"], {"step": 1}, after=[1]),
    ):
        with span as entered:
            span.device_end([object()])
            assert (False, NOOP_SPAN) == (bool(entered), rec.tracer.current_span())
        assert (0, 0.0, 0.0) == (span.id, span.begin, span.duration)
    rec.tracer.instant("x")
    rec.tracer.counter("x", 1)
    assert NO_PARENT == rec.tracer.record("x", 1.0, 2.0)
    assert ([], False) == (rec.read(), rec.tracer.enabled)


def test_enabled_is_a_truth_value(rec: Recording) -> None:
    """Whatever it was set to."""
    for value in (0, 1, "", "yes"):
        rec.tracer.enabled = value  # type: ignore[assignment]  # what this is about
        assert bool(value) is rec.tracer.enabled


def test_a_closed_tracer_records_nothing_more(rec: Recording) -> None:
    """Spans still open are not recorded either: nobody takes them."""
    span = rec.tracer.span("x")
    span.__enter__()
    rec.tracer.close()
    rec.tracer.close()
    span.__exit__(None, None, None)
    with rec.tracer.span("y") as later:
        assert not later
    assert 1 == rec.tracer.stats().recorded


class StuckWait(ManualWait):
    """Has work that is done after so many settlings, or never."""

    def __init__(self, settlings: int) -> None:
        super().__init__()
        self.settlings = settlings
        self.waited_s: list[float | None] = []

    def settle(self, tracer: Any, patience_s: float | None = None) -> bool:
        self.waited_s.append(patience_s)
        return len(self.waited_s) > self.settlings


@pytest.mark.parametrize(
    ("settlings", "said"),
    [
        (0, []),
        (1, ["close() waits for device work: ['rollout', 'train']"]),
        (
            2,
            [
                "close() waits for device work: ['rollout', 'train']",
                "close() waits no more for device work: ['rollout', 'train']",
            ],
        ),
    ],
)
def test_a_stuck_device_does_not_keep_close_for_ever(
    settlings: int, said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """What it waits for is said, and the files end with it unfinished."""
    wait = StuckWait(settlings)
    rec = Recording(["tpu0"], wait=wait)
    for name in ("train", "rollout", "rollout"):
        with rec.tracer.span(name, ["tpu0"]) as span:
            span.device_end(wait.arrays(name))
    rec.tracer.close()
    assert [tracer_module.SLOW_S, tracer_module.STUCK_S][: 1 + bool(said)] == (
        wait.waited_s
    )
    assert said == [r.getMessage().removesuffix(" (said once)") for r in caplog.records]
    assert [] == rec.tracer._collector.feeds


# Sinks


class SlowSink(QuietSink):
    """Takes as long to flush as it says, on a clock of its own."""

    def __init__(self, takes_s: float, clock: list[float], done: bool = True) -> None:
        super().__init__()
        self.given: list[float | None] = []
        self.closed = 0
        self._takes_s, self._clock, self._done = takes_s, clock, done

    def flush(self, deadline_s: float | None = None) -> bool:
        self.given.append(deadline_s)
        self._clock[0] += self._takes_s
        return self._done

    def close(self) -> None:
        self.closed += 1


def test_a_flush_shares_its_time_among_the_sinks(
    rec: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first ones took the later ones lack; less than nothing is nothing."""
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    sinks = [SlowSink(takes, clock) for takes in (2.0, 4.0, 1.0)]
    for sink in sinks:
        rec.tracer._collector.subscribe(sink)
    assert rec.tracer.flush(5.0)
    assert [[5.0], [3.0], [0.0]] == [sink.given for sink in sinks]
    assert rec.tracer.flush()
    assert [[5.0, None], [3.0, None], [0.0, None]] == [sink.given for sink in sinks]


def test_a_flush_is_done_when_all_sinks_are(rec: Recording) -> None:
    """One that is not does not keep the others from it."""
    sinks = [SlowSink(0.0, [0.0], done) for done in (False, True)]
    assert rec.tracer.flush()
    for sink in sinks:
        rec.tracer._collector.subscribe(sink)
    assert not rec.tracer.flush(1.0)
    assert [1, 1] == [len(sink.given) for sink in sinks]


def test_closing_closes_the_sinks_once(rec: Recording) -> None:
    """After the pending work is done."""
    sink = SlowSink(0.0, [0.0])
    rec.tracer._collector.subscribe(sink)
    with rec.tracer as entered:
        assert entered is rec.tracer
        assert 0 == sink.closed
    rec.tracer.close()
    assert 1 == sink.closed


# Its account


def test_the_account_adds_up(rec: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the tracer and all sinks it ever had."""
    monkeypatch.setattr(tracer_module, "span_cost_s", lambda: 0.25)
    sink = QuietSink()
    rec.tracer._collector.subscribe(sink)
    for number, some in enumerate((rec.sink, sink), start=1):
        some.stats = WriteStats(
            written_slices=number,
            written_records=1_000 * number,
            dropped=10_000 * number,
            written_bytes=10 * number,
            errors=100 * number,
            last_error="disk full" if some is sink else "",
            paths=(Path(f"trace-{number}.pb"),),
            own_time_s=8.0 * number,
        )
    with rec.tracer.span("open"):
        for _ in range(3):
            with rec.tracer.span("x"):
                pass
        rec.tracer._collector.close_step()
        rec.tracer._collector.own_ns = 500_000_000
        stats = rec.tracer.stats()
    assert (3, 3_000, 30_000, 3, 1, 0) == (
        stats.recorded, stats.written, stats.dropped, stats.retained, stats.open,
        stats.pending,
    )  # fmt: skip
    assert (0, 0, 2, 1) == (stats.unwaited, stats.failed, stats.names, stats.steps)
    assert (3, 30, 300) == (
        stats.written_slices, stats.written_bytes, stats.write_errors,
    )  # fmt: skip
    assert ("disk full", ("trace-1.pb", "trace-2.pb")) == (
        stats.last_error, stats.trace_paths,
    )  # fmt: skip
    assert 0.5 + 24.0 + 3 * 0.25 == pytest.approx(stats.own_time_s, abs=1e-2)
    rec.tracer.close()
    assert 30 == rec.tracer.stats().written_bytes


def test_the_current_span_is_true_and_nothing_is_false(rec: Recording) -> None:
    """So that `if tracer.current_span():` can be asked."""
    assert not rec.tracer.current_span()
    with rec.tracer.span("x") as span:
        assert rec.tracer.current_span() is span
        assert not in_thread(rec.tracer.current_span)


def test_exporting_and_synchronizing_the_plain_tracer(rec: Recording) -> None:
    """A step is closed, without metrics; nothing is waited for that is not there."""
    rec.tracer.synchronize()
    assert {} == rec.tracer.export()
    assert 1 == rec.tracer.stats().steps
