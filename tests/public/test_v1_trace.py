"""`perf.trace`: the v1 tracers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perf import trace
from perf.metrics import MetricsT
from tests.public.drive import V1Run

DEVICE = jax.devices()[0]
DEVICE_ID = f"{DEVICE.platform}{DEVICE.id}"
MESH = jax.sharding.Mesh(np.array([DEVICE]), ("x",))

FORMS = [
    pytest.param(lambda: "tpu0", ["tpu0"], id="a string"),
    pytest.param(lambda: ["tpu0"], ["tpu0"], id="list"),
    pytest.param(lambda: {"tpu0"}, ["tpu0"], id="set"),
    pytest.param(lambda: (id_ for id_ in ["tpu0"]), ["tpu0"], id="generator"),
    pytest.param(lambda: np.array(["tpu0"]), ["tpu0"], id="array"),
    pytest.param(lambda: np.array("tpu0"), ["tpu0"], id="array of no dimension"),
    pytest.param(lambda: DEVICE, [DEVICE_ID], id="a device"),
    pytest.param(lambda: [DEVICE], [DEVICE_ID], id="list of devices"),
    pytest.param(lambda: np.array([DEVICE]), [DEVICE_ID], id="array of devices"),
    pytest.param(lambda: MESH, [DEVICE_ID], id="a mesh"),
    pytest.param(lambda: MESH.devices, [DEVICE_ID], id="a mesh's devices"),
    pytest.param(lambda: None, [], id="none"),
    pytest.param(lambda: np.array(None), [], id="array of None"),
]


@pytest.mark.parametrize(("make", "ids"), FORMS)
def test_a_tracer_takes_devices_in_every_form(
    make: Callable[[], Any], ids: list[str]
) -> None:
    """What JAX calls devices can be handed over as it is (mended; field 5)."""
    assert ids == list(trace.PerfTracer(make()).all_devices)


@pytest.mark.parametrize(("make", "ids"), FORMS)
def test_a_span_takes_devices_in_every_form(
    make: Callable[[], Any], ids: list[str]
) -> None:
    """A span's devices too; those not known before are added (mended; field 4, 5)."""
    run = V1Run()
    with run.tracer.span("rollout", devices=make()):
        run.at(1.0)
    run.tracer.synchronize()
    run.tracer.export()
    assert ids == list(run.tracer.all_devices)
    for id_ in ids:
        assert [("rollout", 0.0, 1.0)] == run.rows(id_)


def test_a_span_lands_on_its_thread() -> None:
    """A span without devices is on the thread's timeline only (P2)."""
    run = V1Run(["tpu0"])
    with run.tracer.span("data_loading"):
        run.at(1.5)
    run.tracer.export()
    assert [("data_loading", 0.0, 1.5)] == run.rows()
    assert [] == run.rows("tpu0")


@pytest.mark.row("P2")
def test_a_device_span_ends_when_its_arrays_are_ready() -> None:
    """The host goes on; the device's span lasts until its work is done (P2)."""
    run = V1Run(["tpu0"])
    run.at(1.0)
    work = run.launch("rollout", ["tpu0"])
    run.at(3.0)
    run.finish(work)
    run.tracer.export()
    assert [("rollout", 1.0, 1.0)] == run.rows()
    assert [("rollout", 1.0, 3.0)] == run.rows("tpu0")


def test_a_device_span_with_nothing_to_wait_for_ends_with_the_host() -> None:
    """With no waitlist the call is all that is known of the device (P2)."""
    run = V1Run(["tpu0"])
    with run.tracer.span("rollout", devices=["tpu0"]):
        run.at(2.0)
    run.tracer.synchronize()
    run.tracer.export()
    assert [("rollout", 0.0, 2.0)] == run.rows("tpu0")


def test_queued_work_begins_after_the_work_before_it() -> None:
    """Two launches on one device run one after the other (P2)."""
    run = V1Run(["tpu0"])
    first = run.launch("rollout", ["tpu0"])
    run.at(1.0)
    second = run.launch("refer_inference", ["tpu0"])
    run.at(3.0)
    run.finish(first)
    run.at(4.0)
    run.finish(second)
    run.tracer.export()
    assert [("rollout", 0.0, 3.0), ("refer_inference", 3.0, 4.0)] == run.rows("tpu0")


