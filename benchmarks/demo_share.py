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

_STEPS: Final = 1 + DemoConfig().steps
"""As many as a demo has, and one before that compiles, and does not count."""


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
    """Readings in percent of the time of all steps, one tracer on."""
    topology = Topology.ROLLOUT_APART
    provide_devices(topology)
    with tempfile.TemporaryDirectory() as folder:
        options = PerfMetricsOptions(
            enable_perf_v1=subject == "v1",
            enable_perf_v2=subject == "v2",
            trace_dir=folder,
        )
        cluster = make_cluster_config(topology, options)
        exports = load_config(options, cluster)
        if subject == "v1":
            counted = _Counted(v1.PerfTracer(export_fn=exports.custom_export_fn))
            tracers: Any = (counted, v2.NoopTracer())
        else:
            counted = _Counted(v2.PerfTracer(export_fn=exports.custom_export_fn_v2))
            tracers = (v1.NoopTracer(), counted)
        steps = train(DemoConfig(steps=_STEPS), cluster, *tracers)
        next(steps)
        counted.tracer.flush()
        counted.forget()
        begin_s = time.perf_counter()
        for _ in steps:
            pass
        took_s = time.perf_counter() - begin_s
        counted.tracer.flush()
        # What a tracer says of itself includes spans and parts of the exports: what is
        # counted twice is on the safe side.
        own_s = counted.own_s
        in_spans_s = _spans_s(counted)
        counted.tracer.close()
    return {
        "caller": Reading(100 * (in_spans_s + counted.exports_s) / took_s),
        "all": Reading(100 * (own_s + counted.exports_s) / took_s),
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
