from __future__ import annotations

import asyncio
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest

from perf._model.spans import OPEN
from perf._read.load import load
from perf._record import collector as collector_module
from perf._record import feed as feed_module
from tools.soak.load import (
    BURST,
    TASKS,
    THREADS,
    Load,
    Parents,
    new_load,
    unaccounted,
)


def test_nothing_is_lost_of_a_burst(tmp_path: Path) -> None:
    """All threads have theirs at once, beside tasks and an export in a loop.

    However slow the machine, all of it may wait; and parents are right. That nothing is
    lost at the promised rate, and memory stays flat, `python -m tools.soak load` shows.
    """
    parents = Parents()
    loaded = new_load(tmp_path, parents)
    exporting = threading.Thread(target=loaded.export)
    tasks = threading.Thread(target=lambda: asyncio.run(record_in_tasks(loaded, 20)))
    exporting.start()
    tasks.start()
    record(loaded, BURST // 2)
    tasks.join()
    loaded.stopping.set()
    exporting.join()
    loaded.tracer.export()
    assert [] == unaccounted(loaded)
    stats = loaded.tracer.stats()
    assert (THREADS * BURST + TASKS * 40, 0) == (stats.recorded, stats.dropped)
    assert ([], 0) == (parents.wrong, parents.missing)
    assert stats.recorded == 2 * parents.checked


def slices(folder: Path) -> int:
    """How many whole ones the files of a folder hold.

    One whose end was dropped is left unfinished.
    """
    files = [load(path).slices for path in folder.iterdir()]
    return sum(piece.end_ns != OPEN for pieces in files for piece in pieces)


def test_what_a_sink_is_too_slow_for_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound, recorded is written and dropped to the last one."""
    monkeypatch.setattr(feed_module, "MAX_WAITING", 5_000)
    loaded = new_load(tmp_path, None)
    record(loaded, 10_000)
    assert [] == unaccounted(loaded)
    stats = loaded.tracer.stats()
    assert stats.dropped > 0
    assert slices(tmp_path) == stats.written


def test_what_nobody_collects_in_time_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Likewise where the collector is held elsewhere, for threads that end, too."""
    monkeypatch.setattr(collector_module, "MAX_ON_THREAD", 5_000)
    loaded = new_load(tmp_path, None)
    record(loaded, 10_000, while_held=True)
    assert [] == unaccounted(loaded)
    stats = loaded.tracer.stats()
    assert stats.dropped >= THREADS * (20_000 - 5_002)  # the first two were collected
    assert slices(tmp_path) == stats.written


async def record_in_tasks(loaded: Load, pairs: int) -> None:
    """All tasks record so many pairs of spans."""

    async def make(who: str) -> None:
        for number in range(pairs):
            await loaded.pair_in_task(who, number)

    await asyncio.gather(*(make(f"task {n}") for n in range(TASKS)))


def record(loaded: Load, pairs: int, *, while_held: bool = False) -> None:
    """All threads record so many pairs of spans, as fast as they can."""
    known = threading.Barrier(THREADS + 1)
    go = threading.Event()

    def make(who: str) -> None:
        loaded.pair(who, 0)  # a thread's first span waits for the collector
        known.wait()
        go.wait()
        for number in range(1, pairs):
            loaded.pair(who, number)

    threads = [
        threading.Thread(target=make, args=(f"thread {n}",)) for n in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    known.wait()
    held = loaded.tracer._collector.collected() if while_held else nullcontext()
    with held:
        go.set()
        for thread in threads:
            thread.join()
