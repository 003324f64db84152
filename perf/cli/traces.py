"""How the commands read traces."""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perf._read.recording import Recording
    from perf.report.analysis import Progress, Report

_EVERY_S = 0.2


def reports_of(paths: Sequence[Path], arguments: argparse.Namespace) -> list[Report]:
    """Reads and analyses traces, with a line of progress if it takes long."""
    from perf._read.device_profile import read_device_profiles
    from perf._read.recording import read_recording
    from perf.report.analysis import analyse

    place = getattr(arguments, "device_profile", None)  # not of every command
    profiles = read_device_profiles(place) if place is not None else []
    found = []
    for file in _files_of(paths):
        with _long_work(file.name) as progress:
            recording = read_recording(file, functools.partial(progress, "reading"))
            found.append(
                analyse(
                    recording,
                    error_bound_ns=round(arguments.error_bound_us * 1e3),
                    queue_capacity=arguments.queue_capacity,
                    staleness_limit=arguments.staleness_limit,
                    device_profiles=profiles,
                    progress=progress,
                )
            )
    return found


def database(paths: Sequence[Path]) -> Any:
    """An engine that holds the tables of some traces.

    Raises:
        OSError, TraceFormatError: there is no such file.
        ValueError: the engine is not installed.
    """
    from perf._read.packets import check_file

    files = [check_file(file) for file in _files_of(paths)]
    try:
        import duckdb  # noqa: F401  # Asked before long work.
    except ImportError as error:
        raise ValueError(
            "this needs DuckDB, which is not installed: pip install 'rlperf[query]'"
        ) from error
    from perf._read.recording import read_recording

    recordings = []
    for file in files:
        with _long_work(file.name) as progress:
            tell = functools.partial(progress, "reading")
            recordings.append(read_recording(file, tell))
        if recordings[-1].lost:  # which no row of an answer would tell
            for note in recordings[-1].limits:
                print(f"Note on {file}: {note}.", file=sys.stderr)
    return holding(recordings)


def holding(recordings: Sequence[Recording]) -> Any:
    """An engine that holds the tables of recordings."""
    import duckdb

    from perf.report.tables import COLUMNS, tables

    engine = duckdb.connect()
    parts = tables(recordings)
    for name, columns in COLUMNS.items():
        engine.execute(f"CREATE TABLE {name} ({columns})")
        for part in parts[name]:
            engine.register("part", part)
            listed = ", ".join(part)
            engine.execute(f"INSERT INTO {name} ({listed}) SELECT {listed} FROM part")
            engine.unregister("part")
    return engine


def _files_of(paths: Sequence[Path]) -> list[Path]:
    """Files as they are, and of folders the traces in them."""
    from perf._read.recording import folder_traces

    return [
        file
        for path in paths
        for file in (folder_traces(path) if path.is_dir() else [path])
    ]


@contextlib.contextmanager
def _long_work(name: str) -> Iterator[Progress]:
    """A progress line on a terminal; nothing where nobody looks.

    Records are millions of tuples without a cycle: the garbage collector would look
    through them again and again, so it rests meanwhile.
    """
    collects = gc.isenabled()
    gc.disable()
    shown_s = time.monotonic()
    written = False

    def progress(what: str, share: float) -> None:
        nonlocal shown_s, written
        now_s = time.monotonic()
        if sys.stderr.isatty() and now_s - shown_s > _EVERY_S:
            shown_s, written = now_s, True
            print(
                f"\r{name}: {what} {share:4.0%} ", end="", file=sys.stderr, flush=True
            )

    try:
        yield progress
    finally:
        if collects:
            gc.enable()
        if written:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
