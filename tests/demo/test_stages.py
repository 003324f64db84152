"""One call, two tracers."""

from __future__ import annotations

import pytest

from perf.demo.stages import Stage
from tests.demo.recording import RecordingTracer, stages_on

TAGS = {"step": 3, "role": "actor"}


@pytest.mark.parametrize(
    ("v1_name", "name"),
    [
        ("rollout", "rollout"),
        ("refer_inference", "reference_inference"),
        ("old_actor_inference", "old_actor_inference"),
        ("advantage_computation", "advantage_computation"),
        ("peft_train_step", "peft_train"),
        ("weight_sync", "weight_sync"),
        ("data_loading", "data_loading"),
    ],
)
def test_a_stage_bears_the_name_that_each_version_knows(
    v1_name: str, name: str
) -> None:
    """Two stages are called otherwise in v1."""
    v1, v2 = RecordingTracer(), RecordingTracer()
    with stages_on(v1, v2).span(name, tags=TAGS):
        pass
    assert [v1_name] == [span.name for span in v1.spans]
    assert [name] == [span.name for span in v2.spans]


def test_devices_and_arrays_go_to_both_tracers_and_tags_to_v2() -> None:
    """Whatever object says which devices and which arrays is handed on as it is."""
    v1, v2 = RecordingTracer(), RecordingTracer()
    devices, arrays = object(), object()
    with stages_on(v1, v2).span("rollout", devices, tags=TAGS) as stage:
        stage.ends_with(arrays)
    assert [devices, devices] == [v1.spans[0].devices, v2.spans[0].devices]
    assert [[arrays], [arrays]] == [v1.spans[0].ends_with, v2.spans[0].ends_with]
    assert [None, TAGS] == [v1.spans[0].tags, v2.spans[0].tags]


def test_each_tracer_is_told_of_its_own_predecessors() -> None:
    """A span of one tracer means nothing to the other."""
    v1, v2 = RecordingTracer(), RecordingTracer()
    stages = stages_on(v1, v2)
    with stages.span("rollout", tags=TAGS) as rollout:
        pass
    with stages.span("peft_train", tags=TAGS, after=[rollout]):
        pass
    assert Stage(v1.spans[0], v2.spans[0]) == rollout
    assert [v1.spans[0]] == v1.spans[1].after
    assert [v2.spans[0]] == v2.spans[1].after


def test_a_global_step_is_a_group_in_v1_and_a_span_in_v2() -> None:
    """v2 has no groups; what lies within is told by the tags."""
    v1, v2 = RecordingTracer(), RecordingTracer()
    stages = stages_on(v1, v2)
    with stages.global_step(3), stages.group("mini_batch_step"):
        with stages.span("rollout", tags=TAGS):
            pass
    assert ["global_step", "mini_batch_step"] == v1.spans[0].groups
    assert ["rollout"] == [span.name for span in v1.spans]
    assert ["global_step", "rollout"] == [span.name for span in v2.spans]
    assert {"step": 3} == v2.spans[0].tags


def test_counters_and_exports_reach_both() -> None:
    """The metrics of the two come back side by side."""
    v1, v2 = RecordingTracer(), RecordingTracer()
    stages = stages_on(v1, v2)
    stages.counter("kl", 0.5, "nats")
    assert [("kl", 0.5, "nats")] == v1.counters == v2.counters
    assert ({"perf/exports": (1, None)},) * 2 == stages.export()
