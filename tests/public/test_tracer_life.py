"""A tracer's life: the default one, switching, flushing, closing, its account.

All of it is the same on v1 and v2, and can be called on the no-op tracers.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import perf
from perf import trace
from perf._read.load import load
from perf.experimental import tracer as tracer_v2
from perf.experimental.trace_writer import PerfettoTraceWriter as WriterV2
from perf.perfetto import PerfettoTraceWriter
from tests.public.conftest import Version
from tests.public.drive import Run, V1Run, V2Run
from tests.public.trace_file import TraceFile

EVERY_TRACER = [
    pytest.param(trace.PerfTracer, id="v1"),
    pytest.param(tracer_v2.PerfTracer, id="v2"),
    pytest.param(trace.NoopTracer, id="v1 no-op"),
    pytest.param(tracer_v2.NoopTracer, id="v2 no-op"),
]
every_tracer = pytest.mark.parametrize("make", EVERY_TRACER)


@every_tracer
def test_the_same_calls_work_on_every_tracer(make: Callable[[], Any]) -> None:
    """What can be called on one tracer can be called on all four."""
    tracer = make()
    with tracer:
        with tracer.span("first") as first:
            first.tag("step", 1)
        with tracer.span("second", after=[first, first.id]) as second:
            assert isinstance(second.id, int)
        tracer.instant("checkpoint", tags={"step": 1})
        tracer.counter("queue_length", 3, unit="samples")
        tracer.record("served", 1.0, 2.0, track="server", tags={"a": 1})
        tracer.record("served", time.time() - 1, time.time(), clock="wall")
        tracer.current_span().tag("nobody", 1)
        tracer.stats()
        tracer.enabled = False
        tracer.enabled = True
        tracer.flush(deadline_s=5.0)
        tracer.synchronize()
        assert {} == tracer.export()
    tracer.close()


# The default tracer


@pytest.fixture
def default_tracer() -> Iterator[None]:
    """Puts the process's default tracer back after the test."""
    before = perf.get_tracer()
    yield
    perf.set_tracer(before)


@pytest.mark.usefixtures("default_tracer")
def test_the_default_tracer_is_a_no_op_until_one_is_set() -> None:
    """A library can be instrumented without a tracer being there."""
    tracer: Any = perf.get_tracer()
    with tracer.span("rollout") as span:
        span.tag("step", 1)
    assert not tracer.current_span()
    assert {} == tracer.export()
    assert [] == list(tracer.all_devices)


@pytest.mark.usefixtures("default_tracer")
def test_the_default_tracer_is_the_one_that_was_set() -> None:
    """It is the same object in every thread."""
    tracer = trace.PerfTracer()
    perf.set_tracer(tracer)
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.append(perf.get_tracer()))
    thread.start()
    thread.join()
    assert perf.get_tracer() is tracer
    assert seen[0] is tracer


# Its account


def stat(run: Run, name: str) -> Any:
    """One number of the tracer's account of itself."""
    return getattr(run.tracer.stats(), name)


@pytest.mark.parametrize("make", [V1Run, V2Run])
def test_stats_count_what_was_recorded(make: Callable[..., Run]) -> None:
    """The tracer tells how much it recorded, and that it dropped nothing."""
    run = make(["a0"])
    before = stat(run, "recorded")
    for _ in range(3):
        with run.tracer.span("work"):
            pass
    run.tracer.export()
    assert 3 == stat(run, "recorded") - before
    assert 0 == stat(run, "dropped")


@pytest.mark.parametrize("make", [V1Run, V2Run])
def test_stats_count_what_is_pending(make: Callable[..., Run]) -> None:
    """Device work that is not done is said to be pending."""
    run = make(["a0"])
    work = run.launch("rollout", ["a0"])
    assert 1 == stat(run, "pending")
    run.at(1.0)
    run.finish(work)
    run.tracer.synchronize()
    assert 0 == stat(run, "pending")


def test_a_tracer_that_is_off_records_nothing(
    run: Run, written: Callable[[], TraceFile]
) -> None:
    """`enabled` switches a live tracer off and on again."""
    for number, enabled in enumerate([True, False, True]):
        run.tracer.enabled = enabled
        assert enabled is run.tracer.enabled
        with run.tracer.span(f"work-{number}", devices=["a0"]):
            run.at(number + 1.0)
        run.tracer.instant(f"moment-{number}")
    file = written()
    seen = {row.name for row in file.slices}
    assert {"work-0", "moment-0", "work-2", "moment-2"} <= seen
    assert not {"work-1", "moment-1"} & seen


def test_a_span_that_is_open_when_the_tracer_goes_off(
    run: Run, written: Callable[[], TraceFile]
) -> None:
    """A span that was begun is finished, and the spans after it are not disturbed."""
    with run.tracer.span("work"):
        run.tracer.enabled = False
        run.at(1.0)
    run.tracer.enabled = True
    with run.tracer.span("later"):
        run.at(2.0)
    file = written()
    assert file.named("later")[0].parent_id is None
    assert 1_000_000_000 in {row.dur for row in file.named("later")}


