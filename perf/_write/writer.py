"""The trace writer: takes what a tracer recorded, leaves a Perfetto file."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from pathlib import Path
from typing import Any, Protocol

from perf._model.log import OnceLog
from perf._model.spans import Batch
from perf._model.tracks import Process
from perf._write.background import worker
from perf._write.layout import Layout
from perf._write.run_info import command, run_info
from perf._write.sink import MAX_WAITING_BYTES, TraceFile, check_folder
from perf._write.stream import TraceStream


class Source(Protocol):
    """Where records come from."""

    def drain(self) -> Batch:
        """Everything recorded since the last call. Never raises; any thread."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class WriteStats:
    """What became of the records that a writer took."""

    path: Path | None = None
    """The file; None before its first bytes."""
    written_slices: int = 0
    written_bytes: int = 0
    errors: int = 0
    """Writes that failed. Their bytes wait, so that a later write may still succeed."""
    last_error: str = ""
    dropped: int = 0
    """Records that no file holds: too much was waiting to be written."""
    own_time_s: float = 0.0
    """Processor time spent on writing."""


class TraceWriter:
    """Streams one tracer's records to one file, from a background thread.

    Until something is attached it is configuration: a copy, deep or pickled, has the
    configuration alone.

    Args:
        folder: where its file goes; made when needed.
        layout: which track shows what.
        process_index: of a run of several processes; None: it is the only one.

    Raises:
        ValueError: the folder is a URL.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        layout: Layout,
        *,
        process_index: int | None = None,
    ) -> None:
        self.folder = check_folder(folder)
        self.layout = layout
        self.process_index = process_index
        self._source: Source | None = None
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        """Held while writing, and by nothing that a recording thread waits for."""
        self._seed = os.urandom(16)
        self._stream: TraceStream | None = None
        self._slices_before = 0
        self._log = OnceLog()
        prefix = self.layout.file_prefix
        self._file = TraceFile(self.folder, prefix, self.process_index, self._log)
        self._dropped = 0
        self._errors = 0
        self._last_error = ""
        self._own_ns = 0

    def __reduce__(self) -> Any:
        return _copy, (self.folder, self.layout, self.process_index)

    @property
    def attached(self) -> bool:
        """Whether it writes what a source gives."""
        return self._source is not None

    def attach(self, source: Source) -> None:
        """Begins to write what a source gives, once a second and when woken.

        Raises:
            RuntimeError: it is attached already.
        """
        if self._source is not None:
            raise RuntimeError("this writer is attached to a tracer already")
        self._source = source
        worker().add(self)

    def wake(self) -> None:
        """Has it write soon. Returns at once."""
        if self._source is not None:
            worker().wake()

    def flush(self, deadline_s: float | None = None) -> bool:
        """Writes what was recorded so far.

        Args:
            deadline_s: seconds to wait at most; None waits until it is done.

        Returns:
            Whether all of it is in the file.
        """
        if self._source is None:
            return self._file.waiting_bytes == 0
        if not worker().round(deadline_s):
            return False
        return self._file.waiting_bytes == 0

    def close(self) -> None:
        """Writes what was recorded so far and lets go of source and file."""
        if self._source is None:
            return
        worker().remove(self)
        self.write_now()
        with self._lock:
            self._source = None
            self._file.close()

    @property
    def stats(self) -> WriteStats:
        """What it wrote so far."""
        stream, file = self._stream, self._file
        return WriteStats(
            path=file.path,
            written_slices=self._slices_before + (stream.slices if stream else 0),
            written_bytes=file.written_bytes,
            errors=file.errors + self._errors,
            last_error=file.last_error or self._last_error,
            dropped=self._dropped,
            own_time_s=self._own_ns / 1e9,
        )

    def write_now(self) -> None:
        """Takes what the source has and writes it, in the calling thread."""
        with self._lock:
            if self._source is None:
                return
            batch = self._source.drain()  # its time is the tracer's
            begin_ns = time.thread_time_ns()
            try:
                self._write(batch)
            except Exception as error:
                # A fault of ours. The rest of the file is right if it is begun anew:
                # the same ids, with everything introduced again.
                self._errors += 1
                self._last_error = f"{type(error).__name__}: {error}"
                self._log.say(
                    "encode", f"spans left out of a trace: {self._last_error}"
                )
                self._drop_stream()
            self._own_ns += time.thread_time_ns() - begin_ns

    def _write(self, batch: Batch) -> None:
        if self._file.is_gone():
            self._log.say(
                "gone", f"the trace {self._file.path} is gone: a new one begins"
            )
            self._file.close()
            self._drop_stream()
        if self._file.waiting_bytes > MAX_WAITING_BYTES:
            self._dropped += sum(len(records) for _, records in batch.records)
            self._file.append(b"")
            return
        data = b""
        if batch.records or batch.open:
            if self._stream is None:
                self._stream = self._new_stream()
            data = self._stream.encode(batch)
        self._file.append(data)

    def _new_stream(self) -> TraceStream:
        line = command()
        name = Path(line[0]).name if line else "python"
        process = Process(os.getpid(), name, tuple(line))
        return TraceStream(self.layout, process, run_info(), self._seed)

    def _drop_stream(self) -> None:
        if self._stream is not None:
            self._slices_before += self._stream.slices
            self._stream = None

    def after_fork(self) -> None:
        """Called in the child: what was written is the parent's."""
        self._file.close()  # the descriptor; the parent has its own
        self._begin_anew()


def _copy(folder: Path, layout: Layout, process_index: int | None) -> TraceWriter:
    return TraceWriter(folder, layout, process_index=process_index)
