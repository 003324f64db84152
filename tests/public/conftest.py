"""Runs whose trace is read back: one door for v1 and v2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perf.experimental.export import PerfMetricsExport as ExportV2
from perf.export import PerfMetricsExport as ExportV1
from perf.perfetto import PerfettoTraceWriter
from tests.public.drive import Run, V1Run, V2Run
from tests.public.trace_file import TraceFile

ROLES = {"rollout": ["a0"], "actor": ["b0"]}


def export_v1(folder: Path) -> Any:
    """The built-in export function of v1, writing to a folder."""
    return ExportV1.from_role_to_devices(ROLES, PerfettoTraceWriter(str(folder)))


def export_v2(folder: Path) -> Any:
    """The built-in export function of v2, writing to a folder."""
    return ExportV2(trace_dir=str(folder), role_to_devices=ROLES).export_metrics


Version = tuple[Callable[..., Run], Callable[[Path], Any]]


@pytest.fixture(params=[(V1Run, export_v1), (V2Run, export_v2)], ids=["v1", "v2"])
def version(request: pytest.FixtureRequest) -> Version:
    """Which of the two versions a test runs on."""
    return request.param


@pytest.fixture
def run(version: Version, tmp_path: Path) -> Run:
    """A tracer that writes into the test's folder."""
    make, export_fn = version
    return make(["a0", "b0"], export_fn(tmp_path), watch=False)


@pytest.fixture
def written(run: Run, tmp_path: Path) -> Callable[[], TraceFile]:
    """Ends the run and reads its trace."""

    def read() -> TraceFile:
        run.tracer.export()
        run.tracer.close()
        return TraceFile(tmp_path)

    return read
