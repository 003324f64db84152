"""The clock and its relation to the others."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from perf._record import clock


def test_the_clock_is_the_one_that_users_read() -> None:
    """`time.perf_counter`, in nanoseconds."""
    before = time.perf_counter_ns()
    now = clock.now()
    assert before <= now <= time.perf_counter_ns()


def test_a_snapshot_is_of_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours is the middle between the readings around the others."""
    ours = iter([100, 108])
    monkeypatch.setattr(clock, "now", lambda: next(ours))
    monkeypatch.setattr(clock, "_boot_ns", lambda: 7)
    monkeypatch.setattr(time, "time_ns", lambda: 5)
    assert (104, 5, 7) == clock.snapshot()


def test_the_boot_clock_counts_from_the_machine_s_start() -> None:
    """Where the system has one."""
    assert 0 < clock.snapshot().boot_ns < time.time_ns()


def test_a_system_without_a_boot_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The monotonic one stands in."""
    monkeypatch.delattr(time, "CLOCK_BOOTTIME")
    before = clock.now()
    assert before <= clock.snapshot().boot_ns <= clock.now()


@given(st.integers(0, 2**53))
@example(4_503_599_627_370_491)
def test_seconds_and_back(time_ns: int) -> None:
    """Exact for 48 days, while a float can tell half a nanosecond; then to one."""
    off = abs(time_ns - clock.nanoseconds(clock.seconds(time_ns)))
    assert off == 0 or (off == 1 and time_ns > 2**22 * 10**9)


def test_a_second_is_a_billion() -> None:
    """And fractions are rounded to the nearest nanosecond."""
    assert (1.5, 1_500_000_000) == (
        clock.seconds(1_500_000_000),
        clock.nanoseconds(1.5),
    )
    assert 2 == clock.nanoseconds(1.6e-9)
