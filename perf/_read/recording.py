"""A trace file as the tracer recorded it: spans by timeline, the trainer's steps."""

from __future__ import annotations

import dataclasses
import operator
import os
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from perf._model import names
from perf._model.errors import TraceFormatError
from perf._model.ids import QUEUE_SUFFIX
from perf._model.lock import LockDemand
from perf._model.spans import (
    DEVICE,
    OPEN,
    QUEUED,
    SPAN,
    ClockSnapshot,
    RawRecord,
    TimelineInfo,
    TimelineKind,
)
from perf._model.tracks import (
    CLUSTER,
    DEVICES,
    LANE_RANKS,
    MAIN,
    MAIN_THREADS,
    ROLE_LABELS,
    ROLLOUT_THREADS,
    TOP,
)
from perf._read import chrome
from perf._read.damage import said
from perf._read.events import Event, Events, Progress, Row, read_events
from perf._read.packets import check_file, frames, open_trace
from perf._read.schedule import Schedule
from perf._read.stretches import Stretch

_COPIES: Final = frozenset(ROLE_LABELS.values())
_LOOKED_AHEAD: Final = 16
_NAMED: Final = 3
"""Files in a message."""


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """A window of the trainer."""

    number: int
    begin_ns: int
    end_ns: int

    @property
    def length_ns(self) -> int:
        """Of the window."""
        return self.end_ns - self.begin_ns


@dataclasses.dataclass(frozen=True, slots=True)
class Sampled:
    """A counter's curve."""

    name: str
    unit: str
    points: Sequence[tuple[int, float]]
    """Time and value, by time."""


@dataclasses.dataclass(frozen=True, slots=True)
class Recording:
    """What one process recorded.

    Attributes:
        path: the file it comes from.
        run: metadata.
        timelines: records by timeline; ids are unique in the recording, and shared by
            a span and its work on devices.
        steps: windows of the trainer, in order; they do not overlap.
        counters: curves.
        instants: time, name and tags.
        begin_ns: of the first record.
        end_ns: of the last one.
        notes: what else a reader of a report has to know about it.
        clocks: moments on all clocks, in order; none of a foreign trace.
        lost: stretches of time of which the file could not be read.
        limits: what a reader has to know before any number: what is missing in all of
            them, and what is taken for a step.
        lock: what was seen of the interpreter's lock, each with the end of its stretch.
    """

    path: str
    run: Mapping[str, Any]
    timelines: Sequence[tuple[TimelineInfo, list[RawRecord]]]
    steps: Sequence[Step]
    counters: Sequence[Sampled]
    instants: Sequence[tuple[int, str, Mapping[str, Any]]]
    begin_ns: int
    end_ns: int
    notes: tuple[str, ...]
    clocks: Sequence[ClockSnapshot] = ()
    lost: Sequence[Stretch] = ()
    limits: tuple[str, ...] = ()
    lock: Sequence[tuple[int, LockDemand]] = ()

    def schedule(self) -> Schedule:
        """The same, ordered for questions about time."""
        return Schedule(self.timelines, self.end_ns)

    @property
    def spans(self) -> int:
        """How many records there are."""
        return sum([len(records) for _, records in self.timelines])


def read_recording(
    path: str | os.PathLike[str], progress: Progress | None = None
) -> Recording:
    """Reads a trace file: one of ours, or Chrome's JSON (`.json`, `.json.gz`).

    Args:
        path: of the file.
        progress: is told now and then.

    Raises:
        TraceFormatError: it is no such file; the message says what was found.
        OSError: it cannot be read at all.
    """
    check_file(path)
    if chrome.is_chrome(path):
        return _recording(path, *_of_chrome(chrome.read_chrome(path)))
    events = read_events(path, progress)
    limits = said(events.unread, is_cut=events.is_cut)
    if events.unplaced:
        limits.append(
            "events on tracks that the file does not introduce, left out: "
            f"{events.unplaced}"
        )
    if events.lost:
        limits.append(
            f"spans, instants and samples that the writer had to drop: {events.lost}"
        )
    return _recording(
        path,
        *_of_events(events),
        limits,
        events.clocks,
        events.lost_times,
        events.lock,
    )


