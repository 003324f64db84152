"""Waits for device work, off the threads that launch it.

Each set of devices has a thread, up to a cap; beyond it sets share one. A thread
blocks on one waitlist after the other, in the order of launch, which is the order in
which a device works. It never asks whether an array is ready: that crashes on a
deleted one. Being woken is most of what a wait costs, so a waitlist is one wait, works
that wait for the same arrays share it, and where there is nothing to wait for no thread
is woken.

How late an end may have been seen is measured, too. A thread that wakes up waits for
the interpreter's lock: the system counts how often a thread has to wait. How late the
system itself wakes a thread is tried out now and then, with a wait of known length.
"""

from __future__ import annotations

import atexit
import operator
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from queue import SimpleQueue
from typing import Any, Final, Protocol

from perf._model.log import OnceLog
from perf._model.waits import ARE_COUNTED, own_waits

MAX_THREADS: Final = 16  # mutate: ok any number of this size
"""For device sets; as many again for work that may overtake other work."""
MAX_PENDING: Final = 4096  # mutate: ok any number of this size
"""Launches waiting per thread. Each keeps arrays alive, so there has to be an end."""
_SLOWEST: Final = 2
"""A wait for the interpreter's lock takes as many switch intervals at most; up to 1.6
were seen on a machine with three threads to a core."""
_CANARY_S: Final = 0.0001  # mutate: ok any time of this size
_CANARY_EVERY_S: Final = 0.25  # mutate: ok any time of this size
_CANARIES: Final = 32  # mutate: ok any number of this size
"""The most of so many holds for the next one, too, in 32 of 33 cases."""
_SLOW_EXIT_S: Final = 10.0  # mutate: ok any time that people notice


class Work(Protocol):
    """Something to wait for; of a tracer's spans it is `launches._Wait`."""

    tracer: Any
    """Whose work it is."""
    waits: Any
    """A pytree of arrays; something of the service's own once it was submitted."""
    own_ns: int
    """Processor time of the waiting thread since it began to finish the work before;
    set before that thread calls `finish`."""

    @property
    def ended(self) -> bool:
        """Whether nothing more can come of it."""
        ...

    def finish(
        self, error: BaseException | None, late_ns: int | None, waited: bool
    ) -> None:
        """Called once, when all arrays were waited for. Must not raise.

        By a waiting thread, or by the one that submits, which has not returned then.

        Args:
            error: why the work failed, if so.
            late_ns: nanoseconds that have passed since the end of the work, at most;
                None if nothing is known of that.
            waited: whether there was anything to wait for. Work without arrays on a
                device had ended when it was handed over.
        """


class Waiting(Protocol):
    """Where a tracer hands its device work."""

    def submit(self, key: Hashable | None, work: Work) -> bool:
        """Queues work of the device set `key`; False if too much is pending.

        The work of a set is waited for in the order of launch. Work without a key
        may overtake other work, as far as there are threads for it.
        """
        ...

    def pending(self, tracer: Any) -> list[Any]:
        """The tracer's unfinished work, in the order of launch on each device set."""
        ...

    def settle(self, tracer: Any, patience_s: float | None = None) -> bool:
        """Returns when all work of the tracer launched before the call is done.

        Args:
            tracer: whose work.
            patience_s: seconds to wait at most; None waits until it is done.

        Returns:
            Whether it is.
        """
        ...

    def idle(self) -> None:
        """Returns when the devices have done all work that they were given."""


class _Worker:
    """A thread with the work it waits for."""

    def __init__(self, service: WaitingService, number: int) -> None:
        self._service = service
        self.works: deque[Work] = deque()
        """In the order of launch; the first is being waited for."""
        self._wakeups: SimpleQueue[bool] = SimpleQueue()
        """One True for each work, so that the thread sleeps when there is none."""
        # A daemon, but never at the interpreter's end: join() is called before, since
        # a daemon found inside a blocking JAX call then aborts the process.
        self._thread = threading.Thread(
            target=self._run, name=f"perf-wait-{number}", daemon=True
        )
        self._thread.start()

    def put(self, work: Work) -> None:
        self.works.append(work)
        self._wakeups.put(True)

    def join(self) -> None:
        """Ends the thread once its work is done."""
        self._wakeups.put(False)
        self._thread.join(_SLOW_EXIT_S)
        if self._thread.is_alive():
            names = [getattr(work, "name", "?") for work in list(self.works)[:5]]
            what = f"the exit waits for device work: {names}"
            self._service.log.say(f"slow-exit-{self._thread.name}", what)
            self._thread.join()

    def _run(self) -> None:
        self._service.canary.try_out()
        counted_ns = time.thread_time_ns()
        while self._wakeups.get():
            work = self.works[0]
            if not isinstance(work.waits, _End):  # or it was waited for with others
                self._service.wait_for(self.works)
            end: _End = work.waits
            now_ns = time.thread_time_ns()
            work.own_ns, counted_ns = now_ns - counted_ns, now_ns
            self._service.finish(work, end)
            # Only now: until then the work counts as pending, so nobody misses it.
            self.works.popleft()
            del work, end  # nor does an idle thread keep anything
            if not self.works:  # or their ends would be seen late
                self._service.canary.try_out()


