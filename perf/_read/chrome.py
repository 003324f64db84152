"""Traces in Chrome's JSON format: AReaL's, NeMo-RL's, viztracer's, torch.profiler's.

Format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import re
import zlib
from bisect import bisect_right
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from perf._model.errors import TraceFormatError
from perf._read.packets import MAX_PACKET, MOST_PER_BYTE

_NS_PER_US: Final = 1_000
_CHUNK: Final = 1 << 20
_DEVICE_CATEGORIES: Final = frozenset({"kernel", "gpu_memcpy", "gpu_memset"})
_DEVICE_NAME: Final = re.compile(r"^(/device:)?(gpu|tpu|cuda|stream)\b", re.IGNORECASE)


@dataclasses.dataclass(slots=True)
class ChromeTrack:
    """A thread, or what the file calls one."""

    id: str
    name: str
    is_device: bool = False
    spans: list[tuple[str, int, int, int, dict[str, Any] | None]] = dataclasses.field(
        default_factory=list
    )
    """Name, begin and end in nanoseconds, id, tags."""


@dataclasses.dataclass(slots=True)
class ChromeTrace:
    """What a file holds."""

    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tracks: list[ChromeTrack] = dataclasses.field(default_factory=list)
    counters: dict[str, list[tuple[int, float]]] = dataclasses.field(
        default_factory=dict
    )
    instants: list[tuple[int, str, Mapping[str, Any]]] = dataclasses.field(
        default_factory=list
    )
    after: dict[int, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    """Predecessors by arrows."""


def is_chrome(path: str | os.PathLike[str]) -> bool:
    """Whether a file's name or first byte say that it is JSON."""
    file = Path(path)
    if file.name.endswith((".json", ".json.gz")):
        return True
    with file.open("rb") as opened:
        return opened.read(64).lstrip()[:1] in (b"{", b"[")


def read_chrome(path: str | os.PathLike[str]) -> ChromeTrace:
    """Reads a trace.

    Args:
        path: a JSON file, perhaps packed by gzip. An array that is cut is read up to
            its last whole event, as the format allows.

    Raises:
        TraceFormatError: it is none; the message says what was found.
        OSError: it cannot be read.
    """
    file = Path(path)
    with file.open("rb") as opened:
        is_packed = opened.read(2) == b"\x1f\x8b"
    try:
        text = (_unpacked(file) if is_packed else file.read_bytes()).decode()
    except UnicodeDecodeError as error:
        raise TraceFormatError(f"{file}: expected JSON, found other bytes") from error
    try:
        found = json.loads(text)
    except _NO_JSON as error:
        found = _cut_array(text)
        if found is None:
            raise TraceFormatError(f"{file}: expected JSON, found {error}") from error
    events = found.get("traceEvents") if isinstance(found, dict) else found
    if not isinstance(events, list):
        raise TraceFormatError(
            f"{file}: expected Chrome's trace format, found JSON without traceEvents"
        )
    metadata = found.get("metadata", {}) if isinstance(found, dict) else {}
    builder = _Builder(metadata if isinstance(metadata, dict) else {})
    for number, event in enumerate(events):
        if isinstance(event, dict):
            try:
                builder.take(event)
            except (TypeError, ValueError, OverflowError) as error:
                # A text for a length, a list for an id, a time that is no number.
                raise TraceFormatError(
                    f"{file}: expected Chrome's trace format, found event {number} "
                    f"that cannot be read ({error})"
                ) from error
    return builder.finished()


_NO_JSON: Final = (ValueError, RecursionError)
"""Not of JSON, a number of too many digits, or nested too deeply."""


def _unpacked(file: Path) -> bytearray:
    """What gzip packed; the same bound holds as for packed packets."""
    limit = MAX_PACKET + MOST_PER_BYTE * file.stat().st_size
    found = bytearray()
    try:
        with gzip.open(file) as packed:
            while chunk := packed.read(_CHUNK):
                found += chunk
                if len(found) > limit:
                    raise TraceFormatError(
                        f"{file}: JSON that unpacks to more than {limit} bytes"
                    )
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TraceFormatError(
            f"{file}: expected JSON packed by gzip, found what cannot be unpacked "
            f"({error})"
        ) from error
    return found


def _cut_array(text: str) -> Any:
    """The events of a cut file, up to the last whole one; None if there are none."""
    begin = text.find("[")
    if begin < 0:
        return None
    whole = text[begin:].rstrip().rstrip(",")
    last = text.rfind("},")
    for body in (whole, text[begin : last + 1]):
        try:
            return json.loads(f"{body}]")
        except _NO_JSON:
            continue
    return None


