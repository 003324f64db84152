"""`perf.experimental.timeline`: spans and timelines of v2."""

from __future__ import annotations

import copy
import logging
import math
import pickle
import threading

import jax.numpy as jnp
import pytest

from perf._record import waiting
from perf.experimental import constants
from perf.experimental.timeline import (
    AsyncTimeline,
    BatchAsyncTimelines,
    Span,
    Timeline,
)
from perf.experimental.tracer import PerfTracer


def test_the_names_that_users_write() -> None:
    """The constants keep the values that exported traces bear (P22, H16)."""
    assert {
        "STEP": "step",
        "MINI_BATCH": "mini_batch_step",
        "MICRO_BATCH": "micro_batch_step",
        "ROLE": "role",
        "GROUP_ID": "group_id",
        "PAIR_INDEX": "pair_index",
        "NAME": "NAME",
        "DATA_LOADING": "data_loading",
        "ROLLOUT": "rollout",
        "WEIGHT_SYNC": "weight_sync",
        "REFERENCE_INFERENCE": "reference_inference",
        "OLD_ACTOR_INFERENCE": "old_actor_inference",
        "ADVANTAGE_COMPUTATION": "advantage_computation",
        "PEFT_TRAIN": "peft_train",
        "ENVIRONMENT": "environment",
        "QUEUE": "queue",
    }.items() <= vars(constants).items()


def test_earlier_code_finds_its_constant() -> None:
    """`GLOBAL_STEP`, the former name of `STEP`, is still there (H16)."""
    assert isinstance(constants.GLOBAL_STEP, str)


def test_a_new_span_is_open() -> None:
    """A span starts without an end, a parent or tags (P22)."""
    span = Span("rollout", 1.5, 7)
    assert ("rollout", 1.5, 7) == (span.name, span.begin, span.id)
    assert span.parent_id is None
    assert {} == span.tags
    assert math.inf == span.end == span.duration
    assert not span.ended


def test_a_closed_span_has_a_duration() -> None:
    """The duration is the end less the begin, in seconds (P22)."""
    span = Span("rollout", 1.5, id=7, parent_id=3, tags={"step": 2})
    span.end = 4.0
    assert span.ended
    assert 2.5 == span.duration
    assert (3, {"step": 2}) == (span.parent_id, span.tags)


def test_a_span_has_its_own_tags() -> None:
    """Tags are copied: the caller may go on using the dict (field 22)."""
    tags = {"step": 1}
    span = Span("rollout", 1.0, 1, tags=tags)
    tags["step"] = 2
    assert {"step": 1} == span.tags


def test_a_tag_can_be_added() -> None:
    """`add_tag` adds one (P22)."""
    span = Span("rollout", 1.0, 1)
    span.add_tag("step", 3)
    assert {"step": 3} == span.tags


def test_overwriting_a_tag_is_mentioned(caplog: pytest.LogCaptureFixture) -> None:
    """The last value counts, and the log tells of the one before (P22)."""
    span = Span("rollout", 1.0, 1, tags={"step": 1})
    span.add_tag("step", 2)
    assert {"step": 2} == span.tags
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert "step" in record.getMessage()


def test_spans_can_be_copied_and_pickled() -> None:
    """A span is a value that can leave the process (P22)."""
    span = Span("rollout", 1.0, 1, tags={"step": 1})
    span.end = 2.0
    for copied in (copy.deepcopy(span), pickle.loads(pickle.dumps(span))):
        assert (span.name, span.begin, span.end, span.id, span.tags) == (
            copied.name,
            copied.begin,
            copied.end,
            copied.id,
            copied.tags,
        )


def test_a_new_timeline_is_empty() -> None:
    """No step is committed, and the current one has no spans (H15)."""
    timeline = Timeline("host-1", 2.0)
    assert ("host-1", 2.0) == (timeline.id, timeline.born)
    assert [] == list(timeline.committed_steps)
    assert {} == dict(timeline.cur_step)
    assert [{}] == [dict(step) for step in timeline.all_steps]


def test_spans_nest_by_parent() -> None:
    """A span opened inside another knows it as its parent (P22)."""
    timeline = Timeline("host-1", 0.0)
    outer = timeline.start_span("outer", 1.0, tags={"step": 1})
    inner = timeline.start_span("inner", 2.0)
    timeline.stop_span(3.0)
    timeline.stop_span(4.0)
    later = timeline.start_span("later", 5.0)
    timeline.stop_span(6.0)
    assert (None, outer.id, None) == (outer.parent_id, inner.parent_id, later.parent_id)
    spans = timeline.cur_step
    assert {outer.id, inner.id, later.id} == set(spans)
    assert [(1.0, 4.0), (2.0, 3.0), (5.0, 6.0)] == [
        (spans[span.id].begin, spans[span.id].end) for span in (outer, inner, later)
    ]
    assert {"step": 1} == spans[outer.id].tags


