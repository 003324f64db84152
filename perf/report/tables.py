"""Recordings as columns, for engines that answer SQL."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from perf._model.spans import OPEN, RawRecord
from perf._read.recording import Recording
from perf._read.schedule import role_of

Table = dict[str, Any]
"""Column names to numpy arrays of one length."""

_ORIGIN: Final = "trace VARCHAR, host VARCHAR, process BIGINT, "
COLUMNS: Final = {
    "spans": (
        _ORIGIN + "track VARCHAR, kind VARCHAR, id BIGINT, parent_id BIGINT, "
        "name VARCHAR, ts BIGINT, dur BIGINT, step BIGINT, role VARCHAR, tags JSON"
    ),
    "steps": (_ORIGIN + "step BIGINT, ts BIGINT, dur BIGINT"),
    "tracks": (_ORIGIN + "track VARCHAR, kind VARCHAR, is_main BOOLEAN, spans BIGINT"),
    "counters": (_ORIGIN + "name VARCHAR, unit VARCHAR, ts BIGINT, value DOUBLE"),
    "instants": (_ORIGIN + "name VARCHAR, ts BIGINT, tags JSON"),
}
"""The tables and their columns; `ts` and `dur` in nanoseconds, `dur` NULL while open.

A span with work on devices has a row for its thread and one for each device, with the
same id.
"""


def tables(recordings: Sequence[Recording]) -> dict[str, list[Table]]:
    """The tables, a part of each for each recording that has something for it."""
    found: dict[str, list[Table]] = {name: [] for name in COLUMNS}
    for recording in recordings:
        origin = _origin(recording)
        for name, part in (
            ("spans", _spans(recording)),
            ("steps", _steps(recording)),
            ("tracks", _tracks(recording)),
            ("counters", _counters(recording)),
            ("instants", _instants(recording)),
        ):
            length = len(next(iter(part.values())))
            if length:
                shared = {key: _same(value, length) for key, value in origin.items()}
                found[name].append({**shared, **part})
    return found


def _origin(recording: Recording) -> Mapping[str, Any]:
    process = recording.run.get("pid")
    return {
        "trace": recording.path,
        "host": str(recording.run.get("host", "")),
        "process": process if isinstance(process, int) else 0,
    }


def _spans(recording: Recording) -> Table:
    records: list[RawRecord] = []
    tracks: list[str] = []
    kinds: list[str] = []
    for info, some in recording.timelines:
        records += some
        tracks += [info.id] * len(some)
        kinds += [info.kind.value] * len(some)
    begins = np.array([r[1] for r in records], dtype=np.int64)
    ends = np.array([r[2] for r in records], dtype=np.int64)
    is_open = ends == OPEN
    texts = _Texts()
    return {
        "track": _objects(tracks),
        "kind": _objects(kinds),
        "id": np.array([r[3] for r in records], dtype=np.int64),
        "parent_id": np.array([r[4] for r in records], dtype=np.int64),
        "name": _objects([_readable(r[0]) for r in records]),
        "ts": begins,
        "dur": np.ma.masked_array(ends - begins, mask=is_open),
        "step": _step_of(recording, begins),
        "role": _objects([_readable(role_of(r)) for r in records]),
        "tags": _objects([texts.of(r[6]) for r in records]),
    }


def _step_of(recording: Recording, begins: Any) -> Any:
    """The step in whose window each span began; NULL outside."""
    steps = recording.steps
    columns = np.array([(s.begin_ns, s.end_ns, s.number) for s in steps], np.int64)
    firsts, ends, numbers = columns.reshape(-1, 3).T
    place = np.searchsorted(firsts, begins, side="right") - 1
    inside = place >= 0
    inside[inside] = begins[inside] < ends[place[inside]]
    found = np.zeros(len(begins), dtype=np.int64)
    found[inside] = numbers[place[inside]]
    return np.ma.masked_array(found, mask=~inside)


def _steps(recording: Recording) -> Table:
    steps = recording.steps
    return {
        "step": np.array([s.number for s in steps], dtype=np.int64),
        "ts": np.array([s.begin_ns for s in steps], dtype=np.int64),
        "dur": np.array([s.length_ns for s in steps], dtype=np.int64),
    }


def _tracks(recording: Recording) -> Table:
    some = recording.timelines
    return {
        "track": _objects([info.id for info, _ in some]),
        "kind": _objects([info.kind.value for info, _ in some]),
        "is_main": np.array([info.is_main for info, _ in some], dtype=bool),
        "spans": np.array([len(records) for _, records in some], dtype=np.int64),
    }


def _counters(recording: Recording) -> Table:
    points = [
        (counter.name, counter.unit, time_ns, value)
        for counter in recording.counters
        for time_ns, value in counter.points
    ]
    return {
        "name": _objects([_readable(p[0]) for p in points]),
        "unit": _objects([_readable(p[1]) for p in points]),
        "ts": np.array([p[2] for p in points], dtype=np.int64),
        "value": np.array([p[3] for p in points], dtype=np.float64),
    }


def _instants(recording: Recording) -> Table:
    texts = _Texts()
    return {
        "name": _objects([_readable(i[1]) for i in recording.instants]),
        "ts": np.array([i[0] for i in recording.instants], dtype=np.int64),
        "tags": _objects([texts.of(i[2]) for i in recording.instants]),
    }


class _Texts:
    """Tags as JSON; slices share their tags, and so their texts."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, str]] = {}

    def of(self, tags: Any) -> str:
        """The text of some tags; of none, an empty object."""
        if not tags:
            return "{}"
        known = self._known.get(id(tags))
        if known is None:
            # The tags are kept, too: another dict may not take their place in memory.
            known = self._known[id(tags)] = tags, json.dumps(tags, default=str)
        return known[1]


def _same(value: Any, length: int) -> Any:
    if isinstance(value, str):
        return _objects([value] * length)
    return np.full(length, value, dtype=np.int64)


def _objects(values: Sequence[str]) -> Any:
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


@functools.lru_cache(maxsize=1 << 12)  # names come again and again
def _readable(text: Any) -> str:
    return str(text).encode(errors="backslashreplace").decode()
