"""Programs that run in a process of their own, and what they leave behind."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Final

from perf._read.load import LoadedTrace, load
from tests.programs import run_python

_PRELUDE: Final = """
    import os, signal, sys, threading, time
    from perf.experimental.export import PerfMetricsExport
    from perf.experimental.tracer import PerfTracer

    def traced(folder=".", **options):
        export = PerfMetricsExport(trace_dir=folder)
        return PerfTracer(export_fn=export.export_metrics, **options)

    def spans(tracer, name, count=1):
        for _ in range(count):
            with tracer.span(name):
                pass

    def wait_for_files(count):
        signal.alarm(30)
        while len([name for name in os.listdir() if os.path.getsize(name)]) < count:
            time.sleep(0.01)

    def show(*what):
        print(*what, flush=True)
"""


def run(
    source: str, folder: Path, *, expect: int = 0, prelude: str = ""
) -> tuple[list[str], list[str]]:
    """The lines that a program writes to its standard output and error.

    Args:
        source: has the functions of `_PRELUDE`.
        folder: where it runs, and where its traces are.
        expect: its exit status.
        prelude: further functions that it has.
    """
    program = "\n".join(map(textwrap.dedent, (_PRELUDE, prelude, source)))
    done = run_python("-c", program, folder=folder)
    assert expect == done.returncode, done.stderr
    return done.stdout.splitlines(), done.stderr.splitlines()


def traces(folder: Path) -> list[LoadedTrace]:
    """What is in the files of a folder, by their names."""
    return [load(path) for path in sorted(folder.glob("*.pb"))]


def names(trace: LoadedTrace) -> list[str]:
    """The names of its slices, by begin."""
    return [piece.name for piece in trace.slices]
