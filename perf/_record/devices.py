"""Device timelines: what runs on a device, and what waits for it.

A device does one program at a time. Of two spans that overlap on it, the later one
waited: it ran from the end of the one before. Both doors read this one timeline.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from perf._model import names
from perf._model.ids import device_ids, queue_id
from perf._model.sequence import Placed, Sequencer
from perf._model.spans import (
    DEVICE,
    QUEUED,
    RawRecord,
    Records,
    TimelineInfo,
    TimelineKind,
)

if TYPE_CHECKING:
    from perf._record.launches import DeviceWork

_MAX_REMEMBERED: Final = 256  # mutate: ok any number of this size
"""Forms of `devices` whose resolution is remembered."""


class DeviceLine:
    """The timeline of one device and that of its queue. Its owner locks."""

    __slots__ = ("info", "queue_info", "sequencer")

    def __init__(self, timeline_id: str) -> None:
        self.info = TimelineInfo(timeline_id, TimelineKind.DEVICE, timeline_id)
        queue = queue_id(timeline_id)
        self.queue_info = TimelineInfo(queue, TimelineKind.QUEUE, queue)
        self.sequencer = Sequencer(0)  # mutate: ok before all times


class Lines(tuple[DeviceLine, ...]):
    """The timelines of a set of devices.

    Attributes:
        key: the ids of all of the set, whichever of them have timelines. Tracers of
            the same devices share a waiting thread, and nothing of a tracer is held by
            the threads that outlive it. One text: it is hashed but once.
    """

    key: str
    earliest_ns = 0  # mutate: ok before all times
    """Nothing that is launched on the set from now on ends before this. Held: lock of
    its `Devices`."""


class Devices:
    """The device timelines of one tracer.

    Args:
        first_only: a span on several devices is recorded on the first alone.
    """

    def __init__(self, first_only: bool) -> None:
        # Re-entered by a signal handler that records or asks for statistics.
        self.lock = threading.RLock()
        """Held while a line is written or taken."""
        self.count = 0
        """Records that wait to be taken. Held: lock; read without it to see if it is
        much."""
        self._waiting: dict[str, tuple[TimelineInfo, list[RawRecord]]] = {}
        """They, by timeline id. Held: lock."""
        self.lines: dict[str, DeviceLine] = {}
        self._first_only = first_only
        self._sets: dict[str, Lines] = {}
        """By their keys: the same tuple for the same devices."""
        self._by_value: dict[Any, Lines] = {}
        self._by_identity: dict[int, tuple[Any, Lines]] = {}

    def add(self, devices: Any) -> None:
        """Makes timelines for devices in any form.

        Raises:
            ValueError: something in it is no device.
        """
        with self.lock:
            for timeline_id in device_ids(devices):
                self._line(timeline_id)

    def forget(self) -> None:
        """After a fork: what was recorded so far belongs to the parent."""
        self.lock = threading.RLock()
        self.take()

    def take(
        self,
        patience_s: float = -1,  # mutate: ok nobody holds the lock for a second
    ) -> Records | None:
        """What was recorded since the last call.

        Returns:
            None if somebody else held the lock for all of the time; -1: for ever.
        """
        lock = self.lock
        # By position: named, they take longer, and the training may be waiting.
        if not lock.acquire(True, patience_s):
            return None
        try:
            waiting, self._waiting = self._waiting, {}
            self.count = 0
            return [*waiting.values()]
        finally:
            lock.release()

    @property
    def waiting(self) -> Records:
        """What the next `take` would give, as it is now. Takes no lock."""
        return [*self._waiting.values()]

    @staticmethod
    def place(work: DeviceWork, end_ns: int) -> list[Placed[int]]:
        """When work ran on each of its lines that was done at `end_ns`. Held: lock.

        Args:
            work: on one device in the order in which it is done. If more of it came
                since it was placed, it lasts longer.
            end_ns: when.
        """
        begin_ns = work.begin_ns
        end_ns = max(end_ns, begin_ns)
        if work.concurrent:
            return [Placed(begin_ns, end_ns, None)] * len(work.lines)
        if work.placed is not None:
            pairs = zip(work.lines, work.placed, strict=True)  # mutate: ok alike
            return [
                Placed(
                    before.begin,
                    line.sequencer.place(before.end, end_ns).end,
                    before.queued_from,
                )
                for line, before in pairs
            ]
        # Devices that always work together are all in one state: what is found for the
        # first of them holds for the others.
        placed: list[Placed[int]] = []
        before = found = None
        for line in work.lines:
            state = line.sequencer.state
            if found is None or state != before:
                before = state
                found = line.sequencer.place(begin_ns, end_ns)
                after = line.sequencer.state
            else:
                line.sequencer.state = after
            placed.append(found)
        return placed

    def record(self, work: DeviceWork) -> None:
        """Adds the records of work that has ended. Held: lock."""
        name, parent_id, tags = work.name, work.parent_id, work.tags
        before: Placed[int] | None = None
        record: RawRecord = ()
        queued: RawRecord | None = None
        pairs = zip(work.lines, work.placed or (), strict=True)  # mutate: ok alike
        for line, placed in pairs:
            # Arrows tell the first device's record from the others, by identity.
            if placed is not before or work.span.after:
                before = placed
                record = (
                    name, placed.begin, placed.end, work.id, parent_id,
                    DEVICE, tags, work.span.after,
                )  # fmt: skip
                queued = None
                if placed.queued_from is not None:
                    queued = (
                        names.QUEUE, placed.queued_from, placed.begin, work.id,
                        parent_id, QUEUED, {names.NAME: name}, None,
                    )  # fmt: skip
            self._add(line.info, record)
            if queued is not None:
                self._add(line.queue_info, queued)
        self.count += len(work.lines)

    def _add(self, info: TimelineInfo, record: RawRecord) -> None:
        """Held: lock."""
        # A signal handler has the lock, too, and may take all between any two steps:
        # looking up and appending are one.
        while True:
            try:
                self._waiting[info.id][1].append(record)
                return
            except KeyError:
                self._waiting.setdefault(info.id, (info, []))

    def resolve(self, devices: Any) -> Lines:
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
        lines = self._lines_of(ids)
        self._remember(key, devices, lines)
        return lines

    def _remember(self, key: Any, devices: Any, lines: Lines) -> None:
        if key is None:
            # Computed arrays are not to be held: they fill a device's memory.
            if not callable(getattr(devices, "devices", None)) and (
                hasattr(devices, "devices") or hasattr(devices, "ravel")
            ):
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

    def _lines_of(self, ids: Iterable[str]) -> Lines:
        unique = tuple(dict.fromkeys(ids))
        key = "\n".join(unique)
        with self.lock:
            lines = self._sets.get(key)
            if lines is None:
                recorded = unique[:1] if self._first_only else unique
                lines = self._sets[key] = Lines(map(self._line, recorded))
                lines.key = key
            return lines

    def _line(self, timeline_id: str) -> DeviceLine:
        """Held: lock."""
        line = self.lines.get(timeline_id)
        if line is None:
            line = self.lines[timeline_id] = DeviceLine(timeline_id)
        return line
