"""How a trace is spread over files: options, and what the files of a process take."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

MB: Final = 1 << 20


@dataclasses.dataclass(frozen=True)
class TraceFiles:
    """How the trace of a process is spread over files.

    Each file is a trace of its own: names, tracks, clocks and what is open are in every
    one. A file that is full is closed, and the next one begun.

    Args:
        segment_mb: size of a file in MB at which the next one begins; Perfetto's UI is
            at ease up to some hundred.
        segment_s: age of a file in seconds at which the next one begins; 0: any age.
        max_disk_mb: what all trace files of this process may take together; the oldest
            that are closed are deleted and counted. 0: no limit.
        compress: packs the events of each flush, to about a third of their size.

    Raises:
        ValueError: a negative number, a segment of no size, or a wrong type.
    """

    segment_mb: float = 256
    segment_s: float = 0
    max_disk_mb: float = 0
    compress: bool = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (isinstance(value, bool) if field.name == "compress" else numeric):
                expected = "bool" if field.name == "compress" else "number"
                raise ValueError(
                    f"trace_files.{field.name}={value!r}: expected {expected}, found "
                    f"{type(value).__name__}"
                )
            if value < 0 or (field.name == "segment_mb" and value == 0):
                raise ValueError(
                    f"trace_files.{field.name}={value!r}: expected a positive number"
                )

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any]) -> TraceFiles:
        """From a parsed YAML section.

        Raises:
            ValueError: an unknown key, or what the constructor refuses.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(str(key) for key in options if key not in known)
        if unknown:
            raise ValueError(
                f"trace_files: unknown keys {unknown}; known are {', '.join(known)}"
            )
        return cls(**options)

    @property
    def segment_bytes(self) -> int:
        """Size at which the next file begins; small enough for several on the disk."""
        limit = min(self.segment_mb, self.max_disk_mb / 4 or self.segment_mb)
        return max(1, int(limit * MB))

    @property
    def max_disk_bytes(self) -> int:
        """Of all files together; 0: no limit."""
        return int(self.max_disk_mb * MB)


class Disk:
    """What the trace files of this process take. Any thread may use it."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """After a fork: the parent's files are not the child's to delete."""
        self._lock = threading.Lock()
        self._open: dict[Path, int] = {}
        self._closed: deque[tuple[Path, int]] = deque()
        """Oldest first."""

    def grow(self, path: Path, size: int) -> None:
        """A file that is being written has this size."""
        with self._lock:
            self._open[path] = size

    def close(self, path: Path) -> None:
        """A file is complete, and may be deleted to make room."""
        with self._lock:
            size = self._open.pop(path, None)
            if size is not None:
                self._closed.append((path, size))

    def make_room(self, limit: int) -> list[Path]:
        """Deletes closed files, oldest first, until all together keep the limit.

        Returns:
            Those that were deleted.
        """
        deleted = []
        with self._lock:
            taken = sum(self._open.values()) + sum(size for _, size in self._closed)
            while taken > limit and self._closed:
                path, size = self._closed.popleft()
                taken -= size
                deleted.append(path)
        for path in deleted:
            with contextlib.suppress(OSError):
                path.unlink()
        return deleted
