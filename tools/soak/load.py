"""Threads and tasks record, another thread exports; every span is accounted for."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from perf.experimental.export import PerfMetricsExport
from perf.experimental.timeline import Timeline
from perf.experimental.tracer import PerfTracer
from perf.perfetto import TraceFiles

THREADS: Final = 8
TASKS: Final = 100
RATE: Final = 20_000
"""Spans a second, all together."""
BURST: Final = 16_000
"""Spans that each thread makes at once, every now and then."""
_BURST_EVERY_S: Final = 15.0
"""At most: a short trial has one."""
_TICK_S: Final = 0.02
_LAG_S: Final = 0.25
_PER_ROUND: Final = 2
"""Spans that are made together: one inside another."""
_GROWTH_BYTES: Final = 32 << 20
"""Memory that may come after the first third of a trial."""


class Parents:
    """Checks that each span's parent is the one that its tags name."""

    def __init__(self) -> None:
        self.checked = 0
        self.wrong: list[str] = []
        self._waiting: dict[int | None, list[str]] = {}
        """By the id of a parent that has not closed yet, what its children call it."""

    def __call__(self, timelines: Mapping[str, Timeline]) -> dict[str, Any]:
        """Looks at the step that was exported last; an export function."""
        spans = [
            span
            for timeline in timelines.values()
            for steps in [timeline.committed_steps]
            for span in (steps[-1].values() if len(steps) else ())
        ]
        # A parent closes after its children, perhaps in a later step.
        for span in spans:
            if "inside" in span.tags:
                children = self._waiting.setdefault(span.parent_id, [])
                children.append(span.tags["inside"])
        for span in spans:
            me = span.tags["me"]
            for called in self._waiting.pop(span.id, ()):
                self.checked += 1
                if called != me:
                    self.wrong.append(f"{me} is the parent of what is in {called}")
        return {}

    @property
    def missing(self) -> int:
        """Spans whose parent never came."""
        return sum(map(len, self._waiting.values()))


class _Pace:
    """How many rounds are due at a rate, in spans a second."""

    def __init__(self, rate: float) -> None:
        self._period_s = _PER_ROUND / rate
        self._from_s = time.monotonic()

    def due(self) -> int:
        """The rounds since the last call."""
        # What a busy machine has kept from being made is not made up for: that would
        # be more than the rate, for as long as the machine is busy.
        now_s = time.monotonic()
        since_s = max(self._from_s, now_s - _LAG_S)
        count = int((now_s - since_s) / self._period_s)
        self._from_s = since_s + count * self._period_s
        return count


