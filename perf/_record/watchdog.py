"""Says where a training stands whose step does not end."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from numbers import Real
from types import FrameType
from typing import Any, Final, Self

from perf._model import names
from perf._model.log import OnceLog, logger
from perf._record.clock import NS_PER_S
from perf._record.names import proper, shown
from perf._record.noop import NoopTracer
from perf._record.span import Span, ThreadLog, error_text
from perf._record.tracer import Tracer

_NAMED: Final = 4
"""Threads in a line, launches, and devices of a launch; further ones are counted."""
_LIBRARY: Final = os.path.dirname(threading.__file__) + os.sep
_OF_OTHERS: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


@dataclasses.dataclass(frozen=True, slots=True)
class OpenSpan:
    """What a thread or a device is in.

    Attributes:
        timeline: the thread's name, or the devices.
        path: names of the spans that are open, outermost first; of work on a device its
            name alone.
        seconds: for which the last of these has been open.
        at: where the thread stands in code, as `sync.py:88 in push_weights`; "" of a
            device, and of a thread that has ended.
    """

    timeline: str
    path: tuple[str, ...]
    seconds: float
    at: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Hang:
    """A step that does not end.

    Attributes:
        step: exports since the tracer was made: the number of the step, from 0.
        seconds: for which it has been under way.
        open: what is open, threads first, what is open longest first.
        stacks: of Python, of the threads that have spans open and of the one that made
            the tracer.
        text: all that in a line, without the stacks.
    """

    step: int
    seconds: float
    open: tuple[OpenSpan, ...]
    stacks: str
    text: str


OnHang = Callable[[Hang], object]
"""Is given what hangs."""


class Watchdog:
    """Says where a training stands if a step of it lasts too long.

    A step is what lies between two exports of the tracer; the first one begins when
    the tracer is made. What is said once a step has lasted `after_s`, and again after
    2, 4, 8, … times that: one warning of the logger `perf`, and an instant `hang` in
    the trace. While the tracer is switched off nothing is said; of a tracer that does
    nothing nothing ever is. It ends with `close()`, or with its tracer, which it does
    not keep alive, and stays behind when a process forks.

    Args:
        tracer: of the training, of v1 or v2.
        after_s: seconds that no step lasts unless it hangs.
        on_hang: is called with a `Hang`, on a thread of the watchdog; what it raises is
            logged once.

    Raises:
        ValueError: `tracer` is no tracer, `after_s` no number of seconds above 0, or
            `on_hang` no function.
    """

    def __init__(
        self,
        tracer: Tracer | NoopTracer,
        *,
        after_s: float,
        on_hang: OnHang | None = None,
        _stop: threading.Event | None = None,
    ) -> None:
        if not isinstance(tracer, (Tracer, NoopTracer)):
            raise ValueError(f"tracer={shown(tracer)}: expected a PerfTracer")
        if not (on_hang is None or callable(on_hang)):
            raise ValueError(f"on_hang={shown(on_hang)}: expected a function or None")
        self._after_ns = _checked_ns(after_s)
        self._on_hang = on_hang
        self._log = OnceLog()
        self._stop = _stop or threading.Event()
        self._step: int | None = None
        """The step that was under way when the thread looked last."""
        self._due_ns = self._after_ns
        """How long that is to have lasted when something is said of it next."""
        self._thread: threading.Thread | None = None
        if isinstance(tracer, Tracer):
            self._tracer = weakref.ref(tracer)
            self._thread = threading.Thread(
                target=self._run, name="perf-watchdog", daemon=True
            )
            try:
                self._thread.start()
            except RuntimeError as error:  # no more threads, or the interpreter exits
                self._log.say("thread", f"no watchdog: {error}")

    def close(self) -> None:
        """Says nothing any more; a hook that is being called is not waited for."""
        # Not in a fork: the parent's thread may have had the event's lock.
        if self._thread is not None and self._thread.is_alive():
            self._stop.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _run(self) -> None:
        nap_s: float | None = 0.0
        while nap_s is not None and not self._stop.wait(nap_s):
            try:
                nap_s = self._look()
            except Exception as error:  # a fault of ours: the next look may do better
                self._log.say("watchdog", f"watchdog: {error_text(error)}", exc=error)
                nap_s = self._nap_s(self._after_ns)

    def _look(self) -> float | None:
        """Says what there is to say; returns for how long to sleep, None for ever."""
        tracer = self._tracer()
        if tracer is None or tracer._closed:
            return None
        step = tracer._collector.store.current
        if step.index != self._step:
            self._step, self._due_ns = step.index, self._after_ns
        lasted_ns = tracer._now() - step.begin_ns
        if not tracer.enabled:
            return self._nap_s(self._after_ns)
        if lasted_ns >= self._due_ns:
            while self._due_ns <= lasted_ns:
                self._due_ns *= 2
            self._say(tracer, step.index, lasted_ns)
        return self._nap_s(self._due_ns - lasted_ns)

    def _nap_s(self, left_ns: int) -> float:
        # No longer than a step may last: the next one is seen before it has.
        return min(left_ns, self._after_ns) / NS_PER_S

    def _say(self, tracer: Tracer, step: int, lasted_ns: int) -> None:
        view = _View(tracer)
        seconds = lasted_ns / NS_PER_S
        text = f"step {step} has not ended after {_length(seconds)}: {view.text()}"
        # What needs least comes first: a log may hang on the disk on which all hangs,
        # and stacks are shown with their sources.
        tags = {names.STEP: step, names.HANG_SECONDS: seconds, names.HANG_TEXT: text}
        tracer.instant(names.HANG, tags)
        with contextlib.suppress(Exception):  # of the program's own handlers
            logger.warning("%s", text)
        if self._on_hang is None:
            return
        hang = Hang(step, seconds, (*view.threads, *view.works), view.stacks(), text)
        try:
            self._on_hang(hang)
        except BaseException as error:  # `sys.exit` ends no process here, either
            text = error_text(error)
            self._log.say("on-hang", f"on_hang failed: {text}", exc=error)


def _checked_ns(after_s: Any) -> int:
    seconds = math.nan
    if isinstance(after_s, Real):
        with contextlib.suppress(OverflowError):  # an int may be any number
            seconds = float(after_s)
    if not 0 < seconds < math.inf:
        raise ValueError(
            f"after_s={shown(after_s)}: expected a number of seconds above 0"
        )
    nanoseconds = round(min(seconds, threading.TIMEOUT_MAX) * NS_PER_S)
    return max(1, nanoseconds)  # mutate: ok any number above 0


class _View:
    """What a tracer has open at one moment. Takes no lock of it."""

    def __init__(self, tracer: Tracer) -> None:
        self._now_ns = tracer._now()
        self._main = tracer._main_log
        self._last = tracer._collector.last_ended()
        logs = {log: list(_paths(log)) for log in tracer._collector.threads}
        self._frames = _frames([log for log in logs if logs[log] or log is self._main])
        places = {log: _place(frame) for log, frame in self._frames.items()}
        self._main_at = "" if logs.get(self._main) else places.get(self._main, "")
        self.threads = self._sorted(
            self._open(log.info.name, path, places.get(log, ""))
            for log, paths in logs.items()
            for path in paths
        )
        self.works = self._sorted(
            self._open(_some([line.info.id for line in work.lines], ", "), [work])
            for work in tracer._launches.pending()
        )

    def text(self) -> str:
        """In a line."""
        said = [
            f"{each.timeline} is in {' > '.join(each.path)} for "
            f"{_length(each.seconds)}, "
            + (f"at {each.at}" if each.at else "and has ended")
            for each in self.threads
        ]
        parts = [_some(said, "; ") if said else "no span is open"]
        if self._main_at:
            parts.append(f"{self._main.info.name} is at {self._main_at}")
        flying = [
            f"{each.path[0]} on {each.timeline} for {_length(each.seconds)}"
            for each in self.works
        ]
        if flying:
            parts.append(f"work in flight: {_some(flying, ', ')}")
        if self._last is not None:
            since_s = (self._now_ns - self._last[2]) / NS_PER_S
            parts.append(f"last to end: {proper(self._last[0])} {_length(since_s)} ago")
        return "; ".join(parts)

    def stacks(self) -> str:
        """Of all threads that it looks at, as `traceback` shows them."""
        return "\n".join(
            f"{log.info.name}:\n{''.join(traceback.format_stack(frame))}"
            for log, frame in self._frames.items()
        )

    def _open(self, timeline: str, path: Sequence[Any], at: str = "") -> OpenSpan:
        lasted_ns = self._now_ns - path[-1].begin_ns
        return OpenSpan(
            timeline,
            tuple(proper(each.name) for each in path),
            lasted_ns / NS_PER_S,
            at,
        )

    @staticmethod
    def _sorted(some: Iterator[OpenSpan]) -> list[OpenSpan]:
        return sorted(some, key=lambda each: -each.seconds)


def _paths(log: ThreadLog) -> Iterator[tuple[Span, ...]]:
    """The innermost open spans of a thread, with those around each, outermost first.

    Asyncio tasks have one each.
    """
    paths: dict[int, tuple[Span, ...]] = {}
    spans = log.open_spans()
    for span in spans:
        paths[span.id] = (*paths.get(span.parent.id, ()), span)
    around = {span.parent.id for span in spans}
    return (path for span_id, path in paths.items() if span_id not in around)


def _frames(logs: Sequence[ThreadLog]) -> dict[ThreadLog, FrameType]:
    """Where threads stand; those that have ended do so nowhere."""
    frames = sys._current_frames()
    # Or this one would hold itself, and all others with what they have in hand.
    del frames[threading.get_ident()]
    idents = {thread.native_id: thread.ident for thread in threading.enumerate()}
    found: dict[ThreadLog, FrameType] = {}
    for log in logs:
        # The system gives the number of a thread that has ended to another one.
        ident = None if log.alive() is None else idents.get(log.info.native_thread_id)
        if ident in frames:
            found[log] = frames[ident]
    return found


def _place(innermost: FrameType) -> str:
    """The innermost frame of the program's own, or else that of all."""
    own = (frame for frame, _ in traceback.walk_stack(innermost) if _is_own(frame))
    frame = next(own, innermost)
    code = frame.f_code
    return f"{os.path.basename(code.co_filename)}:{frame.f_lineno} in {code.co_name}"


def _is_own(frame: FrameType) -> bool:
    path = frame.f_code.co_filename
    return not (
        path.startswith((_LIBRARY, "<frozen "))
        or any(part in path for part in _OF_OTHERS)
    )


def _some(items: Sequence[str], between: str) -> str:
    """The first ones, and how many more there are."""
    more = len(items) - _NAMED
    return between.join(items[:_NAMED]) + (
        f"{between}and {more} more" if more > 0 else ""
    )


def _length(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
