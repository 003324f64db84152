"""A run that hangs and is killed: its trace says where it hung."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from perf.__main__ import main
from tests.faults.child import run


@pytest.mark.parametrize(
    ("prelude", "step"),
    [
        pytest.param("", "perf.span('global_step')", id="v2"),
        pytest.param(
            """
            from perf.export import PerfMetricsExport
            from perf.perfetto import PerfettoTraceWriter
            from perf.trace import PerfTracer

            def traced():
                roles = {"rollout": ["a0"], "actor": ["a0"], "refer": ["a0"]}
                write = PerfettoTraceWriter(".")
                export = PerfMetricsExport.from_role_to_devices(roles, write)
                return PerfTracer(export_fn=export)
            """,
            "perf.span_group('global_step')",
            id="v1",
        ),
    ],
)
def test_a_report_of_a_killed_run_says_where_it_hung(
    tmp_path: Path, prelude: str, step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`kill -9` after the alarm: the trace has it, and a report begins with it."""
    _, logged = run(
        f"""
        from perf.watchdog import Watchdog

        def killed(hang):
            perf.flush()
            os.kill(os.getpid(), signal.SIGKILL)

        def push_weights():
            threading.Event().wait()

        perf = traced()
        for number in range(3):
            with {step}:
                spans(perf, "peft_train")
            perf.export()
        with {step}, perf.span("weight_sync"):
            Watchdog(perf, after_s=0.001, on_hang=killed)
            push_weights()
        """,
        tmp_path,
        expect=-signal.SIGKILL,
        prelude=prelude,
    )
    (trace,) = tmp_path.glob("*.pb")
    assert 0 == main(["report", "--text", str(trace)])
    first = capsys.readouterr().out.splitlines()[2]
    assert first.startswith("• The run hung: step 3 had not ended after ")
    assert "MainThread is in global_step > weight_sync for " in first
    (line,) = [line for line in logged if "has not ended" in line]
    assert line.startswith("step 3 has not ended after ")
