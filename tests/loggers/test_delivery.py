"""Delivery by a thread: ordered, bounded, complete, and never in the caller's way."""

from __future__ import annotations

import logging
import threading
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from perf.loggers.delivery import AsyncHandler, BufferedHandler, close_together
from perf.loggers.handler import BackendHandler
from perf.loggers.records import make_record
from tests.loggers.sinks import Ending, Kept, Patient, Raising, Waiting
from tests.programs import run_python


def handler(backend: Any, **options: Any) -> AsyncHandler:
    """An asynchronous handler over a backend."""
    return AsyncHandler(BackendHandler(backend), **options)


def log(to: logging.Handler, value: float, name: str = "loss") -> None:
    """Logs one metric."""
    to.handle(make_record({name: value}, step=int(value)))


def test_flush_waits_for_what_was_logged_before() -> None:
    """After `flush` the backend has had everything, in order."""
    kept = Kept()
    to = handler(kept)
    for value in range(1000):
        log(to, value)
    assert to.flush()
    assert [("loss", value, value) for value in range(1000)] == kept.scalars
    to.close()


@pytest.mark.row("B3")
def test_close_delivers_and_closes_once() -> None:
    """`close` loses nothing, closes the backend once, and nothing comes after it."""
    kept = Kept()
    to = handler(kept)
    for value in range(1000):
        log(to, value)
    to.close()
    log(to, 5)
    to.close()
    assert (1000, 1) == (len(kept.scalars), kept.closed)
    assert (1000, 0, 0) == (to.stats.delivered, to.stats.failed, to.stats.dropped)


def test_close_without_a_record_closes_the_backend() -> None:
    """A backend that was never used is closed too."""
    kept = Kept()
    handler(kept).close()
    assert 1 == kept.closed


