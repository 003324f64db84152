from __future__ import annotations

import itertools
import math
import sys
import threading
import time
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest

from perf._model import waits as waits_module
from perf._model.lock import LockDemand
from perf._model.waits import own_waits
from perf._write.lock_watch import (
    LONGEST_NS,
    NAP_S,
    SHORTEST_NS,
    LockWatch,
    Reading,
    read,
)

MS = 1_000_000
ONLY_LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="other systems do not tell this of threads"
)


class Machine:
    """A clock that stands still, and threads that do as they are told."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.trainer_ns = self.turns = 0
        self.others_ns: dict[int, int] = dict.fromkeys(range(1, 6), 0)
        self.tells = True

    def look(self, trainer: int) -> Reading | None:
        if not self.tells:
            return None
        ran_ns, turns = self.trainer_ns, self.turns
        names = {tid: f"t{tid}" for tid in self.others_ns}
        others_ns = {**self.others_ns}
        return Reading(self.now_ns, trainer, ran_ns, turns, others_ns, names)


@pytest.fixture
def machine() -> Machine:
    """Nothing has happened on it."""
    return Machine()


@pytest.fixture
def watch(machine: Machine) -> LockWatch:
    """It has begun its first stretch."""
    made = LockWatch(machine.look, lambda: machine.now_ns)
    made.trainer = 7
    made.woke(1, 0)
    return made


def told(watch: LockWatch) -> LockDemand | None:
    """What it has to tell by now."""
    return None if watch.last is None else watch.last[1]


def test_a_stretch_tells_who_had_the_cores_and_how_late_the_thread_came(
    machine: Machine, watch: LockWatch
) -> None:
    """Of wake-ups that found the lock taken, those with more than one wait, alone."""
    watch.woke(1, 90 * MS)
    for waits, late_ms in [(2, 5), (4, 20), (3, 10), (2, 2), (2, 30)]:
        watch.woke(waits, late_ms * MS)
    assert told(watch) is None
    machine.now_ns, machine.trainer_ns, machine.turns = SHORTEST_NS, 300 * MS, 40
    machine.others_ns = {n: n * 100 * MS for n in range(1, 6)}
    watch.woke(1, 0)
    assert watch.last is not None
    assert SHORTEST_NS == watch.last[0]
    assert LockDemand(
        dur_ns=SHORTEST_NS,
        wakeups=7,
        taken=5,
        late_ns=10 * MS,
        trainer_ns=300 * MS,
        trainer_turns=40,
        switch_ns=round(sys.getswitchinterval() * 1e9),
        others_ns=1_500 * MS,
        threads=["t5", "t4", "t3", "t2"],
        threads_ns=[500 * MS, 400 * MS, 300 * MS, 200 * MS],
    ) == told(watch)


def test_each_stretch_is_of_its_own_time(machine: Machine, watch: LockWatch) -> None:
    """What was before does not count again."""
    machine.others_ns = {1: 800 * MS}
    machine.now_ns, machine.trainer_ns, machine.turns = SHORTEST_NS, 500 * MS, 60
    watch.woke(2, MS)
    machine.others_ns = {1: 1_000 * MS}
    machine.now_ns, machine.trainer_ns, machine.turns = 3 * SHORTEST_NS, 600 * MS, 64
    watch.woke(1, 0)
    seen = told(watch)
    assert seen is not None
    assert (200 * MS, 100 * MS, 4) == (
        seen.others_ns,
        seen.trainer_ns,
        seen.trainer_turns,
    )
    assert (1, 0, 0) == (seen.wakeups, seen.taken, seen.late_ns)


def test_of_a_long_run_little_is_told(machine: Machine, watch: LockWatch) -> None:
    """Stretches grow, up to a length; the first are short, for runs that are."""
    ends: list[int] = []
    while machine.now_ns < 1_000 * SHORTEST_NS:
        machine.now_ns += SHORTEST_NS
        machine.others_ns = {1: machine.now_ns}
        watch.woke(1, 0)
        if watch.last is not None and watch.last[0] == machine.now_ns:
            ends.append(machine.now_ns)
    lengths = [end - begin for begin, end in itertools.pairwise([0, *ends])]
    assert sorted(lengths) == lengths
    assert (SHORTEST_NS, LONGEST_NS) == (lengths[0], lengths[-1])


def test_where_no_other_thread_is_busy_nothing_is_told(
    machine: Machine, watch: LockWatch
) -> None:
    """Whatever the training's own thread does."""
    machine.now_ns, machine.trainer_ns = SHORTEST_NS, SHORTEST_NS
    machine.others_ns = {1: 10 * MS}
    watch.woke(2, 5 * MS)
    assert told(watch) is None
    assert math.inf == watch.nap_s


def test_while_others_are_busy_the_thread_is_to_wake_up_more_often(
    machine: Machine, watch: LockWatch
) -> None:
    """As long as they are."""
    assert math.inf == watch.nap_s
    naps_s = []
    for ran_ns in (SHORTEST_NS, 0):
        machine.now_ns += 2 * SHORTEST_NS
        machine.others_ns[1] += ran_ns
        watch.woke(1, 0)
        naps_s.append(watch.nap_s)
    assert [NAP_S, math.inf] == naps_s


