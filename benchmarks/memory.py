"""What stays in memory of what was recorded."""

from __future__ import annotations

import gc
import os
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any, Final

from benchmarks.subjects import Api, api
from benchmarks.timing import Reading

_STEP: Final = 1_000
"""Spans between two exports."""
_WARM_UP: Final = 300
"""Steps until all bounds are reached."""
_STEPS: Final = 1_000
_PEERS_STEPS: Final = 100
"""A tenth: they keep what they record."""
_KEPT: Final = 10_000


def measure(subject: str) -> dict[str, Reading]:
    """Readings in megabytes, and in bytes per span."""
    some = api(subject)
    steps = _STEPS if some.is_ours else _PEERS_STEPS
    with tempfile.TemporaryDirectory() as folder:
        # Without a writer for the others: theirs would take minutes.
        tracer = some.tracer(Path(folder) if some.is_ours else None)
        born = _resident_bytes()
        _record(some, tracer, _WARM_UP if some.is_ours else 1)
        warm = _resident_bytes()
        _record(some, tracer, steps)
        end = _resident_bytes()
        # Of a million; less is the allocator's high-water mark, not ours.
        grown = (end - warm) * 1_000_000 / (steps * _STEP)
        readings = {"growth": Reading(grown / 1e6)}
        if some.is_ours:
            readings["held"] = Reading((end - born) / 1e6)
            assert tracer.stats().dropped == 0
            tracer.close()
    readings["kept"] = Reading(_kept_bytes(some))
    return readings


def _record(some: Api, tracer: Any, steps: int) -> None:
    for step in range(steps):
        for _ in range(_STEP // 4):
            with tracer.span("rollout"):
                pass
            with tracer.span("reference_inference"):
                pass
            with tracer.span("peft_train"):
                pass
            with tracer.span("weight_sync"):
                pass
        tracer.export()
        # A step of a training is longer than a millisecond: the writer keeps up.
        if some.is_ours and step % 10 == 0:
            tracer.flush()


def _kept_bytes(some: Api) -> float:
    """Bytes of Python objects for each span that a tracer without writer keeps."""
    tracer = some.tracer()
    with tracer.span("rollout"):
        pass
    tracemalloc.start()
    for _ in range(_KEPT):
        with tracer.span("rollout"):
            pass
    tracer.export()
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return kept / _KEPT


def _resident_bytes() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
