"""The built-in export function of v1 (drop-in for `tunix.perf.export`)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from perf._exporting import as_metrics
from perf._model import names
from perf._model.ids import is_thread_id
from perf._model.roles import ACTOR, REFERENCE, ROLLOUT, Roles
from perf._model.tree import SpanGroup, groups_inside, spans_inside
from perf._read.rl_metrics import step_metrics
from perf._read.steps import BEGIN, END, NAME, Interval, StepSpans, from_trees
from perf._record.tracer import Tracer
from perf._write.files import TraceFiles
from perf.metrics import MetricsT, PerfMetricsOptions, PerfSpanQuery
from perf.perfetto import PerfettoTraceWriter
from perf.trace import StoredTimelines

__all__ = ["MetricsExportFn", "PerfMetricsExport", "PerfettoTraceWriter"]

MetricsExportFn = Callable[[PerfSpanQuery], MetricsT]


class _ClusterConfig(Protocol):
    """What is asked of a cluster configuration."""

    @property
    def role_to_mesh(self) -> Mapping[Any, Any]:
        """Role (a name, or an enum member with such a value) to mesh or devices."""
        ...


class PerfMetricsExport:
    """Computes a step's metrics, and writes the trace if it was given a writer.

    Make one with `from_role_to_devices` or `from_cluster_config`, and pass it as the
    export function of a tracer. See docs/reference/metrics.md for the metrics.
    """

    def __init__(
        self,
        roles: Roles,
        trace_writer: PerfettoTraceWriter | None = None,
        log_rollout_time_at_micro_batch_level: bool = False,
        log_actor_train_time_at_micro_batch_level: bool = False,
    ) -> None:
        self._roles = roles
        self._writer = trace_writer
        self._log_rollouts = log_rollout_time_at_micro_batch_level
        self._log_trainings = log_actor_train_time_at_micro_batch_level

    @staticmethod
    def from_role_to_devices(
        role_to_devices: Mapping[str, Any],
        trace_writer: PerfettoTraceWriter | None = None,
        log_rollout_time_at_micro_batch_level: bool = False,
        log_actor_train_time_at_micro_batch_level: bool = False,
    ) -> PerfMetricsExport:
        """An export function for these devices.

        Args:
            role_to_devices: `rollout`, `actor` and `refer` (further roles may be
                there) to their devices, in any form.
            trace_writer: also writes the trace.
            log_rollout_time_at_micro_batch_level: log each rollout's time.
            log_actor_train_time_at_micro_batch_level: log each training's time.

        Raises:
            ValueError: a role is missing, or something is no device.
        """
        return PerfMetricsExport(
            Roles.of(role_to_devices),
            trace_writer,
            log_rollout_time_at_micro_batch_level,
            log_actor_train_time_at_micro_batch_level,
        )

    @staticmethod
    def from_cluster_config(
        cluster_config: _ClusterConfig,
        log_rollout_time_at_micro_batch_level: bool = False,
        log_actor_train_time_at_micro_batch_level: bool = False,
    ) -> PerfMetricsExport:
        """An export function for the meshes of a cluster.

        Args:
            cluster_config: anything with `role_to_mesh`; its `training_config`'s
                `perf_metrics_options`, if there are any, say whether and where the
                trace is written (by default it is, to /tmp/perf_traces).
            log_rollout_time_at_micro_batch_level: log each rollout's time.
            log_actor_train_time_at_micro_batch_level: log each training's time.

        Raises:
            ValueError: a role is missing, or there is no `role_to_mesh`.
        """
        training = getattr(cluster_config, "training_config", None)
        options = (
            getattr(training, "perf_metrics_options", None) or PerfMetricsOptions()
        )
        return PerfMetricsExport.from_options(
            options,
            cluster_config,
            log_rollout_time_at_micro_batch_level,
            log_actor_train_time_at_micro_batch_level,
        )

    create_metrics_export_fn = from_cluster_config

    @staticmethod
    def from_options(
        options: PerfMetricsOptions,
        cluster_config: Any,
        log_rollout_time_at_micro_batch_level: bool = False,
        log_actor_train_time_at_micro_batch_level: bool = False,
        *,
        trace_files: TraceFiles | None = None,
        keep_content: Iterable[str] = (),
    ) -> PerfMetricsExport:
        """Like `from_cluster_config`, with options given beside the cluster's."""
        writer = None
        if options.enable_trace_writer:
            writer = PerfettoTraceWriter(
                options.trace_dir, files=trace_files, keep_content=keep_content
            )
        return PerfMetricsExport(
            roles_of(cluster_config),
            writer,
            log_rollout_time_at_micro_batch_level,
            log_actor_train_time_at_micro_batch_level,
        )

    def attach(self, tracer: Tracer) -> bool:
        """Has the writer take everything the tracer records; whether there is one."""
        if not isinstance(self._writer, PerfettoTraceWriter):
            return False
        self._writer.attach(tracer, self._roles.devices)
        return True

    def __call__(self, query: PerfSpanQuery) -> MetricsT:
        """The metrics of the step that was exported last."""
        step = query.step()
        if step is None:
            step = self._from_trees(query)
            if step is None:
                return {}
        if self._log_rollouts or self._log_trainings:
            self._log(step)
        if self._writer is not None:
            self._write(query)
        return as_metrics(step_metrics(step, self._roles))

    def _from_trees(self, query: PerfSpanQuery) -> StepSpans | None:
        """The step in timelines that were built by hand."""
        main_id = query.get_main_thread_id()
        device_ids = {d for some in self._roles.devices.values() for d in some}
        firsts = {device for _, device in self._firsts(query)}
        roots = {name: query.root(name) for name in query.get_timeline_ids()}
        step = from_trees(
            roots.get(main_id),
            [r for n, r in roots.items() if r and n != main_id and n not in device_ids],
            {name: root for name, root in roots.items() if root and name in firsts},
        )
        return step if step.global_step is not None else None

    def _write(self, query: PerfSpanQuery) -> None:
        """Has the writer write what it is not told of."""
        writer, timelines = self._writer, query._timelines
        assert writer is not None
        if isinstance(writer, PerfettoTraceWriter):
            if isinstance(timelines, StoredTimelines):
                # Called by a function around this one: the tracer did not see it.
                if not writer.is_attached_to(timelines.tracer):
                    roles = self._roles.devices
                    writer.attach(timelines.tracer, roles, with_kept=True)
                return
            if writer.attached:
                return
        main_id = query.get_main_thread_id()
        threads = [main_id, *(i for i in query.get_timeline_ids() if is_thread_id(i))]
        steps = {i: self._last_step(query, i) for i in dict.fromkeys(threads)}
        on_device = {r: self._last_step(query, d) for r, d in self._firsts(query)}
        actor = on_device.get(ACTOR) or steps[main_id]
        writer.log_trace(
            [step for step in steps.values() if step is not None],
            spans_inside(on_device.get(ROLLOUT), names.ROLLOUT),
            spans_inside(on_device.get(REFERENCE), names.REFERENCE_INFERENCE),
            groups_inside(actor, {names.ACTOR_TRAINING}),
        )

    def _firsts(self, query: PerfSpanQuery) -> Iterator[tuple[str, str]]:
        for role in self._roles.devices:
            device = self._roles.first(role)
            if device in query.get_timeline_ids():
                yield role, device

    @staticmethod
    def _last_step(query: PerfSpanQuery, timeline_id: str) -> SpanGroup | None:
        root = query.root(timeline_id)
        return None if root is None else root.find_last_inner_group(names.GLOBAL_STEP)

    def _log(self, step: StepSpans) -> None:
        rollout_device = self._roles.first(ROLLOUT) or ""
        if self._log_rollouts:
            spans = step.devices.get(rollout_device, ())
            _log_each("rollout", [s for s in spans if s[NAME] in names.ROLLOUT], step)
        if self._log_trainings:
            _log_each("actor train", step.main.get(names.ACTOR_TRAINING, ()), step)


def _log_each(what: str, spans: Iterable[Interval], step: StepSpans) -> None:
    for i, span in enumerate(spans):
        time_s = (span[END] - span[BEGIN]) / step.per_second
        logging.getLogger("perf").info("%s time [%d] = %.6f s", what, i, time_s)


def roles_of(cluster_config: Any, *, required: bool = True) -> Roles:
    """The devices of each role of a cluster configuration.

    Raises:
        ValueError: it has no `role_to_mesh`, or that lacks a role.
    """
    role_to_mesh = getattr(cluster_config, "role_to_mesh", None)
    if not isinstance(role_to_mesh, Mapping):
        raise ValueError(
            f"cluster_config={cluster_config!r}: expected an object whose attribute "
            "role_to_mesh maps roles to meshes"
        )
    return Roles.of(role_to_mesh, required=required)
