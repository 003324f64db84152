"""Log entries: one for each call, kept in a bounded store, searched and exported."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import os
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from perf.compat.refunc._levels import level_number
from perf.loggers.backends.jsonl import plain
from perf.loggers.records import step_of

ENTRIES_KEPT: Final = 10_000
"""By a logger, the latest; older ones are in its file."""


@dataclasses.dataclass
class LogEntry:
    """What one call logged.

    Attributes:
        timestamp: seconds since the epoch.
        level: the name of a level.
        message: the text.
        logger_name: of the logger.
        experiment_id: of the experiment that was running: the same for all its runs.
        run_id: of the run.
        step: of training.
        epoch: of training.
        metrics: names to values.
        tags: those of the call, of the experiment and of the logger.
        artifacts: paths.
        extra: whatever else the caller gave.
    """

    timestamp: float
    level: str
    message: str
    logger_name: str
    experiment_id: str | None = None
    run_id: str | None = None
    step: int | None = None
    epoch: int | None = None
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    artifacts: list[str] = dataclasses.field(default_factory=list)
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The fields, with values that JSON has."""
        fields = dataclasses.fields(self)
        return {each.name: as_json(getattr(self, each.name)) for each in fields}

    def to_json(self) -> str:
        """The fields as a JSON object on one line."""
        return json.dumps(self.to_dict(), ensure_ascii=False)


def as_json(value: Any) -> Any:
    """A value, nested or not, as JSON has it; NaN is the text "NaN"."""
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_json(item) for item in value]
    return plain(value)


def entry_of(record: logging.LogRecord) -> LogEntry:
    """The entry of a record; made from what it holds if another logger made it."""
    entry: LogEntry | None = getattr(record, "entry", None)
    if entry is not None:
        return entry
    is_mapping = isinstance(record.msg, Mapping)
    return LogEntry(
        record.created,
        record.levelname,
        "Metrics" if is_mapping else record.getMessage(),
        record.name,
        step=step_of(record),
        metrics=dict(record.msg) if isinstance(record.msg, Mapping) else {},
    )


class EntryStore(logging.Handler):
    """Keeps the latest entries."""

    def __init__(self) -> None:
        super().__init__()
        self._entries: deque[LogEntry] = deque(maxlen=ENTRIES_KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the entry of a record."""
        self._entries.append(entry_of(record))

    def find(
        self,
        level: int | str | None = None,
        last_n: int | None = None,
        experiment_id: str | None = None,
        start_time: float | None = None,
        end_time: float | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> list[LogEntry]:
        """See `MLLogger.get_log_entries`."""
        wanted = None if level is None else logging.getLevelName(level_number(level))
        self.acquire()
        try:
            entries = list(self._entries)
        finally:
            self.release()
        found = [
            entry
            for entry in entries
            if (wanted is None or entry.level == wanted)
            and (experiment_id is None or entry.experiment_id == experiment_id)
            and (start_time is None or entry.timestamp >= start_time)
            and (end_time is None or entry.timestamp <= end_time)
            and (tags or {}).items() <= entry.tags.items()
        ]
        return found if last_n is None else found[max(len(found) - last_n, 0) :]


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
        columns = [each.name for each in dataclasses.fields(LogEntry)]
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(value) for name, value in row.items()})


def _cell(value: Any) -> Any:
    is_nested = isinstance(value, dict | list)
    return json.dumps(value, ensure_ascii=False) if is_nested else value
