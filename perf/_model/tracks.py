"""What a writer draws: tracks in a tree, and slices, counters and flows on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from perf._model.roles import ACTOR, REFERENCE, ROLLOUT

SCHEMA_VERSION: Final = 1
"""Of what our files hold beyond Perfetto's format; readers take the two before, too."""
RUN_EVENT: Final = "run"
"""Name of the instant whose annotations are the run's metadata; each file has one."""
SCHEMA_KEY: Final = "schema_version"
"""Among these, the schema version."""
PROCESS_KEY: Final = "process_index"
"""And of a run of several processes, which of them this is."""
DEVICES_KEY: Final = "local_devices"
"""And the process's devices with their numbers in it."""
LOST_EVENT: Final = "lost"
"""Name of the instant beside it that tells of records which no file holds."""
LOST_KEY: Final = "records"
"""Its annotation: how many were lost since the last one."""
END_EVENT: Final = "end"
"""Name of the instant there that ends a file; one whose writer was killed has none."""
SLICES_KEY: Final = "slices"
"""Its annotation: how many slices were written since the file was begun (anew)."""
OPEN_KEY: Final = "open_slices"
"""Its annotation: how many of them have no end there."""

TOP: Final = "Post-Training Run"
"""Heads all tracks of a process."""
DEVICES: Final = "Devices"
"""Heads the devices' tracks below it: in v2 those of no cluster."""
CLUSTER: Final = " Cluster"
"""Ends, in v2, the names of what heads the devices that share roles."""
MAIN: Final = "Main"
"""The trainer's thread in v1, and begins the names of the others."""
MAIN_THREADS: Final = "Host - Main threads"
"""Heads, in v2, the threads that do more than roll out."""
ROLLOUT_THREADS: Final = "Host - Rollout threads"
"""Heads the others."""
ROLE_LABELS: Final = {ROLLOUT: "Rollout", REFERENCE: "Reference", ACTOR: "Actor"}
"""By role. On tracks of these names v1 shows some spans of devices once more."""
LANE_RANKS: Final = 1_000
"""From the rank of one timeline's track to that of the next: between are its lanes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Process:
    """The process a track stands for."""

    pid: int
    name: str
    cmdline: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Thread:
    """The thread a track stands for."""

    pid: int
    tid: int
    """The operating system's id of it."""
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Track:
    """A row of the picture, or the head of a group of rows."""

    name: str
    parent: Track | None = None
    rank: int = 0
    """Position among its siblings, smallest on top."""
    key: str = ""
    """Tells tracks of one name and parent apart: a timeline's id, a lane's number."""
    unit: str | None = None
    """Of a counter's values, "" for none; None unless this is a counter's track."""
    description: str = ""
    """Shown where the track is explained."""
    process: Process | None = None
    thread: Thread | None = None

    @property
    def path(self) -> tuple[str, ...]:
        """The names from the root of the tree down to this track."""
        return (*self.parent.path, self.name) if self.parent else (self.name,)

    @property
    def keys(self) -> tuple[str, ...]:
        """The same with what tells namesakes apart: no two tracks are equal in it."""
        own = (self.name, self.key)
        return (*self.parent.keys, *own) if self.parent else own


@dataclasses.dataclass(frozen=True, slots=True)
class Slice:
    """A span as it is drawn."""

    id: int
    """Its position among the slices of the same trace."""
    track: Track
    name: str
    begin_ns: int
    """On the tracer's clock."""
    end_ns: int
    """Likewise; `spans.OPEN` if it never ended."""
    tags: Mapping[str, Any]
    parent_id: int | None = None
    """The slice around it on its track."""


@dataclasses.dataclass(frozen=True, slots=True)
class Instant:
    """A moment."""

    track: Track
    name: str
    time_ns: int
    tags: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """The value of a counter; its track has the counter's name and unit."""

    track: Track
    time_ns: int
    value: float


@dataclasses.dataclass(frozen=True, slots=True)
class Flow:
    """An arrow from a slice to one that consumed its result."""

    source: int
    """Id of the slice that it leaves."""
    target: int
    """Id of the slice that it enters."""
