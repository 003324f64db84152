"""Names of runs and files."""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Collection
from typing import Final

from perf.loggers.filters import process_rank

__all__ = [
    "MOST_NAMES",
    "bounded_name",
    "file_name",
    "substitute_placeholders",
    "timestamp_name",
]

MOST_NAMES: Final = 10_000
"""A service that keeps a value for each metric keeps as many."""


def timestamp_name() -> str:
    """The name of a run that was given none: `2025-01-14_08-40-01`, local time."""
    return f"{dt.datetime.now():%Y-%m-%d_%H-%M-%S}"


def substitute_placeholders(name: str) -> str:
    """A name with `{time}`, `{utc_time}`, `{rank}` and `{local_rank}` filled in.

    Other braces stay as they are.
    """
    now = dt.datetime.now().astimezone()
    utc = now.astimezone(dt.UTC)
    for placeholder, value in (
        ("{time}", now.isoformat(timespec="minutes")),
        ("{utc_time}", utc.isoformat(timespec="minutes")),
        ("{rank}", str(process_rank())),
        ("{local_rank}", os.environ.get("LOCAL_RANK", "0")),
    ):
        name = name.replace(placeholder, value)
    return name


def file_name(name: str) -> str:
    """A name as one part of a path: what is no letter, digit or sign of few is "_"."""
    return re.sub(r"[^\w.+=-]", "_", name) if name.strip(".") else "_"


def bounded_name(name: str, known: Collection[str]) -> str:
    """A metric's name, or "(other)" for a new one when `MOST_NAMES` are known."""
    return name if name in known or len(known) < MOST_NAMES else "(other)"
