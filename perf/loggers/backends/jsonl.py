"""JSON lines: one object for each call, in a file."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from perf.loggers.filters import is_main_process
from perf.loggers.naming import substitute_placeholders
from perf.loggers.values import as_array, as_float

__all__ = ["JsonlBackend"]


class JsonlBackend:
    """Appends a line for each call: its values, `step` if any, and `timestamp`.

    NaN and the infinities become the texts "NaN", "Infinity" and "-Infinity", as JSON
    has none. Whatever is no metric has its sort under `kind`. A value that is called
    like one of these has a `_` behind its name.

    Args:
        path: the file; its folder is made. `{time}` and the like are filled in.
    """

    takes_wall_time = True
    texts_with_metrics = True

    def __init__(self, path: str | os.PathLike[str] = "metrics.jsonl") -> None:
        self._file = None
        if is_main_process():
            self.path = Path(substitute_placeholders(os.fspath(path)))
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Line by line: a process that is killed has lost none, and a forked child
            # has no half of one to write again.
            self._file = self.path.open("a", buffering=1, encoding="utf-8")

    def log_scalar(self, event: str, value: float | np.ndarray, **kwargs: Any) -> None:
        """Writes one value."""
        self.log_metrics({event: value}, **kwargs)

    def log_metrics(self, metrics: Mapping[str, Any], **kwargs: Any) -> None:
        """Writes all values of a call on one line."""
        self._write(metrics, **kwargs)

    def log_text(self, name: str, text: str, **kwargs: Any) -> None:
        """Writes a text."""
        self._write({name: text}, kind="text", **kwargs)

    def log_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Writes hyperparameters."""
        self._write(hparams, kind="hparams")

    def log_tags(self, tags: Mapping[str, Any]) -> None:
        """Writes tags."""
        self._write(tags, kind="tags")

    def log_result(self, results: Mapping[str, Any], **kwargs: Any) -> None:
        """Writes results."""
        self._write(results, kind="result", **kwargs)

    def log_artifact(self, name: str, path: str, **kwargs: Any) -> None:
        """Writes where something is."""
        self._write({name: path}, kind="artifact", **kwargs)

    def notify(self, message: str, level: int) -> None:
        """Writes a line of text with its level."""
        self._write({"message": message, "level": level}, kind="message")

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(
        self, values: Mapping[str, Any], wall_time: float | None = None, **others: Any
    ) -> None:
        if self._file is None:
            return
        time_s = time.time() if wall_time is None else wall_time
        moment = dt.datetime.fromtimestamp(time_s, dt.UTC)
        timestamp = moment.isoformat(timespec="milliseconds")
        own = {**others, "timestamp": timestamp}
        line = {_free(name, own, values): each for name, each in values.items()} | own
        # At once, so that a half-written line can only be the last.
        self._file.write(json.dumps(plain(line), ensure_ascii=False) + "\n")


def _free(name: str, own: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """The name, or one that neither the line's own keys nor other values have."""
    if name in own:
        while name in own or name in values:
            name += "_"
    return name


def plain(value: Any) -> Any:
    """A value, nested or not, as JSON has it."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in value]
    number = as_float(value)
    if number is None:
        has_values = hasattr(value, "__array__")
        return plain(np.asarray(value).tolist()) if has_values else str(value)
    if (array := as_array(value)).dtype.kind in "biu":
        return array.item()
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return number
