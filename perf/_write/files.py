"""How a trace is spread over files: options, and what the files of a process take."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

MB: Final = 1 << 20


@dataclasses.dataclass(frozen=True)
class TraceFiles:
    """How the trace of a process is spread over files.

    Each file is a trace of its own: names, tracks, clocks and what is open are in every
    one. A file that is full is closed, and the next one begun.

    What goes to a remote folder waits on the local disk until it is uploaded, file by
    file when each is complete: so those are smaller, and end after some minutes.

    Args:
        segment_mb: size of a file in MB at which the next one begins; Perfetto's UI is
            at ease up to some hundred. None: 256, to a remote folder 64.
        segment_s: age of a file in seconds at which the next one begins; 0: any age.
            None: any age, to a remote folder 300.
        max_disk_mb: what all trace files of this process may take together on the local
            disk; the oldest that are closed are deleted and counted. 0: no limit.
            None: no limit, for those that wait for a remote folder 1,024.
        compress: packs the events of each flush, to about a third of their size.
        upload_wait_s: how long closing, or the process's exit, waits at most for
            uploads; what is not uploaded by then stays on the local disk.

    Raises:
        ValueError: a number that is negative or has no end, a segment of no size, or a
            wrong type.
    """

    segment_mb: float | None = None
    segment_s: float | None = None
    max_disk_mb: float | None = None
    compress: bool = False
    upload_wait_s: float = 30

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None and field.default is None:
                continue
            numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (isinstance(value, bool) if field.name == "compress" else numeric):
                expected = "bool" if field.name == "compress" else "number"
                raise ValueError(
                    f"trace_files.{field.name}={value!r}: expected {expected}, found "
                    f"{type(value).__name__}"
                )
            if not 0 <= value < math.inf or (field.name == "segment_mb" and value == 0):
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

    def limits(self, *, remote: bool) -> Limits:
        """What holds for a folder of this kind."""
        defaults = _REMOTE if remote else _LOCAL
        segment_mb, segment_s, max_disk_mb = (
            default if chosen is None else chosen
            for chosen, default in zip(
                (self.segment_mb, self.segment_s, self.max_disk_mb),
                defaults,
                strict=True,
            )
        )
        # Several have to fit, or all that is left would be the one being written.
        segment_mb = min(segment_mb, max_disk_mb / 4 or segment_mb)
        return Limits(
            max(1, int(segment_mb * MB)), int(segment_s * 1e9), int(max_disk_mb * MB)
        )


class Limits(NamedTuple):
    """Where a file ends, and what all may take."""

    segment_bytes: int
    """Size at which the next file begins."""
    segment_ns: int
    """Age at which it does; 0: any."""
    max_disk_bytes: int
    """Of all files together; 0: no limit."""


_LOCAL: Final = (256.0, 0.0, 0.0)
_REMOTE: Final = (64.0, 300.0, 1024.0)
"""As in `TraceFiles`: MB of a file, its age in seconds, MB of all."""


_PATIENCE_S: Final = 0.5  # mutate: ok any time of this size
"""How long the account of the files is waited for: a signal handler may wait that has
interrupted the thread that keeps it."""


def is_there(path: Path) -> bool:
    """Whether a file is there, or may be: its folder cannot be reached just now."""
    try:
        return path.exists()
    except OSError:
        return True


class Disk:
    """What the trace files of this process take. Any thread may use it."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """After a fork: the parent's files are not the child's to delete."""
        self._lock = threading.Lock()
        self._news: deque[tuple[Path, int | None]] = deque()
        """Sizes since the lock was held last; None: complete."""
        self._open: dict[Path, int] = {}
        self._closed: deque[tuple[Path, int]] = deque()
        """Oldest first."""

    def grow(self, path: Path, size: int) -> None:
        """A file that is being written has this size.

        Takes no lock: the writing is not to wait for one.
        """
        self._news.append((path, size))

    def close(self, path: Path) -> None:
        """A file is complete, and may be deleted to make room.

        Takes no lock: garbage may be collected, and a file with it, while it is held.
        """
        self._news.append((path, None))

    @contextlib.contextmanager
    def _up_to_date(self, patience_s: float = -1) -> Iterator[bool]:
        """Yields whether the lock could be had."""
        if not self._lock.acquire(timeout=patience_s):
            yield False
            return
        try:
            while self._news:
                path, size = self._news.popleft()
                if size is not None:
                    self._open[path] = size
                elif path in self._open:
                    self._closed.append((path, self._open.pop(path)))
            yield True
        finally:
            self._lock.release()

    def forget(self, path: Path) -> None:
        """A file that was closed takes no room any more."""
        with self._up_to_date():
            self._closed = deque(each for each in self._closed if each[0] != path)

    def left(self, paths: Iterable[Path]) -> tuple[Path, ...]:
        """Those of some files that were not deleted, as far as can be told just now."""
        with self._up_to_date(_PATIENCE_S) as is_held:
            if not is_held:
                return tuple(paths)
            known = {*self._open, *(path for path, _ in self._closed)}
        return tuple(path for path in paths if path in known)

    def make_room(self, limit: int) -> list[Path]:
        """Deletes closed files, oldest first, until all together keep the limit.

        Returns:
            Those that were deleted; none while another thread keeps the account.
        """
        deleted: list[Path] = []
        with self._up_to_date(_PATIENCE_S) as is_held:
            if not is_held:  # the next call deletes more
                return deleted
            taken = sum(self._open.values()) + sum(size for _, size in self._closed)
            while taken > limit and self._closed:
                path, size = self._closed.popleft()
                taken -= size
                deleted.append(path)
        for path in deleted:
            with contextlib.suppress(OSError):
                path.unlink()
        return deleted
