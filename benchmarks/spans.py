"""What a host span costs the thread that opens it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import perf_counter_ns as now
from typing import Any, Final

from benchmarks.subjects import OURS, Spans, api, spans_of
from benchmarks.timing import (
    FLOOR,
    Case,
    Reading,
    interleaved,
    own_copy,
    two_clock_reads,
)

_ROUNDS: Final = 120
_PEERS_ROUNDS: Final = 20
"""Fewer: they keep all that they record, or take long."""


def measure(subject: str) -> dict[str, Reading]:
    """Readings in nanoseconds."""
    spans = spans_of(subject)
    cases = _cases(spans)
    if subject not in OURS:
        found = interleaved({"floor": FLOOR, **cases}, rounds=_PEERS_ROUNDS)
        return {name: found[name].reading(floor=found["floor"]) for name in cases}
    some = api(subject)
    with tempfile.TemporaryDirectory() as folder:
        written = some.tracer(Path(folder))
        off = some.tracer()
        off.enabled = False
        cases |= {
            # Each round begins with nothing left to write: what the writer's thread
            # takes from the processor is counted with the export.
            "written": _case(_empty, written, before=written.flush),
            "tag_written": _case(_tagged, written, before=written.flush),
            "off": _case(_empty, off),
        }
        reads = Case(two_clock_reads)
        found = interleaved({"floor": FLOOR, "reads": reads, **cases}, rounds=_ROUNDS)
        written.close()
    readings = {name: found[name].reading(floor=found["floor"]) for name in cases}
    readings["two_clock_reads"] = Reading(None, found["reads"].typical_ns)
    return readings


def _cases(spans: Spans) -> dict[str, Case]:
    cases = {
        "empty": _case(_empty, spans.on, before=spans.start, after=spans.stop),
        "noop": _case(_empty, spans.off),
    }
    if spans.takes_tags:
        cases["tag"] = _case(_tagged, spans.on)
    return cases


def _case(loop: Any, opener: Any, **around: Any) -> Case:
    loop = own_copy(loop)
    return Case(lambda count: loop(opener, count), **around)


def _empty(opener: Any, count: int) -> int:
    begin_ns = now()
    for _ in range(count):
        with opener.span("rollout"):
            pass
    return now() - begin_ns


def _tagged(opener: Any, count: int) -> int:
    begin_ns = now()
    for _ in range(count):
        with opener.span("rollout", tags={"step": 3}):
            pass
    return now() - begin_ns
