"""The tracer's clock and its relation to the others."""

from __future__ import annotations

import time

from perf._model.spans import ClockSnapshot

NS_PER_S = 1_000_000_000

now = time.perf_counter_ns
"""Nanoseconds of the tracer's clock: monotonic, shared by the machine's processes."""


def snapshot() -> ClockSnapshot:
    """Reads all clocks at the same moment."""
    # The wall clock is read between two readings of ours: their middle is its moment,
    # wrong by at most half of what the three calls took.
    before = now()
    wall_ns = time.time_ns()
    boot_ns = _boot_ns()
    return ClockSnapshot((before + now()) // 2, wall_ns, boot_ns)


def _boot_ns() -> int:
    # Linux only; elsewhere the monotonic clock stands in, which is right as long as
    # the machine has not slept.
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return now() if boottime is None else time.clock_gettime_ns(boottime)


def seconds(time_ns: int) -> float:
    """The public unit: float seconds of the same clock (`time.perf_counter`)."""
    return time_ns / NS_PER_S


def nanoseconds(time_s: float) -> int:
    """The inner unit of a time that a user gave in seconds."""
    # Through float: a text times a billion is gigabytes of text.
    return round(float(time_s) * NS_PER_S)
