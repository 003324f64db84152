"""Gathers what the threads and devices of a tracer have recorded.

Threads append to lists of their own and never wait. Whoever asks (an export, a sink's
timer, a thread whose list is long) moves the records on to the store for queries and to
the feeds of the sinks, under a lock that no recording thread ever waits for.
"""

from __future__ import annotations

import contextlib
import operator
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from perf._model.ids import QUEUE_SUFFIX
from perf._model.log import OnceLog
from perf._model.spans import (
    DEVICE,
    GROUP,
    SPAN,
    Batch,
    RawRecord,
    Records,
    TimelineInfo,
    TimelineKind,
)
from perf._record import clock
from perf._record.devices import Devices
from perf._record.feed import Feed, Sink
from perf._record.hot import RELIEF_AT
from perf._record.names import OTHER, Names
from perf._record.span import ThreadLog
from perf._record.store import Step, Store

if TYPE_CHECKING:
    from perf._record.launches import DeviceWork

MAX_ON_THREAD: Final = 65_536
"""Records that a thread keeps while the collector is busy elsewhere."""
MAX_TRACKS: Final = 1_000
"""Tracks named in `record(track=…)`; further ones share one."""
MAX_DEAD: Final = 100  # mutate: ok any number of this size
"""Threads that have ended with spans open, and are remembered for these: somebody else
may close them. Every step looks at each of them."""
THREAD_ENDED: Final = "its thread ended"
"""What is said of the spans of such a thread when it is no longer remembered."""

PATIENCE_S: Final = 0.5  # mutate: ok any time that nobody minds
"""How long a drain waits for a lock. What it cannot have it leaves to the next."""

MAX_OVERDUE: Final = 100  # mutate: ok any number of this size
"""Steps that stay in the store until a sink is next served."""


