"""Device work from its launch to its record."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from perf._model.log import OnceLog
from perf._model.names import END_ERROR
from perf._model.sequence import Placed
from perf._model.spans import DEVICE, GROUP, OPEN, RawRecord
from perf._record.devices import Devices, Lines
from perf._record.hot import RELIEF_AT
from perf._record.names import as_text, shown
from perf._record.span import Span, ThreadLog, error_text
from perf._record.waiting import Waiting

if TYPE_CHECKING:
    from perf._record.tracer import Tracer

WORTH_TELLING_NS: Final = 1_000_000
"""Errors of an end below it are not told: any thread that wakes up has them."""
NOT_WAITED_FOR: Final = "not waited for: too much is pending"
"""What is said of work that the waiting threads do not take."""


class DeviceWork:
    """The device side of a span: begun with it, ended when its arrays are ready."""

    # Most of what it knows it never needs to change: made at every launch, it is to be
    # as cheap as can be.
    finished = 0
    """Waitlists that are ready. Held: devices.lock."""
    closed = False
    """Whether the host has closed the span: no further waitlist comes."""
    end_ns = OPEN
    earliest_ns = OPEN
    """It did not end before this, on the tracer's clock."""
    placed: list[Placed[int]] | None = None
    """When it ran on each line, known once all waitlists so far were ready."""
    error: str | None = None

    def __init__(
        self, span: Span, around: Span, lines: Lines, concurrent: bool
    ) -> None:
        self.span = span
        # A span may be opened again while this is under way.
        self.name = span.name
        self.begin_ns = span.begin_ns
        self.id = span.id
        self.around = around
        """What the thread that made the tracer has open."""
        self.lines = lines
        self.concurrent = concurrent
        self.waits = 0
        """Waitlists handed over by the launching thread, which alone changes it."""

    @property
    def ended(self) -> bool:
        """Whether nothing more can come of it."""
        return self.closed and self.finished == self.waits

    @property
    def tags(self) -> dict[str, Any] | None:
        """The span's, with what went wrong on the device or is not known for sure."""
        tags = self.span.tags
        if self.error is not None:
            return {**(tags or {}), "error": self.error}
        error_ns = self.end_ns - self.earliest_ns
        if error_ns < WORTH_TELLING_NS:
            return tags
        return {**(tags or {}), END_ERROR: error_ns}

    @property
    def parent_id(self) -> int:
        """Groups opened on the thread that made the tracer show on every timeline."""
        return self.around.nearest(GROUP).id

    def as_open_record(self) -> RawRecord:
        """Its record while it has not ended, from its launch."""
        return (
            self.name, self.begin_ns, OPEN, self.id, self.parent_id,
            DEVICE, self.span.tags, self.span.after,
        )  # fmt: skip


class _Wait:
    """One waitlist of a span; what `waiting.Work` asks for."""

    __slots__ = ("_launches", "handed_ns", "own_ns", "tracer", "waits", "work")

    def __init__(
        self, launches: Launches, waits: Any, work: DeviceWork, handed_ns: int
    ) -> None:
        self._launches = launches
        self.tracer = launches.owner
        self.waits = waits
        self.own_ns = 0
        self.work = work
        self.handed_ns = handed_ns

    @property
    def name(self) -> str:
        return self.work.name

    @property
    def ended(self) -> bool:
        return self.work.ended

    def finish(
        self, error: BaseException | None, late_ns: int | None, waited: bool
    ) -> None:
        self._launches.waited(self, error, late_ns, waited)