def test_flush_makes_the_file_readable(run: Run, tmp_path: Path) -> None:
    """After a flush what was recorded is in the file, without an export."""
    with run.tracer.span("work"):
        run.at(1.0)
    run.tracer.flush()
    assert TraceFile(tmp_path).named("work")
    run.tracer.close()


def test_a_with_statement_closes_the_tracer(version: Version, tmp_path: Path) -> None:
    """Leaving the block writes the rest."""
    make, export_fn = version
    run = make(["a0"], export_fn(tmp_path), watch=False)
    with run.tracer as tracer, tracer.span("work"):
        run.at(1.0)
    assert TraceFile(tmp_path).named("work")


@pytest.mark.parametrize("closes", [True, False], ids=["closed", "still open"])
def test_an_export_serves_one_tracer_after_the_other(
    version: Version, tmp_path: Path, closes: bool
) -> None:
    """Each writes a file of its own, and tells of that alone: a notebook's cell that
    makes the tracer is run again.
    """
    make, export_fn = version
    export = export_fn(tmp_path)
    runs = []
    for name in ("first", "second"):
        run = make(["a0", "b0"], export, watch=False)
        with run.tracer.span(name):
            pass
        if closes:
            run.tracer.close()
        runs.append(run)
    for run, name in zip(runs, ("first", "second"), strict=True):
        with run.tracer.span("late"):
            pass
        run.tracer.close()
        (path,) = run.tracer.stats().trace_paths
        late = set() if closes else {"late"}
        assert {name} | late == {piece.name for piece in load(Path(path)).slices}


@pytest.mark.parametrize("make", [PerfettoTraceWriter, WriterV2])
def test_closing_a_writer_closes_all_its_files(
    make: Callable[[str], Any], tmp_path: Path
) -> None:
    """Whichever tracers it was attached to."""
    writer, tracers = make(str(tmp_path)), [trace.PerfTracer() for _ in range(2)]
    for tracer in tracers:
        writer.attach(tracer)
        with tracer.span("work"):
            pass
    writer.close()
    files = [load(Path(tracer.stats().trace_paths[0])) for tracer in tracers]
    assert [True, True] == [file.has_ended for file in files]


def test_closing_twice_is_no_error(run: Run) -> None:
    """And a span after the end is recorded nowhere, without a complaint."""
    run.tracer.close()
    run.tracer.close()
    with run.tracer.span("late"):
        pass


def test_spans_open_at_the_end_are_seen_as_unfinished(run: Run, tmp_path: Path) -> None:
    """A span that never ended is in the file, without an end."""
    span = run.tracer.span("stuck")
    span.__enter__()
    run.at(1.0)
    run.tracer.flush()
    assert -1 in {row.dur for row in TraceFile(tmp_path).named("stuck")}
    span.__exit__(None, None, None)
    run.tracer.close()


def test_the_file_bears_the_run_s_metadata(run: Run, tmp_path: Path) -> None:
    """Command, versions, host and process of the run are in the file."""
    with run.tracer.span("work"):
        run.at(1.0)
    run.tracer.close()
    text = str(TraceFile(tmp_path).packets())
    assert socket.gethostname() in text
    assert str(os.getpid()) in text
    assert "jax" in text


def test_a_device_span_needs_no_log(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """In a run without trouble nothing is logged above information."""
    work = run.launch("rollout", ["a0"])
    run.at(1.0)
    run.finish(work)
    run.tracer.export()
    run.tracer.close()
    assert [] == [r for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.mark.row("P31")
def test_a_folder_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`RLPERF_DIR` gives a tracer a trace that has no writer of its own."""
    monkeypatch.setenv("RLPERF_DIR", str(tmp_path))
    with trace.PerfTracer() as tracer, tracer.span("work"):
        pass
    assert TraceFile(tmp_path).named("work")


def test_the_environment_says_whose_process_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`RLPERF_RUN_ID`, `RLPERF_ATTEMPT` and `RLPERF_ROLE` are in its metadata."""
    monkeypatch.setenv("RLPERF_DIR", str(tmp_path))
    monkeypatch.setenv("RLPERF_RUN_ID", "grpo-7")
    monkeypatch.setenv("RLPERF_ATTEMPT", "2")
    monkeypatch.setenv("RLPERF_ROLE", "rollout")
    with trace.PerfTracer() as tracer, tracer.span("x"):
        pass
    (path,) = tmp_path.iterdir()
    (run,) = load(path).runs
    assert ("grpo-7", "2", "rollout") == (run["run_id"], run["attempt"], run["role"])


def test_the_environment_switches_tracing_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`RLPERF_DISABLE` makes tracers that are off; nothing is written."""
    monkeypatch.setenv("RLPERF_DIR", str(tmp_path))
    monkeypatch.setenv("RLPERF_DISABLE", "1")
    with trace.PerfTracer() as tracer, tracer.span("x"):
        pass
    assert (False, 0) == (tracer.enabled, tracer.stats().recorded)
    assert [] == list(tmp_path.iterdir())
