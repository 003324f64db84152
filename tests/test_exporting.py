"""What both public tracers do with their export function."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perf import _exporting as exporting
from perf._exporting import DEFAULT_TRACE_DIR, as_metrics, attach, called
from perf._model.log import OnceLog
from tests.record.recording import QuietSink, Recording


class Writer(QuietSink):
    """Keeps where it was made for and what it was attached to."""

    made: list[str] = []  # noqa: RUF012  # emptied by the fixture

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.made.append(folder)
        self.feed: Any = None

    def attach(self, feed: Any) -> None:
        self.feed = feed


class Export:
    """An export function that wants to be told of everything."""

    def __init__(self, writes: bool) -> None:
        self.tracers: list[Any] = []
        self._writes = writes

    def __call__(self, query: Any) -> dict[str, Any]:
        return {}

    def method(self, query: Any) -> dict[str, Any]:
        return {}

    def attach(self, tracer: Any) -> bool:
        self.tracers.append(tracer)
        return self._writes


@pytest.fixture(autouse=True)
def forget_writers() -> None:
    """No writer was made yet."""
    Writer.made.clear()


@pytest.fixture
def tracer() -> Any:
    """One with nothing attached."""
    return Recording().tracer


@pytest.mark.parametrize("as_method", [False, True], ids=["object", "bound method"])
def test_an_export_function_is_attached(tracer: Any, as_method: bool) -> None:
    """Once: it, or the owner of the method."""
    export = Export(writes=True)
    attach(tracer, export.method if as_method else export, Writer)
    assert ([tracer], []) == (export.tracers, Writer.made)


@pytest.mark.parametrize("export_fn", [None, lambda query: {}, print])
def test_most_export_functions_are_not(tracer: Any, export_fn: Any) -> None:
    """They want the steps only."""
    feeds = tracer._collector.feeds
    attach(tracer, export_fn, Writer)
    assert feeds == tracer._collector.feeds


@pytest.mark.parametrize(
    ("export_fn", "made"),
    [(None, 1), (lambda query: {}, 1), (Export(False), 1), (Export(True), 0)],
)
def test_a_folder_in_the_environment_has_a_writer(
    tracer: Any,
    export_fn: Any,
    made: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Unless the export function writes already."""
    monkeypatch.setenv("RLPERF_DIR", str(tmp_path))
    attach(tracer, export_fn, Writer)
    assert [str(tmp_path)] * made == Writer.made
    writers = [f.sink for f in tracer._collector.feeds if isinstance(f.sink, Writer)]
    assert made == len(writers)
    for writer in writers:
        assert writer is writer.feed.sink


def test_a_writer_that_cannot_be_attached_is_fed_nothing(tracer: Any) -> None:
    """Records would wait for nobody, and its files are not of this tracer."""

    class Refusing(Writer):
        def attach(self, feed: Any) -> None:
            raise RuntimeError("attached already")

    collector, refusing = tracer._collector, Refusing("x")
    feeds, sinks = list(collector.feeds), list(collector.sinks)
    with pytest.raises(RuntimeError, match="already"):
        exporting.attach_writer(tracer, refusing)
    assert (feeds, sinks) == (collector.feeds, collector.sinks)
    writer = Writer("x")
    exporting.attach_writer(tracer, writer)
    writer.attach = Refusing("x").attach  # type: ignore[method-assign]  # anew
    with pytest.raises(RuntimeError, match="already"):
        exporting.attach_writer(tracer, writer)
    assert [*sinks, writer] == collector.sinks
    assert writer.feed in collector.feeds


def test_an_empty_folder_is_none(tracer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is set to nothing."""
    monkeypatch.setenv("RLPERF_DIR", "")
    attach(tracer, None, Writer)
    assert [] == Writer.made


def test_the_default_folder() -> None:
    """For None and the empty text; a path object is taken as it is."""
    expected = [DEFAULT_TRACE_DIR, DEFAULT_TRACE_DIR, "/x", "/y"]
    given: list[Any] = [None, "", "/x", Path("/y")]
    assert expected == [exporting.make_folder_path(folder) for folder in given]


def test_metrics_are_what_the_function_returns() -> None:
    """Of what it is given; any mapping is made a dict, nothing is an empty one."""
    log = OnceLog()
    assert {"a": 3} == called(lambda argument: {"a": argument}, 3, log)
    assert {} == called(lambda argument: None, 3, log)
    found = called(lambda argument: collections.UserDict(a=1), 3, log)
    assert ({"a": 1}, dict) == (found, type(found))


class BrokenError(Exception):
    """Cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError

    __str__ = __repr__


@pytest.mark.parametrize("error", [ValueError("no such key"), BrokenError()])
def test_a_function_that_fails_costs_the_metrics(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """And a log line for each kind of error, with its traceback."""
    log = OnceLog()

    def fail(argument: Any) -> Any:
        raise error

    assert [{}, {}] == [called(fail, 3, log) for _ in range(2)]
    assert 1 == len(caplog.records)
    assert "this step has no metrics" in caplog.text
    assert type(error).__name__ in caplog.text
    assert "Traceback" in caplog.text


def test_two_kinds_of_failure_are_said_both(caplog: pytest.LogCaptureFixture) -> None:
    """They have two causes."""
    log = OnceLog()
    errors = iter([ValueError("a"), KeyError("b"), ValueError("c")])

    def fail(argument: Any) -> Any:
        raise next(errors)

    for _ in range(3):
        called(fail, 3, log)
    assert 2 == len(caplog.records)


@pytest.mark.parametrize("wrong", [3, [("a", 1)], "metrics"])
def test_a_function_that_returns_no_mapping(
    wrong: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Has no metrics; it is said once what was expected."""
    log = OnceLog()
    assert [{}, {}] == [called(lambda argument: wrong, 3, log) for _ in range(2)]
    assert 1 == caplog.text.count(
        f"returned {type(wrong).__name__}: expected a mapping"
    )


def test_an_interrupt_goes_through() -> None:
    """The user wants to stop."""

    def interrupt(argument: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        called(interrupt, 3, OnceLog())


def test_values_are_averaged() -> None:
    """If several are logged under one name."""
    assert {"a": (1.5, np.mean), "b": (0, np.mean)} == as_metrics({"a": 1.5, "b": 0})
