"""Device work from its launch to its record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from perf._model.log import OnceLog
from perf._model.sequence import Placed
from perf._model.spans import DEVICE, GROUP, OPEN, RawRecord
from perf._record.devices import DeviceLine, Devices
from perf._record.names import as_text, shown
from perf._record.span import RELIEF_AT, DeviceSpan, ThreadLog, error_text
from perf._record.waiting import Waiting

if TYPE_CHECKING:
    from perf._record.tracer import Tracer


class DeviceWork:
    """The device side of a span: begun with it, ended when its arrays are ready."""

    __slots__ = (
        "after", "begin_ns", "closed", "concurrent", "end_ns", "error", "id", "lines",
        "name", "parent_id", "placed", "tags", "waiting",
    )  # fmt: skip

    def __init__(
        self,
        span: DeviceSpan,
        parent_id: int,
        lines: tuple[DeviceLine, ...],
        concurrent: bool,
    ) -> None:
        self.name = span.name
        self.begin_ns = span.begin_ns
        self.id = span.id
        self.parent_id = parent_id
        self.tags = span.tags
        self.after = span.after
        self.lines = lines
        self.concurrent = concurrent
        self.waiting = 0
        """Waitlists that are not ready yet."""
        self.closed = False
        """Whether the host has closed the span: no further waitlist comes."""
        self.end_ns = OPEN
        self.placed: list[Placed[int]] | None = None
        """When it ran on each line, known once all waitlists so far were ready."""
        self.error: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more can come of it."""
        return self.closed and not self.waiting

    def as_open_record(self) -> RawRecord:
        """Its record while it has not ended, from its launch."""
        return (
            self.name, self.begin_ns, OPEN, self.id, self.parent_id,
            DEVICE, self.tags, self.after,
        )  # fmt: skip


class _Wait:
    """One waitlist of a span; what `waiting.Work` asks for."""

    __slots__ = ("_launches", "tracer", "waits", "work")

    def __init__(self, launches: Launches, waits: Any, work: DeviceWork) -> None:
        self._launches = launches
        self.tracer = launches.owner
        self.waits = waits
        self.work = work

    @property
    def name(self) -> str:
        return self.work.name

    @property
    def ended(self) -> bool:
        return self.work.ended

    def finish(self, error: BaseException | None) -> None:
        self._launches.waited(self.work, error)


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
        self.unwaited = 0
        self.failed = 0
        self._waiting = waiting
        self._now = now
        self._concurrent = concurrent
        self._log = log

    def wait_for(self, span: DeviceSpan, waitlist: Any) -> None:
        """A span's work is done when these arrays are ready, too.

        They are waited for from now on, not from the span's end: work launched later
        on the same devices, by other threads, has to come after them.
        """
        work = span.work
        if work is None:
            work = span.work = self._begun(span)
            if work is None:
                return
        with self.devices.lock:
            work.waiting += 1
        key = None if work.concurrent else work.lines
        if not self._waiting.submit(key, _Wait(self, waitlist, work)):
            self.unwaited += 1
            work.error = "not waited for: too much is pending"
            self._ready(work, self._now())

    def close(self, span: DeviceSpan) -> None:
        """The host has closed a span with devices."""
        work = span.work or self._begun(span)
        if work is None:
            return
        with self.devices.lock:
            work.tags = span.tags
            work.closed = True
            if not work.waiting:
                if work.placed is None:  # without arrays it ends at the call
                    self._place(work, span.end_ns)
                self._record(work)
        self._relieve(work)

    def waited(self, work: DeviceWork, error: BaseException | None) -> None:
        """One waitlist is ready, or has failed. Called on a waiting thread."""
        end_ns = self._now()
        if error is not None:
            self.failed += 1
            work.error = error_text(error)
        self._ready(work, end_ns)

    def pending(self) -> list[DeviceWork]:
        """The work in flight, in the order of launch on each device set."""
        waits = self._waiting.pending(self.owner)
        return list({id(wait.work): wait.work for wait in waits}.values())

    def _begun(self, span: DeviceSpan) -> DeviceWork | None:
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
        concurrent = self._concurrent == "all" or (
            as_text(span.name) in self._concurrent
        )
        return DeviceWork(span, self._group_of(span), lines, concurrent)

    def _group_of(self, span: DeviceSpan) -> int:
        # Groups opened on the thread that made the tracer show on every timeline.
        main: ThreadLog = self.owner._main_log
        around = span.parent if span._log is main else main.current
        return around.nearest(GROUP).id

    def _ready(self, work: DeviceWork, end_ns: int) -> None:
        with self.devices.lock:
            work.waiting -= 1
            work.end_ns = max(work.end_ns, end_ns)
            if not work.waiting:
                self._place(work, work.end_ns)
                if work.closed:
                    self._record(work)
        self._relieve(work)

    def _relieve(self, work: DeviceWork) -> None:
        if any(len(line.records) >= RELIEF_AT for line in work.lines):
            self.owner._collector.relieve_devices()

    def _place(self, work: DeviceWork, end_ns: int) -> None:
        """Held: devices.lock."""
        before: Sequence[Placed[int] | None] = work.placed or [None] * len(work.lines)
        work.placed = [
            line.place(work, end_ns, placed)
            for line, placed in zip(work.lines, before, strict=True)  # mutate: ok alike
        ]

    def _record(self, work: DeviceWork) -> None:
        """Held: devices.lock.

        Since the work was marked as ended: whoever sees its record no longer sees it
        as open.
        """
        tags = work.tags
        if work.error is not None:
            tags = {**(tags or {}), "error": work.error}
        placed_on = zip(work.lines, work.placed or (), strict=True)  # mutate: ok alike
        for line, placed in placed_on:
            line.add(work, placed, tags)
