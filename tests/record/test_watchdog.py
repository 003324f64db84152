"""A step that does not end is told of, with what is open and where threads stand."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import re
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from perf._model.spans import INSTANT
from perf._record import watchdog as watchdog_module
from perf._record.default import get_tracer
from perf._record.noop import NoopTracer
from perf.experimental.tracer import PerfTracer
from perf.trace import PerfTracer as PerfTracerV1
from perf.watchdog import Hang, OpenSpan, Watchdog
from tests.faults.child import run
from tests.record.recording import Recording, held_elsewhere, in_thread

AFTER_S = 100.0
NS = 1_000_000_000


class Sleep(threading.Event):
    """A sleep of the watchdog's thread; it ends when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: SimpleQueue[float | None] = SimpleQueue()
        self._over: SimpleQueue[None] = SimpleQueue()

    def wait(self, timeout: float | None = None) -> bool:
        self.begun.put(timeout)
        self._over.get()
        return self.is_set()

    def end(self) -> None:
        self._over.put(None)

    def set(self) -> None:
        super().set()
        self.end()


class Watched:
    """A tracer and its watchdog, on a clock that stands still."""

    def __init__(self, on_hang: Callable[[Hang], object] | None = None) -> None:
        self.rec = Recording(["a0", "a1"])
        self.hangs: list[Hang] = []
        self.sleep = Sleep()
        self.dog = Watchdog(
            self.rec.tracer,
            after_s=AFTER_S,
            on_hang=on_hang or self.hangs.append,
            _stop=self.sleep,
        )
        self.thread = self.dog._thread
        assert 0.0 == self.sleep.begun.get()

    def at(self, second: float) -> None:
        """Moves the clock."""
        self.rec.at(round(second * NS))

    def look(self, second: float) -> float | None:
        """Has the watchdog look then; returns for how long it sleeps after that."""
        self.at(second)
        self.sleep.end()
        return self.sleep.begun.get(timeout=60)

    def ends(self) -> None:
        """Has the watchdog look; fails unless its thread ends by it."""
        assert self.thread is not None
        self.sleep.end()
        self.thread.join(60)
        assert not self.thread.is_alive()

    def text(self, second: float = AFTER_S) -> str:
        """What it says then, without numbers of lines."""
        self.look(second)
        return re.sub(r"py:\d+", "py", self.hangs[-1].text)


@pytest.fixture
def watched() -> Iterator[Watched]:
    """It is never said to hang before the hundredth second."""
    made = Watched()
    yield made
    made.dog.close()


@contextlib.contextmanager
def blocked_in(watched: Watched, name: str, *path: str) -> Iterator[None]:
    """A thread of that name has spans open, and waits for what does not come."""
    inside, over = threading.Event(), threading.Event()

    def push_weights() -> None:
        inside.set()
        over.wait()

    def work() -> None:
        with contextlib.ExitStack() as spans:
            for each in path:
                spans.enter_context(watched.rec.tracer.span(each))
            push_weights()

    thread = threading.Thread(target=work, name=name)
    thread.start()
    inside.wait()
    try:
        yield
    finally:
        over.set()
        thread.join()


HERE = "test_watchdog.py in look"
"""Where the thread of the test stands while the watchdog looks."""


# When it says something


def test_a_step_is_told_of_once_it_has_lasted_so_long(watched: Watched) -> None:
    """Not before. The thread sleeps until then."""
    assert (AFTER_S, 0.5) == (watched.look(0.0), watched.look(99.5))
    assert [] == watched.hangs
    assert AFTER_S == watched.look(100.0)
    assert [(0, 100.0)] == [(hang.step, hang.seconds) for hang in watched.hangs]


def test_of_one_step_it_is_said_at_twice_the_time_each(watched: Watched) -> None:
    """However long it hangs, a page a day is enough."""
    for second in range(0, 1701, 50):
        watched.look(second)
    assert [100.0, 200.0, 400.0, 800.0, 1600.0] == [h.seconds for h in watched.hangs]


def test_a_look_that_comes_late_says_it_once(watched: Watched) -> None:
    """After the machine was stopped for a while, say."""
    assert 50.0 == watched.look(750.0)
    watched.look(799.0)
    assert [750.0] == [hang.seconds for hang in watched.hangs]


def test_the_thread_never_sleeps_longer_than_a_step_may_last(watched: Watched) -> None:
    """Or it would miss the next one."""
    naps = [watched.look(second) for second in (100.0, 110.0, 200.0, 300.0, 350.0)]
    assert [100.0, 90.0, 100.0, 100.0, 50.0] == naps


