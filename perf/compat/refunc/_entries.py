"""Levels and entries: one for each call, kept in a bounded store, and exported."""

from __future__ import annotations

import csv
import enum
import json
import logging
import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from perf.loggers.backends.jsonl import plain
from perf.loggers.records import step_of

ENTRIES_KEPT: Final = 10_000
"""By a logger, the latest; older ones are in its file."""


class LogLevel(enum.IntEnum):
    """The levels, in order; each is a number that `logging` takes."""

    TRACE = 5
    DEBUG = logging.DEBUG
    INFO = logging.INFO
    METRIC = 21
    PROGRESS = 22
    EXPERIMENT = 23
    RESULT = 24
    WARNING = logging.WARNING
    ERROR = logging.ERROR
    CRITICAL = logging.CRITICAL


for _level in LogLevel:
    logging.addLevelName(_level, _level.name)


@dataclass
class LogEntry:
    """What one call logged.

    `timestamp` is in seconds since the epoch; `experiment_id` is the same for all runs
    of an experiment; `tags` are those of the call and of the run.
    """

    timestamp: float
    level: str
    message: str
    logger_name: str
    experiment_id: str | None = None
    run_id: str | None = None
    step: int | None = None
    epoch: int | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The fields, with values that JSON has; NaN is the text "NaN"."""
        return {each.name: plain(getattr(self, each.name)) for each in fields(self)}

    def to_json(self) -> str:
        """The fields as a JSON object on one line."""
        return json.dumps(self.to_dict(), ensure_ascii=False)


_FIELDS: Final[Mapping[str, Any]] = {
    "experiment_id": str,
    "run_id": str,
    "epoch": int,
    "metrics": Mapping,
    "tags": Mapping,
    "artifacts": list,
}
"""What `extra` of a call of `logging` may give an entry, if it is of this type."""
_NOT_EXTRA: Final = {
    *vars(logging.makeLogRecord({})),
    *("message", "asctime", "taskName"),  # of `Formatter`; since Python 3.12
    *("kind", "step", "hparams", "options"),  # of `perf.loggers.records`
}


def entry_of(record: logging.LogRecord) -> LogEntry:
    """The entry of a record; made from what it holds if another logger made it."""
    entry: LogEntry | None = getattr(record, "entry", None)
    if entry is not None:
        return entry
    extra = {key: each for key, each in vars(record).items() if key not in _NOT_EXTRA}
    given: dict[str, Any] = {
        name: extra.pop(name)
        for name, type_ in _FIELDS.items()
        if isinstance(extra.get(name), type_)
    }
    values = record.msg if isinstance(record.msg, Mapping) else None
    given["metrics"] = {**(values or {}), **given.get("metrics", {})}
    message = "Metrics" if values else record.getMessage()
    return LogEntry(
        record.created,
        record.levelname,
        message,
        record.name,
        step=step_of(record),
        extra=extra,
        **given,
    )


class EntryStore(logging.Handler):
    """Keeps the latest entries."""

    def __init__(self) -> None:
        super().__init__()
        self._entries: deque[LogEntry] = deque(maxlen=ENTRIES_KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the entry of a record."""
        self._entries.append(entry_of(record))

    def entries(self) -> list[LogEntry]:
        """Those that are kept, the oldest first."""
        self.acquire()  # Others may be logging.
        try:
            return list(self._entries)
        finally:
            self.release()


def export(entries: list[LogEntry], path: str | os.PathLike[str], format: str) -> None:
    """See `MLLogger.export_logs`."""
    if format not in ("json", "csv"):
        raise ValueError(f"format={format!r}: expected 'json' or 'csv'")
    rows = [entry.to_dict() for entry in entries]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        if format == "json":
            json.dump(rows, file, ensure_ascii=False, indent=1)
            return
        writer = csv.DictWriter(file, [each.name for each in fields(LogEntry)])
        writer.writeheader()
        for row in rows:
            nested = {key for key, each in row.items() if isinstance(each, dict | list)}
            writer.writerow(row | {key: json.dumps(row[key]) for key in nested})
