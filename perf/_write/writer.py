"""The trace writer: takes what a tracer recorded, leaves a Perfetto file."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol

from perf._model.lock import LockDemand
from perf._model.log import OnceLog
from perf._model.spans import Batch, ClockSnapshot
from perf._model.stats import WriteStats
from perf._model.tracks import Process
from perf._write.background import HANG_S, worker
from perf._write.compression import compressed
from perf._write.files import Disk, TraceFiles, is_there
from perf._write.layout import Layout
from perf._write.run_info import command, import_all, run_info
from perf._write.sink import MAX_WAITING_BYTES, TraceFile
from perf._write.stream import TraceStream
from perf._write.tags import TagRules
from perf._write.upload import Uploads, as_url, remote_folder

_MAX_TRIES: Final = 10  # mutate: ok any number of this size
"""To get all that a source has, at the end; each waits half a second or so."""


class Source(Protocol):
    """Where records come from."""

    def drain(self, *, anew: bool = False) -> Batch:
        """Everything recorded since the last call. Never raises; any thread.

        Args:
            anew: with all spans that are open, as if none had been handed over.
        """
        ...

    def close(self) -> None:
        """Nothing is taken any more. Never raises; any thread."""


class TraceWriter:
    """Streams one tracer's records to files, from a background thread.

    Until something is attached it is configuration: a copy, deep or pickled, has the
    configuration alone.

    Args:
        folder: where its files go; made when needed. If it is a URL they are uploaded
            there, each when it is complete; until then they are in a local folder.
        layout: which track shows what.
        files: how the trace is spread over files.
        tags: which tags are written.

    Raises:
        ValueError: the folder is a URL of a kind that is not known.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        layout: Layout,
        *,
        files: TraceFiles | None = None,
        tags: TagRules | None = None,
    ) -> None:
        url = as_url(folder)
        self.folder = Path(folder) if url is None else url
        self._remote = None if url is None else remote_folder(url)
        self.layout = layout
        self.files = files or TraceFiles()
        self._limits = self.files.limits(remote=url is not None)
        self._disk = _disk if url is None else _spool
        self.tags = tags or TagRules()
        self._source: Source | None = None
        self._was_attached = False
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        """Held while writing, and by nothing that a recording thread waits for."""
        self._hangs = False
        """Whether a write has had it for so long that nobody waits any more."""
        self._log = OnceLog()
        self._uploads: Uploads | None = None
        if self._remote is not None:
            self._uploads = Uploads(
                str(self.folder), self._remote, self.files.upload_wait_s, self._disk
            )
        self._stream: TraceStream | None = None
        self._segment = -1
        self._begin_file(WriteStats())
        self._is_whole = True
        """Whether the source gave all that it had."""
        self._dropped = 0
        self._untold = 0
        """Records that are lost, which no file tells yet."""
        self._clocks: ClockSnapshot | None = None
        """Of the last batch."""
        self._told: tuple[int, LockDemand] | None = None
        """What was last seen of the interpreter's lock, as far as a file tells it."""
        self._errors = 0
        self._last_error = ""
        self._deleted_files = 0
        self._own_ns = 0

    def _begin_file(self, past: WriteStats) -> None:
        self._stream = None
        self._seed = os.urandom(16)
        self._segment += 1
        uploads = self._uploads
        file = self._file = TraceFile(
            Path(self.folder) if uploads is None else uploads.folder,
            self.layout.file_prefix,
            self._log,
            self._disk,
            leaves=uploads is not None,
        )
        self._files = past, file
        """What is in the complete ones, and the present one. Replaced in one step: the
        statistics are asked for meanwhile."""
        self._full_at_ns: int | None = None
        self._begins = True
        """Whether the file has nothing yet: what is open belongs into it, too."""
        self._has_gap = False
        """Whether something is lost that the file cannot do without, such as the ends
        of slices: what is recorded from now on belongs into another."""
        self._is_concluded = False
        """Whether its last words are that it ends."""

    def __reduce__(self) -> Any:
        make = functools.partial(type(self), files=self.files, tags=self.tags)
        return make, (self.folder, self.layout)

    @property
    def attached(self) -> bool:
        """Whether it writes what a source gives."""
        return self._source is not None

    def attach(self, source: Source) -> None:
        """Begins to write what a source gives, once a second and when woken.

        Raises:
            RuntimeError: it was attached before, whether or not it is closed: its files
                and statistics are those of one tracer.
        """
        if self._was_attached:
            raise RuntimeError(
                "this writer was attached to a tracer before: attach a copy of it"
            )
        import_all()
        self._source, self._was_attached = source, True
        if self._uploads is not None:
            self._uploads.start()
        self._told = worker().lock_watch.last  # of the time before
        worker().add(self)

    def wake(self) -> None:
        """Has it write now; does not wait for that."""
        if self._source is not None:
            worker().wake()

    def flush(self, deadline_s: float | None = None) -> bool:
        """Writes what was recorded so far; what is to be uploaded, to the local disk.

        Args:
            deadline_s: seconds to wait at most; None waits until it is done.

        Returns:
            Whether all of it is in the file.
        """
        if _here.inside:
            return False
        if self._source is None:
            return self._file.waiting_bytes == 0
        if not worker().round(deadline_s):
            return False
        self._write_own()
        return self._is_whole and self._file.waiting_bytes == 0

    def close(self) -> None:
        """Writes what was recorded so far and lets go of source and file.

        Waits for uploads, `files.upload_wait_s` at most. A write that hangs is left
        alone after half a minute; when it ends after all, the file is ended then.
        """
        source = self._source
        if source is None or self in _here.inside:
            return
        if _here.inside:  # of another, which the worker may wait for
            self._end()
        elif not self._has_ended():
            self._say_it_hangs()
        self._source = None
        worker().remove(self)
        source.close()
        if self._uploads is not None:
            self._uploads.finish(for_ever=True)
            self._uploads.settle()

    @property
    def stats(self) -> WriteStats:
        """What it wrote so far."""
        here, uploads = _together(*self._files), self._uploads
        here = dataclasses.replace(
            here,
            errors=here.errors + self._errors,
            last_error=here.last_error or self._last_error,
            dropped=here.dropped + self._dropped,
            deleted_files=self._deleted_files,
            own_time_s=self._own_ns / 1e9,
        )
        if uploads is not None:
            waiting = uploads.waiting
            here = dataclasses.replace(
                here,
                paths=tuple(dict.fromkeys(waiting + here.paths)),
                last_error=here.last_error or uploads.last_error,
                uploaded_parts=uploads.uploaded,
                waiting_parts=len(waiting),
                failed_uploads=uploads.failures,
                own_time_s=here.own_time_s + uploads.own_ns / 1e9,
            )
        # Another writer may have made room.
        return dataclasses.replace(here, paths=self._disk.left(here.paths))

    def finish(self) -> None:
        """The process ends: writes what there is, and has it uploaded soon."""
        if self in _here.inside:
            return
        self._write_all()
        with self._held() as is_held:
            if is_held:
                with self._guarded():
                    self._conclude()
                if self._uploads is not None and not self._file.waiting_bytes:
                    self._end_file()
        if self._uploads is not None:
            self._uploads.finish(for_ever=False)

    def settle(self) -> None:
        """After `finish`: waits for uploads, `files.upload_wait_s` at most."""
        if self._uploads is not None:
            self._uploads.settle()

    def write_now(self) -> None:
        """Takes what the source has and writes it, in the calling thread."""
        if self in _here.inside:
            return
        with self._held() as is_held:
            source = self._source
            if source is None or not is_held:
                return
            with self._guarded():
                self._turn_over()
            batch = self._taken(source)
            self._is_whole = batch.is_whole
            begin_ns = time.thread_time_ns()
            with self._guarded(batch):
                self._write(batch)
            self._own_ns += time.thread_time_ns() - begin_ns

    @contextlib.contextmanager
    def _held(self) -> Iterator[bool]:
        """Its lock, and that this thread is inside: a signal may interrupt it there.

        Yields:
            Whether it could be had; not where a write hangs.
        """
        lock, is_held = self._lock, False  # a child forked meanwhile has another
        try:
            _here.inside.append(self)
            is_held = lock.acquire(timeout=0 if self._hangs else HANG_S)
            self._hangs = not is_held
            if self._hangs:
                self._say_it_hangs()
            yield is_held
        finally:
            if is_held:
                lock.release()
            _here.inside.remove(self)

    def _say_it_hangs(self) -> None:
        self._log.say(
            "hangs",
            f"a write hangs: {self.folder}. It is not waited for any more, and what "
            "was recorded last may be missing there.",
        )

    def _write_own(self) -> None:
        """Writes what no other thread can have.

        This may be a signal handler, in the midst of the tracer's work: what its thread
        holds.
        """
        if not self._is_whole:
            self.write_now()

    def _has_ended(self) -> bool:
        if worker().last_round():
            self._write_own()
        return worker().last_round(self._end)

    def _end(self) -> None:
        """Writes what there is and ends the file."""
        self._write_all()
        with self._held() as is_held:
            self._source = None
            if is_held:
                with self._guarded():
                    self._conclude()
                self._end_file()

    def _write_all(self) -> None:
        """Writes what there is, again while somebody else holds part of it."""
        for _ in range(_MAX_TRIES):
            self.write_now()
            if self._is_whole:
                return

    @contextlib.contextmanager
    def _guarded(self, batch: Batch | None = None) -> Iterator[None]:
        """A fault of ours costs this batch, and nobody an exception."""
        untold = self._untold
        try:
            yield
        except Exception as error:
            self._untold = untold
            if batch is not None:
                self._lose(batch)
            self._errors += 1
            self._last_error = f"{type(error).__name__}: {error}"
            self._log.say("encode", f"spans left out of a trace: {self._last_error}")
            self._stream = None  # what it has introduced nobody knows
            self._has_gap = not self._begins

    def _taken(self, source: Source) -> Batch:
        """What the source has; its time is the tracer's."""
        # A file that begins is told of all that is open.
        batch = source.drain(anew=self._begins)
        self._clocks = batch.clocks
        self._untold += batch.dropped
        if batch.lost_ends:
            # Slices that never end: all that follows would lie in them.
            self._has_gap = not self._begins
            with self._guarded():
                self._turn_over()
            if self._begins:
                following = source.drain(anew=True)
                self._untold += following.dropped
                batch = batch.with_next(following)
        return batch

    def _turn_over(self) -> None:
        """Begins a file if the present one is full, gone or lacks something."""
        file = self._file
        if file.is_gone():
            self._log.say("gone", f"the trace {file.path} is gone: a new one begins")
        elif self._has_gap:
            if not file.append(b""):  # once more: it is complete up to the gap
                return
            self._mark_end()
        elif file.waiting_bytes or not self._is_full():
            return
        else:
            self._mark_end()
        self._end_file()

    def _conclude(self) -> None:
        """No more may follow: says so in the file, and what was lost last."""
        self._turn_over()
        self._mark_end()
        if self._begins and self._untold and self._clocks:  # a file says that alone
            stream = self._stream = self._new_stream()
            data = stream.encode(Batch([], [], frozenset(), self._clocks))
            self._file.append(data + self._losses(stream) + stream.end())

    def _mark_end(self) -> None:
        """Says in the file that it is complete; what is recorded later may follow."""
        if self._is_concluded and not self._untold:
            return
        if self._stream is not None and not self._begins:
            with self._guarded():
                self._file.append(self._losses(self._stream) + self._stream.end())
                self._is_concluded = True

    def _end_file(self) -> None:
        """Lets the file go; another begins with the next bytes."""
        path = self._file.path
        self._file.close()
        self._untold += self._file.lost_records
        past = _together(*self._files)
        there: tuple[Path, ...] = ()
        if self._uploads is None:
            there = tuple(
                each
                for each in self._disk.left(past.paths)
                if each != path or is_there(each)
            )
        elif path is not None:
            self._uploads.put(path)
        self._begin_file(dataclasses.replace(past, paths=there))

    def _is_full(self) -> bool:
        if self._file.written_bytes >= self._limits.segment_bytes:
            return True
        return self._full_at_ns is not None and time.monotonic_ns() >= self._full_at_ns

    def _lose(self, batch: Batch) -> None:
        count = _count(batch)
        self._dropped += count
        self._untold += count

    def _losses(self, stream: TraceStream) -> bytes:
        count, self._untold = self._untold, 0
        return stream.lost(count) if count else b""

    def _write(self, batch: Batch) -> None:
        is_full = self._file.waiting_bytes > MAX_WAITING_BYTES
        if self._has_gap or (is_full and not self._file.append(b"")):
            self._lose(batch)
            self._has_gap = self._has_gap or bool(batch.records or batch.open)
            return
        self._watch(batch)
        data, slices = b"", 0
        if batch.records or batch.open:
            if self._stream is None:
                self._stream = self._new_stream()
            slices = -self._stream.slices
            data = self._stream.encode(self.tags.redacted(batch, self._log))
            slices += self._stream.slices
            data += self._losses(self._stream) + self._lock_demand(self._stream)
            if self._full_at_ns is None and self._limits.segment_ns:
                self._full_at_ns = time.monotonic_ns() + self._limits.segment_ns
            self._begins = self._is_concluded = False
        elif self._stream is not None and not (self._begins or self._is_concluded):
            data = self._lock_demand(self._stream)
        if data and self.files.compress:
            data = compressed(data)
        self._file.append(data, _count(batch), slices)
        if self._limits.max_disk_bytes:
            self._forget_files(self._disk.make_room(self._limits.max_disk_bytes))

    def _watch(self, batch: Batch) -> None:
        """The training's thread is known once it has recorded something.

        Of several trainings in one process it is the first that has not ended.
        """
        watch = worker().lock_watch
        if watch.trainer:
            return
        for info, _ in batch.records:
            if info.is_main:
                watch.trainer = info.native_thread_id

    def _lock_demand(self, stream: TraceStream) -> bytes:
        """What was seen of the interpreter's lock, unless it was told before."""
        seen = worker().lock_watch.last
        if seen is None or seen is self._told:
            return b""
        self._told = seen
        return stream.lock_demand(*seen)

    def _forget_files(self, deleted: list[Path]) -> None:
        if not deleted:
            return
        self._deleted_files += len(deleted)
        if self._uploads is not None:
            self._uploads.drop(deleted)

    def _new_stream(self) -> TraceStream:
        if self._uploads is not None:
            self._uploads.start()  # in a forked child it is not yet
        line = command()
        name = Path(line[0]).name if line else "python"
        process = Process(os.getpid(), name, tuple(line))
        about = {**run_info(), "segment": self._segment}
        return TraceStream(self.layout, process, about, self._seed, self.tags)

    def after_fork(self) -> None:
        """Called in the child: what was written is the parent's."""
        self._disk.begin_anew()
        self._file.close()  # the descriptor; the parent has its own
        if self._uploads is not None:
            self._uploads.forget()
        self._begin_anew()


def _together(past: WriteStats, file: TraceFile) -> WriteStats:
    here = file.path
    before = tuple(path for path in past.paths if path != here)  # deleted since
    return WriteStats(
        paths=before if here is None else (*before, here),
        written_records=past.written_records + file.written_records,
        written_slices=past.written_slices + file.written_slices,
        written_bytes=past.written_bytes + file.written_bytes,
        errors=past.errors + file.errors,
        last_error=file.last_error or past.last_error,
        dropped=past.dropped + file.lost_records,
    )


def _count(batch: Batch) -> int:
    return sum(len(records) for _, records in batch.records)


class _Here(threading.local):
    def __init__(self) -> None:
        self.inside: list[TraceWriter] = []
        """Writers that this thread is just using. A signal handler that waited for one
        of them, or for the worker, which waits for it, would wait for its own thread.
        """


_here = _Here()

_disk = Disk()
"""Of this process: v1 and v2 write side by side, and share what they may take."""
_spool = Disk()
"""Likewise of what waits for its upload."""