def test_a_step_that_ends_between_two_looks_is_not_told_of(watched: Watched) -> None:
    """Each step is timed from the export before it."""
    watched.look(50.0)
    watched.at(90.0)
    watched.rec.tracer.export()
    assert 90.0 == watched.look(100.0)
    assert [] == watched.hangs


def test_the_next_step_is_timed_anew(watched: Watched) -> None:
    """Also after one that hung for a while; its number is that of its export."""
    watched.look(250.0)
    watched.rec.tracer.export()
    watched.look(349.0)
    watched.look(350.0)
    assert [(0, 250.0), (1, 100.0)] == [(h.step, h.seconds) for h in watched.hangs]


def test_while_the_tracer_is_off_nothing_is_said(watched: Watched) -> None:
    """Then it is, once it is on."""
    watched.rec.tracer.enabled = False
    assert AFTER_S == watched.look(150.0)
    assert [] == watched.hangs
    watched.rec.tracer.enabled = True
    watched.look(160.0)
    assert [160.0] == [hang.seconds for hang in watched.hangs]


# What it says


def test_a_thread_is_told_with_its_spans_and_where_it_stands(watched: Watched) -> None:
    """The line of the program's own, not of the library's that it called."""
    watched.at(2.0)
    with watched.rec.tracer.span("peft_train"):
        watched.at(3.0)
    watched.at(40.0)
    with blocked_in(watched, "syncer", "global_step", "weight_sync"):
        text = watched.text()
    assert (
        "step 0 has not ended after 100 s: syncer is in global_step > weight_sync for "
        "60 s, at test_watchdog.py in push_weights; "
        f"MainThread is at {HERE}; last to end: peft_train 97 s ago"
    ) == text
    (hang,) = watched.hangs
    (found,) = hang.open
    assert ("syncer", ("global_step", "weight_sync")) == (found.timeline, found.path)
    assert 60.0 == found.seconds
    assert re.fullmatch(r"test_watchdog.py:\d+ in push_weights", found.at)


def test_the_stacks_are_whole(watched: Watched) -> None:
    """Of threads that have spans open, and of the one that made the tracer."""
    other = threading.Event()
    thread = threading.Thread(target=other.wait, name="of no interest")
    thread.start()
    with blocked_in(watched, "syncer", "weight_sync"):
        watched.look(AFTER_S)
    other.set()
    thread.join()
    stacks = watched.hangs[0].stacks
    assert ["MainThread:", "syncer:"] == re.findall(r"^\S.*$", stacks, re.MULTILINE)
    assert re.search(r"test_watchdog.py\", line \d+, in push_weights", stacks)
    assert "over.wait()" in stacks
    assert re.search(r"threading.py\", line \d+, in wait", stacks)


def test_the_thread_that_made_the_tracer_is_told_like_any_other(
    watched: Watched,
) -> None:
    """With a span open it stands in that."""
    with watched.rec.tracer.span("global_step"):
        text = watched.text()
    assert text.endswith(f": MainThread is in global_step for 100 s, at {HERE}")


def test_where_nothing_is_open_that_is_said(watched: Watched) -> None:
    """And where the thread that made the tracer stands."""
    assert watched.text().endswith(f" 100 s: no span is open; MainThread is at {HERE}")
    assert () == watched.hangs[0].open
    assert watched.hangs[0].stacks.startswith("MainThread:\n  File ")


def test_work_in_flight_is_told_with_its_devices(watched: Watched) -> None:
    """What is in flight longest first; after the threads."""
    watched.at(98.0)
    watched.rec.launch("peft_train", "a1")
    watched.at(30.0)
    watched.rec.launch("rollout", ["a0", "a1"])
    text = watched.text()
    assert (
        f"no span is open; MainThread is at {HERE}; work in flight: rollout on a0, a1 "
        "for 70 s, peft_train on a1 for 2.0 s; last to end: peft_train 2.0 s ago"
    ) in text
    assert (
        OpenSpan("a0, a1", ("rollout",), 70.0),
        OpenSpan("a1", ("peft_train",), 2.0),
    ) == watched.hangs[0].open