def test_a_time_that_had_come_before_is_no_wake_up(
    machine: Machine, watch: LockWatch
) -> None:
    """The thread did not sleep."""
    machine.now_ns, machine.others_ns = SHORTEST_NS, {1: SHORTEST_NS}
    watch.woke(0, 50 * MS)
    assert told(watch) is None
    watch.woke(1, 0)
    seen = told(watch)
    assert seen is not None
    assert (1, 0) == (seen.wakeups, seen.taken)


def test_where_the_system_does_not_tell_nothing_is_told(
    machine: Machine, watch: LockWatch
) -> None:
    """And a stretch begins when it does so again, of whoever trains then."""
    trainer = watch.trainer
    machine.now_ns, machine.tells = SHORTEST_NS, False
    watch.woke(1, 0)
    assert 0 == watch.trainer
    watch.trainer = trainer
    machine.now_ns, machine.tells = 2 * SHORTEST_NS, True
    machine.others_ns = {1: SHORTEST_NS}
    watch.woke(1, 0)
    assert told(watch) is None


def test_of_a_thread_that_was_not_there_nothing_is_known(
    machine: Machine, watch: LockWatch
) -> None:
    """Neither of one that got the number of another."""
    machine.others_ns = {1: 500 * MS, 2: 500 * MS}
    machine.now_ns = SHORTEST_NS
    watch.woke(1, 0)
    machine.others_ns = {1: 700 * MS, 2: 100 * MS, 9: 900 * MS}
    machine.now_ns = 3 * SHORTEST_NS
    watch.woke(1, 0)
    seen = told(watch)
    assert seen is not None
    assert (200 * MS, ["t1", "t2"], [200 * MS, 0]) == (
        seen.others_ns,
        seen.threads,
        seen.threads_ns,
    )


def test_a_stretch_is_of_one_thread_of_the_training(
    machine: Machine, watch: LockWatch
) -> None:
    """Where tracers are made by several, its time is that of one of them."""
    machine.others_ns = {1: SHORTEST_NS}
    machine.now_ns, watch.trainer = SHORTEST_NS, 8
    watch.woke(1, 0)
    assert told(watch) is None
    machine.others_ns = {1: 2 * SHORTEST_NS}
    machine.now_ns = 2 * SHORTEST_NS
    watch.woke(1, 0)
    assert told(watch) is not None


def test_without_a_thread_of_the_training_nothing_is_told(machine: Machine) -> None:
    """Nobody would know whom others keep from the lock."""
    watch = LockWatch(machine.look, lambda: machine.now_ns)
    for _ in range(3):
        watch.woke(1, 0)
        machine.now_ns += SHORTEST_NS
        machine.others_ns = {1: machine.now_ns}
    assert told(watch) is None


@ONLY_LINUX
def test_all_python_threads_but_the_trainings_are_looked_at() -> None:
    """By their names; the processor time of each only grows."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="beside")
    thread.start()
    first, second = (read(threading.get_native_id()) for _ in range(2))
    stop.set()
    thread.join()
    assert first is not None
    assert second is not None
    assert "beside" in first.names.values()
    assert first.names.keys() == first.others_ns.keys()
    assert threading.get_native_id() not in first.names
    assert first.at_ns <= second.at_ns
    assert first.trainer_ns <= second.trainer_ns
    assert read(0) is None  # no thread has that


@ONLY_LINUX
def test_what_a_thread_has_had_of_the_cores_is_its_own() -> None:
    """The training's also while it wanted one; that of others only while they ran."""
    ran_ns: SimpleQueue[int] = SimpleQueue()
    stop = threading.Event()

    def beside() -> None:
        ran_ns.put(time.thread_time_ns())
        stop.wait()

    def had_ns() -> int:
        schedstat = Path(f"/proc/self/task/{trainer}/schedstat").read_text()
        return sum(map(int, schedstat.split()[:2]))

    trainer = threading.get_native_id()
    thread = threading.Thread(target=beside)
    thread.start()
    least_ns, least_of_trainer_ns = ran_ns.get(), had_ns()
    reading = read(trainer)
    most_ns, most_of_trainer_ns = time.process_time_ns(), had_ns()
    stop.set()
    thread.join()
    assert reading is not None
    assert thread.native_id is not None
    assert least_ns <= reading.others_ns[thread.native_id] <= most_ns
    assert least_of_trainer_ns <= reading.trainer_ns <= most_of_trainer_ns


def test_where_waits_are_not_counted_there_are_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Elsewhere than on Linux: no wake-up is taken for a lock that somebody had."""
    monkeypatch.setattr(waits_module, "_OF_THREAD", None)
    assert 0 == own_waits()


@ONLY_LINUX
def test_a_lock_that_is_taken_is_one_more_wait() -> None:
    """So the system counts it. Of many wake-ups beside a busy thread one at least."""
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            sum(range(1_000))

    def waits() -> int:
        before = own_waits()
        with pytest.raises(Empty):
            SimpleQueue[None]().get(timeout=0.001)
        return own_waits() - before

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        assert any(waits() > 1 for _ in range(1_000))
    finally:
        stop.set()
        thread.join()
