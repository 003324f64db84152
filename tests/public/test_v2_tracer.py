"""`perf.experimental.tracer`: the v2 tracers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perf.experimental import tracer as tracer_v2
from perf.experimental.timeline_utils import generate_host_timeline_id
from perf.experimental.tracer import AsyncWaitlist, NoopTracer, PerfTracer
from tests.public.drive import V2Run, every_span, play_launches

DEVICES = jax.devices()
DEVICE_ID = f"{DEVICES[0].platform}{DEVICES[0].id}"
MESH = jax.sharding.Mesh(np.array(DEVICES[:1]), ("x",))


def test_a_waitlist_keeps_what_it_is_given() -> None:
    """`async_end` may be called several times; each adds to the list (P22)."""
    waitlist = AsyncWaitlist()
    assert [] == waitlist.waitlist
    waitlist.async_end([1])
    waitlist.async_end({"a": 2})
    assert [[1], {"a": 2}] == waitlist.waitlist


def test_a_span_lands_on_its_thread() -> None:
    """A span without devices is on the host timeline of its thread (P22)."""
    run = V2Run(["tpu0"])
    with run.tracer.span("data_loading"):
        run.at(1.5)
    run.tracer.export()
    assert [("data_loading", 0.0, 1.5)] == run.rows(generate_host_timeline_id())
    assert [] == run.rows("tpu0")


@pytest.mark.row("P2")
def test_a_device_span_ends_when_its_arrays_are_ready() -> None:
    """The host goes on; the device's span lasts until its work is done (P22)."""
    run = V2Run(["tpu0"])
    run.at(1.0)
    work = run.launch("rollout", ["tpu0"])
    run.at(3.0)
    run.finish(work)
    run.tracer.export()
    assert [("rollout", 1.0, 1.0)] == run.rows(generate_host_timeline_id())
    assert [("rollout", 1.0, 3.0)] == run.rows("tpu0")


def test_a_device_span_with_nothing_to_wait_for_ends_with_the_host() -> None:
    """With no waitlist the call is all that is known of the device (P22)."""
    run = V2Run(["tpu0"])
    with run.tracer.span("rollout", devices=["tpu0"]):
        run.at(2.0)
    run.tracer.synchronize()
    run.tracer.export()
    assert [("rollout", 0.0, 2.0)] == run.rows("tpu0")


def test_all_waitlists_are_waited_for() -> None:
    """A span may hand over arrays in several calls (P22)."""
    run = V2Run(["tpu0"])
    work = run.wait.arrays("rollout")
    with run.tracer.span("rollout", devices=["tpu0"]) as span:
        span.async_end([])
        span.async_end({"tokens": (work, None)})
    run.at(2.0)
    run.finish(work)
    run.tracer.export()
    assert [("rollout", 0.0, 2.0)] == run.rows("tpu0")


@pytest.mark.row("P22")
def test_spans_nest_by_parent() -> None:
    """The parent is the span around it on its own thread (P22; field 21)."""
    run = V2Run()
    with run.tracer.span("outer", tags={"step": 1}):
        run.at(1.0)
        with run.tracer.span("inner"):
            run.at(2.0)
        run.at(3.0)
    run.tracer.export()
    outer, inner = run.named("outer"), run.named("inner")
    assert outer.parent_id is None
    assert outer.id == inner.parent_id
    assert {"step": 1} == dict(outer.tags)
    assert pytest.approx((3.0, 1.0)) == (outer.duration, inner.duration)


def test_a_span_has_one_id_everywhere() -> None:
    """On its device a span has the id and the tags it has on its host (P22)."""
    run = V2Run(["tpu0"])
    work = run.launch("rollout", ["tpu0"], tags={"step": 4, "group_id": "g"})
    run.at(1.0)
    run.finish(work)
    run.tracer.export()
    (on_device,) = run.seen["tpu0"].committed_steps[-1].items()
    on_host = run.named("rollout")
    assert (on_host.id, on_host.id) == (on_device[0], on_device[1].id)
    assert {"step": 4, "group_id": "g"}.items() <= dict(on_device[1].tags).items()