class WaitingService:
    """A bounded pool of waiting threads.

    Args:
        arrays: takes those that can be waited for out of a pytree.
        block: returns when all of these are ready; then raises if work of them failed.
        idle: returns when the devices have done all work that they were given.
    """

    def __init__(
        self,
        arrays: Callable[[Any], list[Any]],
        block: Callable[[list[Any]], Any],
        idle: Callable[[], None] = lambda: None,
    ) -> None:
        self._arrays = arrays
        self._block = block
        self.idle = idle
        self.canary = _Canary()
        self.log = OnceLog()
        self._lock = threading.RLock()  # a signal handler may launch work, too
        self._workers: list[_Worker] = []
        self._worker_of: dict[Hashable, _Worker] = {}
        self._overtaking: list[_Worker] = []
        """Those for work without a key."""

    def submit(self, key: Hashable | None, work: Work) -> bool:
        """See `Waiting`."""
        error = None
        try:
            arrays = self._arrays(work.waits)
        except Exception as failure:  # it is no pytree, say
            # Its frames would hold arrays.
            arrays, error = [], failure.with_traceback(None)
        work.waits = arrays or _End(error=error)
        worker = None if key is None else self._worker_of.get(key) or self._shared(key)
        if not arrays and not (worker and worker.works):
            # Nothing to wait for, and nothing on its devices that it comes after.
            self.finish(work, work.waits)
            return True
        try:
            if worker is None:
                worker = self._least_busy() if key is None else self._assign(key)
        except RuntimeError:  # no thread could be started: too many, or at the exit
            return False
        if len(worker.works) >= MAX_PENDING:
            return False
        worker.put(work)
        return True

    def pending(self, tracer: Any) -> list[Any]:
        """See `Waiting`."""
        pending: list[Any] = []
        for worker in self._workers:
            if worker.works:
                pending += [
                    work
                    for work in worker.works.copy()
                    if work.tracer is tracer and not work.ended
                ]
        return pending

    def settle(self, tracer: Any, patience_s: float | None = None) -> bool:
        """See `Waiting`."""
        end_s = None if patience_s is None else time.monotonic() + patience_s
        markers = []
        for worker in list(self._workers):
            if any(work.tracer is tracer for work in worker.works.copy()):
                markers.append(marker := _Marker())
                worker.put(marker)
        for marker in markers:
            left_s = None if end_s is None else max(0.0, end_s - time.monotonic())
            if not marker.reached.wait(left_s):
                return False
        return True

    def wait_for(self, works: deque[Work]) -> None:
        """Blocks until the arrays of the first work are ready.

        Leaves its `_End` in the place of its arrays, and likewise in those works right
        behind it that wait for the same.
        """
        end = _End(self.canary.late_ns)
        arrays: list[Any] = works[0].waits
        behind = 0
        while behind < len(works) and _are_same(arrays, works[behind].waits):
            works[behind].waits = end
            behind += 1
        end.begin()
        # Errors of any kind: native code that panics raises what is no Exception, and
        # with the thread all waiting would end. Their frames would hold arrays.
        try:
            self._block(arrays)
        except BaseException as failure:
            end.error = failure.with_traceback(None)
        end.seen()

    def finish(self, work: Work, end: _End) -> None:
        """Tells work how it ended."""
        try:
            work.finish(end.error, end.late_ns, end.waited)
        except Exception as failure:  # of whoever gave the work: others go on
            what = type(failure).__name__
            self.log.say("finish", f"device span lost: {what}")

    def _shared(self, key: Hashable) -> _Worker | None:
        """The thread of a set that can have none of its own."""
        workers = self._worker_of  # close() may replace it meanwhile
        if len(workers) < MAX_THREADS:
            return None
        return list(workers.values())[hash(key) % MAX_THREADS]

    def _assign(self, key: Hashable) -> _Worker:
        with self._lock:
            worker = self._worker_of.get(key) or self._shared(key)
            if worker is None:
                worker = self._worker_of[key] = self._new_worker()
            return worker

    def _least_busy(self) -> _Worker:
        with self._lock:
            free = [worker for worker in self._overtaking if not worker.works]
            if not free and len(self._overtaking) < MAX_THREADS:
                self._overtaking.append(self._new_worker())
                free = self._overtaking[-1:]
            return free[0] if free else min(self._overtaking, key=_load)

    def _new_worker(self) -> _Worker:
        worker = _Worker(self, len(self._workers))
        self._workers = [*self._workers, worker]
        # Registered anew, so that it runs before the exit hooks of the writers that
        # exist by now: they are to write what ends here.
        atexit.unregister(self.close)
        atexit.register(self.close)
        return worker

    def close(self) -> None:
        """Ends all threads when their work is done; new work starts new ones."""
        with self._lock:
            workers = self._workers
            self._workers, self._worker_of, self._overtaking = [], {}, []
        for worker in workers:
            worker.join()

    def forget(self) -> None:
        """After a fork: the threads and the work belong to the parent."""
        self._lock = threading.RLock()
        self._workers, self._worker_of, self._overtaking = [], {}, []


