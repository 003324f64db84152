from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from perf._read.load import load
from perf.experimental.export import PerfMetricsExport
from perf.experimental.timeline import Timeline
from perf.experimental.tracer import PerfTracer
from perf.metrics import PerfSpanQuery
from perf.testing import FakeClock
from perf.trace import PerfTracer as V1Tracer
from tests.faults.child import run, traces
from tools.perfetto.trace_processor import TraceProcessor, slices

ATTEMPT = """
    perf = traced()
    for step in {steps}:
        with perf.span("step", tags=dict(step=step)):
            pass
        perf.export()
    {end}
"""


@pytest.fixture
def resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that is killed in step 2 and resumed from step 1, in one folder."""
    monkeypatch.setenv("RLPERF_RUN_ID", "grpo-7")
    monkeypatch.setenv("RLPERF_ATTEMPT", "0")
    kill = "perf.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    run(ATTEMPT.format(steps=[0, 1, 2], end=kill), tmp_path, expect=-9)
    monkeypatch.setenv("RLPERF_ATTEMPT", "1")
    run(ATTEMPT.format(steps=[1, 2, 3], end="perf.close()"), tmp_path)
    return tmp_path


def test_attempts_have_files_of_their_own(resumed: Path) -> None:
    """Each says of which run and attempt its steps are: no two keys are equal."""
    keys = [
        (trace.runs[0]["run_id"], trace.runs[0]["attempt"], piece.tags["step"])
        for trace in traces(resumed)
        for piece in trace.slices
    ]
    first = [("grpo-7", "0", step) for step in (0, 1, 2)]
    assert first + [("grpo-7", "1", step) for step in (1, 2, 3)] == sorted(keys)


def test_attempts_that_are_put_together_stay_apart(resumed: Path) -> None:
    """The same steps lie on tracks of their own, here and in Perfetto."""
    together = resumed / "together.pb"
    together.write_bytes(b"".join(path.read_bytes() for path in resumed.glob("p*.pb")))
    trace = load(together)
    assert ["0", "1"] == sorted(info["attempt"] for info in trace.runs)
    by_track: dict[str, list[int]] = {}
    for piece in trace.slices:
        by_track.setdefault(piece.track.key, []).append(piece.tags["step"])
    assert [[0, 1, 2], [1, 2, 3]] == sorted(by_track.values())
    with TraceProcessor(together) as tp:
        tp.assert_clean()
        assert 6 == [row.name for row in slices(tp)].count("step")


def test_steps_that_one_process_repeats_are_steps_of_their_own(tmp_path: Path) -> None:
    """A trainer that goes back to a checkpoint: positions count exports, not tags."""
    seen: list[list[int]] = []

    def look(timelines: Mapping[str, Timeline]) -> dict[str, Any]:
        steps = [s for line in timelines.values() for s in line.committed_steps]
        seen.append([span.tags["step"] for step in steps for span in step.values()])
        return {}

    tracer = PerfTracer(export_fn=look)
    for step in (0, 1, 1):
        with tracer.span("global_step", tags={"step": step}):
            pass
        tracer.export()
    assert [[0], [0, 1], [0, 1, 1]] == seen
    assert 3 == tracer.stats().steps
    tracer.close()


def test_a_repeated_step_has_its_own_metrics(tmp_path: Path) -> None:
    """It is measured alone, in both versions."""
    clock = FakeClock()
    export = PerfMetricsExport(enable_trace_writer=False)
    tracer = PerfTracer(export_fn=export.export_metrics, _clock=clock)
    times = []
    for duration_s in (4, 2, 1):
        with tracer.span("global_step", tags={"step": 1}):
            clock.advance_s(duration_s)
        times.append(tracer.export()["perf/global_step_time"][0])
    assert [4, 2, 1] == times
    tracer.close()


def test_a_repeated_group_is_a_group_of_its_own() -> None:
    """v1 counts positions from the run's first."""
    clock = FakeClock()
    found: list[float] = []

    def look(query: PerfSpanQuery) -> dict[str, Any]:
        (step,) = query().main().last_group("global_step").get()
        found.append(step.duration)
        return {}

    tracer = V1Tracer(export_fn=look, _clock=clock)
    for duration_s in (4, 2):
        with tracer.span_group("global_step"):
            clock.advance_s(duration_s)
        tracer.export()
    assert [4, 2] == found
    tracer.close()
