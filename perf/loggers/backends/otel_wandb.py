"""From OpenTelemetry to W&B: exports the gauges of the OpenTelemetry backend."""

from __future__ import annotations

from typing import Any

from perf._model.log import OnceLog
from perf.loggers.redaction import error_line

__all__ = ["WandbMetricsExporter"]


def WandbMetricsExporter(run: Any = None) -> Any:  # noqa: N802 - made like a class
    """A metric exporter that logs to a W&B run, for a `PeriodicExportingMetricReader`.

    A gauge becomes `prefix/mode/<its name>`, the gauges of one prefix and mode a row at
    the step that their step gauge shows; rows are in ascending order of steps. It never
    raises: an export that fails is `FAILURE`, and said once. The run is left open.

    Args:
        run: the run; by default the program's current one when something is exported.
    """
    from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult

    # The library is an extra: where mypy runs, its classes may be of no known type.
    class Exporter(MetricExporter):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self._log = OnceLog()

        def export(self, metrics_data: Any, *args: Any, **kwargs: Any) -> Any:
            """Logs what was collected."""
            try:
                target = run or _current_run()
                for step, row in sorted(_rows(metrics_data), key=lambda each: each[0]):
                    target.log(row, step=step)
            except Exception as error:
                self._log.say(
                    "failed", f"metrics do not reach W&B: {error_line(error)}"
                )
                return MetricExportResult.FAILURE
            return MetricExportResult.SUCCESS

        def force_flush(self, timeout_millis: float = 10_000) -> bool:
            """Nothing is kept."""
            return True

        def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
            """Leaves the run open."""

    return Exporter()


def _current_run() -> Any:
    import wandb

    if wandb.run is None:
        raise RuntimeError("there is no current run: call wandb.init, or give a run")
    return wandb.run


def _rows(metrics_data: Any) -> list[tuple[int, dict[str, float]]]:
    """Step and values of each prefix and mode."""
    rows: dict[tuple[str, str], dict[str, float]] = {}
    steps: dict[tuple[str, str], int] = {}
    for resource in metrics_data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    if not hasattr(point, "value"):  # a histogram of the program's own
                        continue
                    attributes = {
                        str(key).rpartition(".")[2]: str(value)
                        for key, value in (point.attributes or {}).items()
                    }
                    key = attributes.get("prefix", ""), attributes.get("mode", "")
                    if metric.name.endswith(".training.step"):
                        steps[key] = int(point.value)
                    else:
                        name = "/".join(filter(None, (*key, metric.name)))
                        rows.setdefault(key, {})[name] = point.value
    latest = max(steps.values(), default=0)
    return [(steps.get(key, latest), row) for key, row in rows.items()]
