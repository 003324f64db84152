"""Tells a tracer when JAX compiles."""

from __future__ import annotations

import time
import weakref
from typing import Any, Final

from perf._model import names
from perf._record.tracer import Tracer

_EVENTS: Final = "/jax/core/compile/"
"""Begins the names of what JAX says about compiling: tracing, lowering, the backend."""
_LEAST_S: Final = 100e-6
"""Shorter ones are answers from a cache."""

_tracers: weakref.WeakSet[Tracer] = weakref.WeakSet()
_listens = False


def record_compiles(tracer: Tracer) -> None:
    """Has a tracer record a span `compile` for whatever JAX compiles from now on.

    The span is inside that of the stage in which the compiling thread is. JAX keeps no
    way to stop listening: what is said once a tracer is gone is dropped.
    """
    global _listens
    import jax.monitoring

    _tracers.add(tracer)
    if not _listens:
        _listens = True
        jax.monitoring.register_event_duration_secs_listener(_heard)


def _heard(event: str, duration_secs: float, **_: Any) -> None:
    if not event.startswith(_EVENTS) or duration_secs < _LEAST_S:
        return
    end_s = time.perf_counter()
    for tracer in list(_tracers):
        if tracer.enabled:
            tracer.record(names.COMPILE, end_s - duration_secs, end_s)
