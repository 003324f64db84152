"""What a writer draws: tracks in a tree, and slices, counters and flows on them."""

from __future__ import annotations

import dataclasses


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
