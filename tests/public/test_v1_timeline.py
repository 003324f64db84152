"""`perf.trace`: timelines made by hand, and the ids of threads and devices."""

from __future__ import annotations

import math
import re
import threading
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perf import trace
from perf._record import waiting

DEVICE = jax.devices()[0]
DEVICE_ID = f"{DEVICE.platform}{DEVICE.id}"


def rows(node: Any) -> tuple[Any, ...]:
    """A node as nested tuples."""
    inner = [rows(child) for child in getattr(node, "inner", ())]
    return (node.name, node.begin, node.end, *inner)


def test_a_timeline_starts_with_an_open_root() -> None:
    """The root begins when the timeline was born and is the open group (P2)."""
    timeline = trace.Timeline("thread-1", 2.0)
    assert ("thread-1", 2.0) == (timeline.id, timeline.born)
    assert (2.0, math.inf) == (timeline.root.begin, timeline.root.end)
    assert [timeline.root] == timeline.stack


def test_groups_nest_in_the_order_of_opening() -> None:
    """A group opened inside another becomes its child (P2)."""
    timeline = trace.Timeline("thread-1", 0.0)
    step = timeline.span_group_begin("global_step", 1.0)
    timeline.span_group_begin("mini_batch_step", 2.0)
    timeline.span_group_end(3.0)
    timeline.span_group_end(4.0)
    assert ("global_step", 1.0, 4.0, ("mini_batch_step", 2.0, 3.0)) == rows(step)
    assert [step] == timeline.root.inner
    assert [timeline.root] == timeline.stack


def test_ending_a_group_that_was_not_begun_is_an_error() -> None:
    """The root is nobody's to end (P2)."""
    timeline = trace.Timeline("thread-1", 0.0)
    with pytest.raises(ValueError, match="thread-1"):
        timeline.span_group_end(1.0)


def test_a_timeline_continues_a_given_stack() -> None:
    """A timeline born inside open groups begins with them (P2)."""
    first = trace.Timeline("thread-1", 0.0)
    first.span_group_begin("global_step", 1.0)
    second = trace.Timeline("tpu0", 1.5, first.stack)
    assert ["global_step"] == [child.name for child in second.root.inner]
    second.span_group_end(2.0)
    assert ("global_step", 1.0, 2.0) == rows(second.root.inner[0])


def test_a_thread_span_is_a_child_of_the_open_group() -> None:
    """Spans go into the innermost open group (P2)."""
    timeline = trace.ThreadTimeline("thread-1", 0.0)
    timeline.span_group_begin("global_step", 1.0)
    timeline.span_begin("data_loading", 1.5)
    timeline.span_end(2.0)
    timeline.span_group_end(3.0)
    assert [("global_step", 1.0, 3.0, ("data_loading", 1.5, 2.0))] == [
        rows(child) for child in timeline.root.inner
    ]


def test_thread_spans_nest() -> None:
    """An end closes the span that was opened last (mended: nesting; field 1)."""
    timeline = trace.ThreadTimeline("thread-1", 0.0)
    timeline.span_begin("outer", 1.0)
    timeline.span_begin("inner", 2.0)
    timeline.span_end(3.0)
    timeline.span_end(4.0)
    assert [2.0] == [s.begin for s in timeline.root.find_all_inner_spans("inner")]
    (inner,) = timeline.root.find_all_inner_spans("inner")
    (outer,) = timeline.root.find_all_inner_spans("outer")
    assert (1.0, 3.0) == (inner.duration, outer.duration)


def test_device_work_waits_for_the_work_before_it() -> None:
    """It begins at the later of its launch and the end of the one before (P2)."""
    timeline = trace.DeviceTimeline("tpu0", 0.0)
    timeline.device_span("rollout", thread_begin=1.0, end=3.0)
    timeline.device_span("rollout", thread_begin=2.0, end=4.0)
    timeline.device_span("rollout", thread_begin=6.0, end=7.0)
    assert [
        ("rollout", 1.0, 3.0),
        ("rollout", 3.0, 4.0),
        ("rollout", 6.0, 7.0),
    ] == [rows(child) for child in timeline.root.inner]


def test_device_work_waits_across_groups() -> None:
    """The work before it may lie in a group that has ended (P2)."""
    timeline = trace.DeviceTimeline("tpu0", 0.0)
    timeline.span_group_begin("global_step", 1.0)
    timeline.device_span("rollout", thread_begin=1.0, end=4.0)
    timeline.span_group_end(3.0)
    timeline.device_span("rollout", thread_begin=2.0, end=5.0)
    assert ("rollout", 4.0, 5.0) == rows(timeline.root.inner[-1])