@pytest.mark.row("P22")
def test_a_tags_dict_may_be_used_again() -> None:
    """A dict that the caller changes later changes no earlier span (field 22)."""
    run = V2Run()
    tags = {"step": 0}
    for step in range(3):
        tags["step"] = step
        with run.tracer.span("rollout", tags=tags):
            run.at(step + 1.0)
    run.tracer.export()
    spans = [s for _, s in every_span(run.seen) if s.name == "rollout"]
    assert [0, 1, 2] == [s.tags["step"] for s in sorted(spans, key=lambda s: s.begin)]


def test_ids_are_unique_over_threads() -> None:
    """No two spans of the process share an id (P22)."""
    run = V2Run()

    def work() -> None:
        with run.tracer.span("rollout"):
            pass

    work()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    run.tracer.export()
    ids = [span.id for _, span in every_span(run.seen) if span.name == "rollout"]
    assert 2 == len(set(ids))


@pytest.mark.row("P22")
def test_threads_are_kept_apart() -> None:
    """Each thread has its own timeline; parents do not cross (P22)."""
    run = V2Run()

    def work() -> None:
        with run.tracer.span("rollout"):
            pass

    with run.tracer.span("peft_train"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    run.tracer.export()
    where = {span.name: id_ for id_, span in every_span(run.seen)}
    assert generate_host_timeline_id() == where["peft_train"]
    assert where["peft_train"] != where["rollout"]
    assert run.named("rollout").parent_id is None


def test_timelines_that_are_kept_have_no_later_steps() -> None:
    """An export function may look at them when other steps have been exported."""
    kept: list[Mapping[str, Any]] = []

    def export_fn(timelines: Mapping[str, Any]) -> dict[str, Any]:
        kept.append(timelines)
        return {}

    tracer = PerfTracer(export_fn=export_fn)
    for name in ("first", "second", "third"):
        with tracer.span(name):
            pass
        tracer.export()
    names = [
        [
            [span.name for span in step.values()]
            for step in timelines[generate_host_timeline_id()].committed_steps
        ]
        for timelines in kept
    ]
    steps = [["first"], ["second"], ["third"]]
    assert [steps[:1], steps[:2], steps] == names


def test_threads_one_after_the_other_are_kept_apart() -> None:
    """Ten threads have ten timelines, though idents are used again (field 24)."""
    run = V2Run()

    def work() -> None:
        with run.tracer.span("rollout"):
            pass

    for number in range(10):
        thread = threading.Thread(target=work, name=f"worker-{number}")
        thread.start()
        thread.join()
    run.tracer.export()
    assert 10 == len({id_ for id_, s in every_span(run.seen) if s.name == "rollout"})


# Devices


@pytest.mark.parametrize(
    ("make", "ids"),
    [
        pytest.param(lambda: "tpu0", ["tpu0"], id="a string"),
        pytest.param(lambda: ["tpu0"], ["tpu0"], id="list"),
        pytest.param(lambda: {"tpu0"}, ["tpu0"], id="set"),
        pytest.param(lambda: (i for i in ["tpu0"]), ["tpu0"], id="generator"),
        pytest.param(lambda: np.array(["tpu0"]), ["tpu0"], id="array"),
        pytest.param(lambda: DEVICES[0], [DEVICE_ID], id="a device"),
        pytest.param(lambda: [DEVICES[0]], [DEVICE_ID], id="list of devices"),
        pytest.param(lambda: MESH, [DEVICE_ID], id="a mesh"),
        pytest.param(lambda: MESH.devices, [DEVICE_ID], id="a mesh's devices"),
        pytest.param(lambda: None, [], id="none"),
        pytest.param(lambda: np.array(None), [], id="array of None"),
    ],
)
def test_devices_come_in_every_form(make: Callable[[], Any], ids: list[str]) -> None:
    """Tracer and span take what JAX calls devices as it is (mended; field 5)."""
    assert ids == list(PerfTracer(make()).all_devices)
    run = V2Run()
    with run.tracer.span("rollout", devices=make()):
        run.at(1.0)
    run.tracer.synchronize()
    run.tracer.export()
    assert ids == list(run.tracer.all_devices)
    for id_ in ids:
        assert [("rollout", 0.0, 1.0)] == run.rows(id_)


@pytest.mark.parametrize(
    ("first_only", "on_second"),
    [(True, []), (False, [("rollout", 0.0, 1.0)])],
)
def test_a_mesh_is_measured_on_its_first_device(
    first_only: bool, on_second: list[Any]
) -> None:
    """By default one device speaks for its mesh; an option shows all (P22)."""
    run = V2Run(["tpu0", "tpu1"], collect_on_first_device_per_mesh=first_only)
    work = run.launch("rollout", ["tpu0", "tpu1"])
    run.at(1.0)
    run.finish(work)
    run.tracer.export()
    assert [("rollout", 0.0, 1.0)] == run.rows("tpu0")
    assert on_second == run.rows("tpu1")


# Queueing


OVERLAP = (
    ("rollout", ["tpu0"], 0.0, 2.0),
    ("reference_inference", ["tpu0"], 1.0, 3.0),
)


def test_overlapping_work_is_made_sequential() -> None:
    """The later one waits, seen on the device's queue (H16; field 25)."""
    run = V2Run(["tpu0"])
    play_launches(run, *OVERLAP)
    run.tracer.export()
    assert [("rollout", 0.0, 2.0), ("reference_inference", 2.0, 3.0)] == run.rows(
        "tpu0"
    )
    assert [("queue", 1.0, 2.0)] == run.rows("tpu0_queue")


def test_a_wait_names_what_waited() -> None:
    """A `queue` span bears the waiting span's name as the tag NAME (H16)."""
    run = V2Run(["tpu0"])
    play_launches(run, *OVERLAP)
    run.tracer.export()
    (wait,) = run.seen["tpu0_queue"].committed_steps[-1].values()
    assert "reference_inference" == wait.tags["NAME"]


@pytest.mark.parametrize(
    "concurrent",
    [
        pytest.param("all", id="all"),
        pytest.param(["rollout", "reference_inference"], id="names"),
        pytest.param(("rollout", "reference_inference"), id="tuple"),
    ],
)
def test_concurrent_work_is_left_as_it_is(concurrent: Any) -> None:
    """Work that may overlap keeps its own times (H16)."""
    run = V2Run(["tpu0"], concurrent_device_spans=concurrent)
    play_launches(run, *OVERLAP)
    run.tracer.export()
    assert [("rollout", 0.0, 2.0), ("reference_inference", 1.0, 3.0)] == run.rows(
        "tpu0"
    )
    assert "tpu0_queue" not in run.seen or [] == run.rows("tpu0_queue")


def test_one_name_may_be_concurrent() -> None:
    """A single name can be given as a string (H16)."""
    run = V2Run(["tpu0"], concurrent_device_spans="rollout")
    play_launches(run, ("rollout", ["tpu0"], 0.0, 2.0), ("rollout", ["tpu0"], 1.0, 3.0))
    run.tracer.export()
    assert [("rollout", 0.0, 2.0), ("rollout", 1.0, 3.0)] == run.rows("tpu0")


# Steps


def test_each_export_ends_a_step() -> None:
    """A step holds what closed since the export before it (H15)."""
    run = V2Run()
    host = generate_host_timeline_id()
    for step in range(3):
        run.at(float(step))
        with run.tracer.span(f"step{step}"):
            run.at(step + 0.5)
        run.tracer.export()
        assert [(f"step{step}", float(step), step + 0.5)] == run.rows(host)
    assert 3 == len(run.seen[host].committed_steps)


def test_a_span_may_cross_an_export() -> None:
    """It is in the step in which it closes, whole (field 6)."""
    run = V2Run()
    with run.tracer.span("rollout"):
        run.at(1.0)
        run.tracer.export()
        assert "rollout" not in {s.name for _, s in every_span(run.seen) if s.ended}
        run.at(3.0)
    run.tracer.export()
    assert [("rollout", 0.0, 3.0)] == run.rows(generate_host_timeline_id())


def test_device_work_may_cross_an_export() -> None:
    """Work that ends later is in the later step, and lost in none (field 22)."""
    run = V2Run(["tpu0"])
    work = run.launch("rollout", ["tpu0"])
    run.at(1.0)
    run.tracer.export()
    run.at(3.0)
    run.finish(work)
    run.tracer.export()
    assert [("rollout", 0.0, 3.0)] == run.rows("tpu0")


def test_steps_can_be_committed_without_an_export() -> None:
    """`process_and_commit_timelines` ends a step, the next export another (H15)."""
    run = V2Run()
    with run.tracer.span("rollout"):
        run.at(1.0)
    run.tracer.process_and_commit_timelines()
    run.tracer.export()
    steps = run.seen[generate_host_timeline_id()].committed_steps
    assert [["rollout"], []] == [[s.name for s in step.values()] for step in steps]


# Doors


@pytest.mark.row("P26")
def test_the_documented_custom_export_function() -> None:
    """A user's function gets timelines by id and returns the metrics (P26–P28)."""

    def my_custom_export_fn_v2(
        timelines: Mapping[str, tracer_v2.Timeline],
    ) -> dict[str, Any]:
        durations = {}
        for id_, timeline in timelines.items():
            assert isinstance(timeline, tracer_v2.Timeline)
            assert id_ == timeline.id
            durations[id_] = timeline.root.duration
        return {"perf/timelines": (len(durations), None)}

    tracer = PerfTracer(DEVICES[:1], my_custom_export_fn_v2)
    with tracer.span("rollout", devices=DEVICES[:1]) as span:
        span.async_end([jnp.ones(3)])
    tracer.synchronize()
    ((count, aggregation),) = tracer.export().values()
    # The host's, the device's and its queue's, or the first two.
    assert count in (2, 3)
    assert aggregation is None


def test_without_an_export_function_there_are_no_metrics() -> None:
    """The function is optional (P11)."""
    assert {} == PerfTracer().export()


def test_print_shows_every_timeline(capsys: pytest.CaptureFixture[str]) -> None:
    """`print` writes timelines, spans and tags for people (P22)."""
    run = V2Run(["tpu0"])
    with run.tracer.span("data_loading", tags={"step": 12345}):
        run.at(1.0)
    run.tracer.print()
    printed = capsys.readouterr().out
    for text in ("tpu0", generate_host_timeline_id(), "data_loading", "12345"):
        assert text in printed


def test_the_no_op_tracer_has_the_same_shape() -> None:
    """Code written for the tracer runs on the no-op one and leaves nothing (P11)."""
    tracer = NoopTracer()
    with tracer.span("rollout", devices=["tpu0"], tags={"step": 1}) as span:
        span.async_end([jnp.ones(3)])
    tracer.synchronize()
    tracer.print()
    assert {} == tracer.export()
    assert [] == list(tracer.all_devices)


def test_no_op_and_real_tracers_have_the_same_public_names() -> None:
    """Whatever can be called on one can be called on the other."""
    names = [
        {name for name in dir(tracer) if not name.startswith("_")}
        for tracer in (NoopTracer(), PerfTracer())
    ]
    assert names[0] == names[1]


def test_both_are_a_tracer() -> None:
    """`Tracer` is a type to annotate with that covers both (P11)."""
    assert isinstance(NoopTracer(), tracer_v2.Tracer)
    assert isinstance(PerfTracer(), tracer_v2.Tracer)
