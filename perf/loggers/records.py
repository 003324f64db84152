"""One call of a front end is one `logging.LogRecord`; its message is a mapping.

`record.msg` maps names to values, `record.kind` says what they are (metrics, text,
image, histogram, hparams, artifact, result or tags), `record.step` is the step or None,
`record.options` what else was given. Records that others make count too: a mapping
without a kind holds metrics, or hyperparameters if `record.hparams` is true
(`logger.info({"lr": 1e-3}, extra={"hparams": True})`).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["NO_OPTIONS", "kind_of", "make_message", "make_record", "step_of"]

NO_OPTIONS: Final[Mapping[str, Any]] = {}
_BLANK: Final = vars(
    logging.LogRecord("perf.loggers", logging.INFO, "", 0, NO_OPTIONS, None, None)
)


def make_record(
    values: Mapping[str, Any],
    kind: str = "metrics",
    step: int | None = None,
    level: int = logging.INFO,
    options: Mapping[str, Any] = NO_OPTIONS,
) -> logging.LogRecord:
    """A record of one call.

    It is filled by hand: the constructor finds out things that nobody asks a metric,
    and takes five times as long.
    """
    record = logging.LogRecord.__new__(logging.LogRecord)
    now_s = time.time()
    fields = vars(record)
    fields.update(_BLANK)
    fields["msg"] = values
    fields["kind"] = kind
    fields["step"] = step
    fields["hparams"] = kind == "hparams"
    fields["options"] = options
    fields["created"] = now_s
    fields["msecs"] = int((now_s - int(now_s)) * 1000) + 0.0
    fields["thread"] = threading.get_ident()
    fields["process"] = os.getpid()
    if level != logging.INFO:
        fields["levelno"] = level
        fields["levelname"] = logging.getLevelName(level)
    return record


def make_message(message: str, level: int) -> logging.LogRecord:
    """A record of a line of text."""
    return logging.LogRecord("perf.loggers", level, "", 0, message, None, None)


def kind_of(record: logging.LogRecord) -> str:
    """What a record's mapping holds; "message" for a line of text."""
    if not isinstance(record.msg, Mapping):
        return "message"
    kind: str | None = getattr(record, "kind", None)
    if kind is None:
        return "hparams" if getattr(record, "hparams", False) else "metrics"
    return kind


def step_of(record: logging.LogRecord) -> int | None:
    """The step, if it has one."""
    step = getattr(record, "step", None)
    return None if step is None else int(step)
