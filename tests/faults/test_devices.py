from __future__ import annotations

import gc
import itertools
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from perf._record.waiting import MAX_THREADS, WaitingService
from perf.adapters.jax_devices import WAITING
from perf.experimental.export import PerfMetricsExport
from perf.experimental.tracer import PerfTracer as V2Tracer
from perf.export import PerfMetricsExport as V1Export
from perf.perfetto import PerfettoTraceWriter
from perf.trace import PerfTracer as V1Tracer

TRACERS = [
    pytest.param(V1Tracer, id="v1"),
    pytest.param(
        lambda **o: V2Tracer(collect_on_first_device_per_mesh=False, **o), id="v2"
    ),
]


class Gate:
    """Device work that is done when the gate opens."""

    def __init__(self) -> None:
        self.opens = threading.Event()
        self.service = WaitingService(lambda tree: tree, lambda _: self.opens.wait())


def waiting_threads() -> set[threading.Thread]:
    """Those that wait for devices."""
    return {t for t in threading.enumerate() if t.name.startswith("perf-wait")}


@pytest.mark.parametrize("make", TRACERS)
def test_much_in_flight_on_many_devices(make: Callable[..., Any]) -> None:
    """64 devices with 20 spans each, in 64 sets: a bounded number of threads."""
    gate = Gate()
    before = waiting_threads()
    tracer = make(_wait=gate.service)
    for _, device in itertools.product(range(20), range(64)):
        with tracer.span("work", [f"tpu{device}"]) as span:
            span.device_end([object()])
    assert 64 * 20 == tracer.stats().pending
    assert MAX_THREADS >= len(waiting_threads() - before)
    gate.opens.set()
    tracer.synchronize()
    stats = tracer.stats()
    assert (0, 0) == (stats.pending, stats.unwaited)
    assert stats.recorded >= 2 * 64 * 20  # on the host and on its device
    gate.service.close()


def test_tracers_of_the_same_devices_share_a_thread() -> None:
    """Notebooks make one after the other: neither threads nor tables grow."""
    service = WaitingService(lambda tree: tree, lambda _: None)
    before = waiting_threads()
    for make in [V1Tracer, V2Tracer] * 25:  # v2 records on the first device alone
        tracer = make(_wait=service)
        with tracer.span("work", ["tpu0", "tpu1"]) as span:
            span.device_end([object()])
        tracer.synchronize()
        tracer.close()
    assert 1 == len(waiting_threads() - before)
    assert 1 == len(service._worker_of)
    service.close()


@pytest.mark.parametrize("make", TRACERS)
def test_arrays_live_as_long_as_without_tracing(make: Callable[..., Any]) -> None:
    """Once waited for, nothing of ours holds them: not a span, not a thread."""

    def alive_after_a_run(enabled: bool) -> int:
        tracer = make()
        tracer.enabled = enabled
        before = len(jax.live_arrays())
        kept = []
        for _ in range(10):
            with tracer.span("work", jax.devices()[:1]) as span:
                result = jnp.ones(7) + 1
                span.device_end({"result": [result]})
            kept.append(span)
        del result
        tracer.synchronize()
        tracer.export()
        gc.collect()
        alive = len(jax.live_arrays()) - before
        tracer.close()
        return alive

    assert alive_after_a_run(enabled=False) == alive_after_a_run(enabled=True) == 0


def test_a_donated_buffer_in_flight_is_freed() -> None:
    """The program may hand it on while we wait; the span bears the error."""
    tracer = V2Tracer()
    donating = jax.jit(lambda x: x + 1, donate_argnums=0)
    array = jnp.ones(100)
    gone = weakref.ref(array)
    with tracer.span("work", jax.devices()[:1]) as span:
        donating(array).block_until_ready()
        span.device_end(array)
    del array
    tracer.synchronize()
    gc.collect()
    assert gone() is None
    stats = tracer.stats()
    assert (0, 1) == (stats.pending, stats.failed)
    tracer.close()


# A tracer's own end


def v1_written(folder: Path) -> Any:
    """A tracer of v1 with a writer."""
    roles = {"rollout": ["cpu0"], "actor": ["cpu0"]}
    writer = PerfettoTraceWriter(folder)
    return V1Tracer(export_fn=V1Export.from_role_to_devices(roles, writer))


def v2_written(folder: Path) -> Any:
    """A tracer of v2 with a writer."""
    export = PerfMetricsExport(trace_dir=str(folder))
    return V2Tracer(export_fn=export.export_metrics)


@pytest.mark.parametrize("make", [v1_written, v2_written])
def test_a_closed_tracer_with_a_writer_is_freed(
    tmp_path: Path, make: Callable[[Path], Any]
) -> None:
    """With all that it kept: neither worker, hook nor waiting thread holds it."""
    tracer = make(tmp_path)
    with tracer.span("work", ["cpu0"]) as span:
        span.device_end([jnp.ones(3) + 1])
    tracer.export()
    tracer.flush()
    tracer.close()
    freed = [weakref.ref(tracer), weakref.ref(tracer._collector)]
    del tracer, span
    gc.collect()
    assert [None, None] == [ref() for ref in freed]


def test_drains_and_waits_are_the_tracers_own_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each second of a thread that works for the tracer is in its account."""
    cpu = threading.local()

    def thread_time_ns() -> int:
        cpu.ns = getattr(cpu, "ns", 0) + 1_000_000_000  # each look takes a second
        return int(cpu.ns)

    tracer = v2_written(tmp_path)
    tracer.stats()  # measures what a span costs
    with tracer.span("work", ["cpu0"]) as span:
        span.device_end([jnp.ones(3) + 1])
    monkeypatch.setattr(time, "thread_time_ns", thread_time_ns)
    before_s = tracer.stats().own_time_s
    tracer._collector.feeds[0].drain()
    drained_s = tracer.stats().own_time_s
    # `stats` itself looks twice, too.
    assert 2 == pytest.approx(drained_s - before_s, abs=0.5)
    with tracer.span("work", ["cpu0"]) as span:
        span.device_end([jnp.ones(3) + 1])
    WAITING.settle(tracer)
    assert 3 <= tracer.stats().own_time_s - drained_s + 0.5
    monkeypatch.undo()
    tracer.close()
