"""TensorBoard: event files, written by tensorboardX."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from perf.loggers.filters import is_main_process
from perf.loggers.images import as_batches
from perf.loggers.sharing import Shared
from perf.loggers.values import as_float, finite_values, step_or_zero

__all__ = ["PERF_LAYOUT", "TensorboardBackend"]

_MODE: Final = "perf/(train/|eval/)?"
PERF_LAYOUT: Final = {
    "perf: where a step went": {
        "step": ["Multiline", [f"{_MODE}(global_step|weight_sync)_time$"]],
        "roles, mean": ["Multiline", [f"{_MODE}mean/(?!.*gap).*_time$"]],
        "roles, sum": ["Multiline", [f"{_MODE}sum/(?!.*gap).*_time$"]],
    },
    "perf: who waited": {
        "rollout": ["Multiline", [f"{_MODE}(rollout_idle|first_micro_batch).*"]],
        "gaps, mean": ["Multiline", [f"{_MODE}mean/.*gap_time$"]],
        "gaps, sum": ["Multiline", [f"{_MODE}sum/.*gap_time$"]],
    },
}
"""The charts of the tracer's metrics under Custom Scalars: category, chart, tags."""


class _File:
    """An event file, written to by several threads.

    Not through tensorboardX's `SummaryWriter`: its queue goes through a pipe, takes
    three times as long, and is not waited for when it flushes.
    """

    def __init__(self, folder: str) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.record_writer import directory_check

        directory_check(folder)
        # File names are of one second: without a suffix two processes share one.
        suffix = f".{os.getpid()}.{next(_numbers)}"
        self._writer = EventsWriter(os.path.join(folder, "events"), suffix)
        self._event = Event

    def add(
        self, summary: Any, step: int | None = None, wall_time: float | None = None
    ) -> None:
        time_s = time.time() if wall_time is None else wall_time
        event = self._event(wall_time=time_s, step=step, summary=summary)
        self._writer.write_event(event)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


_files: Final[Shared[_File]] = Shared()
_numbers: Final = itertools.count()


class TensorboardBackend:
    """Writes event files into a folder.

    Backends of one process and folder write to one file.

    Args:
        log_dir: the folder.
        flush_every_n_steps: written out at steps divisible by it, and at the first
            after one that was left out,
        flush_interval_s: and so many seconds after the last time.
        log_images: False leaves out images,
        log_histograms: and histograms.
    """

    takes_wall_time = True

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        flush_every_n_steps: int = 100,
        flush_interval_s: float = 30.0,
        log_images: bool = True,
        log_histograms: bool = True,
    ) -> None:
        folder = os.fspath(log_dir)
        self._key = folder if "://" in folder else os.path.realpath(folder)
        self._every = max(1, flush_every_n_steps)
        self._interval_s = flush_interval_s
        self._with_images = log_images
        self._with_histograms = log_histograms
        self._flushed_s = time.monotonic()
        self._last_step: int | None = None
        self._has_layout = False
        self._file: _File | None = None
        if is_main_process():
            from tensorboardX import summary
            from tensorboardX.proto.summary_pb2 import Summary

            self._make = summary
            self._summary = Summary
            self._file = _files.take(self._key, lambda: _File(self._key))

    def log_scalar(self, event: str, value: float | np.ndarray, **kwargs: Any) -> None:
        """Writes a scalar; what is no single number is left out.

        A value without a step is of the latest that there was: at 0 it would go back.
        """
        number = as_float(value)
        if self._file is None or number is None:
            return
        name = event.lstrip("/")
        if name.startswith("perf/") and not self._has_layout:
            self._has_layout = True
            self._file.add(self._make.custom_scalars(PERF_LAYOUT))
        # Its `summary.scalar` warns of each NaN.
        scalar = self._summary.Value(tag=name, simple_value=number)
        step, wall_time = _when({"step": self._last_step, **kwargs})
        self._file.add(self._summary(value=[scalar]), step, wall_time)
        self._flush_at(step)

    def log_text(self, name: str, text: str, **kwargs: Any) -> None:
        """Writes a text; TensorBoard shows it as Markdown."""
        if self._file is not None:
            self._file.add(self._make.text(name, text), *_when(kwargs))

    def log_image(self, name: str, image: Any, **kwargs: Any) -> None:
        """Writes an image or a batch."""
        if self._file is not None and self._with_images:
            batch = as_batches(image)
            for index, one in enumerate(batch):
                tag = f"{name}/{index}" if len(batch) > 1 else name
                summary = self._make.image(tag, one, dataformats="HWC")
                self._file.add(summary, *_when(kwargs))

    def log_histogram(self, name: str, values: Any, **kwargs: Any) -> None:
        """Writes a histogram of the finite values."""
        if self._file is not None and self._with_histograms:
            finite = finite_values(values)
            if finite.size:
                summary = self._make.histogram(name, finite, bins="auto")
                self._file.add(summary, *_when(kwargs))

    def log_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Writes hyperparameters, to be compared between runs."""
        if self._file is not None:
            plain = {
                name: value
                if isinstance(value, bool | int | float | str)
                else str(value)
                for name, value in hparams.items()
            }
            for summary in self._make.hparams(plain, {}):
                self._file.add(summary)

    def flush(self) -> None:
        """Writes what is pending to the disk."""
        if self._file is not None:
            self._file.flush()
            self._flushed_s = time.monotonic()

    def close(self) -> None:
        """Writes what is pending; the last to close closes the file."""
        if self._file is not None:
            self._file.flush()
            self._file = None
            _files.release(self._key, lambda file: file.close())

    def _flush_at(self, step: int) -> None:
        last, self._last_step = self._last_step, step
        due = step % self._every == 0 and step != last
        skipped = last is not None and step // self._every > last // self._every
        late = time.monotonic() - self._flushed_s >= self._interval_s
        if due or skipped or late:
            self.flush()


def _when(kwargs: Mapping[str, Any]) -> tuple[int, float | None]:
    """Step and seconds since 1970."""
    return step_or_zero(kwargs), kwargs.get("wall_time")
