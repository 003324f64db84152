"""What the end of a step costs: the trainer's wait, and all processor time."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import jax
import jax.numpy as jnp

from benchmarks.steps import record_step
from benchmarks.subjects import DEVICES, Api, api
from benchmarks.timing import FLOOR, Reading, interleaved, rounds_of

_STEPS: Final = (10, 1_000)
_SAMPLES: Final = 100
_SLOW_SAMPLES: Final = 6
"""Of a subject whose export takes half a second by then."""


@dataclasses.dataclass(slots=True)
class _Window:
    """Exports around one step."""

    stalled_ns: list[float] = dataclasses.field(default_factory=list)
    total_ns: list[float] = dataclasses.field(default_factory=list)


def measure(subject: str) -> dict[str, Reading]:
    """Readings in milliseconds."""
    some = api(subject)
    slow = subject == "tunix v2"
    array = jax.block_until_ready(jnp.zeros(8))
    windows = {step: _Window() for step in _STEPS}
    with tempfile.TemporaryDirectory() as folder:
        tracer = some.tracer(Path(folder), devices=list(DEVICES))
        number = 0
        for step, window in windows.items():
            while number < step + (_SLOW_SAMPLES if slow else _SAMPLES):
                record_step(some, tracer, array, number)
                tracer.synchronize()
                if number >= step:
                    _export(some, tracer, window)
                elif slow:
                    tracer.process_and_commit_timelines()
                else:
                    tracer.export()
                number += 1
    floor = interleaved({"floor": FLOOR}, rounds=30)["floor"]
    readings: dict[str, Reading] = {}
    for step, window in windows.items():
        readings[f"stall_{step}"] = rounds_of(window.stalled_ns).reading(1e6, floor)
        readings[f"total_{step}"] = rounds_of(window.total_ns).reading(1e6, floor)
    first, last = (readings[f"total_{step}"].value or 0 for step in _STEPS)
    readings["growth"] = Reading(last / first)
    return readings


def _export(some: Api, tracer: Any, window: _Window) -> None:
    begin_ns, used_ns = time.perf_counter_ns(), time.process_time_ns()
    metrics = tracer.export()
    window.stalled_ns.append(time.perf_counter_ns() - begin_ns)
    # The writer is woken by the export and asked by this before it gets to run: it
    # looks once.
    some.settle(tracer)
    window.total_ns.append(time.process_time_ns() - used_ns)
    assert metrics or not some.is_ours, "the export failed"