def test_a_launch_over_devices_is_on_each_of_them() -> None:
    """v1 shows a span on all devices given (P2)."""
    run = V1Run(["tpu0", "tpu1", "tpu2"])
    work = run.launch("rollout", ["tpu0", "tpu1"])
    run.at(2.0)
    run.finish(work)
    run.tracer.export()
    assert [("rollout", 0.0, 2.0)] == run.rows("tpu0")
    assert [("rollout", 0.0, 2.0)] == run.rows("tpu1")
    assert [] == run.rows("tpu2")


def test_the_waitlist_may_be_any_tree() -> None:
    """What `device_end` gets is a tree of arrays, waited for wherever they are (P2)."""
    run = V1Run(["tpu0"])
    work = run.wait.arrays("rollout")
    with run.tracer.span("rollout", devices=["tpu0"]) as span:
        span.device_end({"tokens": [None], "logits": ({"a": work}, None)})
    run.at(2.0)
    run.finish(work)
    run.tracer.export()
    assert [("rollout", 0.0, 2.0)] == run.rows("tpu0")


def test_real_arrays() -> None:
    """With JAX, a device span is closed once `synchronize` returns (P2)."""
    run = V1Run(jax.devices(), real=True)
    tracer = run.tracer
    with tracer.span_group("global_step"):
        with tracer.span("rollout", devices=jax.devices()) as span:
            span.device_end([jnp.ones((64, 64)) @ jnp.ones((64, 64))])
        tracer.synchronize()
    tracer.export()
    for id_ in tracer.all_devices:
        (step,) = run.seen().timeline(id_).last_group("global_step").get()
        (span_,) = step.find_all_inner_spans("rollout")
        assert span_.ended
        assert step.begin <= span_.begin <= span_.end


def test_groups_are_seen_on_every_timeline() -> None:
    """A group of the main thread holds the spans of threads and devices (P2)."""
    run = V1Run(["tpu0"])
    with run.tracer.span_group("global_step"):
        work = run.launch("rollout", ["tpu0"])
        run.at(2.0)
        run.finish(work)
        run.at(3.0)
    run.tracer.export()
    assert [("global_step", 0.0, 3.0, ("rollout", 0.0, 0.0))] == run.rows()
    assert [("global_step", 0.0, 3.0, ("rollout", 0.0, 2.0))] == run.rows("tpu0")


def test_work_belongs_to_the_group_it_was_launched_in() -> None:
    """Work that outlives its group stays in it (P2)."""
    run = V1Run(["tpu0"])
    with run.tracer.span_group("global_step"):
        work = run.launch("rollout", ["tpu0"])
        run.at(1.0)
    run.at(2.0)
    run.finish(work)
    run.tracer.export()
    assert [("global_step", 0.0, 1.0, ("rollout", 0.0, 2.0))] == run.rows("tpu0")


def test_a_device_first_seen_inside_a_group_is_in_it() -> None:
    """A new device's timeline starts with the groups that are open (field 4)."""
    run = V1Run()
    with run.tracer.span_group("global_step"):
        run.at(1.0)
        with run.tracer.span("rollout", devices=["tpu7"]):
            run.at(2.0)
        run.tracer.synchronize()
        run.at(3.0)
    run.tracer.export()
    assert [("global_step", 0.0, 3.0, ("rollout", 1.0, 2.0))] == run.rows("tpu7")


def test_spans_nest() -> None:
    """A span may be opened inside another (mended: nesting; field 1)."""
    run = V1Run()
    with run.tracer.span_group("global_step"), run.tracer.span("rollout"):
        run.at(1.0)
        with run.tracer.span("tokenize"):
            run.at(2.0)
        run.at(4.0)
    run.tracer.export()
    (step,) = run.seen().main().last_group("global_step").get()
    (outer,) = step.find_all_inner_spans("rollout")
    (inner,) = step.find_all_inner_spans("tokenize")
    assert pytest.approx(4.0) == outer.duration
    assert pytest.approx(1.0) == inner.duration


def in_thread(function: Callable[[], None]) -> None:
    """Runs a function on a thread of its own, to its end."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


@pytest.mark.row("P2")
def test_a_worker_has_a_timeline_of_its_own() -> None:
    """Spans of another thread are not the main thread's (P2)."""
    run = V1Run()
    ids: list[str] = []

    def work() -> None:
        ids.append(trace.create_thread_timeline_id())
        with run.tracer.span("rollout"):
            run.at(1.0)

    with run.tracer.span_group("global_step"):
        in_thread(work)
    run.tracer.export()
    assert [("global_step", 0.0, 1.0)] == run.rows()
    assert [("global_step", 0.0, 1.0, ("rollout", 0.0, 1.0))] == run.rows(ids[0])


