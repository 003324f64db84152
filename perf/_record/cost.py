"""What recording one span costs on this machine."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perf._record.tracer import Tracer

_SPANS = 1_000


@functools.cache
def span_cost_s() -> float:
    """Seconds that opening and closing one empty span takes, measured once (~1 ms)."""
    from perf._record.tracer import Tracer
    from perf._record.waiting import WaitingService

    tracer = Tracer(host_prefix="cost-", waiting=WaitingService(list, id))
    best_ns = min(_run_ns(tracer) for _ in range(3))
    return best_ns / _SPANS / 1e9


def _run_ns(tracer: Tracer) -> int:
    begin_ns = time.perf_counter_ns()
    for _ in range(_SPANS):
        with tracer.span("cost"):
            pass
    return time.perf_counter_ns() - begin_ns
