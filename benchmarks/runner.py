"""Runs the rooms, each subject in a process of its own: none disturbs another."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.subjects import ANNOTATORS, OURS, TUNIX, is_importable
from benchmarks.timing import Reading

_TIMEOUT_S: Final = 600


class Room(NamedTuple):
    """A module of this package that measures one family of costs."""

    name: str
    ours: tuple[str, ...] = OURS
    peers: tuple[str, ...] = TUNIX
    needs: str = "perf"
    """A subject that has to be at hand for all of them."""


ROOMS: Final = (
    Room("spans", peers=TUNIX + ANNOTATORS),
    Room("device_spans"),
    Room("ends", ("ours",), ()),
    Room("exports"),
    Room("memory"),
    Room("disk"),
    # Annotations of jax are in its own profile, which takes no such bursts.
    Room("threads", peers=(*TUNIX, *(name for name in ANNOTATORS if name != "jax"))),
    Room("encoding", ("ours",), ("protobuf",)),
    Room("reading", ("ours",), ("perfetto",), needs="duckdb"),
    Room("collecting", ("ours",), ()),
    Room("demo_share", peers=()),
    Room("loggers", ("ours",), ("metrax",)),
    Room("imports", ("ours",), ()),
    Room("tunix", ("ours",), ("tunix",), needs="tunix"),
)

Results = dict[str, dict[str, Reading]]
"""By the key of the fact, then by subject."""


def run(rooms: list[Room], *, with_peers: bool) -> Iterator[tuple[str, str, Results]]:
    """Runs rooms one after the other.

    Args:
        rooms: which.
        with_peers: whether also for the subjects that ours are compared with, as far
            as they are installed.

    Yields:
        Name of the room, subject, and what was found there. Of a room that failed
        there is nothing; why it did is on stderr.
    """
    for room in rooms:
        if not is_importable(room.needs):
            print(f"{room.name}: skipped without {room.needs}", file=sys.stderr)
            continue
        peers = filter(is_importable, room.peers if with_peers else ())
        for subject in (*room.ours, *peers):
            readings = _measured(room.name, subject)
            yield (
                room.name,
                subject,
                {
                    f"{room.name}/{name}": {subject: reading}
                    for name, reading in readings.items()
                },
            )


def _measured(room: str, subject: str) -> dict[str, Reading]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "readings.json")
        command = [sys.executable, "-m", "benchmarks.room", room, subject, str(file)]
        try:
            child = subprocess.run(
                command, capture_output=True, text=True, timeout=_TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            print(f"{room}, {subject}: gave up after {_TIMEOUT_S} s", file=sys.stderr)
            return {}
        if child.returncode or not file.exists():
            print(f"{room}, {subject}: failed\n{child.stderr}", file=sys.stderr)
            return {}
        found = json.loads(file.read_text(encoding="utf-8"))
    return {name: Reading(**each) for name, each in found.items()}
