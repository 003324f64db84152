"""Device timelines: what runs on a device, and what waits for it.

A device does one program at a time. Of two spans that overlap on it, the later one
waited: it ran from the end of the one before. Both doors read this one timeline.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

from perf._model.ids import device_ids, queue_id
from perf._model.sequence import Sequencer
from perf._model.spans import (
    DEVICE,
    OPEN,
    QUEUED,
    RawRecord,
    TimelineInfo,
    TimelineKind,
)

QUEUE_NAME: Final = "queue"
"""Name of the span of a wait; its tag `NAME` tells what waited."""
_MAX_REMEMBERED: Final = 256
"""Forms of `devices` whose resolution is remembered."""


class DeviceLine:
    """The timeline of one device and that of its queue. Its owner locks."""

    __slots__ = ("_sequencer", "info", "queue_info", "queued", "records")

    def __init__(self, timeline_id: str) -> None:
        self.info = TimelineInfo(timeline_id, TimelineKind.DEVICE, timeline_id)
        queue = queue_id(timeline_id)
        self.queue_info = TimelineInfo(queue, TimelineKind.QUEUE, queue)
        self.records: list[RawRecord] = []
        self.queued: list[RawRecord] = []
        self._sequencer = Sequencer(0)

    def finish(self, work: DeviceWork, end_ns: int, tags: Any) -> None:
        """Adds work that has ended.

        Args:
            work: what ended; on one device in the order of launch.
            end_ns: when.
            tags: those of its records.
        """
        begin_ns = work.begin_ns
        end_ns = max(end_ns, begin_ns)
        if not work.concurrent:
            begin_ns, end_ns, queued_ns = self._sequencer.place(begin_ns, end_ns)
            if queued_ns is not None:
                self.queued.append(
                    (
                        QUEUE_NAME, queued_ns, begin_ns, work.id, work.parent_id,
                        QUEUED, {"NAME": work.name}, None,
                    )
                )  # fmt: skip
        self.records.append(
            (
                work.name, begin_ns, end_ns, work.id, work.parent_id,
                DEVICE, tags, work.after,
            )
        )  # fmt: skip

    def take(self) -> list[tuple[TimelineInfo, list[RawRecord]]]:
        """What was added since the last call."""
        taken = [(self.info, self.records), (self.queue_info, self.queued)]
        self.records, self.queued = [], []
        return [(info, records) for info, records in taken if records]


class DeviceWork:
    """A device span between launch and end; what `waiting.Work` asks for."""

    __slots__ = (
        "_done", "after", "begin_ns", "concurrent", "ended", "id", "lines", "name",
        "parent_id", "tags", "tracer", "waits",
    )  # fmt: skip

    def __init__(
        self,
        tracer: Any,
        span: Any,
        parent_id: int,
        lines: tuple[DeviceLine, ...],
        concurrent: bool,
        done: Callable[[DeviceWork, BaseException | None], None],
    ) -> None:
        self.tracer = tracer
        self.name = span.name
        self.begin_ns = span.begin_ns
        self.id = span.id
        self.parent_id = parent_id
        self.tags = span.tags
        self.after = span._after
        self.waits = span._waits
        self.lines = lines
        self.concurrent = concurrent
        self.ended = False
        self._done = done

    def finish(self, error: BaseException | None) -> None:
        """Called by the waiting thread when the work has ended or failed."""
        self._done(self, error)

    def as_open_record(self) -> RawRecord:
        """The record of work that has not ended, from its launch."""
        return (
            self.name, self.begin_ns, OPEN, self.id, self.parent_id,
            DEVICE, self.tags, self.after,
        )  # fmt: skip


class Devices:
    """The device timelines of one tracer.

    Args:
        first_only: a span on several devices is recorded on the first alone.
    """

    def __init__(self, first_only: bool) -> None:
        self.lock = threading.Lock()
        """Held while a line is written or taken."""
        self.lines: dict[str, DeviceLine] = {}
        self._first_only = first_only
        self._sets: dict[tuple[str, ...], tuple[DeviceLine, ...]] = {}
        """By their ids: the same tuple for the same devices, the key of their waits."""
        self._by_value: dict[Any, tuple[DeviceLine, ...]] = {}
        self._by_identity: dict[int, tuple[Any, tuple[DeviceLine, ...]]] = {}

    def add(self, devices: Any) -> None:
        """Makes timelines for devices in any form.

        Raises:
            ValueError: something in it is no device.
        """
        self._lines_of(device_ids(devices))

    def forget(self) -> None:
        """After a fork: what was recorded so far belongs to the parent."""
        self.lock = threading.Lock()
        for line in self.lines.values():
            line.take()

    def resolve(self, devices: Any) -> tuple[DeviceLine, ...]:
        """The timelines of a span's devices; equal devices give the same tuple.

        Raises:
            ValueError: something in it is no device.
        """
        kind = type(devices)
        if kind is list or kind is tuple or kind is str:
            key = tuple(devices) if kind is list else devices
            try:
                return self._by_value[key]
            except (KeyError, TypeError):
                pass
        else:
            # A mesh or its array of devices: the same object at every step, and not
            # changed in place. Holding it keeps its identity from being given anew.
            known = self._by_identity.get(id(devices))
            if known is not None:
                return known[1]
            key = None
        ids = device_ids(devices)
        lines = self._lines_of(ids[:1] if self._first_only else ids)
        self._remember(key, devices, lines)
        return lines

    def _remember(self, key: Any, devices: Any, lines: tuple[DeviceLine, ...]) -> None:
        if key is None:
            if hasattr(devices, "devices") or hasattr(devices, "ravel"):
                if len(self._by_identity) >= _MAX_REMEMBERED:
                    self._by_identity.clear()
                self._by_identity[id(devices)] = (devices, lines)
            return
        if len(self._by_value) >= _MAX_REMEMBERED:
            self._by_value.clear()
        try:
            self._by_value[key] = lines
        except TypeError:  # devices nested in lists
            pass

    def _lines_of(self, ids: Iterable[str]) -> tuple[DeviceLine, ...]:
        with self.lock:
            unique = dict.fromkeys(ids)
            for timeline_id in unique:
                if timeline_id not in self.lines:
                    self.lines[timeline_id] = DeviceLine(timeline_id)
            lines = tuple(self.lines[timeline_id] for timeline_id in unique)
            return self._sets.setdefault(tuple(unique), lines)
