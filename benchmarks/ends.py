"""How late the end of device work is seen, and what its span says of that."""

from __future__ import annotations

import contextlib
import ctypes
import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

from benchmarks.timing import Reading
from perf._model.names import END_ERROR
from perf._model.spans import DEVICE
from perf._record.launches import WORTH_TELLING_NS
from perf._record.tracer import Tracer
from perf._record.waiting import WaitingService, _End

_BUSY: Final = (0, 1, 4)
"""Python threads that compute."""
_WORKS: Final = 100
_LASTS_NS: Final = 30_000_000
_CLOCK_MONOTONIC: Final = 1
_ABSOLUTE: Final = 1
_NATIVE: Final = ctypes.CDLL(None)
"""Its calls hold no lock of the interpreter's, as those of a device's driver."""


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("ns", ctypes.c_long))


def measure(subject: str) -> dict[str, Reading]:
    """Readings in microseconds, medians, and a share of the ends in percent."""
    readings: dict[str, Reading] = {"cost": Reading(_cost_us())}
    held: list[bool] = []
    for busy in _BUSY:
        with _busy_threads(busy):
            found = _ends()
        late_us, error_us = zip(*found, strict=True)
        readings[f"late_{busy}"] = Reading(statistics.median(late_us))
        readings[f"error_{busy}"] = Reading(statistics.median(error_us))
        held += [late <= error for late, error in found]
    readings["held"] = Reading(100 * sum(held) / len(held))
    return readings


def _ends() -> list[tuple[float, float]]:
    """How late each end was seen, and the error that its span tells."""
    waiting = WaitingService(list, _wait_until)
    tracer = Tracer(host_prefix="host-", waiting=waiting)
    sink: Any = _Nowhere()
    feed = tracer._collector.subscribe(sink)
    ends_ns: dict[int, int] = {}
    for _ in range(_WORKS):
        with tracer.span("work", ["tpu0"]) as span:
            end_ns = ends_ns[span.id] = time.perf_counter_ns() + _LASTS_NS
            span.device_end([end_ns])
        waiting.settle(tracer)
    waiting.close()
    return [
        (
            (record[2] - ends_ns[record[3]]) / 1e3,
            (record[6] or {}).get(END_ERROR, WORTH_TELLING_NS) / 1e3,
        )
        for _, records in feed.drain().records
        for record in records
        if record[5] == DEVICE
    ]


def _wait_until(ends_ns: list[int]) -> None:
    end = _Timespec(*divmod(max(ends_ns), 1_000_000_000))
    _NATIVE.clock_nanosleep(_CLOCK_MONOTONIC, _ABSOLUTE, ctypes.byref(end), None)


@contextlib.contextmanager
def _busy_threads(count: int) -> Iterator[None]:
    done = threading.Event()

    def compute() -> None:
        while not done.is_set():
            sum(range(1_000))

    threads = [threading.Thread(target=compute) for _ in range(count)]
    for thread in threads:
        thread.start()
    yield
    done.set()
    for thread in threads:
        thread.join()


def _cost_us() -> float:
    """Of a wait that is long enough to be looked at, at best."""
    best_ns = float("inf")
    for _ in range(2_000):
        begin_ns = time.perf_counter_ns()
        end = _End(0)
        end.begin()
        end._begin_ns = 0
        end.seen()
        best_ns = min(best_ns, time.perf_counter_ns() - begin_ns)
    return best_ns / 1e3


class _Nowhere:
    def wake(self) -> None:
        """Nothing."""
