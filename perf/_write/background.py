"""One thread per process that has all writers write."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final, Protocol

from perf._model.log import OnceLog
from perf._model.waits import own_waits
from perf._write.lock_watch import LockWatch

PERIOD_S: Final = 1.0
"""At most so long is a span in memory alone. A step's end asks for nothing: ringing
would cost the training a tenth of its export, and what many short steps recorded is
written in half the time that it takes step by step."""
HANG_S: Final = 30.0
"""How long a write that hangs is waited for, once: by `close` or at the exit."""


class Writer(Protocol):
    """What the worker serves."""

    def write_now(self) -> None:
        """Writes what there is. Never raises; called by one thread at a time or not."""

    def finish(self) -> None:
        """The process ends: writes what there is, and has it brought where it belongs.

        What is recorded later may follow. Never raises, and waits for no upload.
        """

    def settle(self) -> None:
        """After `finish`: waits until all is there, or too long."""

    def after_fork(self) -> None:
        """Called in the child: what was written is the parent's."""


class Worker:
    """The thread, and what it serves. All methods may be called by any thread."""

    def __init__(self, writers: tuple[Writer, ...] = ()) -> None:
        self._state = threading.Condition()
        self._bell: SimpleQueue[None] = SimpleQueue()
        """Rung by threads that record, too: a condition would cost them ten times
        that."""
        self.writers = writers
        """What it serves. Replaced under _state, never changed."""
        self._thread: threading.Thread | None = None
        self._asked = 0
        self._done = 0
        self._calls: list[Callable[[], None]] = []
        """To be made after the next round."""
        self._given_up = -1
        """Up to which round all was done when one was waited for in vain."""
        self._stopping = False
        self.lock_watch = LockWatch()
        """Of the interpreter's lock; told of each time that the thread wakes up."""
        self._log = OnceLog()

    def add(self, writer: Writer) -> None:
        """Serves a writer from now on."""
        with self._state:
            self.writers = (*self.writers, writer)
            self._start()

    def remove(self, writer: Writer) -> None:
        """Serves it no longer."""
        with self._state:
            self.writers = tuple(w for w in self.writers if w is not writer)

    def wake(self) -> None:
        """Asks for a round of writing now, without waiting for it."""
        if self._thread is None:
            with self._state:
                self._start()
        self._bell.put(None)

    def round(
        self, deadline_s: float | None, then: Callable[[], None] | None = None
    ) -> bool:
        """Has a round of writing made and waits for it.

        Args:
            deadline_s: seconds to wait at most; None waits until it is done.
            then: called once after the round, by the same thread, even if nobody waits
                any more by then.

        Returns:
            Whether it is done.
        """
        calls = [] if then is None else [then]
        if deadline_s is not None:
            deadline_s = min(deadline_s, threading.TIMEOUT_MAX)
        with self._state:
            self._asked += 1
            asked = self._asked
            self._start()
            if self._thread is not None:
                self._calls += calls
                self._bell.put(None)
                self._state.wait_for(lambda: self._done >= asked, deadline_s)
                return self._done >= asked
        self._serve(calls)  # the interpreter is exiting
        return True

    def last_round(self, then: Callable[[], None] | None = None) -> bool:
        """Likewise, for who ends: waits for a write that hangs, but not again.

        Who ends does not write: that may hang, in the thread of the training.
        """
        done = self._done
        is_done = self.round(0 if done == self._given_up else HANG_S, then)
        if not is_done:
            self._given_up = done
        return is_done

    def stop(self) -> None:
        """Has the writers finish and ends the thread."""
        with self._state:
            self._stopping = True
        self.finish()

    def finish(self) -> None:
        """The process ends: has all writers finish."""
        if not self.last_round(self._finish):
            self._log.say(
                "hangs",
                "a write of a trace hangs. It is not waited for any more, and what was "
                "recorded last may be missing.",
            )
        for writer in self.writers:
            self._guarded(writer.settle)

    def _finish(self) -> None:
        for writer in self.writers:
            self._guarded(writer.finish)

    def _serve(self, calls: list[Callable[[], None]]) -> None:
        for writer in self.writers:
            self._guarded(writer.write_now)
        for call in calls:
            self._guarded(call)

    def _guarded(self, call: Callable[..., None], *arguments: object) -> None:
        # A fault of ours: the thread has to outlive it, for it has other writers.
        try:
            call(*arguments)
        except Exception as error:
            what = f"{call.__name__}: {type(error).__name__}: {error}"
            self._log.say("writer", f"a trace writer failed in {what}", exc=error)

    def _start(self) -> None:
        if self._thread is not None or self._stopping:
            return
        # A daemon: the interpreter joins other threads before it runs exit hooks, so
        # this one would keep it from ever exiting, or would have to stop when the main
        # thread does, with threads of the user's still recording. Daemons are frozen
        # only after the exit hooks, and ours has waited for its last round by then.
        self._thread = threading.Thread(
            target=self._run, name="perf-writer", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError:  # at the interpreter's exit: whoever asks writes
            self._thread = None

    def _run(self) -> None:
        next_s = time.monotonic() + PERIOD_S
        while True:
            self._wait_for_bell(next_s)
            # What is recorded from now on may miss this round.
            with self._state:
                asked, is_last = self._asked, self._stopping
                calls, self._calls = self._calls, []
            self._serve(calls)
            next_s = time.monotonic() + PERIOD_S
            with self._state:
                self._done = asked
                if is_last and asked == self._asked:
                    self._thread = None
                self._state.notify_all()
                if self._thread is None:
                    return

    def _wait_for_bell(self, until_s: float) -> None:
        """Returns then at the latest. Meanwhile it is seen who has the lock."""
        while True:
            waits, now_s = own_waits(), time.monotonic()
            due_s = max(now_s, min(until_s, now_s + self.lock_watch.nap_s))
            try:
                self._bell.get(timeout=due_s - now_s)
            except Empty:
                late_ns = round((time.monotonic() - due_s) * 1e9)
                waits = own_waits() - waits
                self._guarded(self.lock_watch.woke, waits, late_ns)
                if due_s >= until_s:
                    return
                continue
            while not self._bell.empty():  # once for all who rang; nobody else takes
                self._bell.get_nowait()
            return


_worker = Worker()
_hooked = False


def worker() -> Worker:
    """The process's worker."""
    global _hooked
    if not _hooked:
        _hooked = True
        atexit.register(lambda: _worker.stop())
        # Exit hooks never run in children of multiprocessing (before Python 3.13), but
        # what threading calls when the main thread ends does. That comes earlier, too:
        # a little later no pool of threads works any more, and uploads may need one.
        # The last hook is called first: ours has to follow that of the pools. Private,
        # so it may go. Refused when the process ends already.
        with contextlib.suppress(RuntimeError):
            import concurrent.futures.thread  # noqa: F401 - for its hook alone

            register = getattr(threading, "_register_atexit", None)
            if register is not None:
                register(lambda: _worker.finish())
    return _worker


def _after_fork() -> None:
    # Threads and the state of locks are the parent's. No thread is started here: most
    # children never record, or become another program at once.
    global _worker
    _worker = Worker(_worker.writers)
    for writer in _worker.writers:
        writer.after_fork()


os.register_at_fork(after_in_child=_after_fork)
