"""The engine under both public tracers: what a user calls on a tracer."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final, Self

from perf._model.log import OnceLog
from perf._model.spans import (
    COUNTER,
    GROUP,
    INSTANT,
    NO_PARENT,
    SPAN,
    RawRecord,
)
from perf._model.stats import TracerStats
from perf._record import clock as clocks
from perf._record.collector import Collector
from perf._record.cost import span_cost_s
from perf._record.devices import Devices
from perf._record.hot import RELIEF_AT, HotTracer, new_id
from perf._record.launches import Launches
from perf._record.names import as_text, proper, shown
from perf._record.noop import NOOP_SPAN, NoopSpan
from perf._record.span import ROOT, Span, ThreadLog, error_text
from perf._record.store import KEEP_SPANS, KEEP_STEPS, Index, Store
from perf._record.waiting import Waiting

DISABLE_VARIABLE: Final = "RLPERF_DISABLE"
"""Environment variable: if it is set, tracers are made switched off."""

SLOW_S: Final = 10.0  # mutate: ok any time that people notice
"""After this `close` says what it waits for."""
STUCK_S: Final = 60.0  # mutate: ok any time that nobody wants to wait for longer
"""After as much again as this it waits no more."""

_tracers: weakref.WeakSet[Tracer] = weakref.WeakSet()


class Tracer(HotTracer):
    """Records spans; what both public tracers are made of.

    Args:
        devices: devices whose timelines exist from the start, in any form.
        host_prefix: begins the ids of host timelines.
        waiting: waits for device work.
        now: the clock, in nanoseconds.
        first_device_only: a span on several devices is recorded on the first alone.
        concurrent: names of device spans that may overlap on a device, or "all".
        keep_steps, keep_spans: what stays in memory for queries.
        index: told what comes into this memory and what leaves it.

    Raises:
        ValueError: something in `devices` is no device.
    """

    def __init__(
        self,
        devices: Any = None,
        *,
        host_prefix: str,
        waiting: Waiting,
        now: Callable[[], int] = clocks.now,
        first_device_only: bool = False,
        concurrent: str | frozenset[str] = frozenset(),
        keep_steps: int = KEEP_STEPS,
        keep_spans: int = KEEP_SPANS,
        index: Index | None = None,
    ) -> None:
        self._log = OnceLog()
        self._waiting = waiting
        self._now = now
        self._on = not os.environ.get(DISABLE_VARIABLE)
        self._closed = False
        self._local = threading.local()
        self._span_type = Span
        self._task_span: ContextVar[Span | None] = ContextVar("perf_span", default=None)
        """The innermost open span of an asyncio task; unused outside a running loop.
        The tracer's own: two tracers record the same tasks."""
        self._born_ns = now()
        self._devices = Devices(first_device_only)
        self._devices.add(devices)
        self._launches = Launches(
            self, self._devices, waiting, now, concurrent, self._log
        )
        self._collector = Collector(
            host_prefix,
            now,
            self._devices,
            self._launches.pending,
            Store(self._born_ns, keep_steps, keep_spans, index),
            self._log,
        )
        self._main_log = self._new_log(is_main=True)
        _tracers.add(self)

    # -- recording -----------------------------------------------------------------

    def _group(self, name: str) -> Span:
        return Span(self, name, GROUP, None, None, None)

    def instant(self, name: str, tags: Mapping[str, Any] | None = None) -> None:
        """Records a moment on the calling thread's timeline."""
        if not self._on:
            return
        now_ns = self._now()
        tags = None if tags is None else self._copied(tags)
        around = self.current_span().id
        self._append((name, now_ns, now_ns, new_id(), around, INSTANT, tags, None))

    def counter(self, name: str, value: float, unit: str = "") -> None:
        """Records the value of a counter now.

        Args:
            name: the counter's; one track for each.
            value: a number; anything else is refused with a log line.
            unit: shown beside the value, e.g. "tokens".
        """
        if not self._on:
            return
        try:
            value = value if type(value) is int else float(value)
        except Exception:
            self._log.say("counter-value", f"counter {shown(name)}: no number")
            return
        unit = unit if type(unit) is str else as_text(unit)
        self._append(
            (name, self._now(), value, new_id(), NO_PARENT, COUNTER, unit or None, None)
        )

    def record(
        self,
        name: str,
        begin_s: float,
        end_s: float,
        *,
        track: str | None = None,
        clock: str = "monotonic",
        tags: Mapping[str, Any] | None = None,
    ) -> int:
        """Records a span that somebody else timed, e.g. an inference server.

        Args:
            name: what happened.
            begin_s: its begin, in seconds.
            end_s: its end.
            track: a track of that name; by default the calling thread's timeline.
            clock: of these times: "monotonic" (`time.perf_counter`) or "wall"
                (`time.time`). An end that is more than a day ahead on it, or a year
                ago, is of another clock.
            tags: kept with the span, copied.

        Returns:
            The span's id, for `after`; 0 if it was refused with a log line.
        """
        if not self._on:
            return NO_PARENT
        try:
            begin_ns, end_ns = self._on_our_clock(clock, begin_s, end_s)
        except _TimesError as error:
            return self._refuse(name, error.reason, str(error))
        except Exception as error:  # whatever converting an object to a float raises
            return self._refuse(name, "number", error_text(error))
        span_id = new_id()
        parent_id = NO_PARENT if track is not None else self.current_span().id
        copied = None if tags is None else self._copied(tags)
        record = (name, begin_ns, end_ns, span_id, parent_id, SPAN, copied, None)
        if track is None:
            self._own_log().tangled = True
            self._append(record)
        else:
            self._collector.add_to_track(proper(track), record)
        return span_id

    def current_span(self) -> Span | NoopSpan:
        """The innermost span open in the calling thread or asyncio task.

        Returns:
            That span; where none is open, one that accepts everything, records
            nothing and is false.
        """
        span = self._own_log().open_around(self._task_span.get())
        return NOOP_SPAN if span is ROOT else span

    @property
    def enabled(self) -> bool:
        """Whether spans are recorded; may be set at any time.

        Spans open while it is switched off are still recorded when they close.
        """
        return self._on

    @enabled.setter
    def enabled(self, value: bool) -> None:
        self._on = bool(value)

    def synchronize(self) -> None:
        """Waits until the devices are idle and their spans recorded. Blocks."""
        try:
            self._waiting.idle()
        except Exception as error:  # a device is lost: the training will say so
            self._log.say("idle", f"synchronize: {error_text(error)}")
        self._waiting.settle(self)

    def export(self) -> dict[str, Any]:
        """Closes a step and returns its metrics; the public tracers say which."""
        self._collector.close_step()
        return {}

    # -- life ----------------------------------------------------------------------

    def flush(self, deadline_s: float | None = None) -> bool:
        """Has the attached writers write all that was recorded so far.

        Args:
            deadline_s: seconds to wait at most; None waits until it is done.

        Returns:
            Whether all of it was written in time.
        """
        end = None if deadline_s is None else time.monotonic() + deadline_s
        done = True
        for feed in self._collector.feeds:
            left = None if end is None else max(0.0, end - time.monotonic())
            done = feed.sink.flush(left) and done
        return done

    def close(self) -> None:
        """Stops recording, waits for pending device work and closes the writers.

        Spans still open are in the files as unfinished; so is device work that a
        stuck device does not end within a minute.
        """
        self._on = False
        self._closed = True
        if not self._waiting.settle(self, SLOW_S):
            what = f"device work: {sorted({w.name for w in self._launches.pending()})}"
            self._log.say("slow-close", f"close() waits for {what}")
            if not self._waiting.settle(self, STUCK_S):
                self._log.say("stuck", f"close() waits no more for {what}")
        for feed in self._collector.feeds:
            feed.sink.close()
        self._collector.drop_feeds()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def stats(self) -> TracerStats:
        """What was recorded, written, dropped and is pending; the tracer's own time."""
        collector = self._collector
        with collector.collected():
            retained, names = collector.store.count, len(collector.names)
            steps = collector.store.current.index
            recorded, dropped = collector.recorded, collector.dropped
            opened = collector.open_records()
        files = [sink.stats for sink in collector.sinks]
        return TracerStats(
            recorded=recorded,
            written=sum(file.written_records for file in files),
            dropped=dropped + sum(file.dropped for file in files),
            retained=retained,
            forgotten=collector.forgotten,
            # A device span is open on each of its devices.
            open=len({record[3] for _, records in opened for record in records}),
            pending=len(self._launches.pending()),
            unwaited=self._launches.unwaited,
            failed=self._launches.failed,
            names=names,
            steps=steps,
            written_slices=sum(file.written_slices for file in files),
            written_bytes=sum(file.written_bytes for file in files),
            write_errors=sum(file.errors for file in files),
            last_error=next((f.last_error for f in files if f.last_error), ""),
            trace_paths=tuple(str(path) for file in files for path in file.paths),
            deleted_files=sum(file.deleted_files for file in files),
            uploaded_parts=sum(file.uploaded_parts for file in files),
            waiting_parts=sum(file.waiting_parts for file in files),
            failed_uploads=sum(file.failed_uploads for file in files),
            own_time_s=(collector.own_ns + self._launches.own_ns) / clocks.NS_PER_S
            + sum(file.own_time_s for file in files)
            + recorded * span_cost_s(),
        )

    @property
    def all_devices(self) -> list[str]:
        """Ids of the devices seen so far."""
        return list(self._devices.lines)

    # -- threads -------------------------------------------------------------------

    def _own_log(self) -> ThreadLog:
        try:
            log: ThreadLog = self._local.log
        except AttributeError:
            log = self._new_log()
        return log

    def _new_log(self, is_main: bool = False) -> ThreadLog:
        forked: ThreadLog | None = self._local.__dict__.pop("forked", None)
        if forked is not None:
            self._local.log = forked
            self._collector.begun()
            return forked
        # Held by the thread's locals alone; a Thread object may outlive its thread.
        self._local.life = _Life()
        log = self._local.log = self._collector.new_log(self._local.life, is_main)
        return log

    def _append(self, record: RawRecord) -> None:
        log = self._own_log()
        log.records.append(record)
        if len(log.records) >= RELIEF_AT:
            self._collector.relieve(log)

    def _on_our_clock(self, clock_name: str, *times_s: float) -> tuple[int, int]:
        begin_ns, end_ns = (clocks.nanoseconds(time_s) for time_s in times_s)
        if clock_name == "wall":
            now = clocks.snapshot()
            offset_ns = now.monotonic_ns - now.wall_ns
            begin_ns, end_ns = begin_ns + offset_ns, end_ns + offset_ns
        elif clock_name != "monotonic":
            raise _TimesError(
                "clock", f"clock {clock_name!r}: expected 'monotonic' or 'wall'"
            )
        if end_ns < begin_ns:
            raise _TimesError("order", f"it ends at {times_s[1]} s before it begins")
        if not -_LONGEST_AGO_NS < end_ns - self._now() < _FURTHEST_AHEAD_NS:
            away_days = (end_ns - self._now()) / _DAY_NS
            raise _TimesError(
                "far",
                f"it ends {away_days:+,.0f} days from now on the clock {clock_name!r}: "
                'give clock="wall" with times of time.time(), none with those of '
                "time.perf_counter(), and both in seconds",
            )
        return begin_ns, end_ns

    def _refuse(self, name: str, reason: str, text: str) -> int:
        self._log.say(f"record-{reason}", f"record({shown(name)}) refused: {text}")
        return NO_PARENT

    def _copied(self, tags: Any) -> dict[str, Any] | None:
        """A dict of our own: the caller may change or reuse the mapping."""
        try:
            return {**tags}
        except Exception:
            self._refuse_tags(tags)
            return None

    def _refuse_tags(self, tags: Any) -> None:
        self._log.say(
            "tags",
            f"tags= got {type(tags).__name__}: expected a mapping of names to values",
        )

    def _ids(self, after: Any) -> tuple[int, ...] | None:
        """Ids of one or several spans or ids of spans."""
        if isinstance(after, (Span, NoopSpan, int)):
            after = (after,)
        try:
            ids = [item if isinstance(item, int) else item.id for item in after]
            return tuple(span_id for span_id in ids if span_id > 0) or None
        except Exception:
            self._log.say(
                "after",
                f"after= got {type(after).__name__}: expected spans or ids of spans",
            )
            return None

    def _forget(self) -> None:
        """After a fork: what was recorded so far belongs to the parent."""
        self._devices.forget()
        self._launches.count_anew()
        own = getattr(self._local, "log", None)
        self._collector.forget(own)
        if own is not None:
            self._main_log = own
            # What the thread has open stays open; but what it records next comes by
            # `_new_log`, where the hot path is left.
            self._local.forked = own
            del self._local.log


_DAY_NS: Final = 86_400 * clocks.NS_PER_S
_FURTHEST_AHEAD_NS: Final = _DAY_NS  # mutate: ok any time of this size
"""How far from now a span that somebody else timed may end: clocks of machines differ,
but not by days."""
_LONGEST_AGO_NS: Final = 365 * _DAY_NS  # mutate: ok any time of this size
"""How long ago it may have ended: logs are read later, but the zeros of the clocks are
decades apart."""


class _TimesError(ValueError):
    """Times of a span that are refused.

    Attributes:
        reason: one word; each reason is logged once.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class _Life:
    """Something that dies with its thread."""

    __slots__ = ("__weakref__",)


def _forget_all() -> None:
    for tracer in list(_tracers):
        tracer._forget()


os.register_at_fork(after_in_child=_forget_all)