class _Builder:
    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self._trace = ChromeTrace(metadata)
        self._tracks: dict[tuple[Any, Any], ChromeTrack] = {}
        self._names: dict[tuple[Any, Any], str] = {}
        self._processes: dict[Any, str] = {}
        self._open: dict[Any, list[tuple[str, int, Any]]] = {}
        self._count = 0
        self._arrows: dict[Any, list[tuple[int, bool, tuple[Any, Any]]]] = {}

    def take(self, event: Mapping[str, Any]) -> None:
        """Takes the next event."""
        phase, name = event.get("ph"), str(event.get("name", ""))
        place = event.get("pid"), event.get("tid")
        args = event.get("args")
        args = args if isinstance(args, dict) else {}
        if phase == "M":
            self._name(name, place, str(args.get("name", "")))
            return
        time_us = event.get("ts")
        if not isinstance(time_us, int | float):
            return
        time_ns = round(time_us * _NS_PER_US)
        if phase == "X":
            length = event.get("dur", 0)
            end_ns = time_ns + round(float(length) * _NS_PER_US)
            self._span(event, place, name, time_ns, end_ns, args)
        elif phase == "B":
            self._open.setdefault(place, []).append((name, time_ns, args))
        elif phase == "E" and self._open.get(place):
            name, begin_ns, opened = self._open[place].pop()
            self._span(event, place, name, begin_ns, time_ns, {**opened, **args})
        elif phase in ("b", "e"):
            self._asynchronous(event, place, name, time_ns, args)
        elif phase == "C":
            for key, value in args.items():
                if isinstance(value, int | float):
                    series = name if key in ("value", name) else f"{name} {key}"
                    points = self._trace.counters.setdefault(series, [])
                    points.append((time_ns, value))
        elif phase in ("i", "I"):
            self._trace.instants.append((time_ns, name, args))
        elif phase in ("s", "t", "f"):
            arrow = event.get("cat"), name, event.get("id")
            hash(place)  # Looked up in the end: what cannot be is refused here.
            ends = self._arrows.setdefault(arrow, [])
            ends.append((time_ns, phase == "s", place))

    def _name(self, what: str, place: tuple[Any, Any], name: str) -> None:
        if what == "process_name":
            self._processes[place[0]] = name
        elif what == "thread_name":
            self._names[place] = name

    def _asynchronous(
        self,
        event: Mapping[str, Any],
        place: tuple[Any, Any],
        name: str,
        time_ns: int,
        args: dict[str, Any],
    ) -> None:
        key = "async", place[0], event.get("cat"), event.get("id"), name
        if event.get("ph") == "b":
            self._open.setdefault(key, []).append((name, time_ns, args))
        elif self._open.get(key):
            _, begin_ns, opened = self._open[key].pop()
            # They overlap: a track of their own keeps a thread's spans nested.
            own = place[0], f"async {event.get('cat', name)}"
            self._span(event, own, name, begin_ns, time_ns, {**opened, **args})

    def _span(
        self,
        event: Mapping[str, Any],
        place: tuple[Any, Any],
        name: str,
        begin_ns: int,
        end_ns: int,
        args: dict[str, Any],
    ) -> None:
        track = self._tracks.get(place)
        if track is None:
            process, thread = place
            track = ChromeTrack(f"{process}/{thread}", "")
            self._tracks[place] = track
            self._trace.tracks.append(track)
        self._count += 1
        if event.get("cat") in _DEVICE_CATEGORIES:
            track.is_device = True
        track.spans.append((name, begin_ns, end_ns, self._count, args or None))

    def finished(self) -> ChromeTrace:
        """The trace, once all events were given."""
        for place, track in self._tracks.items():
            process, thread = place
            name = self._names.get(place) or str(thread)
            of = self._processes.get(process)
            track.name = f"{of}: {name}" if of else name
            if _DEVICE_NAME.match(name) or (of and _DEVICE_NAME.match(of)):
                track.is_device = True
        self._draw_arrows()
        return self._trace

    def _draw_arrows(self) -> None:
        if not self._arrows:
            return
        places: dict[Any, list[tuple[int, int, int]]] = {
            place: sorted(
                (begin, end, span_id) for _, begin, end, span_id, _ in t.spans
            )
            for place, t in self._tracks.items()
        }
        after: dict[int, dict[int, None]] = {}
        for ends in self._arrows.values():
            source: int | None = None
            for time_ns, is_start, place in sorted(ends, key=lambda end: end[0]):
                around = _around(places.get(place, []), time_ns)
                if around is None:
                    continue
                if not is_start and source is not None and source != around:
                    after.setdefault(around, {})[source] = None
                source = around
        self._trace.after = {span_id: tuple(some) for span_id, some in after.items()}


def _around(spans: list[tuple[int, int, int]], time_ns: int) -> int | None:
    """The innermost span that is open at a time."""
    at = bisect_right(spans, (time_ns, float("inf"), 0)) - 1
    for step in range(64):
        if at - step < 0:
            return None
        if spans[at - step][1] >= time_ns:
            return spans[at - step][2]
    return None