_Parts = tuple[
    Mapping[str, Any],
    list[tuple[TimelineInfo, list[RawRecord]]],
    list[Sampled],
    list[tuple[int, str, Mapping[str, Any]]],
]


def _recording(
    path: str | os.PathLike[str],
    run: Mapping[str, Any],
    timelines: list[tuple[TimelineInfo, list[RawRecord]]],
    counters: list[Sampled],
    instants: list[tuple[int, str, Mapping[str, Any]]],
    limits: Iterable[str] = (),
    clocks: Sequence[ClockSnapshot] = (),
    lost_times: Sequence[tuple[int, int]] = (),
    lock: Sequence[tuple[int, LockDemand]] = (),
) -> Recording:
    begins = [r[1] for _, records in timelines for r in records]
    if not begins:
        raise TraceFormatError(
            f"{os.fspath(path)}: a trace without a single span: nothing was recorded, "
            "or the run was killed before the first flush"
        )
    ends = [r[2] for _, records in timelines for r in records if r[2] != OPEN]
    unfinished = len(begins) - len(ends)
    begin_ns, end_ns = min(begins), max(max(begins), max(ends or begins))
    timelines = _with_main(timelines)
    lost = [(begin, end if end != OPEN else end_ns) for begin, end in lost_times]
    steps, how = _steps(timelines)
    found, notes = list(limits), []
    if steps and lost:
        whole = _away_from(lost, steps)
        found.append(
            f"steps beside what was not read, left out: {len(steps) - len(whole)}"
        )
        steps = whole
    elif not steps:
        edges = [begin_ns, *(edge for stretch in lost for edge in stretch), end_ns]
        parts = zip(edges[::2], edges[1::2], strict=True)
        steps = [Step(n, *part) for n, part in enumerate(parts)]
        how = "no span or tag says where steps begin: the whole trace is one"
        if lost:
            how += " for each part that was read"
    if how:
        found.append(how)
    if unfinished == 1:
        notes.append("1 span has no end and is cut at the last moment")
    elif unfinished:
        notes.append(f"{unfinished} spans have no end and are cut at the last moment")
    return Recording(
        os.fspath(path),
        run,
        timelines,
        steps,
        counters,
        instants,
        begin_ns,
        end_ns,
        tuple(notes),
        clocks,
        lost,
        tuple(found),
        lock,
    )


# -- ours ------------------------------------------------------------------------------


