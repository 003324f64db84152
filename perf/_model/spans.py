"""Spans, instants and counters as the tracer records them.

A record is a flat tuple of atoms. The garbage collector stops looking at such a
tuple after its first pass; an object with attributes stays on its list for ever, and
tens of thousands of them make recording twice as slow. Objects are made from records
when somebody looks.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

Tags = Mapping[str, Any]

SPAN: Final = 0
"""Kind: a span of a host thread, or one timed elsewhere and handed to `record`."""
GROUP: Final = 1
"""Kind: a span group of v1."""
DEVICE: Final = 2
"""Kind: device work, from the moment the device could start it to its end."""
QUEUED: Final = 3
"""Kind: the wait of device work for the work before it on its device."""
INSTANT: Final = 4
"""Kind: a moment. `end_ns` equals `begin_ns`."""
COUNTER: Final = 5
"""Kind: a sample of a counter. `end_ns` holds the value, `tags` its unit or None."""

NO_PARENT: Final = 0
"""`parent_id` of a span that has none; span ids start at 1."""
OPEN: Final = -1
"""`end_ns` of a span that has not ended."""


class Record(NamedTuple):
    """The layout of a record. The tracer appends plain tuples of this shape.

    A span with devices is one span seen on several timelines: on its host thread and
    on each device it has the same id and the same parent.
    """

    name: str
    begin_ns: int
    """Nanoseconds on the tracer's (monotonic) clock."""
    end_ns: int
    """Likewise; `OPEN` while the span is open."""
    id: int
    """Unique in the process, in the order of opening."""
    parent_id: int
    """The span that was current where this one was opened, or `NO_PARENT`."""
    kind: int
    tags: Any
    """A dict of its own (str to any value), or None; a counter's unit."""
    after: tuple[int, ...] | None
    """Ids of recorded predecessors: spans whose results this one consumed."""


RawRecord = tuple[Any, ...]
"""A tuple laid out as `Record`: what the tracer appends, unnamed for speed."""


class TimelineKind(enum.StrEnum):
    """Where the spans of a timeline happen.

    Texts, because they are keys in every batch and plain members hash slowly.
    """

    HOST = "host"
    DEVICE = "device"
    QUEUE = "queue"
    """The waits of one device's work for the work before it."""
    NAMED = "named"
    """A track named by the user in `record(track=…)`."""


class TimelineInfo(NamedTuple):
    """Who a timeline is."""

    id: str
    """As the queries know it: `thread-<ident>`, `host-<ident>`, `tpu0`, …"""
    kind: TimelineKind
    name: str
    """For people: the thread's name, the device, the track."""
    is_main: bool = False
    """Whether this is the thread that made the tracer."""
    native_thread_id: int = 0
    """The operating system's id of the thread; 0 where there is none."""


Records = list[tuple[TimelineInfo, list[RawRecord]]]
"""Records by timeline; a timeline may come several times."""


class ClockSnapshot(NamedTuple):
    """The same moment on three clocks, in nanoseconds."""

    monotonic_ns: int
    """The tracer's clock (`time.perf_counter_ns`)."""
    wall_ns: int
    """Since the Unix epoch."""
    boot_ns: int
    """Since the machine started, sleep included."""


class Batch(NamedTuple):
    """What a sink receives at once: everything recorded since the last batch."""

    records: Records
    """In the order of closing."""
    open: Records
    """Spans that are open now (`end_ns` is `OPEN`), outermost first.

    Not one of them is in `records` of this batch or an earlier one.
    """
    tangled: frozenset[str]
    """Ids of timelines whose spans need not nest: coroutines, spans closed out of
    order or timed elsewhere. On all others two spans nest or lie apart."""
    clocks: ClockSnapshot
    dropped: int = 0
    """Records lost since the last batch: the sink will never see them."""
    is_whole: bool = True
    """Whether this is everything; if not, the rest comes with a later batch."""
    lost_ends: bool = False
    """Whether of a span that was handed over as open the end is among what was lost."""

    def with_next(self, batch: Batch) -> Batch:
        """Both as one; the next has all that is open."""
        return batch._replace(
            records=self.records + batch.records,
            tangled=self.tangled | batch.tangled,
            dropped=self.dropped + batch.dropped,
        )
