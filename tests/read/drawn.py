"""Schedules drawn by hand, their times in milliseconds, and such drawn at random."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from perf._model.spans import (
    DEVICE,
    NO_PARENT,
    OPEN,
    SPAN,
    RawRecord,
    TimelineInfo,
    TimelineKind,
)
from tests.read.simulator import MAIN, MS

Timelines = list[tuple[TimelineInfo, list[RawRecord]]]
WORKER = TimelineInfo("host-2", TimelineKind.HOST, "worker")
LAST = 40
"""Milliseconds of what is drawn at random."""


def device(name: str) -> TimelineInfo:
    """The timeline of a device."""
    return TimelineInfo(name, TimelineKind.DEVICE, name)


def span(
    name: str,
    begin: int,
    end: int,
    span_id: int,
    *,
    kind: int = SPAN,
    after: tuple[int, ...] = (),
    **tags: Any,
) -> RawRecord:
    """A record; its times are milliseconds."""
    ends = end if end == OPEN else end * MS
    return (name, begin * MS, ends, span_id, NO_PARENT, kind, tags or None, after)


def work(name: str, begin: int, end: int, span_id: int, **tags: Any) -> RawRecord:
    """A record of a device."""
    return span(name, begin, end, span_id, kind=DEVICE, **tags)


NAMES = st.sampled_from(["rollout", "peft_train", "weight_sync", "compile", "reward"])


@st.composite
def schedules(draw: st.DrawFn) -> Timelines:
    """Threads and devices with spans of any kind anywhere: they need make no sense."""
    ids = iter(range(1, 1000))
    found: Timelines = []
    launched: list[int] = []
    for info in (MAIN, WORKER):
        records = []
        for _ in range(draw(st.integers(0, 5))):
            begin, end = sorted(draw(st.tuples(*[st.integers(0, LAST)] * 2)))
            launched.append(next(ids))
            after = tuple(draw(st.lists(st.sampled_from(launched), max_size=2)))
            tags: Any = {"waits_for": "rollout"} if draw(st.booleans()) else {}
            name = draw(NAMES)
            records.append(span(name, begin, end, launched[-1], after=after, **tags))
        found.append((info, records))
    for name in ("a", "b"):
        records = []
        for _ in range(draw(st.integers(0, 5))):
            begin, end = sorted(draw(st.tuples(*[st.integers(0, LAST)] * 2)))
            own = st.sampled_from(launched) if launched else st.nothing()
            span_id = draw(own | st.builds(lambda: next(ids)))
            records.append(work(draw(NAMES), begin, end, span_id))
        found.append((device(name), records))
    return found