def test_of_many_threads_those_open_longest_are_told(watched: Watched) -> None:
    """And how many more there are; the hook gets all."""
    with contextlib.ExitStack() as blocked:
        for second in (5, 3, 1, 2, 6, 4):
            watched.at(second)
            blocked.enter_context(blocked_in(watched, f"t{second}", "rollout"))
        text = watched.text()
    assert ["t1", "t2", "t3", "t4"] == re.findall(r"(t\d) is in", text)
    assert "for 96 s, at test_watchdog.py in push_weights; and 2 more; Main" in text
    assert [f"t{n}" for n in range(1, 7)] == [e.timeline for e in watched.hangs[0].open]


@pytest.mark.parametrize(("count", "more"), [(4, []), (5, ["and 1 more"])])
def test_four_threads_are_all_told(
    watched: Watched, count: int, more: list[str]
) -> None:
    """Nobody is "0 more"."""
    with contextlib.ExitStack() as blocked:
        for number in range(count):
            blocked.enter_context(blocked_in(watched, f"t{number}", "rollout"))
        assert more == re.findall(r"and \d more", watched.text())


def test_tasks_of_one_thread_are_told_apart(watched: Watched) -> None:
    """Each with the spans around it."""
    tracer = watched.rec.tracer

    async def task(name: str, barrier: asyncio.Barrier) -> None:
        with tracer.span(name), tracer.span("generate"):
            await barrier.wait()
            await barrier.wait()

    async def main() -> None:
        barrier = asyncio.Barrier(3)
        with tracer.span("global_step"):
            tasks = [asyncio.create_task(task(name, barrier)) for name in "ab"]
            await barrier.wait()
            watched.look(AFTER_S)
            await barrier.wait()
            await asyncio.gather(*tasks)

    asyncio.run(main())
    assert [
        ("global_step", "a", "generate"),
        ("global_step", "b", "generate"),
    ] == [each.path for each in watched.hangs[0].open]


def test_a_thread_that_has_ended_stands_nowhere(watched: Watched) -> None:
    """Its span is open for ever, and it is said why."""
    span = watched.rec.tracer.span("rollout")
    in_thread(span.__enter__)
    assert " is in rollout for 100 s, and has ended; MainThread is" in watched.text()
    assert "" == watched.hangs[0].open[0].at
    assert "Thread-" not in watched.hangs[0].stacks


def test_a_maker_of_the_tracer_that_has_ended_is_not_looked_for() -> None:
    """Another thread may have its number by now."""
    watched = in_thread(Watched)
    assert watched.text().endswith(" 100 s: no span is open")
    assert "" == watched.hangs[0].stacks
    watched.dog.close()


def test_where_nothing_is_the_programs_own_a_thread_stands_in_a_library() -> None:
    """There the innermost frame of all has to do."""
    inside: SimpleQueue[int] = SimpleQueue()
    over = threading.Event()
    source = "\n\ndef generate():\n  inside.put(get_ident())\n  over.wait()\n"
    scope = {"inside": inside, "over": over, "get_ident": threading.get_ident}
    exec(compile(source, "/x/site-packages/engine/llm.py", "exec"), scope)
    target: Any = scope["generate"]
    thread = threading.Thread(target=target)
    thread.start()
    frame = sys._current_frames()[inside.get()]
    # In `generate`, or in what it has called by now.
    place = watchdog_module._place(frame)
    innermost = Path(frame.f_code.co_filename).name
    over.set()
    thread.join()
    assert place.startswith(f"{innermost}:")


@pytest.mark.parametrize(
    ("path", "own"),
    [
        (__file__, True),
        ("<stdin>", True),
        ("/home/a/site-packages.py", True),
        (threading.__file__, False),
        (asyncio.__file__, False),
        ("<frozen importlib._bootstrap>", False),
        ("/x/lib/python3.12/site-packages/jax/_src/api.py", False),
        ("/usr/lib/python3/dist-packages/numpy/core.py", False),
    ],
)
def test_what_was_installed_is_not_the_programs_own(path: str, own: bool) -> None:
    """Nor what Python brings along."""
    scope: dict[str, Any] = {"sys": sys}
    exec(compile("frame = sys._getframe()", path, "exec"), scope)
    assert own == watchdog_module._is_own(scope["frame"])


def test_names_are_made_proper(watched: Watched) -> None:
    """Whatever was given as one; a long one is cut."""
    name: Any = 7
    with watched.rec.tracer.span(name), watched.rec.tracer.span("x" * 600):
        watched.look(AFTER_S)
    first, second = watched.hangs[0].open[0].path
    assert "7" == first
    assert second.endswith("x… (600 characters)")


