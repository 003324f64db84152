"""What is made of the interpreter's lock, of stretches drawn by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from perf._model.lock import LockDemand
from perf._model.spans import RawRecord
from perf._read.lock import Contention, contention, seen_late_ns
from perf._read.recording import Recording
from perf._read.schedule import Schedule
from tests.read import drawn
from tests.read.simulator import MS

TAKEN = LockDemand(
    dur_ns=1_000 * MS,
    wakeups=10**6,
    taken=10**6,
    late_ns=12 * MS,
    trainer_ns=200 * MS,
    trainer_turns=190,
    switch_ns=5 * MS,
    others_ns=900 * MS,
    threads=["tokenizer", "loader", "idle"],
    threads_ns=[500 * MS, 350 * MS, 50 * MS],
)
"""Others have the lock, and the training's thread wants it."""


def seen(
    *demands: LockDemand, begin_ms: int = 0, end_ms: int = 4_000
) -> Contention | None:
    """What is made of stretches that end at 1 s, 2 s, ... of a run."""
    spans: list[RawRecord] = []
    lock = [(n * 1_000 * MS, demand) for n, demand in enumerate(demands, start=1)]
    whole = Recording("a.pb", {}, spans, (), (), (), 0, 0, (), lock=lock)
    return contention(whole, begin_ms * MS, end_ms * MS)


def changed(**values: Any) -> LockDemand:
    """The same stretch, but for that."""
    return dataclasses.replace(TAKEN, **values)


def test_others_have_the_lock_while_it_is_taken_and_the_training_does_not_run():
    """At least; of all of the run, of which half was looked at."""
    found = seen(TAKEN, TAKEN)
    assert found is not None
    assert (2 * 10**6, 1.0, 12 * MS) == (found.wakeups, found.taken_frac, found.late_ns)
    assert [("tokenizer", 0.5), ("loader", 0.35)] == found.threads
    assert pytest.approx(0.2) == found.trainer_frac
    assert pytest.approx((1 - 0.2) / 2, abs=1e-5) == found.held_frac


@pytest.mark.parametrize(
    ("values", "held"),
    [
        pytest.param({"trainer_ns": 990 * MS}, 0.01, id="the training's own thread"),
        pytest.param({"trainer_ns": 1_100 * MS}, 0.0, id="no less than nothing"),
        pytest.param({"trainer_turns": 6}, 0.03, id="it sleeps, and wants no lock"),
        pytest.param({"others_ns": 100 * MS}, 0.1, id="others hardly ran"),
        pytest.param({"taken": 0, "late_ns": 0}, 0.0, id="nobody has it"),
    ],
)
def test_what_keeps_nobody_from_the_lock_does_not_count(values, held):
    """Other threads may run as much as they like."""
    found = seen(*[changed(**values)] * 4)
    assert found is not None
    assert pytest.approx(held, abs=1e-5) == found.held_frac


def test_threads_of_one_name_are_told_together():
    """If they are busy together; of a damaged file there may be no time for a name."""
    threads = ["pool", "least", "pool", "less", "?"]
    threads_ns = [90 * MS, 40 * MS, 70 * MS, 39 * MS]
    found = seen(changed(threads=threads, threads_ns=threads_ns))
    assert found is not None
    assert [("pool", 0.16), ("least", 0.04)] == found.threads


def test_a_stretch_may_begin_before_the_steps():
    """It counts for no more than all of them."""
    found = seen(TAKEN, TAKEN, begin_ms=1_000, end_ms=2_000)
    assert found is not None
    assert 10**6 == found.wakeups
    assert pytest.approx(0.8, abs=1e-5) == found.held_frac
    found = seen(TAKEN, TAKEN, begin_ms=1_500, end_ms=2_000)
    assert found is not None
    assert pytest.approx(0.8, abs=1e-5) == found.held_frac


def test_of_stretches_those_in_the_steps_count():
    """Those that end in them."""
    demands = [changed(wakeups=n, taken=n) for n in (10, 20, 40)]
    assert [10, 30, 70] == [
        found.wakeups
        for end_ms in (1_000, 2_999, 3_000)
        if (found := seen(*demands, end_ms=end_ms))
    ]


@pytest.mark.parametrize(
    ("wakeups", "taken", "held"),
    [(1, 1, 0.162), (4, 4, 0.444), (10, 10, 0.670), (10, 5, 0.233), (100, 50, 0.402)],
)
def test_few_wake_ups_say_little(wakeups, taken, held):
    """They may have found the lock taken by chance."""
    found = seen(changed(wakeups=wakeups, taken=taken, trainer_ns=0), end_ms=1_000)
    assert found is not None
    assert pytest.approx(held, abs=1e-3) == found.held_frac


def test_of_no_wake_up_nothing_is_known():
    """Nor of a stretch without length, which may come from a damaged file."""
    assert seen() is None
    assert seen(changed(wakeups=0, taken=0)) is None
    assert seen(changed(dur_ns=0)) is None


def test_how_late_is_a_median_of_wake_ups():
    """A stretch counts as often as it has some that found the lock taken."""
    assert 10 * MS == late((30 * MS, 1), (5 * MS, 9), (10 * MS, 9), (0, 0))
    assert 5 * MS == late((9 * MS, 2), (5 * MS, 2))
    assert 0 == late((0, 0), (0, 0))


def late(*stretches: tuple[int, int]) -> int:
    """The median of stretches with such a one, and so many that found it taken."""
    found = seen(*[changed(late_ns=ns, taken=taken) for ns, taken in stretches])
    assert found is not None
    return found.late_ns


def test_device_time_may_be_an_end_that_was_seen_late():
    """No more than a span has; spans that say nothing have none."""
    records = [
        drawn.work("a", 0, 10, 1),
        drawn.work("a", 10, 30, 2, end_error_ns=15 * MS),
        drawn.work("a", 30, 34, 3, end_error_ns=15 * MS),
        drawn.work("a", 40, 50, 4, step=1),
        drawn.work("a", 90, 99, 5, end_error_ns=5 * MS),
    ]
    schedule = Schedule([(drawn.device("tpu0"), records)], 100 * MS)
    assert (15 + 4) * MS == seen_late_ns(schedule, 0, 60 * MS)
    assert 0 == seen_late_ns(schedule, 0, 10 * MS)
