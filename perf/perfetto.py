"""Writes v1's traces for ui.perfetto.dev (drop-in for `tunix.perf.perfetto`)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from perf._exporting import DEFAULT_TRACE_DIR
from perf._model.spans import (
    GROUP,
    NO_PARENT,
    OPEN,
    SPAN,
    RawRecord,
    TimelineInfo,
    TimelineKind,
)
from perf._model.tree import Node, Span, SpanGroup, merge_span_group_trees
from perf._record.clock import nanoseconds
from perf._record.hot import new_id
from perf._record.tracer import Tracer
from perf._trace_writers import TraceWriters
from perf._write.files import TraceFiles
from perf._write.layout import V1Layout
from perf._write.tags import RedactTags

__all__ = ["DEFAULT_EXPORT_DIR", "PerfettoTraceWriter", "TraceFiles"]

DEFAULT_EXPORT_DIR = DEFAULT_TRACE_DIR
"""Where traces go if no folder is given."""


class PerfettoTraceWriter(TraceWriters):
    """Writes one file per run: `perfetto_trace_<unix seconds>.pb`.

    Attached to a tracer it writes everything recorded; `log_trace` writes what it is
    given. A folder that cannot be written is logged once and never an error.

    Args:
        export_dir: the folder; None for `DEFAULT_EXPORT_DIR`. To a URL (`gs://…`) the
            trace is uploaded in parts, as each is complete.
        files: how the trace is spread over files.
        redact_tags: from a span's name and tags to the tags that are written; if it
            fails, none are.
        keep_content: tags with prompts, completions and the like that are written;
            by default none are.

    Raises:
        ValueError: the folder is a URL of a kind that is not known.
    """

    def __init__(
        self,
        export_dir: str | os.PathLike[str] | None = None,
        *,
        files: TraceFiles | None = None,
        redact_tags: RedactTags | None = None,
        keep_content: Iterable[str] = (),
    ) -> None:
        super().__init__(export_dir, V1Layout(), files, redact_tags, keep_content)

    def attach(
        self,
        tracer: Tracer,
        role_to_devices: Mapping[str, Sequence[str]] | None = None,
        *,
        with_kept: bool = False,
    ) -> None:
        """Writes everything that a tracer records from now on, to a file of its own.

        Args:
            tracer: whose spans.
            role_to_devices: ids of the devices by role, for the tracks of the roles.
            with_kept: also writes what the tracer keeps for queries.
        """
        self._attach(tracer, V1Layout(role_to_devices), with_kept=with_kept)

    def log_trace(
        self,
        global_step_groups: Sequence[SpanGroup],
        rollout_spans: Sequence[Span],
        refer_inference_spans: Sequence[Span],
        actor_train_groups: Sequence[SpanGroup],
    ) -> None:
        """Appends the spans of one step to the file.

        Args:
            global_step_groups: of the main thread, then of others; threads whose
                groups cannot be merged get a track each.
            rollout_spans: for the track "Rollout".
            refer_inference_spans: for the track "Reference".
            actor_train_groups: for the track "Actor".
        """
        tracks: list[tuple[str, Sequence[Node]]] = [
            ("Main" if number == 0 else f"Main {number + 1}", [group])
            for number, group in enumerate(_merged(global_step_groups))
        ]
        tracks += [
            ("Rollout", rollout_spans),
            ("Reference", refer_inference_spans),
            ("Actor", actor_train_groups),
        ]
        self._write([(_track(name), _records(nodes)) for name, nodes in tracks])


def _merged(groups: Sequence[SpanGroup]) -> list[SpanGroup]:
    """One group if all can be merged, otherwise each on its own."""
    merged = list(groups[:1])
    for group in groups[1:]:
        try:
            merged = [merge_span_group_trees(merged[0], group)]
        except ValueError:
            return list(groups)
    return merged


def _track(name: str) -> TimelineInfo:
    return TimelineInfo(name, TimelineKind.NAMED, name)


def _records(nodes: Sequence[Node], parent_id: int = NO_PARENT) -> list[RawRecord]:
    """Records of trees, children after their parents."""
    records: list[RawRecord] = []
    for node in nodes:
        span_id = new_id()
        kind = GROUP if isinstance(node, SpanGroup) else SPAN
        end_ns = OPEN if node.end == float("inf") else nanoseconds(node.end)
        begin_ns = nanoseconds(node.begin)
        records.append(
            (node.name, begin_ns, end_ns, span_id, parent_id, kind, None, None)
        )
        if isinstance(node, SpanGroup):
            records += _records(node.inner, span_id)
    return records
