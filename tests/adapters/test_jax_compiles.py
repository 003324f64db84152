"""Compiling is recorded where it happens."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from perf.adapters.jax_compiles import record_compiles
from perf.experimental.tracer import PerfTracer
from perf.metrics import MetricsT


def test_compiling_is_a_span_inside_the_stage():
    """The first call of a function is recorded, the second one is not."""
    seen: list[list[str]] = []

    def look(timelines: Any) -> MetricsT:
        found = [
            span.name
            for name, timeline in timelines.items()
            if name.startswith("host-") and timeline.committed_steps
            for span in timeline.committed_steps[-1].values()
        ]
        seen.append(found)
        return {}

    tracer = PerfTracer(export_fn=look)
    record_compiles(tracer)
    record_compiles(tracer)  # once is enough

    @jax.jit
    def fresh(x: jax.Array) -> jax.Array:
        for _ in range(20):
            x = jnp.sin(x) @ x
        return x

    for _ in range(2):
        with tracer.span("stage"):
            fresh(jnp.ones((7, 7))).block_until_ready()
        tracer.export()
    assert {"stage", "compile"} == set(seen[0])
    assert ["stage"] == seen[1]
