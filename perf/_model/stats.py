"""What tracers and writers tell about themselves."""

from __future__ import annotations

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True, slots=True)
class TracerStats:
    """Counts since the tracer was made; see `Tracer.stats`."""

    recorded: int = 0
    """Spans, instants and counter samples so far."""
    written: int = 0
    """Of these, in the trace files of the attached writers."""
    dropped: int = 0
    """Of these, lost: to a full buffer, or to a disk that takes no more. With one
    writer, after a flush, `recorded` is `written` and `dropped` together."""
    retained: int = 0
    """Kept in memory for queries now; older ones are forgotten, not dropped."""
    forgotten: int = 0
    """Left out of a step's metrics, because it had too many for the memory."""
    open: int = 0
    """Spans open now."""
    pending: int = 0
    """Device spans whose work has not ended yet."""
    unwaited: int = 0
    """Device spans not waited for because too many were pending."""
    failed: int = 0
    """Device spans whose work failed; each has the tag `error`."""
    names: int = 0
    """Distinct names seen; beyond the limit a span is called "(other)"."""
    steps: int = 0
    """Steps closed by `export()`."""
    written_slices: int = 0
    """Slices in the trace files of the attached writers."""
    written_bytes: int = 0
    """Bytes in these files."""
    write_errors: int = 0
    """Writes that failed; the last reason is in `last_error`."""
    last_error: str = ""
    trace_paths: tuple[str, ...] = ()
    """The trace files that there are on this machine."""
    deleted_files: int = 0
    """Trace files deleted to keep `max_disk_mb`."""
    uploaded_parts: int = 0
    """Trace files that are in the remote folder; they are no longer on the disk."""
    waiting_parts: int = 0
    """Those that are complete and wait on the disk for their upload."""
    failed_uploads: int = 0
    """Attempts that failed; each is made again."""
    own_time_s: float = 0.0
    """The tracer's own time: measured for steps, exports, device work and writing;
    for the spans themselves their number times what one costs on this machine."""


@dataclasses.dataclass(frozen=True, slots=True)
class WriteStats:
    """What became of the records that a writer took."""

    paths: tuple[Path, ...] = ()
    """The files that there are, oldest first; none before the first bytes."""
    written_records: int = 0
    written_slices: int = 0
    """Slices in the files: a span that is open when the next file begins is in both."""
    written_bytes: int = 0
    errors: int = 0
    """Writes that failed. Their bytes wait, so that a later write may still succeed."""
    last_error: str = ""
    dropped: int = 0
    """Records that no file holds: too much was waiting to be written, it was closed
    while its file could not be, or a fault."""
    deleted_files: int = 0
    """Files that were deleted because all together took too much of the disk."""
    uploaded_parts: int = 0
    """Files that are in the remote folder, and no longer here."""
    waiting_parts: int = 0
    """Files that are complete and wait here for their upload."""
    failed_uploads: int = 0
    """Attempts that failed."""
    own_time_s: float = 0.0
    """Processor time spent on writing."""