def test_lengths_are_told_as_exactly_as_they_matter(watched: Watched) -> None:
    """Whole seconds, from ten on."""
    lengths = [watchdog_module._length(s) for s in (0.04, 9.94, 10.0, 1799.6)]
    assert ["0.0 s", "9.9 s", "10 s", "1800 s"] == lengths


def test_the_last_to_end_may_be_of_the_step_before(watched: Watched) -> None:
    """Of any kind of span; an instant or a counter is none."""
    watched.at(7.0)
    work = watched.rec.launch("rollout", "a0")
    watched.at(9.0)
    watched.rec.wait.finish(work)
    assert watched.text().endswith("last to end: rollout 91 s ago")
    watched.rec.tracer.export()
    watched.at(150.0)
    watched.rec.tracer.instant("x")
    watched.rec.tracer.counter("y", 10**20)
    assert watched.text(200.0).endswith("last to end: rollout 191 s ago")


def test_it_is_in_the_trace(watched: Watched) -> None:
    """As an instant, with tags that are written."""
    with watched.rec.tracer.span("global_step"):
        watched.look(AFTER_S)
    (found,) = [record for record in watched.rec.read() if record.kind == INSTANT]
    text = watched.hangs[0].text
    assert "hang" == found.name
    assert {"step": 0, "seconds": 100.0, "says": text} == found.tags