class Collector:
    """The threads' lists, the store and the feeds of one tracer.

    Args:
        host_prefix: begins the ids of host timelines.
        now: the tracer's clock, in nanoseconds.
        devices: the tracer's device timelines.
        pending: the device work in flight.
        store: what is kept for queries.
        log: of the tracer.
    """

    def __init__(
        self,
        host_prefix: str,
        now: Callable[[], int],
        devices: Devices,
        pending: Callable[[], list[DeviceWork]],
        store: Store,
        log: OnceLog,
    ) -> None:
        self._host_prefix = host_prefix
        self._now = now
        self._devices = devices
        self._pending = pending
        # Re-entered where a name's own __str__, a logging handler or a signal handler
        # records or asks for statistics while this thread collects.
        self._lock = threading.RLock()
        self.store = store
        """Held: _lock."""
        self._log = log
        self.names = Names(log)
        """Held: _lock."""
        self.sinks: list[Sink] = []
        """All that were ever attached, for their stats."""
        self.feeds: list[Feed] = []
        """Replaced under _lock, never changed: read without it."""
        self._count_anew()
        self._logs: list[ThreadLog] = []
        self._tracks: dict[str, ThreadLog] = {}
        self._is_child = False
        """Whether this is a fork that has recorded nothing yet."""
        self._idents: dict[int, int] = {}
        """Threads seen with each ident: the system gives a dead thread's anew."""

    def _count_anew(self) -> None:
        self.collected_count = 0
        """Records taken from threads, tracks and devices."""
        self.forgotten = 0
        self.own_ns = 0
        """Time spent here: the processor's, and all of it where the training waits."""
        self._dropped_by_dead = 0
        """Records lost by threads that have ended."""
        self._dropped_by_closed = 0
        """Records lost by feeds that are no more."""

    # -- threads and tracks ----------------------------------------------------------

    def new_log(self, life: Any, is_main: bool = False) -> ThreadLog:
        """The list of the calling thread.

        Args:
            life: something that dies with the thread.
            is_main: whether the thread made the tracer.
        """
        # Without the lock: nobody else has this ident, and a list grows in one step.
        ident = threading.get_ident()
        seen = self._idents[ident] = self._idents.get(ident, 0) + 1
        info = TimelineInfo(
            f"{self._host_prefix}{ident}" + (f"-{seen}" if seen > 1 else ""),
            TimelineKind.HOST,
            threading.current_thread().name,
            is_main,
            threading.get_native_id(),
        )
        log = ThreadLog(info, self._now, weakref.ref(life))
        self._logs.append(log)
        self.begun()
        return log

    def begun(self) -> None:
        """Something is about to be recorded; the first time after a fork this counts.

        Most children never record, or become another program at once: only now is
        there something for the sinks to do.
        """
        if self._is_child:
            self._is_child = False
            for feed in self.feeds:
                feed.sink.wake()

    def add_to_track(self, name: str, record: RawRecord) -> None:
        """Records on a named track; any thread may."""
        track = self._tracks.get(name) or self._new_track(name)
        track.records.append(record)
        if len(track.records) >= RELIEF_AT:
            self.relieve(track)

    def relieve(self, log: ThreadLog) -> None:
        """A list is long: its thread has it collected, unless that is going on."""
        if self._lock.acquire(blocking=False):
            begin_ns = time.thread_time_ns()
            try:
                self._keep(_taken(log))
                self.own_ns += time.thread_time_ns() - begin_ns
            finally:
                self._lock.release()
        elif len(log.records) > MAX_ON_THREAD:
            try:
                log.records.pop()
                log.dropped += 1
            except IndexError:  # collected between the two lines
                pass

    def relieve_devices(self, *, is_counted: bool) -> None:
        """Likewise for the device timelines.

        Args:
            is_counted: whether all time of the calling thread is the tracer's own, and
                counted as such.
        """
        if self._lock.acquire(blocking=False):
            begin_ns = time.thread_time_ns()
            try:
                self._keep(self._devices.take() or [])
                if not is_counted:
                    self.own_ns += time.thread_time_ns() - begin_ns
            finally:
                self._lock.release()

    # -- collecting ------------------------------------------------------------------

    @contextlib.contextmanager
    def collected(self) -> Iterator[None]:
        """Everything closed before is in the store; the lock is held inside."""
        begin_ns = time.thread_time_ns()
        with self._lock:
            self._collect()
            yield
            self.own_ns += time.thread_time_ns() - begin_ns

    def close_step(self) -> Step:
        """Ends a step of the trainer."""
        # Not `thread_time_ns`, which asks the kernel: the training waits.
        begin_ns = time.perf_counter_ns()
        with self._lock:
            # Before the records are taken, as in a drain: what ends in between would
            # be in neither otherwise.
            opened = self.open_records()
            self._collect()
            step = self.store.close_step(self._now())
            # The training waits for this: forgetting is left to the drain that follows,
            # unless there is none, or it is late.
            self.store.trim(beyond=MAX_OVERDUE if self.feeds else 0)
            if opened:
                step.opened = _still(opened, step.parts)
            self.own_ns += time.perf_counter_ns() - begin_ns
        for feed in self.feeds:
            # Sinks come by themselves, unless their thread could not be started, or is
            # the parent's.
            if not feed.is_served:
                feed.sink.wake()
        if step.forgotten:
            self.forgotten += step.forgotten
            self._log.say(
                "long-step",
                f"a step of {step.count + step.forgotten} spans: its metrics leave out "
                f"the first {step.forgotten}. Export more often; the trace has all.",
            )
        return step

    def subscribe(self, sink: Sink, *, with_kept: bool = False) -> Feed:
        """A feed of what is recorded from now on.

        Args:
            sink: who takes it.
            with_kept: also of what is kept for queries.
        """
        feed = Feed(sink, self._drain, self.drop_feed)
        with self._lock:
            feed.told = self._dropped_on_threads()
            if with_kept:
                kept = self.store.kept()
                # Of threads that have ended nobody knows whether their spans nest.
                for info, _ in kept:
                    feed.keep_tangled(info.id)
                feed.put(kept, self.store.count)
            self.feeds = [*self.feeds, feed]
            self.sinks.append(sink)
        return feed

    def unsubscribe(self, feed: Feed) -> None:
        """As if it had never been: its sink could not be attached."""
        with self._lock:
            self.feeds = [each for each in self.feeds if each is not feed]
            self.sinks.remove(feed.sink)

    def drop_feed(self, feed: Feed) -> None:
        """A sink gets nothing any more; what it did not take is lost."""
        with self._lock:
            if feed not in self.feeds:
                return
            self._collect(PATIENCE_S)
            self.feeds = [each for each in self.feeds if each is not feed]
            self._dropped_by_closed += feed.dropped + feed.waiting_count
            feed.take()

    def drop_feeds(self) -> None:
        """No sink gets anything any more."""
        for feed in self.feeds:
            self.drop_feed(feed)

    def open_records(self) -> Records:
        """Spans open on threads, and device work in flight on the queue timelines."""
        opened: Records = []
        for log in list(self._logs):
            spans = log.open_spans()
            if spans:
                records = [span.as_open_record() for span in spans]
                opened.append((log.info, records))
        for work in self._pending():
            records = [work.as_open_record()]
            # What may overlap waits for nobody: it is on the device from its launch.
            alone = work.concurrent
            opened += [
                (line.info if alone else line.queue_info, records)
                for line in work.lines
            ]
        return self.names.checked(opened) if opened else opened

    @property
    def threads(self) -> list[ThreadLog]:
        """The lists of threads, of ended ones too. Takes no lock."""
        return list(self._logs)

    def last_ended(self) -> RawRecord | None:
        """Of the spans that have ended in this step and the last one. Takes no lock."""
        steps = [*list(self.store.closed)[-1:], self.store.current]
        parts = [part for step in steps for part in list(step.parts)]
        parts += [(log.info, log.records) for log in self._all_logs()]
        parts += self._devices.waiting
        ended = [
            record
            for _, records in parts
            for record in list(records)
            if record[5] in (SPAN, GROUP, DEVICE)
        ]
        return max(ended, key=_end_of, default=None)

    @property
    def recorded(self) -> int:
        """Records so far, with those that were lost before they were collected."""
        return self.collected_count + self._dropped_on_threads()

    @property
    def dropped(self) -> int:
        """Records that no sink or query will ever see, or that not every sink got."""
        return (
            self._dropped_on_threads()
            + self._dropped_by_closed
            + sum(feed.dropped for feed in self.feeds)
        )

    def _dropped_on_threads(self) -> int:
        return self._dropped_by_dead + sum(log.dropped for log in self._all_logs())

    def forget(self, own: ThreadLog | None) -> None:
        """After a fork: what was recorded so far belongs to the parent.

        Args:
            own: the list of the one thread that lives on, if it has any.
        """
        self._lock = threading.RLock()
        self._is_child = True
        self._logs = [] if own is None else [own]
        self._tracks = {}
        self._count_anew()
        self.store = self.store.emptied(self._now())
        for feed in self.feeds:
            feed.forget()
        if own is not None:
            own.records.clear()
            own.dropped = 0
            own.info = own.info._replace(native_thread_id=threading.get_native_id())

    def _new_track(self, name: str) -> ThreadLog:
        if len(self._tracks) >= MAX_TRACKS:
            name = OTHER
            if name in self._tracks:
                return self._tracks[name]
        info = TimelineInfo(name, TimelineKind.NAMED, name)
        track = ThreadLog(info, self._now, weakref.ref(self))
        track.tangled = True
        # Without the lock: of two threads that come at once, one makes the track.
        track = self._tracks.setdefault(name, track)
        self.begun()
        return track

    def _all_logs(self) -> list[ThreadLog]:
        return [*self._logs, *self._tracks.values()]

    def _collect(self, patience_s: float = -1) -> bool:
        """Held: _lock. Whether all could be had."""
        # An interrupt from the keyboard before all is kept loses it: the training ends.
        parts: Records = []
        dead = []
        for log in self._all_logs():
            parts += _taken(log)
            if log.alive() is None and not log.records:
                dead.append(log)
        on_devices = self._devices.take(patience_s)
        if on_devices:
            parts += on_devices
        self._keep(parts)
        if dead:
            self._let_go_all(dead)
        return on_devices is not None

    def _let_go_all(self, dead: list[ThreadLog]) -> None:
        """Of threads that have ended; those with spans open are remembered a while."""
        open_for_ever = []
        for log in dead:
            if log.open_spans():
                open_for_ever.append(log)
            else:
                self._let_go(log)
        for log in open_for_ever[:-MAX_DEAD]:
            self._let_go(log)

    def _let_go(self, log: ThreadLog) -> None:
        if log not in self._logs:  # gone if this was re-entered
            return
        self._logs.remove(log)
        # Innermost first, as if its thread had closed them.
        spans = log.open_spans()[::-1]
        if spans:
            end_ns = self._now()
            records = [_ended(span.as_open_record(), end_ns) for span in spans]
            self._keep([(log.info, records)])
        if log.tangled:
            for feed in self.feeds:  # its records may still wait there
                feed.keep_tangled(log.info.id)
        self._dropped_by_dead += log.dropped

    def _keep(self, parts: Records) -> None:
        if not parts:
            return
        parts = self.names.checked(parts)
        count = sum([len(records) for _, records in parts])
        self.collected_count += count
        self.store.add(parts, count)
        for feed in self.feeds:
            feed.put(parts, count)

    def _drain(self, feed: Feed) -> Batch:
        # A thread that a signal handler has interrupted holds what it holds until the
        # handler returns; the handler may be waiting for this very drain.
        begin_ns = time.thread_time_ns()
        if not self._lock.acquire(timeout=PATIENCE_S):
            return Batch([], [], frozenset(), clock.snapshot(), is_whole=False)
        try:
            # Before the records are taken: a span that closes meanwhile is in both
            # and left out of the open ones; the other order would lose it.
            opened = self.open_records()
            is_whole = self._collect(PATIENCE_S)
            self.store.trim()
            taken = feed.take()
            tangled = feed.take_tangled().union(
                log.info.id for log in self._all_logs() if log.tangled
            )
            dropped = self._dropped_on_threads() + feed.dropped
            untold, feed.told = dropped - feed.told, dropped
            newly_open = feed.newly_open(opened, taken)
            feed.may_lack_ends |= untold > 0
            lost_ends = is_whole and feed.lost_ends(opened)
            self.own_ns += time.thread_time_ns() - begin_ns
        finally:
            self._lock.release()
        return Batch(
            taken, newly_open, tangled, clock.snapshot(), untold, is_whole, lost_ends
        )


_end_of = operator.itemgetter(2)


def _still(opened: Records, closed: Records) -> Records:
    """Those of what was open that have not closed meanwhile."""
    # Work in flight is on its queue, and ends on the device.
    ended: dict[str, set[int]] = {
        info.id.removesuffix(QUEUE_SUFFIX): set() for info, _ in opened
    }
    for info, records in closed:
        if info.id in ended:
            ended[info.id].update([record[3] for record in records])
    found: Records = []
    for info, records in opened:
        ids = ended[info.id.removesuffix(QUEUE_SUFFIX)]
        still = [record for record in records if record[3] not in ids]
        if still:
            found.append((info, still))
    return found


def _taken(log: ThreadLog) -> Records:
    """What a thread has recorded, off its list."""
    count = len(log.records)
    # Two steps, each whole: what the owner appends between them stays.
    records = log.records[:count]
    del log.records[:count]
    return [(log.info, records)] if records else []


def _ended(record: RawRecord, end_ns: int) -> RawRecord:
    """Of an open span that ends because its thread has."""
    name, begin_ns, _, span_id, parent_id, kind, tags, after = record
    tags = {**(tags or {}), "error": THREAD_ENDED}
    return name, begin_ns, end_ns, span_id, parent_id, kind, tags, after
