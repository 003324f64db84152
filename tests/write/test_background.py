from __future__ import annotations

import math
import sys
import threading
from pathlib import Path
from queue import SimpleQueue

import pytest

from perf._write.background import Worker
from tests.programs import run_python


class Counting:
    """A writer that counts how often it was asked."""

    def __init__(self) -> None:
        self.count = 0
        self.called = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.finished = self.settled = False

    def write_now(self) -> None:
        self.called.set()
        self.may_go_on.wait()
        self.count += 1

    def finish(self) -> None:
        self.write_now()
        self.finished = True

    def settle(self) -> None:
        self.settled = True

    def after_fork(self) -> None:
        raise AssertionError


def test_a_round_is_made_when_asked_for() -> None:
    """And all writers are served in it."""
    worker, writers = Worker(), [Counting(), Counting()]
    for writer in writers:
        worker.add(writer)
    before = [writer.count for writer in writers]
    assert worker.round(None)
    assert all(w.count > count for w, count in zip(writers, before, strict=True))
    worker.stop()


def test_a_round_that_began_before_does_not_count() -> None:
    """What was recorded meanwhile would not be in it."""
    worker, writer = Worker(), Counting()
    writer.may_go_on.clear()
    worker.add(writer)
    worker.wake()
    writer.called.wait()
    threading.Thread(target=writer.may_go_on.set).start()
    assert worker.round(None)
    assert 2 <= writer.count
    worker.stop()


def test_waiting_ends_at_the_deadline() -> None:
    """A write that hangs does not hang whoever flushes."""
    worker, writer = Worker(), Counting()
    writer.may_go_on.clear()
    worker.add(writer)
    assert not worker.round(0.01)
    writer.may_go_on.set()
    worker.stop()


def test_a_deadline_may_be_any_number() -> None:
    """Also one that the system's clocks cannot show."""
    worker, writer = Worker(), Counting()
    worker.add(writer)
    assert worker.round(math.inf)
    assert not worker.round(-math.inf)
    worker.stop()


def test_waking_does_not_wait() -> None:
    """Not for a write in progress either."""
    worker, writer = Worker(), Counting()
    writer.may_go_on.clear()
    worker.add(writer)
    worker.wake()
    writer.called.wait()
    worker.wake()
    assert 0 == writer.count
    writer.may_go_on.set()
    worker.stop()


def test_the_timer_needs_no_waking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans reach the file while nobody closes a step."""
    monkeypatch.setattr("perf._write.background.PERIOD_S", 0.01)
    worker, writer = Worker(), Counting()
    worker.add(writer)
    assert writer.called.wait()
    worker.stop()


def test_the_lock_watch_is_told_of_each_time_that_the_timer_wakes_the_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """How often the thread waited until then, and how late it is."""
    monkeypatch.setattr("perf._write.background.PERIOD_S", 0.01)
    told: SimpleQueue[tuple[int, int]] = SimpleQueue()
    worker = Worker()
    monkeypatch.setattr(worker.lock_watch, "woke", lambda *seen: told.put(seen))
    worker.add(Counting())
    seen = [told.get(timeout=60) for _ in range(9)]
    worker.stop()
    assert all(waits >= 0 and late_ns >= 0 for waits, late_ns in seen)
    assert sys.platform != "linux" or any(waits for waits, _ in seen)


def test_naps_for_the_lock_watch_are_no_rounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The thread wakes up to be watched, and somebody who rings is still heard."""
    monkeypatch.setattr("perf._write.background.PERIOD_S", 60.0)
    told: SimpleQueue[tuple[int, int]] = SimpleQueue()
    worker, writer = Worker(), Counting()
    worker.lock_watch.nap_s = 0.001
    monkeypatch.setattr(worker.lock_watch, "woke", lambda *seen: told.put(seen))
    worker.add(writer)
    assert worker.round(None)
    before = writer.count
    for _ in range(200):
        told.get(timeout=60)
    assert before == writer.count
    assert worker.round(None)
    assert before < writer.count
    worker.stop()