class _End:
    """How a wait ended, and when at the earliest.

    A thread that was woken takes the interpreter's lock. While another thread has it,
    it waits again: for the switch interval at most, or what the system makes of that
    where there are more threads than cores; then it asks for the lock and waits again.
    """

    __slots__ = (
        "_begin_ns", "_earliest_ns", "_turn_ns", "_waits", "_woken_late_ns", "error",
        "waited",
    )  # fmt: skip

    def __init__(
        self, woken_late_ns: int = 0, error: BaseException | None = None
    ) -> None:
        self.error = error
        self.waited = False
        """Whether there was anything to wait for."""
        self._earliest_ns: int | None = None
        """None as long as nothing is known."""
        self._woken_late_ns = woken_late_ns
        self._turn_ns = int(_SLOWEST * sys.getswitchinterval() * 1e9)

    def begin(self) -> None:
        """The thread is about to wait."""
        self._waits = own_waits()
        self._begin_ns = time.perf_counter_ns()

    def seen(self) -> None:
        """The thread has waited for something, or found it ready."""
        self.waited = True
        end_ns = time.perf_counter_ns()
        took_ns = end_ns - self._begin_ns
        if took_ns < self._turn_ns or not ARE_COUNTED:
            return  # it may have been ready, and the lock all that was waited for
        waits = own_waits() - self._waits
        if took_ns > waits * self._turn_ns:
            # So one of the waits, if there were any, was for the device.
            for_lock_ns = max(0, waits - 1) * self._turn_ns
            self._earliest_ns = end_ns - for_lock_ns - self._woken_late_ns

    @property
    def late_ns(self) -> int | None:
        """Since the end of what was waited for, at most."""
        if self._earliest_ns is None:
            return None
        return time.perf_counter_ns() - self._earliest_ns


class _Canary:
    """How late the system wakes a thread, the interpreter's lock apart."""

    def __init__(self) -> None:
        self.late_ns = 0
        """The most of the last times, in nanoseconds."""
        self._lasts: deque[int] = deque(maxlen=_CANARIES)
        self._next_s = 0.0

    def try_out(self) -> None:
        """Waits for a moment, unless that was done a moment ago."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + _CANARY_EVERY_S
        waits, begin_ns = own_waits(), time.perf_counter_ns()
        time.sleep(_CANARY_S)  # How much longer it takes is what is measured.
        took_ns = time.perf_counter_ns() - begin_ns
        if own_waits() - waits <= 1:  # of several, others were for the lock
            self._lasts.append(took_ns - int(_CANARY_S * 1e9))
            self.late_ns = max(self._lasts)


def _load(worker: _Worker) -> int:
    return len(worker.works)


def _are_same(arrays: list[Any], waits: Any) -> bool:
    """Whether these are what a work waits for, if it still does."""
    return (
        not isinstance(waits, _End)
        and len(arrays) == len(waits)
        and all(map(operator.is_, arrays, waits))
    )


class Waited:
    """Work that calls a function when it has ended.

    Args:
        owner: whose work it is.
        waits: a pytree of arrays.
        done: called with why the work failed, or None.
    """

    def __init__(
        self, owner: Any, waits: Any, done: Callable[[BaseException | None], None]
    ) -> None:
        self.tracer = owner
        self.waits = waits
        self.own_ns = 0
        self.ended = False
        self._done = done

    def finish(
        self, error: BaseException | None, late_ns: int | None, waited: bool
    ) -> None:
        """See `Work`."""
        self.ended = True
        self._done(error)


class _Marker:
    """Work that is done at once: tells that everything before it is done."""

    tracer = None
    own_ns = 0
    ended = False

    def __init__(self) -> None:
        self.waits: Any = _End()
        self.reached = threading.Event()

    def finish(
        self, error: BaseException | None, late_ns: int | None, waited: bool
    ) -> None:
        self.reached.set()
