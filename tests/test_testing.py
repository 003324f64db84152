"""The fakes that users test with."""

from __future__ import annotations

from typing import Any

import pytest

from perf import testing
from perf._record.waiting import Waited
from perf.testing import FakeClock, ManualWait
from perf.trace import PerfTracer


def test_a_clock_stands_still_until_it_is_moved() -> None:
    """By nanoseconds or by seconds."""
    clock = FakeClock(start_ns=5)
    assert (5, 5) == (clock(), clock())
    clock.advance_ns(3)
    assert 8 == clock()
    clock.advance_s(1.5e-9)
    assert 10 == clock()
    clock.advance_s(2)
    assert 2_000_000_010 == clock()
    assert 1_000_000_000 == FakeClock()()


class Work:
    """Hands work over, and keeps how each ended."""

    def __init__(self) -> None:
        self.wait = ManualWait()
        self.ended: list[tuple[str, BaseException | None]] = []

    def submit(self, name: str, key: Any, waits: Any) -> None:
        """Work of a device set."""

        def done(error: BaseException | None) -> None:
            self.ended.append((name, error))

        assert self.wait.submit(key, Waited(self, waits, done))

    @property
    def names(self) -> list[str]:
        """What ended, in the order of ending."""
        return [name for name, _ in self.ended]


@pytest.fixture
def work() -> Work:
    """None was launched yet."""
    return Work()


def test_work_ends_when_the_test_says_so(work: Work) -> None:
    """All of its arrays have to be ready, however they are nested."""
    a, b, c = (work.wait.arrays(name) for name in "abc")
    work.submit("x", "tpu0", {"tree": [a, (b,)], "leaf": c, "other": 3})
    for array in (b, a):
        work.wait.finish(array)
        assert ([], 1) == (work.names, len(work.wait.pending(work)))
    work.wait.finish(c)
    assert (["x"], []) == (work.names, work.wait.pending(work))


def test_work_of_a_device_set_ends_in_the_order_of_launch(work: Work) -> None:
    """As on a device; other sets go on meanwhile."""
    first, second, other = (work.wait.arrays(name) for name in "abc")
    work.submit("first", "tpu0", first)
    work.submit("second", "tpu0", second)
    work.submit("other", "tpu1", other)
    work.wait.finish(second)
    work.wait.finish(other)
    assert ["other"] == work.names
    work.wait.finish(first)
    assert ["other", "first", "second"] == work.names


def test_work_without_a_device_set_overtakes(work: Work) -> None:
    """Also its like."""
    first, second = work.wait.arrays("first"), work.wait.arrays("second")
    work.submit("first", None, first)
    work.submit("second", None, second)
    work.wait.finish(second)
    assert ["second"] == work.names


def test_work_without_arrays_ends_at_once(work: Work) -> None:
    """There is nothing to wait for; what is ready already is not waited for either."""
    work.submit("x", "tpu0", [])
    ready = work.wait.arrays("ready")
    work.wait.finish(ready)
    work.submit("y", "tpu0", ready)
    assert ["x", "y"] == work.names


def test_work_may_fail(work: Work) -> None:
    """With the first of its errors."""
    error, other = RuntimeError("a"), RuntimeError("b")
    a, b = work.wait.arrays("a"), work.wait.arrays("b")
    work.submit("x", "tpu0", [a, b])
    work.wait.fail(b, other)
    work.wait.fail(a, error)
    assert [("x", error)] == work.ended


def test_pending_work_is_its_tracer_s(work: Work) -> None:
    """Others do not see it; settling does not end it."""
    work.submit("x", "tpu0", work.wait.arrays("a"))
    assert [] == work.wait.pending(object())
    work.wait.settle(work)
    work.wait.idle()
    assert 1 == len(work.wait.pending(work))


def test_an_array_shows_its_name(work: Work) -> None:
    """For messages of tests."""
    assert "<array 'logits'>" == repr(work.wait.arrays("logits"))


def test_a_tracer_takes_both() -> None:
    """As a user's test would use them."""
    clock, wait = FakeClock(), ManualWait()
    seen: list[float] = []

    def export_fn(query: Any) -> dict[str, Any]:
        (root,) = query.timeline("tpu0").get()
        seen.extend(span.duration for span in root.inner)
        return {}

    tracer = PerfTracer(["tpu0"], export_fn, _clock=clock, _wait=wait)
    logits = wait.arrays("logits")
    with tracer.span("rollout", ["tpu0"]) as span:
        span.device_end(logits)
    clock.advance_s(2.0)
    wait.finish(logits)
    tracer.export()
    assert [2.0] == seen


def test_the_public_names_are_there() -> None:
    """Those of `__all__`."""
    for name in testing.__all__:
        assert hasattr(testing, name)
