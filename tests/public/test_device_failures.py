"""Device work that fails still leaves its span, and training goes on."""

from __future__ import annotations

from collections.abc import Callable

import jax
import pytest

from tests.public.drive import Run, V1Run, V2Run
from tests.record.test_waiting import deleted, donated

both_versions = pytest.mark.parametrize("make", [V1Run, V2Run])


@both_versions
@pytest.mark.parametrize("make_array", [deleted, donated])
def test_a_buffer_that_is_gone(
    make: Callable[..., Run], make_array: Callable[[], jax.Array]
) -> None:
    """The device span stays, although its work cannot be waited for (field 10)."""
    run = make(["a0"], real=True)
    with run.tracer.span("rollout", devices=["a0"]) as span:
        run.hand_over(span, [make_array()])
    run.tracer.synchronize()
    run.tracer.export()
    (found,) = run.on_device("a0")
    assert found.ended


@both_versions
def test_work_that_fails_leaves_a_span(make: Callable[..., Run]) -> None:
    """An error of the device ends the span there (mended; field 10)."""
    run = make(["a0"])
    work = run.launch("rollout", ["a0"])
    run.at(2.0)
    run.wait.fail(work, RuntimeError("out of memory"))
    run.tracer.synchronize()
    run.tracer.export()
    (found,) = run.on_device("a0")
    assert pytest.approx(2.0) == found.duration


def test_work_that_fails_bears_its_error() -> None:
    """The error is a tag of the device span (mended, v2)."""
    run = V2Run(["a0"])
    work = run.launch("rollout", ["a0"])
    run.wait.fail(work, RuntimeError("out of memory"))
    run.tracer.synchronize()
    run.tracer.export()
    (found,) = run.on_device("a0")
    assert "out of memory" in str(dict(found.tags))


@both_versions
def test_work_after_a_failure_is_measured(make: Callable[..., Run]) -> None:
    """One failure does not end the waiting."""
    run = make(["a0"])
    work = run.launch("rollout", ["a0"])
    run.at(1.0)
    run.wait.fail(work, RuntimeError("out of memory"))
    work = run.launch("rollout", ["a0"])
    run.at(3.0)
    run.finish(work)
    run.tracer.export()
    assert pytest.approx([1.0, 2.0]) == sorted(
        span.duration for span in run.on_device("a0")
    )
