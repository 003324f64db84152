"""Formatters: an entry as a line for people, in colour or not, or as JSON."""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from perf.compat.refunc._entries import LogEntry, LogLevel, entry_of
from perf.loggers.backends.jsonl import plain
from perf.loggers.values import format_metrics, joined

_DEFAULT: Final = {
    LogLevel.TRACE: "2",
    LogLevel.DEBUG: "36",
    LogLevel.INFO: "34",
    LogLevel.METRIC: "32",
    LogLevel.PROGRESS: "36",
    LogLevel.EXPERIMENT: "35",
    LogLevel.RESULT: "1;32",
    LogLevel.WARNING: "33",
    LogLevel.ERROR: "31",
    LogLevel.CRITICAL: "1;31",
}
# Bright ones stand out from a dark background; on a light one yellow and cyan are hard
# to read.
_DARK: Final = {level: code.replace("3", "9", 1) for level, code in _DEFAULT.items()}
_LIGHT: Final = {
    **_DEFAULT,
    **dict.fromkeys((LogLevel.DEBUG, LogLevel.PROGRESS), "38;5;30"),
    LogLevel.WARNING: "38;5;130",
}
_SCHEMES: Final = {"default": _DEFAULT, "dark": _DARK, "light": _LIGHT}
"""Codes of the terminal, by level."""
_TIMESTAMP_FORMATS: Final = ("iso", "unix", "readable")
_READABLE: Final = "%Y-%m-%d %H:%M:%S"


class _Line(logging.Formatter):
    """Time, level, logger, [epoch, step], message, metrics."""

    show_time = show_level = show_logger = True
    show_step = show_epoch = show_metrics = True
    metric_precision = 4
    compact_mode = False
    _codes: Mapping[LogLevel, str] = {}
    """Empty for no colours."""

    def __post_init__(self) -> None:
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the traceback under it if there is one."""
        entry = entry_of(record)
        parts = []
        if self.show_time:
            shown = "%H:%M:%S" if self.compact_mode else _READABLE
            parts.append(dt.datetime.fromtimestamp(entry.timestamp).strftime(shown))
        if self.show_level:
            level = entry.level if self.compact_mode else f"{entry.level:<10}"
            parts.append(self._painted(level, self._code(record.levelno)))
        if self.show_logger:
            parts.append(f"{entry.logger_name}:")
        parts += [*self._counters(entry), entry.message]
        if self.show_metrics and entry.metrics:
            text = joined(format_metrics(entry.metrics, self.metric_precision))
            parts.append(text if self.compact_mode else f"| {self._painted(text, '1')}")
        trace = "\n" + self.formatException(record.exc_info) if record.exc_info else ""
        return " ".join(parts) + trace

    def _counters(self, entry: LogEntry) -> list[str]:
        epoch = self.show_epoch and entry.epoch is not None
        step = self.show_step and entry.step is not None
        found = [f"epoch {entry.epoch}"] * epoch + [f"step {entry.step}"] * step
        return [f"[{', '.join(found)}]"] if found else []

    def _code(self, level: int) -> str:
        # A level of the user's own looks like the next below.
        known = [each for each in self._codes if each <= level]
        return self._codes[max(known)] if known else "0"

    def _painted(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._codes else text


@dataclass(eq=False)
class MLFormatter(_Line):
    """A line without colours."""

    show_step: bool = True
    """If the entry has one."""
    show_epoch: bool = True
    show_metrics: bool = True
    metric_precision: int = 4
    """Digits after the point."""
    compact_mode: bool = False
    """Time of day only, no padding."""


@dataclass(eq=False)
class ColoredFormatter(_Line):
    """A line for a terminal: levels coloured, metrics highlighted."""

    show_time: bool = True
    show_level: bool = True
    show_logger: bool = True
    show_metrics: bool = True
    color_scheme: str = "default"
    """Or for a "dark" or a "light" background; ValueError for another."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _expect("color_scheme", self.color_scheme, _SCHEMES)
        self._codes = _SCHEMES[self.color_scheme]


@dataclass(eq=False)
class JSONFormatter(logging.Formatter):
    """An entry as a JSON object; what is empty is left out."""

    include_extra: bool = True
    timestamp_format: str = "iso"
    """In UTC; or "unix", seconds, or "readable", local; ValueError for another."""
    indent: int | None = None
    """None for one line."""

    def __post_init__(self) -> None:
        super().__init__()
        _expect("timestamp_format", self.timestamp_format, _TIMESTAMP_FORMATS)

    def format(self, record: logging.LogRecord) -> str:
        """The object."""
        entry = entry_of(record)
        names = ("experiment_id", "run_id", "step", "epoch", "metrics", "tags")
        found = {
            "timestamp": self._timestamp(entry.timestamp),
            "level": entry.level,
            "logger": entry.logger_name,
            "message": entry.message,
            **{name: getattr(entry, name) for name in names},
            "artifacts": entry.artifacts,
            "extra": entry.extra if self.include_extra else None,
            "exception": record.exc_info and self.formatException(record.exc_info),
        }
        shown = {
            name: each for name, each in found.items() if each not in (None, {}, [])
        }
        return json.dumps(plain(shown), ensure_ascii=False, indent=self.indent)

    def _timestamp(self, timestamp: float) -> str | float:
        if self.timestamp_format == "unix":
            return timestamp
        if self.timestamp_format == "readable":
            return dt.datetime.fromtimestamp(timestamp).strftime(_READABLE)
        utc = dt.datetime.fromtimestamp(timestamp, dt.UTC)
        return utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _expect(name: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(known)}")
