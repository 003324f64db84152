"""From gauges of OpenTelemetry to rows of W&B."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from perf.loggers.backends.opentelemetry import OpenTelemetryBackend
from perf.loggers.backends.otel_wandb import WandbMetricsExporter


class Run:
    """Stands for a run of W&B."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.error: Exception | None = None

    def log(self, row: dict[str, float], step: int) -> None:
        """Keeps a row."""
        if self.error is not None:
            raise self.error
        self.rows.append((step, row))


@pytest.fixture
def run() -> Run:
    """A run that keeps its rows."""
    return Run()


@pytest.fixture
def provider(run: Run) -> Iterator[Any]:
    """A meter provider that exports to it."""
    metrics = pytest.importorskip(
        "opentelemetry.sdk.metrics", reason="the opentelemetry extra is missing"
    )
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    # Only when it is told to.
    reader = PeriodicExportingMetricReader(WandbMetricsExporter(run), float("inf"))
    made = metrics.MeterProvider([reader])
    yield made
    made.shutdown()


def test_gauges_become_rows_in_the_order_of_steps(run: Run, provider: Any) -> None:
    """One for each prefix and mode, under the names of the gauges."""
    backend = OpenTelemetryBackend(provider)
    backend.log_scalar("actor/train/loss", 0.5, step=7)
    backend.log_scalar("actor/train/kl", 0.25, step=7)
    backend.log_scalar("critic/train/loss", 4.0, step=7)
    backend.log_scalar("critic/eval/loss", 2.0, step=3)
    provider.force_flush()
    assert [
        (3, {"critic/eval/rlperf.training.loss": 2.0}),
        (7, {"actor/train/rlperf.training.loss": 0.5, "actor/train/rlperf.kl": 0.25}),
        (7, {"critic/train/rlperf.training.loss": 4.0}),
    ] == run.rows


def test_a_run_that_fails_is_a_failed_export(
    run: Run, provider: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is raised; it is said once."""
    run.error = OSError("gone")
    backend = OpenTelemetryBackend(provider)
    for step in range(3):
        backend.log_scalar("loss", 1.0, step=step)
        provider.force_flush()
    said = [line for line in caplog.messages if "do not reach W&B" in line]
    assert ["metrics do not reach W&B: OSError: gone"] == [
        line.partition(" (")[0] for line in said
    ]
