"""How much of the demo's steps is tracing."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from typing import Any, Final

import jax
import jax.numpy as jnp

from benchmarks.timing import Case, Reading, interleaved
from perf import trace as v1
from perf.demo.config import DemoConfig
from perf.demo.topology import Topology, make_cluster_config, provide_devices
from perf.demo.train import train
from perf.experimental import tracer as v2
from perf.metrics import MetricsT, PerfMetricsOptions, load_config

_STEPS: Final = 6
"""Of which the first compiles, and does not count."""


class _Counted:
    """A tracer; counts what a training asks of it and times its exports."""

    def __init__(self, tracer: Any) -> None:
        self.tracer = tracer
        self.forget()

    def forget(self) -> None:
        """Begins to count."""
        self.host_spans = 0
        self.device_spans = 0
        self.exports_s = 0.0
        self._own_s = self.tracer.stats().own_time_s

    @property
    def own_s(self) -> float:
        """What the tracer says of its own time, in seconds."""
        return float(self.tracer.stats().own_time_s - self._own_s)

    def span(self, name: str, devices: Any = None, **options: Any) -> Any:
        """The tracer's."""
        if devices is None:
            self.host_spans += 1
        else:
            self.device_spans += 1
        return self.tracer.span(name, devices, **options)

    def span_group(self, name: str) -> Any:
        """The tracer's."""
        self.host_spans += 1
        return self.tracer.span_group(name)

    def counter(self, *sample: Any) -> None:
        """The tracer's."""
        self.host_spans += 1
        self.tracer.counter(*sample)

    def export(self) -> MetricsT:
        """The tracer's."""
        begin_s = time.perf_counter()
        metrics: MetricsT = self.tracer.export()
        self.exports_s += time.perf_counter() - begin_s
        return metrics


def measure(subject: str) -> dict[str, Reading]:
    """Readings in percent of the time of all steps, both tracers on."""
    topology = Topology.ROLLOUT_APART
    provide_devices(topology)
    with tempfile.TemporaryDirectory() as folder:
        options = PerfMetricsOptions(enable_perf_v2=True, trace_dir=folder)
        cluster = make_cluster_config(topology, options)
        exports = load_config(options, cluster)
        tracers = (
            _Counted(v1.PerfTracer(export_fn=exports.custom_export_fn)),
            _Counted(v2.PerfTracer(export_fn=exports.custom_export_fn_v2)),
        )
        # They are what `train` asks for, in all that it uses.
        steps: Any = train(DemoConfig(steps=_STEPS), cluster, *tracers)  # type: ignore[arg-type]
        next(steps)
        for counted in tracers:
            counted.tracer.flush()
            counted.forget()
        begin_s = time.perf_counter()
        for _ in steps:
            pass
        took_s = time.perf_counter() - begin_s
        for counted in tracers:
            counted.tracer.flush()
        own_s = sum(counted.own_s for counted in tracers)
        in_exports_s = sum(counted.exports_s for counted in tracers)
        in_spans_s = sum(_spans_s(counted) for counted in tracers)
        for counted in tracers:
            counted.tracer.close()
    # What a tracer says of itself includes spans and parts of the exports: what is
    # counted twice is on the safe side.
    return {
        "caller": Reading(100 * (in_spans_s + in_exports_s) / took_s),
        "all": Reading(100 * (in_exports_s + own_s) / took_s),
    }


def _spans_s(counted: _Counted) -> float:
    """Seconds for all spans of the training, by what one costs in this process."""
    tracer = counted.tracer
    device = jax.devices()[:1]
    array = jax.block_until_ready(jnp.zeros(8))

    def host() -> None:
        with tracer.span("host"):
            pass

    def on_device() -> None:
        with tracer.span("device", device) as span:
            span.device_end(array)

    count = 500
    cases = {
        "host": Case(_repeated(host), count=count),
        "device": Case(_repeated(on_device), after=tracer.synchronize, count=count),
    }
    found = interleaved(cases, rounds=40)
    in_ns = (
        counted.host_spans * found["host"].typical_ns
        + counted.device_spans * found["device"].typical_ns
    )
    return in_ns / 1e9


def _repeated(function: Callable[[], object]) -> Callable[[int], int]:
    def run(count: int) -> int:
        begin_ns = time.perf_counter_ns()
        for _ in range(count):
            function()
        return time.perf_counter_ns() - begin_ns

    return run
