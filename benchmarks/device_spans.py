"""What a device span costs the thread that launches the work."""

from __future__ import annotations

import threading
from time import perf_counter_ns as now
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.steps import end_with
from benchmarks.subjects import api
from benchmarks.timing import FLOOR, Case, Reading, interleaved, own_copy

_DEVICES: Final = (1, 8, 64)
_IN_FLIGHT: Final = 20


def measure(subject: str) -> dict[str, Reading]:
    """Readings in microseconds, and a number of threads."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", max(_DEVICES))
    some = api(subject)
    # As v1 does; v2 would look at the first device alone.
    options: dict[str, Any] = (
        {} if some.version == 1 else {"collect_on_first_device_per_mesh": False}
    )
    tracer = some.tracer(**options)
    ready = jax.block_until_ready(jnp.zeros(8))
    devices = {count: np.array(jax.devices()[:count]) for count in _DEVICES}
    threads_before = threading.active_count()

    def case(count: int) -> Case:
        loop = own_copy(_v1_loop if some.version == 1 else _v2_loop)
        return Case(
            lambda times: loop(tracer, devices[count], ready, times),
            after=tracer.synchronize,
            count=500 if some.is_ours else 10,  # each of theirs starts its threads
        )

    rounds = 30 if some.is_ours else 10
    cases = {str(count): case(count) for count in _DEVICES}
    found = interleaved({"floor": FLOOR, **cases}, rounds=rounds)
    floor = found.pop("floor")
    readings = {name: each.reading(1e3, floor) for name, each in found.items()}
    # Theirs are slow to start: the work has to last until they are counted.
    turns = 500 if some.is_ours else 5_000
    threads = _threads_in_flight(tracer, devices[max(_DEVICES)], turns)
    readings["threads"] = Reading(threads - threads_before)
    if some.is_ours:
        stats = tracer.stats()
        assert stats.unwaited + stats.failed + stats.dropped == 0, stats
    return readings


def _v1_loop(tracer: Any, devices: Any, array: Any, count: int) -> int:
    begin_ns = now()
    for _ in range(count):
        with tracer.span("rollout", devices) as span:
            span.device_end(array)
    return now() - begin_ns


def _v2_loop(tracer: Any, devices: Any, array: Any, count: int) -> int:
    begin_ns = now()
    for _ in range(count):
        with tracer.span("rollout", devices) as span:
            span.async_end(array)
    return now() - begin_ns


def _threads_in_flight(tracer: Any, devices: Any, turns: int) -> int:
    """Threads while work of many spans is under way on all devices."""

    @jax.jit
    def slow(x: Any) -> Any:
        return jax.lax.fori_loop(0, turns, lambda _, y: jnp.tanh(y @ y), x)

    x = jax.block_until_ready(slow(jnp.ones((256, 256))))
    done = slow(x)
    for _ in range(_IN_FLIGHT):
        with tracer.span("rollout", devices) as span:
            end_with(span, done)
    threads = threading.active_count()
    assert not done.is_ready(), "the work ended too early to be counted"
    jax.block_until_ready(done)
    tracer.synchronize()
    return threads
