"""Filters of `logging`: which records pass, and what is changed on the way."""

from __future__ import annotations

import copy
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from perf._model.log import OnceLog
from perf._model.process import process_index
from perf.loggers.config import ConfigError
from perf.loggers.levels import level_number
from perf.loggers.records import kind_of, step_of
from perf.loggers.redaction import error_line
from perf.loggers.values import snapshot

__all__ = [
    "Gate",
    "IsMappingFilter",
    "IsRank0Filter",
    "Middleware",
    "is_main_process",
    "own_record",
    "process_rank",
]

Transform = Callable[
    [dict[str, Any], "int | None"], "tuple[Mapping[str, Any], int | None]"
]
"""From metrics and step to metrics and step."""


def process_rank() -> int:
    """The rank of this process among those of the run.

    As `jax.distributed` was told, else the environment's RANK, else 0.
    """
    return process_index() or 0


def is_main_process() -> bool:
    """Whether this process is the one that writes."""
    return process_rank() == 0


class IsMappingFilter(logging.Filter):
    """Lets only mappings pass: lines of text are not for metrics backends."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record's message is a mapping."""
        return isinstance(record.msg, Mapping)


class IsRank0Filter(logging.Filter):
    """Lets only records of the main process pass.

    The rank is that of the record (`extra={"rank": 1}`), of its mapping, the one given
    here, or that of the process, whichever is found first; 0 counts as found.

    Args:
        rank: the rank of this process, if known; a function is asked each time.
        local_rank: whether the first process of each machine writes: the rank is then
            looked for as "local_rank", and in LOCAL_RANK.
    """

    def __init__(
        self, rank: int | Callable[[], int] | None = None, *, local_rank: bool = False
    ) -> None:
        super().__init__()
        self._key = "local_rank" if local_rank else "rank"
        self._rank = rank

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is of the main process."""
        rank = getattr(record, self._key, None)
        if rank is None and isinstance(record.msg, Mapping):
            rank = record.msg.get(self._key)
        if rank is None:
            rank = self._rank() if callable(self._rank) else self._rank
        if rank is None:
            if self._key == "local_rank":
                rank = os.environ.get("LOCAL_RANK", "0")
            else:
                rank = process_rank()
        return int(rank) == 0


class Gate(logging.Filter):
    """Lets a part of the metrics pass. Which part depends on nothing random.

    Metrics, images and histograms are gated; hyperparameters, results, artifacts and
    lines of text pass, unless their level is too low. Records without a step pass the
    conditions on steps.

    Args:
        min_step: the first step that passes.
        every_n_steps: steps divisible by this pass.
        max_fraction: the share of calls that passes, 0 … 1.
        max_per_s: calls that pass in a second.
        level: the lowest level that passes.

    Raises:
        ConfigError: a number out of its range, a level that is none.
    """

    def __init__(
        self,
        *,
        min_step: int = 0,
        every_n_steps: int = 1,
        max_fraction: float = 1.0,
        max_per_s: float | None = None,
        level: int | str = logging.NOTSET,
        _clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        if every_n_steps < 1:
            raise ConfigError("every_n_steps", "1 or more", str(every_n_steps))
        if not 0 <= max_fraction <= 1:
            raise ConfigError("max_fraction", "0 … 1", str(max_fraction))
        if max_per_s is not None and max_per_s <= 0:
            raise ConfigError("max_per_s", "more than 0", str(max_per_s))
        self._min_step = min_step
        self._every_n_steps = every_n_steps
        self._max_fraction = max_fraction
        self._period_s = 1 / max_per_s if max_per_s else 0.0
        self._level = level_number(level)
        self._clock = _clock
        self._calls = 0
        self._next_s = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record passes."""
        if record.levelno < self._level:
            return False
        if kind_of(record) not in ("metrics", "image", "histogram"):
            return True
        step = step_of(record)
        if step is not None and (
            step < self._min_step or step % self._every_n_steps != 0
        ):
            return False
        if self._max_fraction < 1:
            # The n-th call passes when n · fraction reaches a new whole number.
            self._calls += 1
            before = int((self._calls - 1) * self._max_fraction)
            if int(self._calls * self._max_fraction) == before:
                return False
        if self._period_s:
            now_s = self._clock()
            if now_s < self._next_s:
                return False
            self._next_s = now_s + self._period_s
        return True


def own_record(
    record: logging.LogRecord, filters: Sequence[object]
) -> logging.LogRecord:
    """The record; a copy if it is not a pipeline's, or one of the filters changes it.

    A mapping that a program logs itself, it may also change or use again: what is
    copied is flat, and as it is now.
    """
    changes = any(isinstance(each, Middleware) for each in filters)
    is_foreign = isinstance(record.msg, Mapping) and not hasattr(record, "kind")
    if not (changes or is_foreign):
        return record
    record = copy.copy(record)
    if is_foreign:
        record.kind = kind_of(record)
        try:
            # `logging` types messages as texts, and takes anything.
            record.msg = snapshot(record.msg)  # type: ignore[arg-type]
        except Exception:  # What is wrong with it is said when it is delivered.
            pass
    return record


def passed(
    filterer: logging.Filterer, record: logging.LogRecord
) -> logging.LogRecord | None:
    """The record that the filters of a handler let pass, or None.

    Since Python 3.12 that may be another one than they were given.
    """
    result: Any = filterer.filter(record)
    if isinstance(result, logging.LogRecord):
        return result
    return record if result else None


class Middleware(logging.Filter):
    """Changes metrics on their way: renames, drops, adds.

    On a pipeline it changes what all backends get, on a handler what that one gets.

    Args:
        transform: a function from (metrics, step) to (metrics, step), or an object with
            such a method `process_metrics`. Nothing is logged if no metrics are left.
    """

    def __init__(self, transform: Transform | Any) -> None:
        super().__init__()
        process: Transform | None = getattr(transform, "process_metrics", transform)
        if not callable(process):
            raise TypeError(
                f"middleware: expected a function of (metrics, step) or an object with "
                f"process_metrics, found {type(transform).__name__}"
            )
        self._process = process
        self._log = OnceLog()

    def filter(self, record: logging.LogRecord) -> bool:
        """Changes a record of metrics; whether anything is left of it."""
        if kind_of(record) != "metrics":
            return True
        values: Any = record.msg
        try:
            metrics, step = self._process(dict(values), step_of(record))
        except Exception as error:
            # Not passed on unchanged: what it failed to take out may be private.
            self._log.say(
                "failed", f"metrics middleware failed, dropped: {error_line(error)}"
            )
            return False
        record.msg = metrics
        record.step = step
        return bool(metrics)
