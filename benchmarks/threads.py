"""Many threads recording at once, also while another one exports."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter_ns as now
from typing import Any, Final

from benchmarks.subjects import ANNOTATORS, OURS, api, spans_of
from benchmarks.timing import FLOOR, Reading, Rounds, own_copy, rounds_of

_THREADS: Final = 8
_BURST: Final = 16_000
"""Spans a thread: no burst up to this long may lose any."""
_ROUNDS: Final = 8
_PEERS_ROUNDS: Final = 3
_SLICE_BEGIN: Final = 1
"""Perfetto's `TrackEvent.Type`."""


def measure(subject: str) -> dict[str, Reading]:
    """Readings in thousands of spans per second, and numbers of spans."""
    ours = subject in OURS
    rounds = _ROUNDS if ours else _PEERS_ROUNDS
    spans = spans_of(subject)
    burst = _BURST if ours else _BURST // 8
    floors_ns, times_ns = [], []
    for _ in range(rounds):
        FLOOR.before()
        floors_ns.append(_all_at_once(FLOOR.run, burst)[0])
        spans.start()
        times_ns.append(_all_at_once(_recorder(spans.on), burst)[0])
        spans.stop()
    floor = rounds_of(floors_ns)
    readings = {"rate": _rate(rounds_of(times_ns), floor)}
    if subject not in ANNOTATORS:
        readings |= _while_exporting(subject, rounds, burst)
    return readings


def _rate(rounds: Rounds, floor: Rounds | None = None) -> Reading:
    """As thousands of spans per second, from nanoseconds per span."""
    in_ns = rounds.reading(floor=floor)
    return Reading(*(field and 1e6 / field for field in _fields(in_ns)))


def _fields(reading: Reading) -> Iterator[float | None]:
    yield from (reading.value, reading.floor, reading.best, reading.median)


def _while_exporting(subject: str, rounds: int, burst: int) -> dict[str, Reading]:
    some = api(subject)
    times_ns, recorded = [], 0
    with tempfile.TemporaryDirectory() as folder:
        tracer = some.tracer(Path(folder))
        record = _recorder(tracer)
        for _ in range(rounds):
            with _exporting(tracer):
                took_ns, done = _all_at_once(record, burst)
            times_ns.append(took_ns)
            recorded += done
            some.settle(tracer)
        readings = {"rate_exporting": _rate(rounds_of(times_ns))}
        wanted = rounds * _THREADS * burst
        if some.is_ours:
            tracer.close()
            stats = tracer.stats()
            recorded = stats.recorded - stats.dropped
            readings["missing"] = Reading(wanted - _slices_in(Path(folder)))
    readings["lost"] = Reading(wanted - recorded)
    return readings


@contextlib.contextmanager
def _exporting(tracer: Any) -> Iterator[None]:
    """Has another thread export, step after step."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(0.001):
            with contextlib.suppress(Exception):  # of the others': it is theirs
                tracer.export()

    thread = threading.Thread(target=run)
    thread.start()
    yield
    stop.set()
    thread.join()


def _all_at_once(record: Callable[[int], int], count: int) -> tuple[float, int]:
    """Runs it on all threads; nanoseconds per span, and spans that got through."""
    start = threading.Barrier(_THREADS + 1)
    done: list[int] = []

    def run() -> None:
        start.wait()
        with contextlib.suppress(Exception):  # seen: its thread is killed, we count
            record(count)
            done.append(count)

    threads = [threading.Thread(target=run) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    start.wait()
    begin_ns = now()
    for thread in threads:
        thread.join()
    return (now() - begin_ns) / (_THREADS * count), sum(done)


def _recorder(opener: Any) -> Callable[[int], int]:
    loop = own_copy(_spans)
    return lambda count: loop(opener, count)


def _spans(opener: Any, count: int) -> int:
    for _ in range(count):
        with opener.span("rollout"):
            pass
    return count


def _slices_in(folder: Path) -> int:
    """Begins of slices in all traces, counted without any code of ours."""
    from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as proto

    return sum(
        packet.track_event.type == _SLICE_BEGIN
        for path in folder.iterdir()
        for packet in proto.Trace.FromString(path.read_bytes()).packet
        if packet.HasField("track_event")
    )
