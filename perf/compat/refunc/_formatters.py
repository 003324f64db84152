"""Formatters: an entry as a line for people, in colour or not, or as JSON."""

from __future__ import annotations

import datetime
import json
import logging
from typing import Any, Final

from perf.compat.refunc._entries import as_json, entry_of
from perf.compat.refunc._levels import LogLevel
from perf.loggers.values import format_metrics

_RESET: Final = "\x1b[0m"
_BASE: Final = {
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
_SCHEMES: Final = {
    "default": _BASE,
    # Bright ones stand out from a dark background, ...
    "dark": {level: code.replace("3", "9", 1) for level, code in _BASE.items()},
    # ... and on a light one yellow and cyan are hard to read.
    "light": {
        **_BASE,
        LogLevel.DEBUG: "38;5;30",
        LogLevel.PROGRESS: "38;5;30",
        LogLevel.WARNING: "38;5;130",
    },
}
"""Codes of the terminal, by level."""
_METRICS_CODE: Final = "1"


class _LineFormatter(logging.Formatter):
    """An entry as a line."""

    def __init__(
        self,
        *,
        time_format: str,
        show_level: bool = True,
        show_logger: bool = True,
        show_step: bool = True,
        show_epoch: bool = True,
        show_metrics: bool = True,
        precision: int = 4,
        compact: bool = False,
        codes: dict[LogLevel, str] | None = None,
    ) -> None:
        super().__init__()
        self._time_format = time_format
        self._show_level = show_level
        self._show_logger = show_logger
        self._show_step = show_step
        self._show_epoch = show_epoch
        self._show_metrics = show_metrics
        self._precision = precision
        self._compact = compact
        self._codes = codes

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the traceback under it if there is one."""
        entry = entry_of(record)
        parts = []
        if self._time_format:
            moment = datetime.datetime.fromtimestamp(entry.timestamp)
            parts.append(moment.strftime(self._time_format))
        if self._show_level:
            level = entry.level if self._compact else f"{entry.level:<10}"
            parts.append(self._painted(level, record.levelno))
        if self._show_logger:
            parts.append(f"{entry.logger_name}:")
        counters = []
        if self._show_epoch and entry.epoch is not None:
            counters.append(f"epoch {entry.epoch}")
        if self._show_step and entry.step is not None:
            counters.append(f"step {entry.step}")
        if counters:
            parts.append(f"[{', '.join(counters)}]")
        parts.append(entry.message)
        if self._show_metrics and entry.metrics:
            shown = format_metrics(entry.metrics, self._precision)
            values = [f"{name}={value}" for name, value in shown.items()]
            if self._compact:
                parts += values
            else:
                parts += ["|", self._bold(", ".join(values))]
        line = " ".join(parts)
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line

    def _painted(self, text: str, level: int) -> str:
        if self._codes is None:
            return text
        # A level of the user's own looks like the next below.
        known = [each for each in self._codes if each <= level]
        return f"\x1b[{self._codes[max(known, default=LogLevel.TRACE)]}m{text}{_RESET}"

    def _bold(self, text: str) -> str:
        return text if self._codes is None else f"\x1b[{_METRICS_CODE}m{text}{_RESET}"


class ColoredFormatter(_LineFormatter):
    """A line for a terminal: levels coloured, metrics highlighted.

    Args:
        show_time: of the day.
        show_level: by name.
        show_logger: by name.
        show_metrics: as "loss=0.2340".
        color_scheme: "default", or for a "dark" or a "light" background.

    Raises:
        ValueError: there is no such scheme.
    """

    def __init__(
        self,
        show_time: bool = True,
        show_level: bool = True,
        show_logger: bool = True,
        show_metrics: bool = True,
        color_scheme: str = "default",
    ) -> None:
        if color_scheme not in _SCHEMES:
            known = ", ".join(map(repr, _SCHEMES))
            raise ValueError(f"color_scheme={color_scheme!r}: expected one of {known}")
        super().__init__(
            time_format="%H:%M:%S" if show_time else "",
            show_level=show_level,
            show_logger=show_logger,
            show_metrics=show_metrics,
            codes=_SCHEMES[color_scheme],
        )


class MLFormatter(_LineFormatter):
    """A line without colours: step and epoch, message, metrics.

    Args:
        show_step: of training, if the entry has one.
        show_epoch: likewise.
        show_metrics: as "loss=0.2340".
        metric_precision: digits after the point.
        compact_mode: time of day only, no padding.
    """

    def __init__(
        self,
        show_step: bool = True,
        show_epoch: bool = True,
        show_metrics: bool = True,
        metric_precision: int = 4,
        compact_mode: bool = False,
    ) -> None:
        super().__init__(
            time_format="%H:%M:%S" if compact_mode else "%Y-%m-%d %H:%M:%S",
            show_step=show_step,
            show_epoch=show_epoch,
            show_metrics=show_metrics,
            precision=metric_precision,
            compact=compact_mode,
        )


class JSONFormatter(logging.Formatter):
    """An entry as a JSON object; what is empty is left out.

    Args:
        include_extra: whether `extra` is in it.
        timestamp_format: "iso" (UTC), "unix" (seconds), "readable" (local time).
        indent: None for one line.

    Raises:
        ValueError: there is no such format of timestamps.
    """

    def __init__(
        self,
        include_extra: bool = True,
        timestamp_format: str = "iso",
        indent: int | None = None,
    ) -> None:
        super().__init__()
        if timestamp_format not in ("iso", "unix", "readable"):
            raise ValueError(
                f"timestamp_format={timestamp_format!r}: expected 'iso', 'unix' or "
                "'readable'"
            )
        self._include_extra = include_extra
        self._timestamp_format = timestamp_format
        self._indent = indent

    def format(self, record: logging.LogRecord) -> str:
        """The object."""
        entry = entry_of(record)
        fields: dict[str, Any] = {
            "timestamp": self._timestamp(entry.timestamp),
            "level": entry.level,
            "logger": entry.logger_name,
            "message": entry.message,
        }
        others = {
            "experiment_id": entry.experiment_id,
            "run_id": entry.run_id,
            "step": entry.step,
            "epoch": entry.epoch,
            "metrics": entry.metrics,
            "tags": entry.tags,
            "artifacts": entry.artifacts,
            "extra": entry.extra if self._include_extra else None,
        }
        if record.exc_info:
            others["exception"] = self.formatException(record.exc_info)
        for name, value in others.items():
            if value not in (None, {}, []):
                fields[name] = as_json(value)
        return json.dumps(fields, ensure_ascii=False, indent=self._indent)

    def _timestamp(self, timestamp: float) -> str | float:
        if self._timestamp_format == "unix":
            return timestamp
        if self._timestamp_format == "readable":
            moment = datetime.datetime.fromtimestamp(timestamp)
            return moment.strftime("%Y-%m-%d %H:%M:%S")
        utc = datetime.datetime.fromtimestamp(timestamp, datetime.UTC)
        return utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")