class Launches:
    """The device work of one tracer.

    Args:
        owner: the tracer.
        devices: its device timelines.
        waiting: waits for arrays.
        now: the clock, in nanoseconds.
        concurrent: names that may overlap on a device, or "all".
        log: of the tracer.
    """

    def __init__(
        self,
        owner: Tracer,
        devices: Devices,
        waiting: Waiting,
        now: Callable[[], int],
        concurrent: str | frozenset[str],
        log: OnceLog,
    ) -> None:
        self.owner = owner
        self.devices = devices
        self.count_anew()
        self._waiting = waiting
        self._now = now
        self._concurrent = concurrent
        self._log = log

    def count_anew(self) -> None:
        """After a fork, too: what was counted is the parent's."""
        self.unwaited = 0
        self.failed = 0
        self.own_ns = 0
        """Processor time of the waiting threads. Held: devices.lock."""

    def wait_for(self, span: Span, waitlist: Any) -> None:
        """A span's work is done when these arrays are ready, too.

        They are waited for from now on, not from the span's end: work launched later
        on the same devices, by other threads, has to come after them.
        """
        work = span.work
        if work is None or work.closed:
            work = span.work = self._begun(span)
            if work is None:
                return
        work.waits += 1
        key = None if work.concurrent else work.lines.key
        wait = _Wait(self, waitlist, work, self._now())
        if not self._waiting.submit(key, wait):
            self._spoil(work, NOT_WAITED_FOR, was_waited_for=False)
            self._ready(work, wait.handed_ns)

    def close(self, span: Span) -> None:
        """The host has closed a span with devices."""
        work = span.work
        if work is None or work.closed:
            work = span.work = self._begun(span)
            if work is None:
                return
        with self.devices.lock:
            work.closed = True
            if work.finished == work.waits:
                if work.placed is None:  # without arrays it ends at the call
                    work.placed = self.devices.place(work, span.end_ns)
                self.devices.record(work)
        if self.devices.count >= RELIEF_AT:
            self.owner._collector.relieve_devices(is_counted=False)

    def waited(
        self,
        wait: _Wait,
        error: BaseException | None,
        late_ns: int | None,
        waited: bool,
    ) -> None:
        """One waitlist is ready, or has failed. See `waiting.Work.finish`."""
        end_ns = self._now()
        if not waited:
            end_ns, late_ns = wait.handed_ns, 0
        if error is not None:
            self._spoil(wait.work, error_text(error), was_waited_for=True)
        self._ready(wait.work, end_ns, late_ns, wait.own_ns)
        if self.devices.count >= RELIEF_AT:
            # Not counted where it is not a waiting thread.
            self.owner._collector.relieve_devices(is_counted=wait.own_ns > 0)

    def pending(self) -> list[DeviceWork]:
        """The work in flight, in the order of launch on each device set."""
        waits = self._waiting.pending(self.owner)
        if not waits:  # as at most exports, where the training waits for this
            return []
        return list({id(wait.work): wait.work for wait in waits}.values())

    def _begun(self, span: Span) -> DeviceWork | None:
        if not span.id:
            self._log.say(
                "not-open", "arrays were given to a span that was never opened"
            )
            return None
        try:
            lines = self.devices.resolve(span.devices)
        except Exception as error:
            self._log.say("devices", f"span {shown(span.name)}: {error}")
            return None
        if not lines:
            return None
        concurrent = self._concurrent
        main: ThreadLog = self.owner._main_log
        return DeviceWork(
            span,
            span.parent if span._log is main else main.current,
            lines,
            bool(concurrent)
            and (concurrent == "all" or as_text(span.name) in concurrent),
        )

    def _spoil(self, work: DeviceWork, error: str, *, was_waited_for: bool) -> None:
        """Marks work with its first failure, and counts its span by that."""
        with self.devices.lock:
            if work.error is None:
                work.error = error
                self.failed += was_waited_for
                self.unwaited += not was_waited_for

    def _ready(
        self,
        work: DeviceWork,
        end_ns: int,
        late_ns: int | None = None,
        own_ns: int = 0,
    ) -> None:
        with self.devices.lock:
            self.own_ns += own_ns
            work.end_ns = max(work.end_ns, end_ns)
            earliest_ns = work.begin_ns
            if late_ns is not None:
                earliest_ns = max(earliest_ns, end_ns - late_ns)
            if not work.concurrent:  # it did not end before what was launched before it
                earliest_ns = max(earliest_ns, work.lines.earliest_ns)
                work.lines.earliest_ns = earliest_ns
            work.earliest_ns = max(work.earliest_ns, earliest_ns)
            if work.finished + 1 == work.waits:
                work.placed = self.devices.place(work, work.end_ns)
            # Now it may count as ended: whoever sees its record no longer sees it as
            # open.
            work.finished += 1
            if work.ended:
                self.devices.record(work)