def _of_events(events: Events) -> _Parts:
    by_info: dict[tuple[tuple[str, ...], int], list[int]] = defaultdict(list)
    has_devices = any(row.path[-1:] == (DEVICES,) for row in events.rows.values())
    for uuid in events.slices:
        row = events.rows[uuid]
        if not (has_devices and _is_copy(row)):
            by_info[row.path, row.rank // LANE_RANKS].append(uuid)
    found: list[tuple[TimelineInfo, list[Event]]] = []
    seen: Counter[str] = Counter()
    for (_, rank), uuids in by_info.items():
        info = _info(events.rows[uuids[0]], rank)
        seen[info.id] += 1
        if seen[info.id] > 1:
            info = info._replace(id=f"{info.id}#{seen[info.id]}")
        merged = [event for uuid in uuids for event in events.slices[uuid]]
        found.append((info, merged))
    ids = _launch_ids(found)
    after = _predecessors(events.arrows, ids)
    timelines = []
    for info, some in found:
        kind = _RECORD_KINDS.get(info.kind, SPAN)
        records: list[RawRecord] = []
        for name, begin, end, slice_id, parent, tags in some:
            span_id = ids.get(slice_id, slice_id)
            records.append(
                (name, begin, end, span_id, parent, kind, tags, after.get(span_id))
            )
        timelines.append((info, records))
    counters = [
        Sampled(row.path[-1], row.unit or "", sorted(points))
        for uuid, points in events.samples.items()
        for row in (events.rows[uuid],)
    ]
    instants: list[tuple[int, str, Mapping[str, Any]]] = [
        (time_ns, name, tags) for _, time_ns, name, tags in events.instants
    ]
    return events.run, timelines, counters, instants


_RECORD_KINDS: Final = {TimelineKind.DEVICE: DEVICE, TimelineKind.QUEUE: QUEUED}


def _is_copy(row: Row) -> bool:
    """v1 shows some spans of devices once more, by role."""
    return len(row.path) == 3 and row.path[1] == TOP and row.path[2] in _COPIES


def _info(row: Row, rank: int) -> TimelineInfo:
    name = row.path[-1]
    head = row.path[-2] if len(row.path) > 1 else ""
    if head == DEVICES or head.endswith(CLUSTER):
        is_queue = name.endswith(QUEUE_SUFFIX)
        kind = TimelineKind.QUEUE if is_queue else TimelineKind.DEVICE
        return TimelineInfo(name, kind, name)
    if head in (MAIN_THREADS, ROLLOUT_THREADS):
        return TimelineInfo(name, TimelineKind.HOST, name, rank == 0)
    if head == TOP and (name == MAIN or name.startswith(f"{MAIN} ")):
        return TimelineInfo(name, TimelineKind.HOST, name, name == MAIN)
    return TimelineInfo(name, TimelineKind.NAMED, name)


def _launch_ids(timelines: list[tuple[TimelineInfo, list[Event]]]) -> dict[int, int]:
    """Which slices of devices belong to which span: they get its id.

    A file shows a span and its work on devices as slices of one name. The work was
    launched where the span opened, exactly; where it had to queue behind work that was
    queued itself, that moment is not in the file, and the order of launches decides.
    """
    is_device = TimelineKind.DEVICE
    worked = {e[0] for info, some in timelines if info.kind is is_device for e in some}
    hosts: dict[str, list[Event]] = {name: [] for name in worked}
    queued: dict[str, dict[int, int]] = defaultdict(dict)
    for info, some in timelines:
        if info.kind is TimelineKind.HOST:
            for event in some:
                if event[0] in worked:
                    hosts[event[0]].append(event)
        elif info.kind is TimelineKind.QUEUE:
            device = info.id.removesuffix(QUEUE_SUFFIX)
            queued[device].update({event[2]: event[1] for event in some})
    for some in hosts.values():
        some.sort(key=_begin)
    begins = {name: [event[1] for event in some] for name, some in hosts.items()}
    ids: dict[int, int] = {}
    for info, some in timelines:
        if info.kind is not TimelineKind.DEVICE:
            continue
        following: Counter[str] = Counter()
        launches = queued[info.id]
        for event in sorted(some, key=_begin):
            name, begin_ns, _, slice_id, _, _ = event
            candidates = hosts.get(name)
            if not candidates:
                continue
            launched = launches.get(begin_ns, begin_ns)
            exact = bisect_right(begins[name], launched) - 1
            at: int | None = None
            if exact >= 0 and candidates[exact][1] == launched:
                at = exact
            else:
                at = _in_turn(candidates, following[name], event)
            if at is not None:
                following[name] = max(following[name], at + 1)
                ids[slice_id] = candidates[at][3]
    return ids


def _in_turn(candidates: list[Event], first: int, event: Event) -> int | None:
    """The next span of that name that has not had its work yet, alike in tags."""
    tags = {key: v for key, v in (event[5] or {}).items() if key != names.END_ERROR}
    for at in range(first, min(first + _LOOKED_AHEAD, len(candidates))):
        if candidates[at][1] > event[1]:
            return None
        if (candidates[at][5] or {}) == tags:
            return at
    return None


_begin = operator.itemgetter(1)


def _predecessors(
    arrows: Sequence[tuple[int, int]], ids: Mapping[int, int]
) -> dict[int, tuple[int, ...]]:
    found: dict[int, list[int]] = defaultdict(list)
    for source, target in arrows:
        first, second = ids.get(source, source), ids.get(target, target)
        if first != second:
            found[second].append(first)
    return {span_id: tuple(dict.fromkeys(some)) for span_id, some in found.items()}


# -- Chrome's --------------------------------------------------------------------------


def _of_chrome(trace: chrome.ChromeTrace) -> _Parts:
    timelines = []
    for track in trace.tracks:
        kind = TimelineKind.DEVICE if track.is_device else TimelineKind.HOST
        info = TimelineInfo(track.id, kind, track.name)
        record_kind = DEVICE if track.is_device else SPAN
        records: list[RawRecord] = [
            (name, begin, end, span_id, 0, record_kind, tags, trace.after.get(span_id))
            for name, begin, end, span_id, tags in track.spans
        ]
        timelines.append((info, records))
    counters = [
        Sampled(name, "", sorted(some)) for name, some in trace.counters.items()
    ]
    return trace.metadata, timelines, counters, trace.instants


# -- steps -----------------------------------------------------------------------------


def _with_main(
    timelines: list[tuple[TimelineInfo, list[RawRecord]]],
) -> list[tuple[TimelineInfo, list[RawRecord]]]:
    """Names the trainer's thread where the file does not."""
    if any(info.is_main for info, _ in timelines):
        return timelines
    hosts = [
        (sum(r[0] == names.GLOBAL_STEP for r in some), _covered(some), at)
        for at, (info, some) in enumerate(timelines)
        if info.kind is TimelineKind.HOST and some
    ]
    if hosts:
        at = max(hosts)[2]
        info, some = timelines[at]
        timelines = [*timelines]
        timelines[at] = info._replace(is_main=True), some
    return timelines


def _covered(records: Sequence[RawRecord]) -> int:
    return int(max(r[2] for r in records) - min(r[1] for r in records))


_IS_STEP: Final = ("global_step", "step", "train_step", "training_step", "ProfilerStep")


def _steps(
    timelines: Sequence[tuple[TimelineInfo, list[RawRecord]]],
) -> tuple[list[Step], str]:
    """The trainer's steps: spans that are some, else what tags say; and what to say."""
    main = next((some for info, some in timelines if info.is_main), [])
    for wanted in _IS_STEP:
        found = [r for r in main if _is_step(r[0], wanted)]
        if found:
            return _apart([_numbered(r, n) for n, r in enumerate(_by_begin(found))]), ""
    ends_ns: dict[int, int] = {}
    for record in main:
        number = _step_tag(record)
        if number is not None and record[2] != OPEN:
            ends_ns[number] = max(ends_ns.get(number, record[2]), record[2])
    if not ends_ns:
        return [], ""
    return _tagged_steps(ends_ns, timelines), (
        "no span is a step: each lasts from its first span on any thread to the last "
        "one of the trainer, or of its devices, with the tag 'step'"
    )


def _tagged_steps(
    ends_ns: Mapping[int, int],
    timelines: Iterable[tuple[TimelineInfo, list[RawRecord]]],
) -> list[Step]:
    """Steps that end at given times, each begun by what of it comes first.

    That may be on any thread, as in the metrics: a framework rolls out on one of its
    own while the trainer waits outside of all spans. Rollouts ahead of the trainer
    begin no step before the end of the one before. Work of the step that its devices
    have then is still part of it, up to the begin of the next.
    """
    begins_ns: list[int] = []
    worked_ns: dict[int, int] = {}
    tagged: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for info, some in timelines:
        if info.kind is TimelineKind.HOST:
            begins_ns += [record[1] for record in some]
        if info.kind in (TimelineKind.HOST, TimelineKind.DEVICE):
            for record in some:
                number = _step_tag(record)
                if number is not None:
                    tagged[number].append((record[1], record[2]))
                    if info.kind is TimelineKind.DEVICE and record[2] != OPEN:
                        worked_ns[number] = max(worked_ns.get(number, 0), record[2])
    begins_ns.sort()
    found: list[Step] = []
    for end_ns, number in sorted((end, number) for number, end in ends_ns.items()):
        own = tagged[number]
        if found:
            before_ns = found[-1].end_ns
            own = [(max(b, before_ns), e) for b, e in own if e == OPEN or e > before_ns]
            at = bisect_left(begins_ns, before_ns)
            own += [(b, b) for b in begins_ns[at : at + 1]]
        begin_ns = min([begin for begin, _ in own], default=end_ns)
        if begin_ns < end_ns:
            found.append(Step(number, begin_ns, end_ns))
    begins = [
        *(step.begin_ns for step in found[1:]),
        max(worked_ns.values(), default=0),
    ]
    for at, (step, next_ns) in enumerate(zip(found, begins, strict=False)):
        until_ns = min(worked_ns.get(step.number, 0), next_ns)
        if until_ns > step.end_ns:
            found[at] = dataclasses.replace(step, end_ns=until_ns)
    return found


def _step_tag(record: RawRecord) -> int | None:
    number = (record[6] or {}).get(names.STEP)
    return number if isinstance(number, int) else None


def _is_step(name: str, wanted: str) -> bool:
    return name == wanted or name.startswith(f"{wanted}#")


def _by_begin(records: list[RawRecord]) -> list[RawRecord]:
    return sorted(records, key=lambda record: (record[1], record[2]))


def _numbered(record: RawRecord, position: int) -> Step:
    number = _step_tag(record)
    return Step(position if number is None else number, record[1], record[2])


def _apart(steps: list[Step]) -> list[Step]:
    """Ended steps that do not overlap: each ends where the next one begins."""
    found: list[Step] = []
    for step in sorted(steps, key=lambda step: step.begin_ns):
        if step.end_ns == OPEN or step.end_ns <= step.begin_ns:
            continue
        if found and found[-1].end_ns > step.begin_ns:
            last = found.pop()
            if last.begin_ns < step.begin_ns:
                found.append(dataclasses.replace(last, end_ns=step.begin_ns))
        found.append(step)
    return found


def _away_from(lost: Sequence[Stretch], steps: Sequence[Step]) -> list[Step]:
    """Steps of which nothing is lost.

    Those that are in a lost stretch were not read. Of the last one before it, work on
    devices may have been told after it; of the first one after it, work that was under
    way when it began was told before.
    """
    ends = [step.end_ns for step in steps]
    left_out: set[int] = set()
    for begin_ns, _ in lost:
        after = bisect_right(ends, begin_ns)
        left_out |= {after - 1, after}
    return [step for at, step in enumerate(steps) if at not in left_out]


def begun_trace(path: str | os.PathLike[str]) -> Path:
    """The path of a file that begins as a trace does, or is one of Chrome's.

    Raises:
        TraceFormatError: it is a folder, no file, or something else; the message says
            what was found.
        OSError: it cannot be read.
    """
    file = check_file(path)
    if chrome.is_chrome(file):
        chrome.read_chrome(file)
        return file
    with open_trace(file) as opened:
        next(frames(opened, file))
    return file


def the_trace(path: Path) -> Path:
    """A file as it is; of a folder the one trace in it.

    Raises:
        TraceFormatError: there is none in it, or more than one.
    """
    if not path.is_dir():
        return path
    found = sorted(folder_traces(path), key=lambda file: -file.stat().st_mtime)
    if len(found) > 1:
        newest = ", ".join(file.name for file in found[:_NAMED])
        raise TraceFormatError(
            f"{path}: expected a folder with one trace, found {len(found)}: name one "
            f"of them (the newest: {newest})"
        )
    return found[0]


def folder_traces(folder: Path) -> list[Path]:
    """The traces in a folder: v2's where there are some, else v1's; else JSON."""
    for pattern in ("perfetto_trace_v2_*.pb", "*.pb", "*.json", "*.json.gz"):
        found = sorted(folder.glob(pattern))
        if found:
            return found
    raise TraceFormatError(f"{folder}: a folder without any .pb or .json file")
