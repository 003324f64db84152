"""A tracer under hand-moved time whose records are read as a sink reads them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from perf._model.spans import Batch, RawRecord, Record, TimelineInfo
from perf._model.stats import WriteStats
from perf._record.tracer import Tracer
from perf.testing import FakeClock, ManualWait

BORN_NS = 1_000_000_000
"""What the clock shows when the tracer is made."""


class QuietSink:
    """Takes nothing by itself; counts how often it was woken."""

    def __init__(self) -> None:
        self.woken = 0
        self.stats = WriteStats()

    def wake(self) -> None:
        self.woken += 1

    def flush(self, deadline_s: float | None = None) -> bool:
        return True

    def close(self) -> None:
        pass


class Recording:
    """A tracer with one feed; `read()` takes what closed since the last read."""

    def __init__(
        self, devices: Any = None, *, wait: Any = None, now: Any = None, **options: Any
    ) -> None:
        self.clock = FakeClock(BORN_NS)
        self.wait: Any = wait or ManualWait()
        self.tracer = Tracer(
            devices,
            host_prefix="host-",
            waiting=self.wait,
            now=now or self.clock,
            **options,
        )
        self.sink = QuietSink()
        self.feed = self.tracer._collector.subscribe(self.sink)

    def at(self, time_ns: int) -> None:
        """Moves the clock to nanoseconds after the tracer was made."""
        self.clock.now_ns = BORN_NS + time_ns

    def read(self) -> list[Record]:
        """What closed since the last read, in the order of closing by timeline."""
        return flat(self.feed.drain().records)

    def rows(self) -> list[tuple[str, int, int]]:
        """(name, begin, end) of what closed, in nanoseconds since the beginning."""
        return [(r.name, r.begin_ns - BORN_NS, r.end_ns - BORN_NS) for r in self.read()]

    def parents(self) -> dict[str, str | None]:
        """The name of each closed span's parent; wants names of their own."""
        records = self.read()
        names = {record.id: record.name for record in records}
        return {record.name: names.get(record.parent_id) for record in records}

    def launch(self, name: str, devices: Any, **options: Any) -> Any:
        """Opens a span, hands it device work, closes it; returns the work."""
        work = self.wait.arrays(name)
        with self.tracer.span(name, devices, **options) as span:
            span.device_end([work])
        return work


def flat(some: list[tuple[TimelineInfo, list[RawRecord]]]) -> list[Record]:
    """The records of all timelines."""
    return [Record(*record) for _, records in some for record in records]


def on(batch: Batch, timeline_id: str) -> list[Record]:
    """The closed records of one timeline."""
    return flat([pair for pair in batch.records if pair[0].id == timeline_id])


def in_thread(work: Callable[[], Any]) -> Any:
    """What `work` returns, called in a thread of its own that has ended since."""
    returned: list[Any] = []
    thread = threading.Thread(target=lambda: returned.append(work()))
    thread.start()
    thread.join()
    return returned[0]


@contextlib.contextmanager
def held_elsewhere(collector: Any) -> Iterator[None]:
    """Another thread is collecting all the while."""
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with collector._lock:
            held.set()
            over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        yield
    finally:
        over.set()
        thread.join()