@dataclasses.dataclass
class Load:
    """A tracer under load.

    Attributes:
        made: spans closed so far, by who made them.
    """

    tracer: PerfTracer
    made: dict[str, int] = dataclasses.field(default_factory=dict)
    stopping: threading.Event = dataclasses.field(default_factory=threading.Event)
    burst_every_s: float = _BURST_EVERY_S

    def pair(self, who: str, number: int) -> None:
        """One span inside another, in the calling thread."""
        me = f"{who}/{number}"
        with self.tracer.span("outer", tags={"me": me}):
            with self.tracer.span("inner", tags={"me": me + "/in", "inside": me}):
                pass
        self.made[who] = self.made.get(who, 0) + _PER_ROUND

    async def pair_in_task(self, who: str, number: int) -> None:
        """Likewise in the calling task; others go on inside its spans."""
        me = f"{who}/{number}"
        async with self.tracer.span("outer", tags={"me": me}):
            await asyncio.sleep(0)
            tags = {"me": me + "/in", "inside": me}
            async with self.tracer.span("inner", tags=tags):
                await asyncio.sleep(0)
        self.made[who] = self.made.get(who, 0) + _PER_ROUND

    def thread(self, who: str, rate: float) -> None:
        """Records at a rate, with a burst at times, until it is told to stop."""
        numbers, pace = itertools.count(), _Pace(rate)
        burst_s = time.monotonic() + self.burst_every_s / 4
        while not self.stopping.wait(_TICK_S):
            due = pace.due()
            if time.monotonic() >= burst_s:
                burst_s += self.burst_every_s
                due += BURST // _PER_ROUND
            for _ in range(due):
                self.pair(who, next(numbers))

    async def task(self, who: str, rate: float) -> None:
        """Likewise as one of many tasks."""
        numbers, pace = itertools.count(), _Pace(rate)
        while not self.stopping.is_set():
            await asyncio.sleep(_TICK_S)
            for _ in range(pace.due()):
                await self.pair_in_task(who, next(numbers))

    async def tasks(self, rate: float) -> None:
        """All tasks."""
        many = (self.task(f"task {n}", rate / TASKS) for n in range(TASKS))
        await asyncio.gather(*many)

    def export(self) -> None:
        """Ends one step after the other."""
        while not self.stopping.wait(_TICK_S):
            self.tracer.export()

    def run(self, seconds: float, rate: float = RATE) -> int:
        """Records so long; returns the memory that came after the first third."""
        self.burst_every_s = min(_BURST_EVERY_S, seconds)
        per_thread = rate / 2 / THREADS
        threads = [
            threading.Thread(target=self.thread, args=(f"thread {n}", per_thread))
            for n in range(THREADS)
        ]
        threads.append(threading.Thread(target=self.export))
        loop = self.tasks(rate / 2)
        threads.append(threading.Thread(target=lambda: asyncio.run(loop)))
        for thread in threads:
            thread.start()
        time.sleep(seconds / 3)
        before = resident_bytes()
        time.sleep(seconds * 2 / 3)
        grown = resident_bytes() - before
        self.stopping.set()
        for thread in threads:
            thread.join()
        self.tracer.export()
        self.tracer.export()  # what closed while the last step was exported
        return grown


def new_load(folder: Path, check: Any) -> Load:
    """A tracer that writes to a folder, and has its steps checked."""
    files = TraceFiles(segment_mb=32, max_disk_mb=256)
    export = PerfMetricsExport(trace_dir=str(folder), trace_files=files)
    # A step with a burst has all its spans, or their parents could not be looked up.
    tracer = PerfTracer(export_fn=check, keep_steps=2, keep_spans=1_000_000)
    export.attach(tracer)
    return Load(tracer)


def unaccounted(load: Load) -> list[str]:
    """Closes the tracer; what became of spans that it does not tell."""
    load.tracer.close()
    made, stats = sum(load.made.values()), load.tracer.stats()
    faults = []
    if made != stats.recorded:
        faults.append(f"{made} spans made, {stats.recorded} recorded")
    if stats.recorded != stats.written + stats.dropped:
        faults.append(
            f"{stats.recorded} recorded, but {stats.written} written and "
            f"{stats.dropped} dropped"
        )
    return faults


def trial(folder: Path, seconds: float) -> list[str]:
    """Records so long at the rate at which nothing may be lost."""
    parents = Parents()
    load = new_load(folder, parents)
    begin_s = time.monotonic()
    grown = load.run(seconds)
    took_s = time.monotonic() - begin_s
    faults = unaccounted(load) + parents.wrong
    stats = load.tracer.stats()
    print(
        f"{stats.recorded} spans, {stats.recorded / took_s:.0f} a second, "
        f"{stats.dropped} dropped, {parents.checked} parents checked, "
        f"{grown / (1 << 20):.1f} MB more memory"
    )
    if stats.dropped:
        faults.append(f"{stats.dropped} dropped at a rate that is promised")
    if stats.recorded / took_s < RATE * 0.9:
        faults.append("the machine is too busy for this trial: too few were made")
    if parents.missing or parents.checked * _PER_ROUND != stats.recorded:
        faults.append(f"{parents.checked} parents seen, {parents.missing} missing")
    if grown > _GROWTH_BYTES:
        faults.append(f"the memory grew by {grown} bytes")
    return faults


def resident_bytes() -> int:
    """The memory that this process has in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096