def test_a_writer_that_was_removed_is_asked_no_more() -> None:
    """The others are."""
    worker, gone, kept = Worker(), Counting(), Counting()
    worker.add(gone)
    worker.add(kept)
    worker.remove(gone)
    worker.round(None)
    count = gone.count
    worker.round(None)
    assert count == gone.count
    assert kept.count >= 2
    worker.stop()


def test_a_writer_that_fails_costs_the_others_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nor the thread, which is the only one; the log says it once."""

    class Failing(Counting):
        def write_now(self) -> None:
            super().write_now()
            raise OSError(107, "gone")

        def settle(self) -> None:
            raise OSError(107, "gone")

    worker, failing, other = Worker(), Failing(), Counting()
    worker.add(failing)
    worker.add(other)
    assert worker.round(30)
    assert worker.round(30)
    worker.stop()
    assert failing.count == other.count >= 3
    assert other.finished
    assert other.settled
    (record,) = caplog.records
    assert "write_now: OSError: [Errno 107] gone" in record.getMessage()


def test_all_have_begun_to_finish_before_one_is_waited_for() -> None:
    """At the exit, what they wait for takes as long as the slowest."""
    worker, writers = Worker(), [Counting(), Counting()]

    def settle() -> None:
        assert all(writer.finished for writer in writers)
        writers[1].settled = True

    writers[0].settle = settle  # type: ignore[method-assign]
    for writer in writers:
        worker.add(writer)
    worker.stop()
    assert writers[1].settled


def test_stopping_writes_what_is_left() -> None:
    """In the worker's thread, which ends then; later rounds are the calling one's."""
    worker, writer = Worker(), Counting()
    worker.add(writer)
    worker.round(None)
    before = writer.count
    worker.stop()
    assert before < writer.count
    assert writer.finished
    before = writer.count
    assert worker.round(None)
    assert before < writer.count


PROGRAM = """
import os, sys, threading
from perf._model.spans import Batch, ClockSnapshot
from perf._write.layout import V1Layout
from perf._write.writer import TraceWriter
from tests.write.traces import MAIN, clocks, span

class Source:
    def __init__(self): self.records = []
    def close(self): pass
    def drain(self, anew=False):
        taken, self.records = self.records, []
        return Batch([(MAIN, taken)] if taken else [], [], frozenset(), clocks(10**6))

source, writer = Source(), TraceWriter(sys.argv[1], V1Layout())
writer.attach(source)
"""


def names_after(folder: Path, program: str, *, said: str = "") -> list[set[str]]:
    """The names of the slices in each file that a program left, largest first."""
    from perf._read.load import load

    done = run_python("-W", "error", "-c", PROGRAM + program, str(folder))
    assert 0 == done.returncode, done.stderr
    assert said in done.stderr
    assert bool(said) == bool(done.stderr), done.stderr
    traces = [load(path) for path in folder.glob("*.pb")]
    return sorted(({s.name for s in t.slices} for t in traces), key=len, reverse=True)


def test_what_was_recorded_last_is_written_at_the_interpreters_exit(
    tmp_path: Path,
) -> None:
    """Nobody has to close anything."""
    assert [{"span 1", "span 2"}] == names_after(
        tmp_path,
        "source.records = [span(1, 0, 1)]\n"
        "writer.flush()\n"
        "source.records = [span(2, 2, 3)]\n",
    )


def test_a_process_that_ends_says_so_in_its_file(tmp_path: Path) -> None:
    """One that is killed does not: what it had is in the file all the same."""
    from perf._read.load import load

    for name, program in (
        ("ended", "source.records = [span(1, 0, 1)]\n"),
        ("killed", "source.records = [span(1, 0, 1)]\nwriter.flush()\nos._exit(0)\n"),
    ):
        (tmp_path / name).mkdir()
        assert [{"span 1"}] == names_after(tmp_path / name, program)
        (path,) = (tmp_path / name).glob("*.pb")
        assert (name == "ended") == load(path).has_ended


def test_a_write_that_hangs_does_not_keep_a_process_from_its_end(
    tmp_path: Path,
) -> None:
    """A mount that is gone, in the worker's thread; a log line says so."""
    assert [] == names_after(
        tmp_path,
        "from perf._write import background, sink, writer as module\n"
        "background.HANG_S = module.HANG_S = 0.1\n"
        "begun = threading.Event()\n"
        "def hang(self):\n"
        "    begun.set()\n"
        "    threading.Event().wait()\n"
        "sink.TraceFile._create = hang\n"
        "source.records = [span(1, 0, 1)]\n"
        "writer.wake()\n"
        "begun.wait()\n",
        said="hangs",
    )


