"""The file that a trace goes to: its name, its growth, its troubles."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import socket
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from perf._model.log import OnceLog
from perf._model.process import process_index
from perf._write.files import Disk

MAX_WAITING_BYTES: Final = 64 << 20
"""What waits in memory while the file cannot be written to; no more is encoded then."""


class Piece(NamedTuple):
    """Whole packets, and how much is in them."""

    data: bytes
    records: int = 0
    slices: int = 0


class TraceFile:
    """A file that is made when its first bytes come and then only grows.

    What is in it can be read at any time, after a failed write too: that ends where
    the last good one ended.

    Args:
        folder: made when needed.
        prefix: begins the name.
        log: of the writer.
        disk: keeps account of it.
        leaves: whether the file is to leave this folder: then no other has its name,
            nor had, or will have.
    """

    _numbers = itertools.count(1)
    """Of the files of this process that leave their folder."""

    def __init__(
        self,
        folder: Path,
        prefix: str,
        log: OnceLog,
        disk: Disk,
        *,
        leaves: bool = False,
    ) -> None:
        self._log = log
        self._disk = disk
        self.path: Path | None = None
        self.written_bytes = 0
        self.written_records = 0
        self.written_slices = 0
        self.lost_records = 0
        """Of what still waited when it was closed."""
        self.errors = 0
        self.last_error = ""
        self._folder = folder
        self._prefix = prefix
        self._leaves = leaves
        self._file: io.FileIO | None = None
        self._waiting: deque[Piece] = deque()
        self.waiting_bytes = 0

    def append(self, data: bytes, records: int = 0, slices: int = 0) -> bool:
        """Adds whole packets to the file, after those that still wait.

        Args:
            data: the packets.
            records: how many spans, instants and samples end in them.
            slices: how many slices begin in them.

        Returns:
            Whether nothing waits any more. What does is tried again with the next call.
        """
        if data:
            self._waiting.append(Piece(data, records, slices))
            self.waiting_bytes += len(data)
        try:
            while self._waiting:
                if self._file is None:
                    self._file = self._create()
                self._write(self._file, self._waiting[0].data)
                piece = self._waiting.popleft()
                self.waiting_bytes -= len(piece.data)
                self.written_records += piece.records
                self.written_slices += piece.slices
        except OSError as error:
            self.errors += 1
            self.last_error = f"{type(error).__name__}: {error}"
            self._log.say(
                f"write-{error.errno}",
                f"trace not written to {self.path or self._folder}: {self.last_error}. "
                "Recording goes on, and writing is tried again.",
            )
        return not self._waiting

    def _write(self, file: io.FileIO, data: bytes) -> None:
        at, view = self.written_bytes, memoryview(data)
        try:
            while view:
                # Over what an earlier attempt may have left behind.
                written = os.pwrite(file.fileno(), view, at)
                at, view = at + written, view[written:]
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(self.written_bytes)
            raise
        self.written_bytes += len(data)
        if self.path is not None:
            self._disk.grow(self.path, self.written_bytes)

    def _create(self) -> io.FileIO:
        self._folder.mkdir(parents=True, exist_ok=True)
        for name in self._names():
            path = self._folder / name
            try:
                file = io.FileIO(path, "xb")
            except FileExistsError:
                continue
            self.path = path
            self.written_bytes = 0
            return file
        raise AssertionError("names do not end")

    def _names(self) -> Iterator[str]:
        stem = f"{self._prefix}_{int(time.time())}"
        index = process_index()
        host = re.sub(r"[^\w.-]", "-", socket.gethostname())
        whose = f"{host}_{index or 0}_{os.getpid()}"
        if self._leaves:
            # What is there already is not seen from here. In a container that starts
            # again all else may be the same.
            chance = os.urandom(4).hex()
            yield f"{stem}_{whose}_part{next(self._numbers)}_{chance}.pb"
        if index is None:  # of a run of several, all say whose they are
            yield f"{stem}.pb"
        yield f"{stem}_{whose}.pb"
        number = 1
        while True:
            number += 1
            yield f"{stem}_{whose}_{number}.pb"

    def is_gone(self) -> bool:
        """Whether the file has no name any more: what is written is lost.

        One that was moved is still somebody's.
        """
        try:
            return self._file is not None and os.fstat(self._file.fileno()).st_nlink < 1
        except OSError:
            return False

    def close(self) -> None:
        """Lets the file go; what waits is lost."""
        if self.path is not None:
            self._disk.close(self.path)
        self.lost_records += sum(piece.records for piece in self._waiting)
        self._waiting.clear()
        self.waiting_bytes = 0
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError:
                pass

    def __del__(self) -> None:
        # A tracer may be dropped without being closed; Python would warn of the file.
        self.close()
