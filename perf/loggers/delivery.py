"""Handlers that deliver later: from a thread of their own, or many at a time."""

from __future__ import annotations

import atexit
import contextlib
import logging
import logging.handlers
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Literal

from perf._model.log import OnceLog
from perf.loggers.fanout import FanOut
from perf.loggers.filters import own_record, passed
from perf.loggers.handler import (
    BackendHandler,
    HandlerStats,
    filter_failure,
    keep_open,
)

__all__ = ["AsyncHandler", "BufferedHandler", "Drop", "close_together"]

Drop = Literal["oldest", "newest"]
"""What gives way when a queue is full."""

_BATCH: Final = 256


class AsyncHandler(logging.Handler):
    """Delivers through a thread of its own, the only one that touches the backend.

    The caller pays for putting a record into a queue. What is in there at `close` or
    when the interpreter exits is still delivered, unless the backend stops answering.

    Args:
        target: what the records are for.
        capacity: records that wait at most, about a kilobyte each. Beyond that some
            are dropped: counted in `stats`, and said once.
        drop: which.
        flush_interval_s: at most so long the target keeps what it was given.
        patience_s: how long a caller waits until its record is delivered, so that what
            a backend prints comes in order. A backend that once took longer is never
            waited for again.
        stall_timeout_s: `close` gives up on a target that delivers nothing for so long,
            or for the `stall_timeout_s` of its backend, if that has one and it is more.
    """

    def __init__(
        self,
        target: BackendHandler | FanOut,
        *,
        capacity: int = 100_000,
        drop: Drop = "oldest",
        flush_interval_s: float = 30.0,
        patience_s: float = 0.0,
        stall_timeout_s: float = 5.0,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity={capacity}: expected 1 or more")
        if drop not in ("oldest", "newest"):
            raise ValueError(f"drop={drop!r}: expected 'oldest' or 'newest'")
        super().__init__(target.level)
        keep_open(self)
        self.target = target
        self.name = target.name
        self._capacity = capacity
        self._drop = drop
        self._flush_interval_s = flush_interval_s
        self._patience_s = patience_s
        backend = getattr(target, "backend", None)
        own_timeout_s = getattr(backend, "stall_timeout_s", 0.0)
        self._stall_timeout_s = max(stall_timeout_s, own_timeout_s)
        self._log = OnceLog()
        self._pid = os.getpid()
        # Held only for moments, and never while calling out. A signal handler may log
        # while its thread holds it.
        self._state = threading.RLock()
        self._work = threading.Condition(self._state)
        self._progress = threading.Condition(self._state)
        self._queue: deque[logging.LogRecord] = deque()
        self._thread: threading.Thread | None = None
        self._idle = False
        self._closing = False
        self._submitted = 0
        self._done = 0
        """Records that the target has had. Changed by the thread alone."""
        self._dropped = 0
        self._unfiltered = 0
        """Records on which a filter failed."""
        self._flush_asked = 0
        self._flushed = 0
        """Up to which record, by number, the target was flushed."""
        # After the backend was made, as its own hook, whose place this takes: the
        # thread is to close it, when all is delivered.
        atexit.unregister(target.close)
        atexit.register(self.close)

    @property
    def stats(self) -> HandlerStats:
        """What became of the records so far."""
        stats = self.target.stats
        return HandlerStats(
            stats.delivered,
            stats.failed + self._unfiltered,
            stats.dropped + self._dropped,
        )

    def handle(self, record: logging.LogRecord) -> bool:
        """Queues a record that passes the filters."""
        # The lock of `logging` is not taken: ours is held for less.
        try:
            taken = passed(self, own_record(record, self.filters))
        except Exception as error:
            with self._state:
                self._unfiltered += 1
            self._log.say("filter", filter_failure(self.name, error))
            return False
        if taken is not None:
            self.emit(taken)
        return taken is not None

    def setFormatter(self, fmt: logging.Formatter | None) -> None:  # noqa: N802 - as in `logging`
        """Sets how lines of text are formatted; the target does that."""
        super().setFormatter(fmt)
        self.target.setFormatter(fmt)

    def emit(self, record: logging.LogRecord) -> None:
        """Queues a record. Never raises, never waits for the target's work."""
        # A forked child has neither the thread nor a connection of its own.
        if os.getpid() != self._pid:
            return
        runs = True
        with self._state:
            if self._closing:
                return
            self._submitted += 1
            number = self._submitted
            if len(self._queue) < self._capacity:
                self._queue.append(record)
            else:
                self._make_room(record)
            if self._thread is None:
                runs = self._start()
            elif self._idle:
                self._idle = False
                self._work.notify()
        if not runs:
            self._deliver(len(self._queue))
        if self._dropped:
            self._log.say(
                "full",
                f"metrics backend {self.name} does not keep up: {self._capacity} "
                f"records wait for it, the {self._drop} are dropped",
            )
        if self._patience_s and threading.current_thread() is not self._thread:
            with self._state:
                if not self._progress.wait_for(
                    lambda: self._settled >= number, self._patience_s
                ):
                    self._patience_s = 0.0

    # That of `logging.Handler` says nothing of whether it was done in time.
    def flush(self, timeout_s: float | None = None) -> bool:  # type: ignore[override]
        """Waits until what was queued is delivered and the target has written it.

        Args:
            timeout_s: to wait at most; None gives up when the target delivers nothing
                for as long as `close` would wait.

        Returns:
            Whether it is done.
        """
        if os.getpid() != self._pid:
            return True
        with self._state:
            if self._thread is None:
                return True
            asked = self._flush_asked = self._submitted
            self._work.notify()
            if timeout_s is None:
                return self._moves_until(lambda: self._flushed >= asked)
            return self._progress.wait_for(lambda: self._flushed >= asked, timeout_s)

    def begin_close(self) -> None:
        """Takes no more records; what is queued goes on being delivered."""
        if os.getpid() != self._pid:
            return
        runs = True
        with self._state:
            if self._closing:
                return
            self._closing = True
            if self._thread is None:
                runs = self._start()
            self._work.notify()
        if not runs:
            self._guarded("close", self.target.close)

    def close(self) -> None:
        """Delivers what is queued and closes the target. Harmless when repeated."""
        atexit.unregister(self.close)
        self.begin_close()
        if os.getpid() == self._pid:
            with self._state:
                if not self._moves_until(lambda: self._thread is None):
                    self._dropped += len(self._queue)
                    self._queue.clear()
                    lost = self._submitted - self._done
                    self._log.say(
                        "stalled",
                        f"metrics backend {self.name} does not answer: left behind "
                        f"with {lost} records undelivered",
                    )
        super().close()

    def _make_room(self, record: logging.LogRecord) -> None:
        """Drops a record, this one or the oldest. Held: _state."""
        if self._drop == "oldest":
            try:
                self._queue.popleft()
            except IndexError:  # the thread has just taken it
                self._dropped -= 1
            self._queue.append(record)
        self._dropped += 1

    @property
    def _settled(self) -> int:
        return self._done + self._dropped

    def _moves_until(self, is_done: Callable[[], bool]) -> bool:
        """Waits as long as records are delivered; whether it is done. Held: _state."""
        while not is_done():
            seen, timeout_s = self._done, self._stall_timeout_s
            if not self._progress.wait_for(is_done, timeout_s) and self._done == seen:
                return False
        return True

    def _start(self) -> bool:
        """Starts the thread; False at the interpreter's exit. Held: _state."""
        # A daemon: others are joined before exit hooks run, and ours delivers the rest.
        self._thread = threading.Thread(
            target=self._run, name=f"perf-metrics-{self.name}", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError:
            self._thread = None
        return self._thread is not None

    def _run(self) -> None:
        dirty = False
        flushed_s = time.monotonic()
        while True:
            with self._state:
                if not self._queue:
                    self._progress.notify_all()  # to those who wait for a record
                    if not self._closing and self._flushed >= self._flush_asked:
                        self._idle = True
                        self._work.wait(self._flush_interval_s if dirty else None)
                        self._idle = False
                count = min(len(self._queue), _BATCH)
                flush_asked = self._flush_asked
                ends = self._closing and not count
            self._deliver(count)
            dirty = dirty or bool(count)
            asked = flush_asked > self._flushed and self._settled >= flush_asked
            overdue = time.monotonic() - flushed_s >= self._flush_interval_s
            if asked or (dirty and overdue):
                self._guarded("flush", self.target.flush)
                dirty, flushed_s = False, time.monotonic()
                with self._state:
                    self._flushed = max(self._flushed, flush_asked)
                    self._progress.notify_all()
            if ends:
                self._guarded("close", self.target.close)
                with self._state:
                    self._thread = None
                    self._progress.notify_all()
                return

    def _deliver(self, count: int) -> None:
        for _ in range(count):
            try:
                record = self._queue.popleft()
            except IndexError:  # a caller dropped it for one of its own
                return
            self._guarded("log", self.target.handle, record)
            self._done += 1

    def _guarded(
        self, what: str, call: Callable[..., object], *arguments: object
    ) -> None:
        """Calls the target; not even `SystemExit` ends the thread."""
        try:
            call(*arguments)
        except BaseException as error:
            # Nor does a handler of the program's log: there is nothing to say it with.
            with contextlib.suppress(BaseException):
                self.target.failed(what, error)


class BufferedHandler(logging.handlers.MemoryHandler):
    """Keeps records and hands them over many at a time, in the caller's thread.

    Args:
        target: what the records are for.
        capacity: so many are kept at most.
        flush_level: a record of this level has all handed over at once.
    """

    def __init__(
        self,
        target: logging.Handler,
        capacity: int = 100,
        flush_level: int = logging.ERROR,
    ) -> None:
        super().__init__(capacity, flush_level, target)
        keep_open(self)
        atexit.register(self.close)

    def close(self) -> None:
        """Hands over what is kept and closes the target. Harmless when repeated."""
        atexit.unregister(self.close)
        target = self.target
        super().close()
        if target is not None:
            target.close()


def close_together(handlers: Iterable[logging.Handler]) -> None:
    """Closes handlers side by side: it takes as long as the slowest."""
    handlers = tuple(handlers)
    for handler in handlers:
        if isinstance(handler, AsyncHandler):
            handler.begin_close()
    for handler in handlers:
        handler.close()