def test_a_writer_that_is_attached_while_the_process_ends(tmp_path: Path) -> None:
    """In an exit hook no other can be set up any more: that is nobody's error."""
    assert [{"span 1"}] == names_after(
        tmp_path,
        "import atexit\n"
        "from perf._write import background\n"
        "writer.close()\n"
        "background._hooked = False\n"
        "def late():\n"
        "    writer = TraceWriter(sys.argv[1], V1Layout())\n"
        "    writer.attach(source)\n"
        "    source.records = [span(1, 0, 1)]\n"
        "    writer.close()\n"
        "atexit.register(late)\n",
    )


def test_threads_that_outlive_the_main_thread_are_written(tmp_path: Path) -> None:
    """The interpreter joins them first: the worker goes on, and writes at the end."""
    assert [{"span 1", "span 2"}] == names_after(
        tmp_path,
        "def later():\n"
        "    threading.main_thread().join()\n"
        "    source.records.append(span(1, 0, 1))\n"
        "    assert writer.flush()\n"
        "    source.records.append(span(2, 2, 3))\n"
        "threading.Thread(target=later).start()\n",
    )


def test_a_forked_child_writes_a_file_of_its_own(tmp_path: Path) -> None:
    """Never to its parent's; nor does it write what the parent recorded."""
    assert [{"span 1", "span 2"}, {"span 3"}] == names_after(
        tmp_path,
        "source.records = [span(1, 0, 1)]\n"
        "writer.flush()\n"
        "if (child := os.fork()) == 0:\n"
        "    assert not writer.stats.paths\n"
        "    source.records = [span(3, 0, 1)]\n"
        "    assert writer.flush()\n"
        "    os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "source.records = [span(2, 2, 3)]\n",
    )


def test_a_child_forked_in_the_middle_of_a_write_is_not_stuck(tmp_path: Path) -> None:
    """Its locks are new, whoever held the parent's."""
    assert [{"span 3"}] == names_after(
        tmp_path,
        "writer._lock.acquire()\n"
        "if (child := os.fork()) == 0:\n"
        "    source.records = [span(3, 0, 1)]\n"
        "    assert writer.flush()\n"
        "    os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "writer._lock.release()\n",
    )


def test_a_child_that_records_nothing_leaves_no_file(tmp_path: Path) -> None:
    """Most children do."""
    assert [{"span 1"}] == names_after(
        tmp_path,
        "source.records = [span(1, 0, 1)]\n"
        "writer.flush()\n"
        "if (child := os.fork()) == 0:\n"
        "    assert threading.active_count() == 1\n"
        "    sys.exit()\n"
        "assert os.waitpid(child, 0)[1] == 0\n",
    )


def test_a_child_of_multiprocessing_writes_at_its_end(tmp_path: Path) -> None:
    """It runs no exit hooks before Python 3.13, but those of threading."""
    assert [{"span 1", "span 2"}] == names_after(
        tmp_path,
        "import multiprocessing\n"
        "def work():\n"
        "    source.records = [span(1, 0, 1), span(2, 2, 3)]\n"
        "child = multiprocessing.get_context('fork').Process(target=work)\n"
        "child.start()\n"
        "child.join()\n",
    )
