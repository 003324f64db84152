"""Whatever goes wrong in recording, the training step does not notice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from tests.public.drive import Run, V1Run, V2Run, every_span
from tests.strategies import names, tags

both_versions = pytest.mark.parametrize("make", [V1Run, V2Run])


class Hostile:
    """An object on which everything fails."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __bool__ = __len__ = __iter__ = __hash__ = __eq__ = __repr__  # type: ignore[assignment]


CYCLE: list[Any] = []
CYCLE.append(CYCLE)

STRANGE = [
    pytest.param(None, id="None"),
    pytest.param(3, id="a number"),
    pytest.param(float("nan"), id="NaN"),
    pytest.param(b"\xff", id="bytes"),
    pytest.param(["rollout"], id="a list"),
    pytest.param(CYCLE, id="a list in itself"),
    pytest.param(Hostile(), id="an object that fails"),
    pytest.param("\ud800", id="a lone surrogate"),
    pytest.param("", id="nothing"),
    pytest.param("x" * 1_000_000, id="a million letters"),
    pytest.param(np.zeros((1000, 1000)), id="an array"),
]


def export_with_another(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """Exports, and sees that a span beside what was strange is there."""
    with run.tracer.span("ordinary"):
        pass
    run.tracer.export()
    assert "ordinary" in {span.name for _, span in run.spans()}
    assert "export function" not in caplog.text


@both_versions
@pytest.mark.parametrize("name", STRANGE)
def test_strange_names(
    make: Callable[..., Run], name: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A name of any kind costs at most its own span."""
    run = make(["a0"])
    with run.tracer.span(name, devices=["a0"]):
        run.tracer.instant(name)
        run.tracer.counter(name, 1.0)
        run.tracer.record(name, 0.0, 1.0, track=name)
        run.at(1.0)
    run.tracer.synchronize()
    export_with_another(run, caplog)


@pytest.mark.parametrize("name", STRANGE)
def test_strange_names_of_groups(name: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A group may be called anything, too."""
    run = V1Run(["a0"])
    with run.tracer.span_group(name), run.tracer.span("rollout"):
        run.at(1.0)
    export_with_another(run, caplog)
    assert "rollout" in {span.name for _, span in run.spans()}


@both_versions
@pytest.mark.parametrize("value", STRANGE)
def test_strange_tags(
    make: Callable[..., Run], value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither keys nor values of tags have to be anything in particular."""
    run = make(["a0"])
    with run.tracer.span("rollout") as span:
        span.tag("key", value)
        span.tag(value, "value")
        run.tracer.instant("moment", tags={"key": value})
        run.tracer.instant("moment", tags=value)
        run.tracer.counter("length", value, unit=value)
        run.at(1.0)
    export_with_another(run, caplog)
    assert "rollout" in {span.name for _, span in run.spans()}


@pytest.mark.parametrize("value", STRANGE)
def test_strange_tags_of_v2_spans(value: Any) -> None:
    """The tags given when a span is opened may be anything, too."""
    run = V2Run(["a0"])
    for strange in (value, {"key": value}):
        with run.tracer.span("rollout", devices=["a0"], tags=strange):
            pass
    run.tracer.synchronize()
    run.tracer.export()
    assert 2 == len([s for id_, s in every_span(run.seen) if id_.startswith("host-")])


@given(names(), tags())
def test_any_name_and_tags_come_back(name: str, given_tags: dict[str, Any]) -> None:
    """What the export function sees is what was given (v2)."""
    run = V2Run()
    with run.tracer.span(name, tags=given_tags):
        run.at(1.0)
    run.tracer.export()
    ((_, span),) = every_span(run.seen)
    assert name == span.name
    assert repr(given_tags) == repr(dict(span.tags))


@both_versions
@pytest.mark.parametrize(
    "devices",
    [
        pytest.param(3, id="a number"),
        pytest.param(object(), id="an object"),
        pytest.param([3], id="a list of numbers"),
        pytest.param([None], id="a list of None"),
        pytest.param([["a0"], ["a1", None]], id="nested"),
        pytest.param(np.zeros(3), id="an array of numbers"),
        pytest.param(Hostile(), id="an object that fails"),
        pytest.param(CYCLE, id="a list in itself"),
        pytest.param("", id="an empty string"),
    ],
)
def test_strange_devices(make: Callable[..., Run], devices: Any) -> None:
    """A span whose devices make no sense is still a span of its thread."""
    run = make(["a0"])
    with run.tracer.span("rollout", devices=devices) as span:
        run.hand_over(span, [])
        run.at(1.0)
    run.tracer.synchronize()
    run.tracer.export()
    if isinstance(run, V1Run):
        assert [("rollout", 0.0, 1.0)] == run.rows()
    elif isinstance(run, V2Run):
        assert pytest.approx(1.0) == run.named("rollout").duration


@both_versions
@pytest.mark.parametrize(
    "waitlist",
    [
        pytest.param(None, id="None"),
        pytest.param("text", id="text"),
        pytest.param([object()], id="an object"),
        pytest.param({"a": [None, 3, "x"]}, id="a tree of no arrays"),
        pytest.param({1: 2, "a": 3}, id="keys that cannot be sorted"),
        pytest.param(Hostile(), id="an object that fails"),
        pytest.param(np.ones(3), id="a numpy array"),
    ],
)
def test_strange_waitlists(make: Callable[..., Run], waitlist: Any) -> None:
    """What cannot be waited for is not waited for; the device span is there."""
    run = make(["a0"], real=True)
    with run.tracer.span("rollout", devices=["a0"]) as span:
        run.hand_over(span, waitlist)
    run.tracer.synchronize()
    run.tracer.export()
    assert 1 == len(run.on_device("a0"))


@both_versions
def test_a_span_handed_over_too_late(make: Callable[..., Run]) -> None:
    """Arrays that come after the span has closed, or twice, do no harm."""
    run = make(["a0"], real=True)
    with run.tracer.span("rollout", devices=["a0"]) as span:
        run.hand_over(span, [])
        run.hand_over(span, [])
    run.hand_over(span, [jnp.ones(1)])
    span.tag("late", 1)
    run.tracer.synchronize()
    run.tracer.export()
    assert 1 == len(run.on_device("a0"))


@both_versions
def test_arrays_without_devices(make: Callable[..., Run]) -> None:
    """A span without devices may be given arrays; they change nothing."""
    run = make(["a0"], real=True)
    with run.tracer.span("rollout") as span:
        run.hand_over(span, [jnp.ones(1)])
    run.tracer.synchronize()
    run.tracer.export()
    assert [] == run.on_device("a0")


# The user's own exceptions


@both_versions
@pytest.mark.parametrize(
    "error", [KeyError("prompt"), KeyboardInterrupt(), GeneratorExit()]
)
def test_an_exception_passes_unchanged(
    make: Callable[..., Run], error: BaseException
) -> None:
    """The very exception comes out, with nothing chained to it (field 9)."""
    run = make(["a0"])
    with (
        pytest.raises(type(error)) as caught,
        run.tracer.span("rollout", devices=["a0"]),
    ):
        raise error
    assert caught.value is error
    assert error.__cause__ is None
    assert error.__context__ is None
    run.tracer.synchronize()
    run.tracer.export()


def test_an_exception_leaves_a_mark() -> None:
    """The span it passed through bears its type as a tag (field 9)."""
    run = V2Run()
    with pytest.raises(KeyError), run.tracer.span("rollout"):
        raise KeyError("prompt")
    with run.tracer.span("after"):
        pass
    run.tracer.export()
    assert "KeyError" in str(dict(run.named("rollout").tags))
    assert "KeyError" not in str(dict(run.named("after").tags))


@both_versions
def test_decorated_functions_raise_what_they_raise(make: Callable[..., Run]) -> None:
    """A decorator is as transparent as a block (field 9)."""
    run = make()
    error = KeyError("prompt")

    @run.tracer.span("work")
    def plain() -> None:
        raise error

    @run.tracer.span("work")
    async def coroutine() -> None:
        raise error

    for call in (plain, lambda: asyncio.run(coroutine())):
        with pytest.raises(KeyError) as caught:
            call()
        assert caught.value is error


# Export


@both_versions
def test_an_export_function_that_raises(
    make: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    """It costs that step's metrics and a line in the log (field 26)."""
    results = [RuntimeError("boom"), {"perf/a": (1.0, None)}]

    def export_fn(seen: Any) -> Any:
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    run = make(None, export_fn)
    assert {} == run.tracer.export()
    assert "boom" in caplog.text
    assert {"perf/a": (1.0, None)} == run.tracer.export()


@both_versions
def test_the_same_failure_is_logged_once(
    make: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    """A run of a million steps does not fill the log (field 26)."""

    def export_fn(seen: Any) -> Any:
        raise RuntimeError("boom")

    run = make(None, export_fn)
    for _ in range(5):
        assert {} == run.tracer.export()
    assert 1 == len([r for r in caplog.records if r.levelno >= logging.WARNING])


@both_versions
def test_an_export_function_that_returns_nothing(make: Callable[..., Run]) -> None:
    """The caller goes over metrics in any case (field 26)."""
    run = make(None, lambda seen: None)
    assert isinstance(run.tracer.export(), dict)


@both_versions
def test_an_interrupt_in_the_export_function_goes_through(
    make: Callable[..., Run],
) -> None:
    """Ctrl-C is no failure of the export function."""

    def export_fn(seen: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(None, export_fn).tracer.export()


@both_versions
def test_open_spans_at_an_export(make: Callable[..., Run]) -> None:
    """An export in the middle of spans is no error (field 12)."""
    run = make(["a0"])
    with run.tracer.span("outer"), run.tracer.span("rollout", devices=["a0"]):
        run.at(1.0)
        run.tracer.export()
        run.at(2.0)
    run.tracer.synchronize()
    run.tracer.export()
    assert pytest.approx([2.0]) == [
        span.duration for span in run.on_device("a0") if span.ended
    ]


def test_an_export_inside_an_open_group() -> None:
    """v1's groups may be open at an export, and go on after it (field 12)."""
    run = V1Run(["a0"])
    with run.tracer.span_group("global_step"):
        run.at(1.0)
        run.tracer.export()
        run.at(2.0)
    run.tracer.export()
    assert [("global_step", 0.0, 2.0)] == run.rows()


@both_versions
def test_an_export_before_the_device_is_done(make: Callable[..., Run]) -> None:
    """Pending work delays nothing and is found by a later export (field 11)."""
    run = make(["a0"])
    work = run.launch("rollout", ["a0"])
    run.tracer.export()
    run.at(3.0)
    run.finish(work)
    run.tracer.export()
    assert pytest.approx([3.0]) == [
        span.duration for span in run.on_device("a0") if span.ended
    ]
