"""Writes v1's traces for ui.perfetto.dev (drop-in for `tunix.perf.perfetto`)."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from perf._exporting import (
    DEFAULT_TRACE_DIR,
    HandedOver,
    attach_writer,
    make_folder_path,
)
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
from perf._write.files import TraceFiles
from perf._write.layout import V1Layout
from perf._write.tags import RedactTags, TagRules
from perf._write.writer import TraceWriter

__all__ = ["DEFAULT_EXPORT_DIR", "PerfettoTraceWriter", "TraceFiles"]

DEFAULT_EXPORT_DIR = DEFAULT_TRACE_DIR
"""Where traces go if no folder is given."""


class PerfettoTraceWriter:
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
        self._folder = make_folder_path(export_dir)
        self._files = files or TraceFiles()
        self._tags = TagRules.of(redact_tags, keep_content)
        self._writer = self._make_writer(V1Layout())
        self._handed: HandedOver | None = None
        self._attached: list[TraceWriter] = []
        """One for each tracer: each writes a file of its own."""

    def __reduce__(self) -> Any:
        # A copy is configuration: it writes a file of its own.
        make = functools.partial(
            type(self),
            files=self._files,
            redact_tags=self._tags.redact,
            keep_content=self._tags.keep,
        )
        return make, (self._folder,)

    def _make_writer(self, layout: V1Layout) -> TraceWriter:
        return TraceWriter(self._folder, layout, files=self._files, tags=self._tags)

    @property
    def attached(self) -> bool:
        """Whether it was given a tracer: then it writes what that records, no more."""
        return bool(self._attached)

    def attach(
        self, tracer: Tracer, role_to_devices: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        """Writes everything that a tracer records from now on, to a file of its own.

        Args:
            tracer: whose spans.
            role_to_devices: ids of the devices by role, for the tracks of the roles.
        """
        writer = self._make_writer(V1Layout(role_to_devices))
        attach_writer(tracer, writer)
        self._attached.append(writer)

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
        if self._handed is None:
            self._handed = HandedOver()
            self._writer.attach(self._handed)
        for number, group in enumerate(_merged(global_step_groups)):
            name = "Main" if number == 0 else f"Main {number + 1}"
            self._handed.put(_track(name), _records([group]))
        for name, nodes in (
            ("Rollout", rollout_spans),
            ("Reference", refer_inference_spans),
            ("Actor", actor_train_groups),
        ):
            self._handed.put(_track(name), _records(nodes))
        self._writer.flush()

    def close(self) -> None:
        """Writes what is left and lets go of all files."""
        for writer in (self._writer, *self._attached):
            writer.close()


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
