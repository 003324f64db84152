"""Ids and order of timelines (drop-in for `tunix.perf.experimental.timeline_utils`)."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping

from perf._model.ids import HOST_PREFIX, QUEUE_SUFFIX, device_id, device_ids, queue_id
from perf._model.sequence import Sequencer
from perf.experimental.constants import NAME, QUEUE
from perf.experimental.timeline import Span, Timeline

__all__ = [
    "generate_device_timeline_id",
    "generate_device_timeline_ids",
    "generate_host_timeline_id",
    "generate_queued_timeline_id",
    "is_host_timeline",
    "is_queued_timeline",
    "is_timeline_only_of_allowed_type",
    "sequentialize_overlapping_spans",
]

generate_device_timeline_id = device_id
generate_device_timeline_ids = device_ids
generate_queued_timeline_id = queue_id


def generate_host_timeline_id() -> str:
    """The timeline id of the calling thread: `host-<ident>`."""
    return f"{HOST_PREFIX}{threading.get_ident()}"


def is_host_timeline(tl_id: str) -> bool:
    """Whether it is the timeline of a thread."""
    return tl_id.startswith(HOST_PREFIX)


def is_queued_timeline(tl_id: str) -> bool:
    """Whether it is the timeline on which a device's work waits."""
    return tl_id.endswith(QUEUE_SUFFIX)


def is_timeline_only_of_allowed_type(
    tl: Timeline, allowed_span_names: Collection[str], include_cur_step: bool = False
) -> bool:
    """Whether a timeline has spans, and none of another name.

    Args:
        tl: the timeline.
        allowed_span_names: the names.
        include_cur_step: whether the present step counts too.
    """
    steps = tl.all_steps if include_cur_step else tl.committed_steps
    names = {span.name for step in steps for span in step.values()}
    return bool(names) and names <= set(allowed_span_names)


def sequentialize_overlapping_spans(
    spans_dict: Mapping[int, Span],
) -> tuple[dict[int, Span], dict[int, Span]]:
    """Splits overlapping device spans into running and queued time.

    A device runs one program at a time: of two spans that overlap, the later one
    waited. Its span starts where the one before it ended, and its wait becomes a
    `queue` span with its id, tagged `NAME`. Work contained in the work before it is
    kept with no length, where that ended.

    Args:
        spans_dict: n ended spans of one device, by id, times in seconds.

    Returns:
        (running, queued), by id; neither holds two spans that overlap.
    """
    running, queued = {}, {}
    sequencer = Sequencer(float("-inf"))
    for span in sorted(spans_dict.values(), key=lambda span: (span.begin, span.id)):
        begin, end, queued_from = sequencer.place(span.begin, span.end)
        running[span.id] = _span(span.name, begin, end, span, span.tags)
        if queued_from is not None:
            queued[span.id] = _span(QUEUE, queued_from, begin, span, {NAME: span.name})
    return running, queued


def _span(
    name: str, begin: float, end: float, of: Span, tags: Mapping[str, object] | None
) -> Span:
    span = Span(name, begin, id=of.id, parent_id=of.parent_id, tags=tags)
    span.end = end
    return span
