"""What it costs to turn recorded spans into bytes of a trace file.

    python -m benchmarks.bench_encode

Times are the best of several runs, in microseconds per slice, beside that of a slotted
class with two clock reads: absolute times are the machine's, ratios hold.
"""

from __future__ import annotations

import random
import resource
import statistics
import time
import zlib
from collections.abc import Callable, Iterable
from time import perf_counter_ns

from perf._model.spans import (
    SPAN,
    Batch,
    ClockSnapshot,
    RawRecord,
    TimelineInfo,
    TimelineKind,
)
from perf._model.tracks import Process
from perf._write.layout import V1Layout
from perf._write.stream import TraceStream

MAIN = TimelineInfo("thread-1", TimelineKind.HOST, "MainThread", True, 1)
NAMES = ("rollout", "refer_inference", "peft_train_step", "weight_sync", "data_loading")
RUNS = 15


class Slotted:
    """The least that a span in Python can be."""

    __slots__ = ("begin_ns", "name")
    recorded: list[tuple[str, int, int]]

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        self.begin_ns = perf_counter_ns()

    def __exit__(self, *exc_info: object) -> None:
        recorded.append((self.name, self.begin_ns, perf_counter_ns()))


recorded: list[tuple[str, int, int]] = []


def spans(count: int, first_id: int = 1, tags: int = 0) -> list[RawRecord]:
    """Records in the order of closing: a group with four spans in it, and again.

    Args:
        count: how many.
        first_id: the first one's id; it begins a millisecond later for each before it.
        tags: how many each has, at most 3.
    """
    draw = random.Random(first_id).randrange
    own = dict(list({"step": 7, "role": "actor", "loss": 0.5}.items())[:tags]) or None
    records: list[RawRecord] = []
    now_ns, span_id = first_id * 1_000_000, first_id
    while len(records) < count:
        outer_id, outer_ns = span_id, now_ns
        for name in NAMES[:4]:
            span_id += 1
            begin_ns = now_ns + draw(2_000, 200_000)
            now_ns = begin_ns + draw(2_000, 200_000)
            records.append((name, begin_ns, now_ns, span_id, outer_id, SPAN, own, None))
        now_ns += draw(2_000, 20_000)
        records.append((NAMES[4], outer_ns, now_ns, outer_id, 0, SPAN, own, None))
        span_id += 1
        now_ns += draw(2_000, 20_000)
    return records[:count]


def batch(records: list[RawRecord], tangled: Iterable[str] = ()) -> Batch:
    """What a tracer hands over."""
    now_ns = max(record[2] for record in records)
    clocks = ClockSnapshot(now_ns, now_ns, now_ns)
    return Batch([(MAIN, records)], [], frozenset(tangled), clocks)


def stream() -> TraceStream:
    """A new file."""
    return TraceStream(V1Layout(), Process(1, "bench"), {}, b"seed")


def best_us(work: Callable[[], object], per: int) -> float:
    """The least time of `work`, in microseconds, divided by what it did."""
    times = []
    for _ in range(RUNS):
        begin_ns = perf_counter_ns()
        work()
        times.append(perf_counter_ns() - begin_ns)
    return min(times) / per / 1000


def floor() -> None:
    """Records a thousand spans in the least possible way."""
    recorded.clear()
    for _ in range(1000):
        with Slotted("x"):
            pass


def encode_us(size: int, tags: int = 0, tangled: Iterable[str] = ()) -> float:
    """Per slice, in batches of this size that follow each other."""
    file, count = stream(), max(1, 2000 // size)
    times = []
    for run in range(RUNS):
        first = 1 + run * count * (size + 10)
        batches = [
            batch(spans(size, first + n * (size + 10), tags), tangled)
            for n in range(count)
        ]
        begin_ns = perf_counter_ns()
        for each in batches:
            file.encode(each)
        times.append((perf_counter_ns() - begin_ns) / count / size)
    return min(times) / 1000


def bytes_per_slice(tags: int = 0) -> tuple[float, float]:
    """On disk, and deflated as `compressed_packets` would be."""
    file = stream()
    file.encode(batch(spans(100, tags=tags)))
    size = 1000
    data = file.encode(batch(spans(size, 1000, tags)))
    return len(data) / size, len(zlib.compress(data)) / size


def batch_us(number: int) -> float:
    """One batch of 50 spans, when so many have been written before."""
    file, times = stream(), []
    for n in range(number + 20):
        each = batch(spans(50, 1 + n * 60))
        begin_ns = perf_counter_ns()
        file.encode(each)
        times.append(perf_counter_ns() - begin_ns)
    return statistics.median(times[number:]) / 1000


def growth_kib(slices: int) -> int:
    """How much more memory the process has needed after so many slices."""
    file = stream()
    file.encode(batch(spans(100_000)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for n in range(slices // 1000):
        file.encode(batch(spans(1000, 200_000 + n * 1010)))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


def main() -> None:
    """Prints all figures."""
    begin_s = time.perf_counter()
    print(f"slotted class, a span              {best_us(floor, 1000):8.2f} µs")
    print(f"a slice, 1000 a batch              {encode_us(1000):8.2f} µs")
    print(f"a slice, 50 a batch                {encode_us(50):8.2f} µs")
    print(f"a slice with one tag               {encode_us(1000, 1):8.2f} µs")
    print(f"a slice with three tags            {encode_us(1000, 3):8.2f} µs")
    print(f"a slice that needs a lane found    {encode_us(1000, 0, [MAIN.id]):8.2f} µs")
    for tags in (0, 1, 3):
        on_disk, deflated = bytes_per_slice(tags)
        print(
            f"bytes of a slice with {tags} tags       {on_disk:8.1f}   ({deflated:.1f})"
        )
    print(f"the 10th batch of 50               {batch_us(10):8.1f} µs")
    print(f"the 1000th                         {batch_us(1000):8.1f} µs")
    print(f"memory after 1,000,000 slices more {growth_kib(1_000_000):8d} KiB")
    print(f"(all of it in {time.perf_counter() - begin_s:.0f} s)")


if __name__ == "__main__":
    main()
