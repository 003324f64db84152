"""What a trace takes on disk."""

from __future__ import annotations

import random
import tempfile
import zlib
from pathlib import Path
from typing import Any, Final

import jax
import jax.numpy as jnp

from benchmarks.steps import SLICES, record_step
from benchmarks.subjects import DEVICES, Api, api
from benchmarks.timing import Reading

_STEPS: Final = 200
_NAMES: Final = (
    "data_loading", "environment", "rollout", "reference_inference",
    "advantage_computation", "peft_train", "weight_sync",
)  # fmt: skip


def measure(subject: str) -> dict[str, Reading]:
    """Readings in bytes per slice, and a ratio."""
    some = api(subject)
    readings = {"amplification": Reading(_amplification(some))}
    if subject == "tunix v1":  # its export wants work on devices, its tracer no tags
        return readings
    for name, tagged in (("bare", False), ("tag", True)):
        data, head_bytes = _trace(some, tagged=tagged)
        slices = (_STEPS - 1) * SLICES
        readings[name] = Reading((len(data) - head_bytes) / slices)
        if not tagged:
            readings["compressed"] = Reading(len(zlib.compress(data)) / slices)
    return readings


def _trace(some: Api, *, tagged: bool) -> tuple[bytes, int]:
    """A trace of host spans, exported every 50, and its size after the first step."""
    # Large times take more room: ours are those of a training. The others' files hold
    # them in fields of one length, so they may have the real clock.
    clock = _TrainingClock()
    options: dict[str, Any] = {"_clock": clock} if some.is_ours else {}

    def span(name: str, step: int) -> Any:
        return tracer.span(name, tags={"step": step}) if tagged else tracer.span(name)

    with tempfile.TemporaryDirectory() as folder:
        tracer = some.tracer(Path(folder), **options)
        for step in range(_STEPS):
            group = tracer.span_group if some.version == 1 else tracer.span
            with group("global_step"):
                for i in range(SLICES - 1):
                    with span(_NAMES[i % len(_NAMES)], step):
                        clock.work()
            tracer.export()
            some.settle(tracer)
            if step == 0:
                head_bytes = _size(folder)
        data = b"".join(path.read_bytes() for path in Path(folder).iterdir())
    return data, head_bytes


class _TrainingClock:
    """A clock by which spans take 10 µs to 1 s, and what is between them 2 to 50 µs."""

    def __init__(self) -> None:
        self._now_ns = 10**15
        self._draw = random.Random(1)

    def __call__(self) -> int:
        """The time in nanoseconds; reading it takes time, too."""
        self._pass(2_000, 50_000)
        return self._now_ns

    def work(self) -> None:
        """Lets the time pass that a span takes."""
        self._pass(10_000, 1_000_000_000)

    def _pass(self, least_ns: float, most_ns: float) -> None:
        share = self._draw.random()
        self._now_ns += round(least_ns * (most_ns / least_ns) ** share)


def _amplification(some: Api) -> float:
    """Bytes that were given to the system over those in the file at the end."""
    array = jax.block_until_ready(jnp.zeros(8))
    with tempfile.TemporaryDirectory() as folder:
        tracer = some.tracer(Path(folder), devices=list(DEVICES))
        before = _written_bytes()
        for number in range(_STEPS):
            record_step(some, tracer, array, number)
            tracer.synchronize()
            tracer.export()
            some.settle(tracer)
        written = _written_bytes() - before
        return written / _size(folder)


def _size(folder: str) -> int:
    """Bytes in all its files."""
    return sum(path.stat().st_size for path in Path(folder).iterdir())


def _written_bytes() -> int:
    """By this process, to anything."""
    fields = Path("/proc/self/io").read_text().split()
    return int(fields[fields.index("wchar:") + 1])