def test_device_work_can_be_given_its_group() -> None:
    """Work is filed where it was launched, also when that group is over (P2)."""
    timeline = trace.DeviceTimeline("tpu0", 0.0)
    step = timeline.span_group_begin("global_step", 1.0)
    timeline.span_group_end(3.0)
    timeline.device_span("rollout", thread_begin=2.0, end=4.0, group=step)
    assert ("global_step", 1.0, 3.0, ("rollout", 2.0, 4.0)) == rows(step)
    assert [step] == timeline.root.inner


def test_device_work_is_waited_for_off_thread() -> None:
    """`span` returns at once; `wait_pending_spans` returns with the span there (P2)."""
    timeline = trace.DeviceTimeline("cpu0", 0.0)
    timeline.span("rollout", 1.0, [jnp.ones(3)])
    timeline.wait_pending_spans()
    (found,) = timeline.root.find_all_inner_spans("rollout")
    assert 1.0 == found.begin
    assert found.ended


def test_a_batch_puts_the_work_on_every_timeline() -> None:
    """One launch over two devices is seen on both (P2)."""
    timelines = [trace.DeviceTimeline(id_, 0.0) for id_ in ("tpu0", "tpu1")]
    trace.BatchDeviceTimeline(timelines).span("rollout", 1.0, [jnp.ones(3)])
    for timeline in timelines:
        timeline.wait_pending_spans()
        assert 1 == len(timeline.root.find_all_inner_spans("rollout"))


def test_the_id_of_a_thread() -> None:
    """A thread's timeline is called by the thread's ident (P2)."""
    assert f"thread-{threading.get_ident()}" == trace.create_thread_timeline_id()


def test_the_id_of_a_device() -> None:
    """A device is called by platform and number; a string is taken as it is (P2)."""
    assert DEVICE_ID == trace.create_device_timeline_id(DEVICE)
    assert "tpu0" == trace.create_device_timeline_id("tpu0")


@pytest.mark.parametrize("wrong", [3, 1.5, object()])
def test_what_is_no_device_has_no_id(wrong: Any) -> None:
    """Neither a string nor a device: the error names what was given (P2)."""
    with pytest.raises(ValueError, match=re.escape(type(wrong).__name__)):
        trace.create_device_timeline_id(wrong)


@pytest.mark.parametrize(
    ("devices", "ids"),
    [
        pytest.param(["tpu0", "tpu1"], ["tpu0", "tpu1"], id="list"),
        pytest.param(("tpu0", "tpu1"), ["tpu0", "tpu1"], id="tuple"),
        pytest.param(np.array([["tpu0"], ["tpu1"]]), ["tpu0", "tpu1"], id="array"),
        pytest.param(np.array([DEVICE]), [DEVICE_ID], id="array of devices"),
        pytest.param([], [], id="empty"),
        pytest.param(None, [], id="none"),
        pytest.param(np.array(None), [], id="array of None"),
        pytest.param(np.array([None, None]), [], id="array of Nones"),
    ],
)
def test_the_ids_of_devices(devices: Any, ids: list[str]) -> None:
    """Devices come as lists or arrays of any shape, or are none at all (P2)."""
    assert ids == list(trace.create_device_timeline_ids(devices))


def test_a_device_is_anything_that_jax_would_call_one() -> None:
    """A stand-in with platform and id is as good as a device (P2)."""
    device = SimpleNamespace(platform="tpu", id=3)
    assert "tpu3" == trace.create_device_timeline_id(device)


def test_work_that_is_not_waited_for_has_its_span(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ends at its launch if too much is pending."""
    monkeypatch.setattr(waiting, "MAX_PENDING", 0)
    timeline = trace.DeviceTimeline("cpu0", 0.0)
    timeline.span("rollout", 1.0, [jnp.ones(3)])
    (span,) = timeline.root.inner
    assert 1.0 == span.begin < span.end < math.inf


def test_a_device_has_one_thread_for_timelines_and_tracers() -> None:
    """Whoever was there first."""
    with (
        trace.PerfTracer(["cpu77"]) as tracer,
        tracer.span("rollout", ["cpu77"]) as span,
    ):
        span.device_end([jnp.ones(3)])
    before = threading.active_count()
    timeline = trace.DeviceTimeline("cpu77", 0.0)
    timeline.span("rollout", 1.0, [jnp.ones(3)])
    assert before == threading.active_count()
    timeline.wait_pending_spans()