def test_ending_a_span_that_was_not_begun_is_an_error() -> None:
    """The message names the timeline (P22)."""
    with pytest.raises(ValueError, match="host-1"):
        Timeline("host-1", 0.0).stop_span(1.0)


def test_a_span_cannot_end_before_it_began() -> None:
    """The message names the span (P22)."""
    timeline = Timeline("host-1", 0.0)
    timeline.start_span("rollout", 2.0)
    with pytest.raises(ValueError, match="rollout"):
        timeline.stop_span(1.0)


def test_a_step_is_committed_once() -> None:
    """Committed steps keep their spans; a new current step begins (H15)."""
    timeline = Timeline("host-1", 0.0)
    ids = []
    for begin in (1.0, 3.0):
        ids.append(timeline.start_span("rollout", begin).id)
        timeline.stop_span(begin + 1.0)
        timeline.commit_step()
    assert [{ids[0]}, {ids[1]}] == [set(step) for step in timeline.committed_steps]
    assert {} == dict(timeline.cur_step)
    assert [{ids[0]}, {ids[1]}, set()] == [set(step) for step in timeline.all_steps]


def test_a_span_may_cross_a_step() -> None:
    """A span that is open at a commit is in the step it closes in (field 6)."""
    timeline = Timeline("host-1", 0.0)
    span = timeline.start_span("rollout", 1.0)
    timeline.commit_step()
    timeline.stop_span(5.0)
    timeline.commit_step()
    first, second = timeline.committed_steps
    assert {} == dict(first)
    assert (1.0, 5.0) == (second[span.id].begin, second[span.id].end)


def test_ids_are_not_used_twice() -> None:
    """Ids stay unique over steps and timelines (P22)."""
    timelines = [Timeline("host-1", 0.0), Timeline("host-2", 0.0)]
    ids = []
    for timeline in timelines * 2:
        ids.append(timeline.start_span("rollout", 1.0).id)
        timeline.stop_span(2.0)
        timeline.commit_step()
    assert 4 == len(set(ids))


@pytest.mark.row("P27")
def test_the_root_is_a_span_over_the_timeline() -> None:
    """`root` looks like a span from the timeline's birth to its last end (P27)."""
    timeline = Timeline("host-1", 1.0)
    timeline.start_span("rollout", 2.0)
    timeline.stop_span(4.0)
    timeline.commit_step()
    root = timeline.root
    assert isinstance(root.name, str)
    assert root.begin <= 2.0
    assert root.end >= 4.0
    assert root.duration == root.end - root.begin


def test_device_work_is_waited_for_off_thread() -> None:
    """`span` returns at once; `wait_pending_spans` returns with it there (P22)."""
    timeline = AsyncTimeline("cpu0", 0.0)
    timeline.span("rollout", 1.0, [jnp.ones(3)], tags={"step": 1})
    timeline.wait_pending_spans()
    (span,) = timeline.cur_step.values()
    assert ("rollout", 1.0, {"step": 1}) == (span.name, span.begin, span.tags)
    assert span.ended


def test_device_work_without_arrays_ends_at_once() -> None:
    """There is nothing to wait for (P22)."""
    timeline = AsyncTimeline("cpu0", 0.0)
    timeline.span("rollout", 1.0, [])
    timeline.wait_pending_spans()
    (span,) = timeline.cur_step.values()
    assert span.ended


def test_a_batch_puts_the_work_on_every_timeline() -> None:
    """One launch over two devices is seen on both (P22)."""
    timelines = [AsyncTimeline(id_, 0.0) for id_ in ("tpu0", "tpu1")]
    BatchAsyncTimelines(timelines).span("rollout", 1.0, [jnp.ones(3)], tags={"a": 1})
    for timeline in timelines:
        timeline.wait_pending_spans()
        assert ["rollout"] == [span.name for span in timeline.cur_step.values()]


def test_work_that_is_not_waited_for_has_its_span(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ends at its launch if too much is pending."""
    monkeypatch.setattr(waiting, "MAX_PENDING", 0)
    timeline = AsyncTimeline("cpu0", 0.0)
    timeline.span("rollout", 1.0, [jnp.ones(3)])
    (span,) = timeline.cur_step.values()
    assert (1.0, True) == (span.begin, span.ended)
    assert "too much is pending" in span.tags["error"]


def test_a_device_has_one_thread_for_timelines_and_tracers() -> None:
    """Whoever was there first."""
    with PerfTracer(["cpu78"]) as tracer, tracer.span("rollout", ["cpu78"]) as span:
        span.device_end([jnp.ones(3)])
    before = threading.active_count()
    timeline = AsyncTimeline("cpu78", 0.0)
    timeline.span("rollout", 1.0, [jnp.ones(3)])
    assert before == threading.active_count()
    timeline.wait_pending_spans()
