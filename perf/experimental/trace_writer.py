"""Writes v2's traces (drop-in for `tunix.perf.experimental.trace_writer`)."""

from __future__ import annotations

import abc
import functools
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from perf._model.ids import HOST_PREFIX, QUEUE_SUFFIX
from perf._model.roles import Roles
from perf._model.spans import (
    DEVICE,
    NO_PARENT,
    QUEUED,
    SPAN,
    RawRecord,
    Records,
    TimelineInfo,
    TimelineKind,
)
from perf._record.clock import nanoseconds
from perf._record.tracer import Tracer
from perf._trace_writers import TraceWriters
from perf._write.files import TraceFiles
from perf._write.layout import V2Layout
from perf._write.tags import RedactTags
from perf.experimental.constants import QUEUE
from perf.experimental.timeline import Span, Timeline

__all__ = ["NoopTraceWriter", "PerfettoTraceWriter", "TraceWriter"]


class TraceWriter(abc.ABC):
    """Writes timelines somewhere."""

    @abc.abstractmethod
    def write_timelines(self, timelines: Mapping[str, Timeline]) -> None:
        """Writes what is new in the committed steps of the timelines."""


class NoopTraceWriter(TraceWriter):
    """Writes nothing."""

    def write_timelines(self, timelines: Mapping[str, Timeline]) -> None:
        """Nothing."""


class PerfettoTraceWriter(TraceWriters, TraceWriter):
    """Writes one file per run: `perfetto_trace_v2_<unix seconds>.pb`.

    Attached to a tracer it writes everything recorded; `write_timelines` writes what
    it is given. A folder that cannot be written is logged once and never an error.

    Args:
        trace_dir: the folder; None for the default one. To a URL (`gs://…`) the trace
            is uploaded in parts, as each is complete.
        role_to_devices: role to its devices in any form, for the tracks of clusters.
        documented_names: whether slices bear the tags that make them distinct in
            their names, as `rollout (step=3, …)`; Perfetto then groups by none.
        files: how the trace is spread over files.
        redact_tags: from a span's name and tags to the tags that are written; if it
            fails, none are.
        keep_content: tags with prompts, completions and the like that are written;
            by default none are.

    Raises:
        ValueError: the folder is a URL of a kind that is not known, or something in
            `role_to_devices` is no device.
    """

    def __init__(
        self,
        trace_dir: str | os.PathLike[str] | None = None,
        role_to_devices: Mapping[Any, Any] | None = None,
        *,
        documented_names: bool = False,
        files: TraceFiles | None = None,
        redact_tags: RedactTags | None = None,
        keep_content: Iterable[str] = (),
    ) -> None:
        roles = Roles.of(role_to_devices or {}, required=False)
        self._layout = V2Layout(roles.devices, documented_names)
        super().__init__(trace_dir, self._layout, files, redact_tags, keep_content)
        self._own = {
            "role_to_devices": role_to_devices,
            "documented_names": documented_names,
        }
        """What it was made with, beside what every writer is."""
        self._steps_written: dict[str, int] = {}

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        make, folder = super().__reduce__()
        return functools.partial(make, **self._own), folder

    def attach(self, tracer: Tracer, *, with_kept: bool = False) -> None:
        """Writes everything that a tracer records from now on, to a file of its own.

        Args:
            tracer: whose spans.
            with_kept: also writes what the tracer keeps for queries.
        """
        self._attach(tracer, self._layout, with_kept=with_kept)

    def write_timelines(self, timelines: Mapping[str, Timeline]) -> None:
        """Writes what is new in the committed steps of the timelines."""
        records: Records = []
        for timeline_id, timeline in timelines.items():
            steps = timeline.committed_steps
            # Counted from the run's first: a tracer keeps the last steps alone.
            before = timeline._forgotten_steps
            done = max(0, self._steps_written.get(timeline_id, 0) - before)
            self._steps_written[timeline_id] = before + len(steps)
            info = _info(timeline_id)
            new = [span for step in steps[done:] for span in step.values()]
            records.append((info, [_record(span, info) for span in new]))
        self._write(records)


def _info(timeline_id: str) -> TimelineInfo:
    kind = TimelineKind.DEVICE
    if timeline_id.startswith(HOST_PREFIX):
        kind = TimelineKind.HOST
    elif timeline_id.endswith(QUEUE_SUFFIX):
        kind = TimelineKind.QUEUE
    return TimelineInfo(timeline_id, kind, timeline_id)


def _record(span: Span, info: TimelineInfo) -> RawRecord:
    kind = DEVICE if info.kind is TimelineKind.DEVICE else SPAN
    if info.kind is TimelineKind.QUEUE and span.name == QUEUE:
        kind = QUEUED
    begin_ns, end_ns = nanoseconds(span.begin), nanoseconds(span.end)
    parent_id = span.parent_id or NO_PARENT
    return (
        span.name, begin_ns, end_ns, span.id, parent_id, kind, span.tags or None, None,
    )  # fmt: skip