def test_it_is_one_line_of_the_log(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning each time."""
    with caplog.at_level(logging.WARNING, "perf"):
        watched.look(AFTER_S)
        watched.look(2 * AFTER_S)
    assert [hang.text for hang in watched.hangs] == caplog.messages
    assert {("perf", logging.WARNING)} == {(r.name, r.levelno) for r in caplog.records}


# What goes wrong


@pytest.mark.parametrize("error", [ValueError("no pager"), SystemExit("no pager")])
def test_a_hook_that_fails_is_logged_once(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """And is called again the next time."""
    calls = []

    def hook(hang: Hang) -> None:
        calls.append(hang.seconds)
        raise error

    watched = Watched(hook)
    watched.look(AFTER_S)
    watched.look(2 * AFTER_S)
    watched.dog.close()
    assert [100.0, 200.0] == calls
    said = [text for text in caplog.messages if text.startswith("on_hang")]
    what = f"{type(error).__name__}: no pager"
    assert [f"on_hang failed: {what} (said once)"] == said


def test_a_log_that_fails_keeps_nothing_from_the_hook(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler of the program's may raise."""

    def fail(*arguments: object) -> None:
        raise OSError

    monkeypatch.setattr(logging.getLogger("perf"), "warning", fail)
    watched.look(AFTER_S)
    assert 1 == len(watched.hangs)


def test_without_a_hook_it_is_logged_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And no stacks are made."""
    rec, sleep = Recording(), Sleep()
    with Watchdog(rec.tracer, after_s=AFTER_S, _stop=sleep):
        sleep.begun.get()
        rec.at(round(AFTER_S) * NS)
        sleep.end()
        sleep.begun.get()
    assert 1 == len(caplog.messages)


def test_no_lock_of_the_tracer_is_waited_for(watched: Watched) -> None:
    """What hangs may hold any of them."""
    collector = watched.rec.tracer._collector
    devices = watched.rec.tracer._devices
    watched.rec.launch("rollout", "a0")
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with devices.lock:
            held.set()
            over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    with held_elsewhere(collector):
        text = watched.text()
    over.set()
    thread.join()
    assert "work in flight: rollout on a0 for 100 s" in text


def test_a_fault_of_its_own_is_logged_and_it_looks_again(
    watched: Watched,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once, and after a while."""

    def fail(tracer: Any) -> Any:
        raise KeyError("x")

    with monkeypatch.context() as patched:
        patched.setattr(watchdog_module, "_View", fail)
        assert [AFTER_S] * 2 == [watched.look(100.0), watched.look(200.0)]
    watched.look(400.0)
    assert [400.0] == [hang.seconds for hang in watched.hangs]
    said = [text for text in caplog.messages if text.startswith("watchdog")]
    assert ["watchdog: KeyError: 'x' (said once)"] == said


def test_the_frames_of_others_are_not_kept(watched: Watched) -> None:
    """What they have in hand may fill a device; no collection has to find it."""

    class Array:
        pass

    alive: list[Any] = []
    inside, over = threading.Event(), threading.Event()

    def work() -> None:
        array = Array()
        alive.append(weakref.ref(array))
        with watched.rec.tracer.span("rollout"):
            inside.set()
            over.wait()

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait()
    gc.disable()
    try:
        watched.look(AFTER_S)
        over.set()
        thread.join()
        assert alive[0]() is None
    finally:
        gc.enable()


def test_where_no_thread_can_be_started_it_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The training goes on without."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    tracer = PerfTracer()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with Watchdog(tracer, after_s=1.0):
        pass
    assert ["no watchdog: can't start new thread (said once)"] == caplog.messages


# Its life


def test_it_ends_with_its_block(watched: Watched) -> None:
    """Closing it again does nothing."""
    with watched.dog:
        pass
    assert watched.thread is not None
    watched.thread.join(60)
    assert not watched.thread.is_alive()
    watched.dog.close()
    assert [] == watched.hangs


def test_it_ends_when_its_tracer_was_closed(watched: Watched) -> None:
    """At its next look, also where recording is switched on again."""
    watched.rec.tracer.close()
    watched.rec.tracer.enabled = True
    watched.at(AFTER_S)
    watched.ends()
    assert [] == watched.hangs


def test_it_keeps_no_tracer_alive(watched: Watched) -> None:
    """It ends when nobody else has it."""
    watched.look(0.0)
    del watched.rec
    gc.collect()
    watched.ends()


@pytest.mark.parametrize("tracer", [NoopTracer(), get_tracer()])
def test_of_a_tracer_that_does_nothing_nothing_is_watched(tracer: NoopTracer) -> None:
    """There is no thread."""
    with Watchdog(tracer, after_s=1.0) as dog:
        assert dog._thread is None
    dog.close()


@pytest.mark.parametrize("make", [PerfTracer, PerfTracerV1])
def test_both_tracers_are_watched(make: Callable[[], Any]) -> None:
    """On their own clock, by a real sleep."""
    hangs: SimpleQueue[Hang] = SimpleQueue()
    with make() as tracer, Watchdog(tracer, after_s=1e-9, on_hang=hangs.put):
        assert 0 == hangs.get(timeout=60).step


def test_its_thread_is_a_daemon(watched: Watched) -> None:
    """And has a name."""
    assert watched.thread is not None
    assert ("perf-watchdog", True) == (watched.thread.name, watched.thread.daemon)


def test_a_process_ends_beside_it(tmp_path: Path) -> None:
    """Though nobody has closed it."""
    said = run(
        """
        from perf.watchdog import Watchdog
        dog = Watchdog(traced(), after_s=1e6)
        show("end")
        """,
        tmp_path,
    )
    assert (["end"], []) == said


def test_a_forked_child_is_not_watched(tmp_path: Path) -> None:
    """Closing it there is fine; the parent is watched all the same."""
    said, logged = run(
        """
        from perf.watchdog import Watchdog
        perf = traced()
        with Watchdog(perf, after_s=1e6) as dog:
            child = os.fork()
            if child == 0:
                dog.close()
                show(threading.active_count(), dog._stop.is_set())
                os._exit(0)
            show(os.waitpid(child, 0)[1], dog._thread.is_alive())
        """,
        tmp_path,
    )
    assert (["1 False", "0 True"], []) == (said, logged)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"after_s": 0}, "after_s=0: expected a number of seconds above 0"),
        ({"after_s": -1.5}, "after_s=-1.5: expected a number"),
        ({"after_s": math.nan}, "after_s=nan: expected a number"),
        ({"after_s": math.inf}, "after_s=inf: expected a number"),
        ({"after_s": "30"}, "after_s='30': expected a number"),
        ({"after_s": None}, "after_s=None: expected a number"),
        ({"after_s": 10**400}, "after_s=1000.*: expected a number"),
        ({"after_s": 1, "on_hang": 3}, "on_hang=3: expected a function or None"),
        ({"after_s": 1, "tracer": None}, "tracer=None: expected a PerfTracer"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    """At once, also for a tracer that does nothing."""
    with pytest.raises(ValueError, match=message):
        Watchdog(**{"tracer": NoopTracer(), **options})


def test_any_number_of_seconds_will_do() -> None:
    """Also one that no clock can show."""
    rec, sleep = Recording(), Sleep()
    with Watchdog(rec.tracer, after_s=1e300, _stop=sleep):
        sleep.begun.get()
        sleep.end()
        assert threading.TIMEOUT_MAX == sleep.begun.get()
