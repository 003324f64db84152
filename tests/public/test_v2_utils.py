"""`perf.experimental.timeline_utils`: ids, kinds of timelines, queueing."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given

from perf.experimental import timeline_utils as utils
from perf.experimental.timeline import Span, Timeline
from tests.strategies import Interval, span_lists


def test_the_id_of_a_host_thread() -> None:
    """A thread's timeline is called by the thread's ident (P22)."""
    id_ = utils.generate_host_timeline_id()
    assert f"host-{threading.get_ident()}" == id_
    assert utils.is_host_timeline(id_)
    assert not utils.is_host_timeline("tpu0")


def test_the_id_of_a_queue() -> None:
    """A device's waits are on `<device>_queue` (H16)."""
    assert "tpu0_queue" == utils.generate_queued_timeline_id("tpu0")
    assert utils.is_queued_timeline("tpu0_queue")
    assert not utils.is_queued_timeline("tpu0")
    assert not utils.is_queued_timeline("host-1")


def test_the_ids_of_devices() -> None:
    """Devices are called by platform and number; strings are taken as they are."""
    device = jax.devices()[0]
    id_ = f"{device.platform}{device.id}"
    assert id_ == utils.generate_device_timeline_id(device)
    assert "tpu0" == utils.generate_device_timeline_id("tpu0")
    assert [id_, "tpu1"] == list(utils.generate_device_timeline_ids([device, "tpu1"]))
    assert [id_] == list(utils.generate_device_timeline_ids(np.array([device])))
    assert [] == list(utils.generate_device_timeline_ids(None))
    assert [] == list(utils.generate_device_timeline_ids(np.array([None])))


@pytest.mark.parametrize("wrong", [3, object(), SimpleNamespace(id=1)])
def test_what_is_no_device_has_no_id(wrong: Any) -> None:
    """Neither a string nor a device: the error names what was given (P22)."""
    with pytest.raises(ValueError, match=type(wrong).__name__):
        utils.generate_device_timeline_id(wrong)


def timeline_of(*names: str) -> Timeline:
    """A timeline of one committed step with spans of these names."""
    timeline = Timeline("host-1", 0.0)
    for name in names:
        timeline.start_span(name, 1.0)
        timeline.stop_span(2.0)
    timeline.commit_step()
    return timeline


def test_a_timeline_of_allowed_names_only() -> None:
    """One other name is enough to say no (H17)."""
    only = utils.is_timeline_only_of_allowed_type
    assert only(timeline_of("rollout", "rollout"), ["rollout"])
    assert only(timeline_of("rollout", "environment"), ["rollout", "environment"])
    assert not only(timeline_of("rollout", "peft_train"), ["rollout"])


def test_the_current_step_counts_when_asked() -> None:
    """By default only committed steps are looked at (H17)."""
    only = utils.is_timeline_only_of_allowed_type
    timeline = timeline_of("rollout")
    timeline.start_span("peft_train", 3.0)
    assert only(timeline, ["rollout"])
    assert not only(timeline, ["rollout"], include_cur_step=True)


def spans(*intervals: Interval | tuple[str, float, float]) -> dict[int, Span]:
    """Closed spans with ids from 1."""
    made = {}
    for id_, (name, begin, end, *tags) in enumerate(intervals, start=1):
        made[id_] = Span(name, begin, id_, tags=tags[0] if tags else None)
        made[id_].end = end
    return made


def rows(found: Mapping[int, Span]) -> dict[int, tuple[str, float, float]]:
    """What can be compared of spans."""
    return {id_: (span.name, span.begin, span.end) for id_, span in found.items()}


def test_work_that_lies_apart_is_left_as_it_is() -> None:
    """Touching is not overlapping (H16)."""
    running, queued = utils.sequentialize_overlapping_spans(
        spans(("a", 0.0, 1.0), ("b", 1.0, 2.0), ("c", 3.0, 4.0))
    )
    assert {1: ("a", 0.0, 1.0), 2: ("b", 1.0, 2.0), 3: ("c", 3.0, 4.0)} == rows(running)
    assert {} == dict(queued)


def test_overlapped_work_waits() -> None:
    """It starts where the one before it ended; its wait is a `queue` span (H16)."""
    running, queued = utils.sequentialize_overlapping_spans(
        spans(("a", 0.0, 2.0), ("b", 1.0, 3.0))
    )
    assert {1: ("a", 0.0, 2.0), 2: ("b", 2.0, 3.0)} == rows(running)
    (wait,) = queued.values()
    assert ("queue", 1.0, 2.0) == (wait.name, wait.begin, wait.end)
    assert "b" == wait.tags["NAME"]


def test_waits_do_not_overlap() -> None:
    """Of two that wait, the second is shown from where the first stopped (H16)."""
    running, queued = utils.sequentialize_overlapping_spans(
        spans(("a", 0.0, 2.0), ("b", 0.5, 3.0), ("c", 1.0, 6.0))
    )
    assert {1: ("a", 0.0, 2.0), 2: ("b", 2.0, 3.0), 3: ("c", 3.0, 6.0)} == rows(running)
    assert [("queue", 0.5, 2.0), ("queue", 2.0, 3.0)] == sorted(rows(queued).values())


def test_contained_work_is_kept() -> None:
    """Work that ended while other work ran is not dropped (mended; field 25)."""
    running, _ = utils.sequentialize_overlapping_spans(
        spans(("a", 0.0, 4.0), ("b", 1.0, 2.0))
    )
    assert {1, 2} == set(running)
    assert 4.0 == sum(span.duration for span in running.values())


def test_nothing_gives_nothing() -> None:
    """No spans, no result (H16)."""
    running, queued = utils.sequentialize_overlapping_spans({})
    assert ({}, {}) == (dict(running), dict(queued))


def covered_s(intervals: Iterable[tuple[float, float]]) -> float:
    """The length of the union of intervals, in seconds."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def lengthy(found: Mapping[int, Span]) -> list[tuple[float, float]]:
    """Begin and end of the spans that have a length, by begin."""
    return sorted((s.begin, s.end) for s in found.values() if s.begin < s.end)


@given(span_lists(tagged=False))
def test_queueing_conserves_time_and_work(intervals: list[Interval]) -> None:
    """Every id runs, nothing overlaps, and the device is as busy as before (H16)."""
    given_spans = spans(*intervals)
    before = rows(given_spans)
    running, queued = utils.sequentialize_overlapping_spans(given_spans)

    assert set(given_spans) == set(running)
    assert set(queued) <= set(running)
    assert covered_s((i.begin_s, i.end_s) for i in intervals) == sum(
        span.duration for span in running.values()
    )
    for found in (lengthy(running), lengthy(queued)):
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(found))
    for id_, span in running.items():
        launched = given_spans[id_]
        assert launched.begin <= span.begin <= span.end
        assert (launched.name, launched.parent_id) == (span.name, span.parent_id)
    for id_, wait in queued.items():
        assert ("queue", given_spans[id_].name) == (wait.name, wait.tags["NAME"])
        assert given_spans[id_].begin <= wait.begin < wait.end <= running[id_].begin
    assert before == rows(given_spans)