def test_a_workers_group_is_its_own() -> None:
    """A group of another thread takes in no span of the main thread (field 2)."""
    run = V1Run(["tpu0"])
    opened, closing = threading.Event(), threading.Event()
    ids: list[str] = []

    def work() -> None:
        ids.append(trace.create_thread_timeline_id())
        with run.tracer.span_group("episode"):
            opened.set()
            closing.wait()

    thread = threading.Thread(target=work)
    thread.start()
    opened.wait()
    with run.tracer.span("data_loading"):
        run.at(1.0)
    closing.set()
    thread.join()
    run.tracer.export()
    assert [("data_loading", 0.0, 1.0)] == run.rows()
    assert [("episode", 0.0, 1.0)] == run.rows(ids[0])
    assert [] == run.rows("tpu0")


def test_groups_of_two_threads_keep_their_own_ends() -> None:
    """Groups that are open at once on two threads do not swap ends (field 3)."""
    run = V1Run()
    turn = [threading.Event() for _ in range(4)]
    ids: dict[str, str] = {}

    def work(name: str, opens: int, closes: int) -> None:
        turn[opens].wait()
        ids[name] = trace.create_thread_timeline_id()
        run.at(float(opens))
        with run.tracer.span_group(name):
            turn[opens + 1].set()
            turn[closes].wait()
            run.at(float(closes))
        if closes + 1 < len(turn):
            turn[closes + 1].set()

    first = threading.Thread(target=work, args=("first", 0, 2))
    second = threading.Thread(target=work, args=("second", 1, 3))
    first.start()
    second.start()
    turn[0].set()
    first.join()
    second.join()
    run.tracer.export()
    assert [("first", 0.0, 2.0)] == run.rows(ids["first"])
    assert [("second", 1.0, 3.0)] == run.rows(ids["second"])


def test_export_returns_what_the_export_function_returns() -> None:
    """The metrics go to the caller as they are (P24)."""
    metrics: MetricsT = {"perf/custom": (1.0, None)}
    assert metrics == trace.PerfTracer(export_fn=lambda query: metrics).export()


def test_without_an_export_function_there_are_no_metrics() -> None:
    """The function is optional (P11)."""
    assert {} == trace.PerfTracer().export()


def test_print_shows_every_timeline(capsys: pytest.CaptureFixture[str]) -> None:
    """`print` writes timelines, spans and times for people (P2)."""
    run = V1Run(["tpu0"])
    with run.tracer.span("data_loading"):
        run.at(1.0)
    run.tracer.print()
    printed = capsys.readouterr().out
    assert "tpu0" in printed
    assert trace.create_thread_timeline_id() in printed
    assert "data_loading" in printed


def test_the_no_op_tracer_has_the_same_shape() -> None:
    """Code written for the tracer runs on the no-op one and leaves nothing (P11)."""
    tracer = trace.NoopTracer()
    with (
        tracer.span_group("global_step"),
        tracer.span("rollout", devices=["tpu0"]) as span,
    ):
        span.device_end([jnp.ones(3)])
    tracer.synchronize()
    tracer.print()
    assert {} == tracer.export()
    assert [] == list(tracer.all_devices)


def test_no_op_and_real_tracers_have_the_same_public_names() -> None:
    """Whatever can be called on one can be called on the other."""
    names = [
        {name for name in dir(tracer) if not name.startswith("_")}
        for tracer in (trace.NoopTracer(), trace.PerfTracer())
    ]
    assert names[0] == names[1]


def test_both_are_a_tracer() -> None:
    """`Tracer` is a type to annotate with that covers both (P11)."""
    assert isinstance(trace.NoopTracer(), trace.Tracer)
    assert isinstance(trace.PerfTracer(), trace.Tracer)


def test_groups_survive_an_exception() -> None:
    """An exception closes its groups and spans on the way (P2)."""
    run = V1Run(["tpu0"])
    with (
        contextlib.suppress(KeyError),
        run.tracer.span_group("global_step"),
        run.tracer.span("rollout"),
    ):
        run.at(1.0)
        raise KeyError("prompt")
    with run.tracer.span_group("global_step"):
        run.at(2.0)
    run.tracer.export()
    assert [
        ("global_step", 0.0, 1.0, ("rollout", 0.0, 1.0)),
        ("global_step", 1.0, 2.0),
    ] == run.rows()