@pytest.mark.parametrize(
    ("drop", "left"), [("oldest", [0, 7, 8, 9]), ("newest", [0, 1, 2, 3])]
)
def test_a_stalled_backend_keeps_a_bounded_queue(
    drop: Any, left: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond the capacity the oldest or the newest go; counted, and said once."""
    waiting = Waiting()
    to = handler(waiting, capacity=3, drop=drop)
    log(to, 0)
    assert waiting.entered.wait(60)  # it has the first in its hands
    for value in range(1, 10):
        log(to, value)
    waiting.go_on.set()
    to.close()
    assert left == [step for _, _, step in waiting.scalars]
    assert 6 == to.stats.dropped
    assert 1 == sum("does not keep up" in line for line in caplog.messages)


def test_a_hanging_backend_does_not_hold_up_close(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`close` leaves a backend behind that does not answer, and says what is lost."""
    waiting = Waiting()
    to = handler(waiting, stall_timeout_s=0.01)
    for value in range(4):
        log(to, value)
    to.close()
    assert ["left behind with 4 records undelivered"] == [
        line.partition("does not answer: ")[2].partition(" (")[0]
        for line in caplog.messages
    ]
    waiting.go_on.set()


def test_a_backend_may_ask_for_more_time() -> None:
    """One that uploads when it is closed is not given up on after five seconds."""

    class Uploading(Kept):
        stall_timeout_s = 60.0

    to = handler(Uploading(), stall_timeout_s=0.0)
    assert 60 == to._stall_timeout_s
    log(to, 1)
    to.close()
    assert 1 == to.stats.delivered


def test_flush_gives_up_on_a_hanging_backend() -> None:
    """`flush` says that it is not done."""
    waiting = Waiting()
    to = handler(waiting, stall_timeout_s=0.01)
    log(to, 1)
    assert not to.flush()
    assert not to.flush(timeout_s=0.01)
    waiting.go_on.set()
    to.close()


def test_a_caller_with_patience_sees_its_record_arrive() -> None:
    """With patience a record is delivered when `handle` returns."""
    kept = Kept()
    to = handler(kept, patience_s=60)
    for value in range(20):
        log(to, value)
        assert value == kept.scalars[-1][1]
    to.close()


def test_patience_ends_with_the_first_hang() -> None:
    """A backend that hangs costs the caller its patience once."""
    waiting = Waiting()
    to = handler(waiting, patience_s=0.01)
    log(to, 0)
    assert 0 == to._patience_s
    waiting.go_on.set()
    to.close()


@pytest.mark.parametrize("error", [OSError("full"), SystemExit(1), KeyboardInterrupt()])
def test_what_a_backend_raises_does_not_end_the_thread(error: BaseException) -> None:
    """Not even an exit; the records after it are delivered."""
    raising = Raising(error)
    to = handler(raising)
    log(to, 1)
    to.flush()
    raising.error = None
    log(to, 2)
    to.close()
    assert [("loss", 2, 2)] == raising.scalars
    assert (1, 1) == (to.stats.delivered, to.stats.failed)


class UnspeakableError(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class Speechless(logging.Handler):
    """A handler of the program's log lines that fails."""

    def emit(self, record: logging.LogRecord) -> None:
        """Raises."""
        raise OSError("no space left for log lines")


def test_a_failure_that_cannot_be_told_is_told_as_far_as_can_be(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The kind of error has a name; the thread goes on."""
    raising = Raising(UnspeakableError())
    to = handler(raising)
    log(to, 1)
    assert to.flush()
    raising.error = None
    log(to, 2)
    to.close()
    assert (1, 1) == (to.stats.delivered, to.stats.failed)
    assert "Raising failed to log: UnspeakableError: no message" in caplog.text


def test_a_secret_may_be_any_value(caplog: pytest.LogCaptureFixture) -> None:
    """What a configuration gives as a number is hidden as its text."""

    class Numbered(Raising):
        secrets = (12345678, None)

    to = handler(Numbered(OSError("refused: 12345678")))
    log(to, 1)
    assert to.flush()
    to.close()
    assert "OSError: refused: [hidden]" in caplog.text


def test_a_log_that_fails_does_not_end_the_thread() -> None:
    """There is nothing to say it with; the records after it are delivered."""
    raising = Raising()
    to = handler(raising)
    lines, broken = logging.getLogger("perf"), Speechless()
    lines.addHandler(broken)
    try:
        log(to, 1)
        assert to.flush()
    finally:
        lines.removeHandler(broken)
    raising.error = None
    log(to, 2)
    to.close()
    assert [("loss", 2, 2)] == raising.scalars
    assert 1 == to.stats.delivered


def run(code: str) -> None:
    """Runs a program that ends without closing anything."""
    done = run_python("-c", code)
    assert (0, "") == (done.returncode, done.stderr)


FORKED = """
import os
from perf.loggers import Pipeline
from tests.loggers.sinks import Kept
kept = Kept()
pipeline = Pipeline([kept])
pipeline.log_scalar("loss", 1.0)
pipeline.flush()
if (child := os.fork()) == 0:
    pipeline.log_scalar("loss", 2.0)
    pipeline.flush()
    pipeline.close()
    os._exit(len(kept.scalars) + kept.closed)
assert 1 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
pipeline.log_scalar("loss", 3.0)
pipeline.close()
assert [1.0, 3.0] == [value for _, value, _ in kept.scalars]
"""


def test_a_forked_child_leaves_the_backend_alone() -> None:
    """A child has neither the thread nor the files: it logs nothing and exits."""
    run(FORKED)


def test_a_hundred_thousand_metrics_from_eight_threads_arrive() -> None:
    """None is lost at close, whatever the order of threads."""
    kept = Kept()
    to = handler(kept)

    def work(number: int) -> None:
        for index in range(12_500):
            log(to, index, f"thread{number}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    to.close()
    assert (100_000, 0) == (to.stats.delivered, to.stats.dropped)
    for number in range(8):
        steps = [step for name, _, step in kept.scalars if name == f"thread{number}"]
        assert list(range(12_500)) == steps


AT_EXIT = """
import threading
from perf.loggers import Pipeline, create_backend
pipeline = Pipeline([create_backend("{name}", {options})])
def work(number):
    for step in range({each}):
        pipeline.log_scalar(f"thread{{number}}", 1.0, step=step)
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_nothing_is_lost_when_the_interpreter_exits(tmp_path: Path) -> None:
    """100,000 metrics of a program that never calls `close` are all in its file."""
    path = tmp_path / "metrics.jsonl"
    run(AT_EXIT.format(name="jsonl", options={"path": str(path)}, each=12_500))
    assert 100_000 == len(path.read_text().splitlines())


CALLED_AT_EXIT = """
from perf.loggers import Pipeline

class Said:
    log_scalar = print
    def close(self):
        print("closed")

pipeline = Pipeline()
pipeline.add(Said(), delivery={delivery!r})
"""


@pytest.mark.parametrize("delivery", ["async", "sync"])
def test_a_backend_is_closed_once_when_the_interpreter_exits(delivery: str) -> None:
    """However it is delivered to."""
    done = run_python("-c", CALLED_AT_EXIT.format(delivery=delivery))
    assert (0, "closed\n", "") == (done.returncode, done.stdout, done.stderr)


HANGING_AT_EXIT = """
import threading
from perf.loggers import AsyncHandler, BackendHandler
from perf.loggers.records import make_record
from tests.loggers.sinks import Kept

class Hanging(Kept):
    def log_scalar(self, event, value, **kwargs):
        threading.Event().wait()

to = AsyncHandler(BackendHandler(Hanging()), stall_timeout_s=0.01)
to.handle(make_record({"loss": 0.5}))
"""


def test_a_backend_that_hangs_does_not_keep_the_interpreter_from_its_end() -> None:
    """`logging` would wait for the lock of the handler, which its thread holds."""
    done = run_python("-c", HANGING_AT_EXIT)
    assert 0 == done.returncode
    assert "does not answer: left behind with 1 records undelivered" in done.stderr


def test_nothing_is_lost_to_tensorboard_at_exit(tmp_path: Path) -> None:
    """Ours are written before TensorBoard's own exit hook closes the file."""
    pytest.importorskip("tensorboardX", reason="the tensorboard extra is missing")
    pytest.importorskip("tensorboard", reason="its reader is not installed")
    from tests.loggers.backends import read_tensorboard

    options = {"log_dir": str(tmp_path)}
    run(AT_EXIT.format(name="tensorboard", options=options, each=1_000))
    assert 8_000 == len(read_tensorboard(tmp_path))


@pytest.mark.parametrize(
    "options", [{"capacity": 0}, {"drop": "some"}, {"drop": "latest"}]
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    """No queue for nothing, and no third way to drop."""
    with pytest.raises(ValueError, match="expected"):
        handler(Kept(), **options)


def test_handlers_are_closed_side_by_side() -> None:
    """One that hangs is waited for while the others end; none takes records more."""
    waiting, other = Patient(), Ending()
    hanging, ending = handler(waiting), handler(other)
    log(hanging, 1)
    assert waiting.entered.wait(30)
    both = [logging.NullHandler(), hanging, ending]
    closing = threading.Thread(target=close_together, args=[iter(both)])
    closing.start()
    assert other.ended.wait(10)
    log(hanging, 2)
    waiting.go_on.set()
    closing.join()
    assert (1, [("loss", 1, 1)]) == (waiting.closed, waiting.scalars)


def test_a_buffer_hands_over_when_full_at_errors_and_at_close() -> None:
    """Nothing is handed over before that."""
    kept = Kept()
    to = BufferedHandler(BackendHandler(kept), capacity=3)
    log(to, 1)
    log(to, 2)
    assert [] == kept.scalars
    log(to, 3)
    assert [1, 2, 3] == [step for _, _, step in kept.scalars]
    log(to, 4)
    to.handle(make_record({"loss": 5}, step=5, level=logging.ERROR))
    assert [4, 5] == [step for _, _, step in kept.scalars[3:]]
    log(to, 6)
    to.close()
    assert (6, 1) == (len(kept.scalars), kept.closed)


def test_a_queue_that_empties_while_it_is_full_drops_nothing() -> None:
    """The thread may take the last record between a look and a drop."""

    class Emptied(deque):
        def __len__(self) -> int:
            return 1 if self.looks_full else super().__len__()

        looks_full = True

    kept = Kept()
    to = handler(kept, capacity=1)
    to._queue = Emptied()
    log(to, 1)
    to._queue.looks_full = False
    to.close()
    assert (1, 0) == (to.stats.delivered, to.stats.dropped)


def test_a_signal_handler_may_log_while_a_call_is_under_way() -> None:
    """It runs in the middle of whatever its thread was doing, locks held."""
    kept = Kept()
    to = handler(kept)

    def interrupted() -> None:
        with to._state:
            log(to, 1)
            to.close()

    thread = threading.Thread(target=interrupted, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert (1, 1) == (len(kept.scalars), kept.closed)


def test_a_backend_may_log_to_itself() -> None:
    """Its thread does not wait for itself."""

    class Echo(Kept):
        def log_scalar(self, event: str, value: Any, **kwargs: Any) -> None:
            super().log_scalar(event, value, **kwargs)
            if event == "loss":
                log(to, value, "echo")

    echo = Echo()
    to = handler(echo, patience_s=60)
    log(to, 1)
    to.close()
    assert ["loss", "echo"] == [name for name, _, _ in echo.scalars]
    assert 60 == to._patience_s
