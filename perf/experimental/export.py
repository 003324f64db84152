"""The built-in export of v2 (drop-in for `tunix.perf.experimental.export`)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Self

from perf._exporting import DEFAULT_TRACE_DIR, as_metrics
from perf._model.ids import HOST_PREFIX, QUEUE_SUFFIX
from perf._model.log import OnceLog
from perf._model.roles import Roles
from perf._read.rl_metrics import step_metrics
from perf._read.step_analysis import (
    DEFAULT,
    OnAnomaly,
    StepAnalysis,
    StepAnomaly,
)
from perf._read.steps import (
    BEGIN,
    END,
    Interval,
    StepSpans,
    assembled,
    by_stage,
    interval,
)
from perf._record.span import error_text
from perf._record.tracer import Tracer
from perf._write.files import TraceFiles
from perf._write.tags import RedactTags
from perf.adapters.jax_profiles import ProfileOnAnomaly
from perf.experimental.timeline import Timeline
from perf.experimental.trace_writer import PerfettoTraceWriter
from perf.experimental.tracer import StoredTimelines
from perf.export import roles_of
from perf.metrics import MetricsT

__all__ = [
    "DEFAULT_TRACE_DIR",
    "PerfMetricsExport",
    "ProfileOnAnomaly",
    "StepAnomaly",
    "log_metric_export_fn",
]


def log_metric_export_fn(timelines: Mapping[str, Timeline]) -> MetricsT:
    """An export function that logs the timelines and returns no metrics."""
    for timeline in timelines.values():
        logging.getLogger("perf").info("%s", timeline)
    return {}


class PerfMetricsExport:
    """Computes a step's metrics, as v1 does, and writes the trace.

    Pass `export_metrics` as the export function of a tracer.

    Args:
        enable_trace_writer: whether to write a trace.
        trace_dir: where to; None for `DEFAULT_TRACE_DIR`.
        role_to_devices: role to its devices in any form; a role that is not there is
            measured on whatever device ran it.
        trace_files: how the trace is spread over files.
        redact_tags: from a span's name and tags to the tags that are written; if it
            fails, none are.
        keep_content: tags with prompts, completions and the like that are written;
            by default none are.
        analysis: "default" adds `perf/bubble_frac` and `perf/overlap_frac` to the
            metrics, "all" every bucket of the accounting and the critical path, "off"
            nothing. Done in `export_metrics`: "all" takes about 0.06 ms for each
            span on each of its devices (docs/reference/metrics.md).
        on_anomaly: called with the number of a step (from 0) and a `StepAnomaly` when
            the step is unusually long; what it raises is logged once. The search takes
            about 0.05 ms for each span of the step.

    Raises:
        ValueError: something in `role_to_devices` is no device, or an unknown level of
            analysis.
    """

    def __init__(
        self,
        *,
        enable_trace_writer: bool = True,
        trace_dir: str | None = None,
        role_to_devices: Mapping[Any, Any] | None = None,
        trace_files: TraceFiles | None = None,
        redact_tags: RedactTags | None = None,
        keep_content: Iterable[str] = (),
        analysis: str = DEFAULT,
        on_anomaly: OnAnomaly | None = None,
    ) -> None:
        self._roles = Roles.of(role_to_devices or {}, required=False)
        self._analysis = StepAnalysis(
            self._roles, analysis, finds_anomalies=on_anomaly is not None
        )
        self._on_anomaly = on_anomaly
        self._log = OnceLog()
        self._steps = 0
        self._writer: PerfettoTraceWriter | None = None
        if enable_trace_writer:
            self._writer = PerfettoTraceWriter(
                trace_dir,
                role_to_devices,
                files=trace_files,
                redact_tags=redact_tags,
                keep_content=keep_content,
            )

    @classmethod
    def from_cluster_config(
        cls,
        cluster_config: Any,
        enable_trace_writer: bool = True,
        trace_dir: str | None = None,
        *,
        trace_files: TraceFiles | None = None,
        redact_tags: RedactTags | None = None,
        keep_content: Iterable[str] = (),
        analysis: str = DEFAULT,
        on_anomaly: OnAnomaly | None = None,
    ) -> Self:
        """With the meshes of a cluster: anything with `role_to_mesh`.

        Raises:
            ValueError: there is no `role_to_mesh`.
        """
        return cls(
            enable_trace_writer=enable_trace_writer,
            trace_dir=trace_dir,
            role_to_devices=roles_of(cluster_config, required=False).devices,
            trace_files=trace_files,
            redact_tags=redact_tags,
            keep_content=keep_content,
            analysis=analysis,
            on_anomaly=on_anomaly,
        )

    def attach(self, tracer: Tracer) -> bool:
        """Has the writer take everything the tracer records; whether there is one."""
        if self._writer is None:
            return False
        self._writer.attach(tracer)
        return True

    def export_metrics(self, timelines: Mapping[str, Timeline]) -> MetricsT:
        """The metrics of the step that was exported last."""
        if self._writer is not None:
            _write(self._writer, timelines)
        step = None
        if isinstance(timelines, StoredTimelines):
            step = timelines.spans()
        if step is None:
            return as_metrics(step_metrics(_last_step(timelines), self._roles))
        metrics = step_metrics(step, self._roles)
        metrics |= self._analysed(timelines, step)
        return as_metrics(metrics)

    def _analysed(self, timelines: Any, step: StepSpans) -> dict[str, float]:
        """Accounting and critical path of a step; the hook is told what is unusual."""
        number, self._steps = self._steps, self._steps + 1
        try:
            metrics, anomaly = self._analysis.step(step, *timelines.records())
        except Exception as error:  # the other metrics need not be lost, too
            what = error_text(error)
            self._log.say("analysis", f"a step was not analysed: {what}", exc=error)
            return {}
        if anomaly is not None and self._on_anomaly is not None:
            try:
                self._on_anomaly(number, anomaly)
            except Exception as error:
                self._log.say("on-anomaly", f"on_anomaly failed: {error!r}", exc=error)
        return metrics

    def shutdown(self, wait: bool = True) -> None:
        """Writes what is left and lets go of all files."""
        if self._writer is not None:
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.shutdown()


def _write(writer: PerfettoTraceWriter, timelines: Mapping[str, Timeline]) -> None:
    """Has a writer write what it is not told of."""
    if isinstance(timelines, StoredTimelines):
        # Called by an export function around this one: the tracer did not see it.
        if not writer.is_attached_to(timelines.tracer):
            writer.attach(timelines.tracer, with_kept=True)
    elif not writer.attached:
        writer.write_timelines(timelines)


def _last_step(timelines: Mapping[str, Timeline]) -> StepSpans:
    """The last step of timelines that were built by hand."""
    main: list[Interval] = []
    hosts: list[Interval] = []
    devices: dict[str, list[Interval]] = {}
    first_host = next((i for i in timelines if i.startswith(HOST_PREFIX)), None)
    for timeline_id, timeline in timelines.items():
        if timeline_id.endswith(QUEUE_SUFFIX) or not timeline.committed_steps:
            continue
        if timeline_id.startswith(HOST_PREFIX):
            into = main if timeline_id == first_host else hosts
        else:
            into = devices.setdefault(timeline_id, [])
        step = timeline.committed_steps[-1]
        into += [interval(s.name, s.begin, s.end, s.id, s.tags) for s in step.values()]
    ends = [i[END] for some in (main, hosts, *devices.values()) for i in some]
    begins, last = [i[BEGIN] for i in main + hosts], max(ends, default=0.0)
    return assembled(
        1.0,
        by_stage(main),
        by_stage(hosts),
        devices,
        lambda: min(begins, default=0.0),
        last,
    )
