"""The layout of a record: other modules read its fields by position."""

from __future__ import annotations

from perf._model import spans
from perf._model.spans import Record, TimelineInfo, TimelineKind


def test_the_fields_of_a_record_have_their_places() -> None:
    """Plain tuples are laid out so."""
    fields = ("name", "begin_ns", "end_ns", "id", "parent_id", "kind", "tags", "after")
    assert fields == Record._fields


def test_kinds_are_in_order() -> None:
    """Spans and groups, then device work, then what is no node of a tree."""
    kinds = ("SPAN", "GROUP", "DEVICE", "QUEUED", "INSTANT", "COUNTER")
    assert [0, 1, 2, 3, 4, 5] == [getattr(spans, kind) for kind in kinds]
    assert (0, -1) == (spans.NO_PARENT, spans.OPEN)


def test_a_timeline_is_not_the_main_one_unless_told() -> None:
    """Nor has it a thread of the system."""
    info = TimelineInfo("tpu0", TimelineKind.DEVICE, "tpu0")
    assert (False, 0) == (info.is_main, info.native_thread_id)
