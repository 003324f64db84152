"""Everything a report says about a recording, as numbers."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from perf._model import names
from perf._model.spans import RawRecord
from perf._read import robust
from perf._read.accounting import (
    UNACCOUNTED,
    Account,
    Accountant,
    WindowAccount,
    added,
    by_role,
)
from perf._read.busy import Profiled, profiled
from perf._read.critical_path import CriticalPath, critical_path
from perf._read.device_profile import DeviceProfile
from perf._read.lock import Contention, contention
from perf._read.recording import Recording, Step
from perf._read.schedule import STRUCTURE, Schedule
from perf._read.what_if import Answer, Change, WhatIf, WhatIfError

TRUSTED_UNACCOUNTED: Final = 0.1
"""Above this part of unaccounted time a report gives no advice."""
TRUSTED_UNEXPLAINED: Final = 0.25
"""Likewise of the critical path, on which every moment between two spans counts."""
_WARM_UP: Final = 2.0
"""A first step so many times as long as the median one compiles and loads."""
_CANDIDATES: Final = 6
"""Stages that are asked about in what-ifs."""
_WHAT_IF_STEPS: Final = 40
"""At most so many steps are timed anew."""
_OUTLIER: Final = 3.0
"""A span so many times as long as the median of its like in the same step is slow."""

Progress = Callable[[str, float], None]
"""Is told what is done and how much of it, from 0 to 1."""


@dataclasses.dataclass(frozen=True, slots=True)
class StepReport:
    """A step of the trainer."""

    step: Step
    account: WindowAccount
    path: CriticalPath
    by_stage: Mapping[str, int]
    """Nanoseconds of its critical path."""
    deviation: float = 0.0
    """From the median length, in robust standard deviations."""
    reason: str = ""
    """The stage whose part of the path differs most from its median."""
    reason_ns: int = 0
    """By how much."""

    @property
    def is_unusual(self) -> bool:
        """Whether its length leaves those of the others."""
        return abs(self.deviation) >= robust.UNUSUAL


@dataclasses.dataclass(frozen=True, slots=True)
class Straggler:
    """A device that is done later than the others of its launches."""

    device: str
    stage: str
    role: str
    late_ns: int
    """On average, behind the median of its launch."""
    late_frac: float
    """Of the length of the work."""
    last_frac: float
    """Part of the launches that it ended."""


@dataclasses.dataclass(frozen=True, slots=True)
class SlowSpan:
    """A span far longer than its like in the same step."""

    name: str
    step: int
    length_ns: int
    usual_ns: int
    tags: Mapping[str, Any]
    excess_ns: int


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What a report says about one recording.

    Attributes:
        recording: it is of this.
        schedule: the same, ordered.
        warm_up: steps left out of everything below, because they compile and load.
        steps: the others.
        account: of all devices in these steps.
        roles: likewise, of each role's devices.
        devices: likewise, of each device.
        outside: of all devices between the steps; kept apart.
        outside_ns: how long that is on the clock.
        overlap_frac: mean over the steps; None where it does not exist.
        samples_per_s: as spans' tags count them; 0 if none does.
        tokens_per_s: likewise.
        path: nanoseconds of the critical paths by stage.
        path_by_role: by role.
        answers: what-ifs, those that save most first.
        refused: why there are none.
        stragglers: late devices, the latest first.
        slow_spans: far longer than their like, the worst first.
        profiled: what device profiles say of it.
        lock: what other Python threads made of the interpreter's lock.
        total_ns: of the steps together.
        median_ns: of the steps' lengths.
        mad_ns: median absolute deviation of the steps' lengths.
    """

    recording: Recording
    schedule: Schedule
    warm_up: Sequence[StepReport]
    steps: Sequence[StepReport]
    account: Account
    roles: Mapping[str, Account]
    devices: Mapping[str, Account]
    outside: Account
    outside_ns: int
    overlap_frac: float | None
    samples_per_s: float
    tokens_per_s: float
    path: Counter[str]
    path_by_role: Counter[str]
    answers: Sequence[Answer]
    refused: str
    stragglers: Sequence[Straggler]
    slow_spans: Sequence[SlowSpan]
    profiled: Profiled
    lock: Contention | None
    total_ns: int
    median_ns: int
    mad_ns: int

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader has to know about it, what limits all numbers first."""
        recording = self.recording
        return (*recording.limits, *recording.notes, *self.profiled.notes)

    @property
    def neighbours(self) -> Iterator[tuple[StepReport, StepReport]]:
        """Each step with the next one, unless the trace was not read between them."""
        return _neighbours(self.recording, self.steps)

    @property
    def unaccounted_frac(self) -> float:
        """Of the devices' time in the steps; of the path where there are no devices."""
        if self.account.total_ns:
            return self.account.share(UNACCOUNTED)
        return self.unexplained_frac

    @property
    def unexplained_frac(self) -> float:
        """Unaccounted time of the critical path."""
        return self.path[UNACCOUNTED] / self.total_ns if self.total_ns else 1.0

    @property
    def is_trusted(self) -> bool:
        """Whether enough is accounted for to give advice."""
        return (
            self.unaccounted_frac <= TRUSTED_UNACCOUNTED
            and self.unexplained_frac <= TRUSTED_UNEXPLAINED
        )


def analyse(
    recording: Recording,
    *,
    error_bound_ns: int = 0,
    queue_capacity: int | None = None,
    staleness_limit: int | None = None,
    device_profiles: Sequence[DeviceProfile] = (),
    progress: Progress | None = None,
) -> Report:
    """Finds out everything that a report says.

    Args:
        recording: of one process.
        error_bound_ns: how late an end may have been seen.
        queue_capacity: of an asynchronous run, see `WhatIf`.
        staleness_limit: likewise.
        device_profiles: of the time of the recording, or of a part of it.
        progress: is told now and then.
    """
    tell = progress or _silent
    tell("ordering", 0.0)
    schedule = recording.schedule()
    accountant = Accountant(schedule, error_bound_ns)
    found: list[StepReport] = []
    for number, step in enumerate(recording.steps):
        account = accountant.window(step.begin_ns, step.end_ns)
        path = critical_path(schedule, step.begin_ns, step.end_ns)
        found.append(StepReport(step, account, path, path.by_stage()))
        if number % 64 == 0:
            tell("accounting", number / len(recording.steps))
    warm_up, steps = _without_warm_up(found)
    steps = _judged(steps)
    devices: dict[str, Account] = {}
    blame: Counter[str] = Counter()
    blame_by_role: Counter[str] = Counter()
    for each in steps:
        for device, some in each.account.devices.items():
            devices.setdefault(device, Account()).add(some)
        blame.update(each.by_stage)
        blame_by_role.update(each.path.by_role())
    outside, outside_ns = _outside(accountant, schedule, _neighbours(recording, steps))
    overlaps = [s.account.overlap_frac for s in steps]
    known = [overlap for overlap in overlaps if overlap is not None]
    lengths = [s.step.length_ns for s in steps]
    median_ns, mad_ns = robust.median_and_mad(lengths)
    seconds = sum(lengths) / 1e9
    tell("what if", 0.0)
    answers, refused = _answers(
        schedule, steps, blame, queue_capacity, staleness_limit, tell
    )
    tell("what if", 1.0)
    return Report(
        recording=recording,
        schedule=schedule,
        warm_up=warm_up,
        steps=steps,
        account=added(devices.values()),
        roles=by_role(schedule, devices),
        devices=devices,
        outside=outside,
        outside_ns=outside_ns,
        overlap_frac=sum(known) / len(known) if known else None,
        samples_per_s=sum(s.account.samples for s in steps) / seconds if seconds else 0,
        tokens_per_s=sum(s.account.tokens for s in steps) / seconds if seconds else 0,
        path=blame,
        path_by_role=blame_by_role,
        answers=answers,
        refused=refused,
        stragglers=_stragglers(schedule, steps),
        slow_spans=_slow_spans(schedule, steps),
        profiled=profiled(recording, schedule, accountant, device_profiles),
        lock=contention(recording, steps[0].step.begin_ns, steps[-1].step.end_ns)
        if steps
        else None,
        total_ns=sum(lengths),
        median_ns=median_ns,
        mad_ns=mad_ns,
    )


def _silent(_what: str, _share: float) -> None: ...


def _without_warm_up(
    steps: list[StepReport],
) -> tuple[list[StepReport], list[StepReport]]:
    """The first step apart, if it is far longer than the rest."""
    if len(steps) < 3:
        return [], steps
    usual = statistics.median([s.step.length_ns for s in steps[1:]])
    if steps[0].step.length_ns > _WARM_UP * usual:
        return steps[:1], steps[1:]
    return [], steps


def _judged(steps: list[StepReport]) -> list[StepReport]:
    """The same with how unusual each is, and why."""
    if len(steps) < 4:
        return steps
    median, mad = robust.median_and_mad([s.step.length_ns for s in steps])
    usual = robust.usual_stages([s.by_stage for s in steps])
    found = []
    for each in steps:
        length = each.step.length_ns
        reason, ns = robust.reason(each.by_stage, usual, longer=length > median)
        deviation = robust.deviation(length, median, mad)
        found.append(
            dataclasses.replace(each, deviation=deviation, reason=reason, reason_ns=ns)
        )
    return found


def _neighbours(
    recording: Recording, steps: Sequence[StepReport]
) -> Iterator[tuple[StepReport, StepReport]]:
    for before, after in itertools.pairwise(steps):
        edges = before.step.end_ns, after.step.end_ns
        if not any(edges[0] <= begin_ns < edges[1] for begin_ns, _ in recording.lost):
            yield before, after


def _outside(
    accountant: Accountant,
    schedule: Schedule,
    neighbours: Iterable[tuple[StepReport, StepReport]],
) -> tuple[Account, int]:
    """Between the steps."""
    total, length_ns = Account(), 0
    for before, after in neighbours:
        begin, end = before.step.end_ns, after.step.begin_ns
        if begin < end:
            length_ns += end - begin
            for device in schedule.devices:
                total.add(accountant.device(device, begin, end))
    return total, length_ns


def _answers(
    schedule: Schedule,
    steps: Sequence[StepReport],
    path: Counter[str],
    queue_capacity: int | None,
    staleness_limit: int | None,
    tell: Progress,
) -> tuple[list[Answer], str]:
    stages = [s for s, _ in path.most_common(_CANDIDATES + 1) if s != UNACCOUNTED]
    changes = [
        Change(stage, 2.0) for stage in stages if stage != names.COMPILE and path[stage]
    ]
    changes += [Change(names.COMPILE, float("inf"))] if path[names.COMPILE] else []
    # What holds devices can be made ahead; the host's own work cannot.
    overlapped = [s for s in stages if s in schedule.stage_roles]
    changes += [Change(s, overlapped=True) for s in overlapped]
    if not changes:
        return [], ""
    windows = [(s.step.begin_ns, s.step.end_ns) for s in steps[-_WHAT_IF_STEPS:]]
    try:
        run = WhatIf(
            schedule,
            windows,
            queue_capacity=queue_capacity,
            staleness_limit=staleness_limit,
        )
    except WhatIfError as error:
        return [], str(error)
    found: list[Answer] = []
    refusals: list[str] = []
    for number, change in enumerate(changes):
        tell("what if", number / len(changes))
        try:
            found.append(run.answer(change))
        except WhatIfError as error:
            refusals.append(str(error))
    found.sort(key=lambda answer: -answer.saving)
    return found, refusals[0] if refusals and not found else ""


def _stragglers(schedule: Schedule, steps: Sequence[StepReport]) -> list[Straggler]:
    """By arrival: who is behind when all work on the same launch, stage by stage."""
    if not steps:
        return []
    begin_ns, end_ns = steps[0].step.begin_ns, steps[-1].step.end_ns
    late: Counter[tuple[str, str]] = Counter()
    last: Counter[tuple[str, str]] = Counter()
    count: Counter[tuple[str, str]] = Counter()
    length: Counter[tuple[str, str]] = Counter()
    for parts in _together(schedule, begin_ns, end_ns):
        ends = sorted(part[2] for _, part in parts)
        middle = ends[(len(ends) - 1) // 2]
        for device, part in parts:
            key = device, str(part[0])
            count[key] += 1
            length[key] += part[2] - part[1]
            late[key] += part[2] - middle
            last[key] += part[2] == ends[-1] > middle
    found = [
        Straggler(
            device,
            stage,
            schedule.stage_roles.get(stage, ""),
            late[device, stage] // count[device, stage],
            late[device, stage] / (length[device, stage] or 1),
            last[device, stage] / count[device, stage],
        )
        for device, stage in count
        if late[device, stage] > 0 and 2 * last[device, stage] > count[device, stage]
    ]
    return sorted(found, key=lambda straggler: -straggler.late_frac)


def _together(
    schedule: Schedule, begin_ns: int, end_ns: int
) -> Iterator[Sequence[tuple[str, RawRecord]]]:
    """Work begun in [begin, end) that several devices do at once.

    It is of one launch, or of launches alike: those on one device each belong together
    if name and tags are the same.
    """
    places = Counter(
        stage
        for lane in schedule.devices.values()
        for stage in {record[0] for record in lane.records}
    )
    alike: dict[tuple[str, str], list[tuple[str, RawRecord]]] = {}
    for launch in schedule.launches.values():
        if launch.record[0] in names.WEIGHT_SYNC:
            continue
        if not begin_ns <= launch.begin_ns < end_ns:
            continue
        if len(launch.parts) > 1:
            yield launch.parts
        elif launch.parts and launch.record[6] and places[launch.record[0]] > 1:
            key = str(launch.record[0]), repr(launch.record[6])
            alike.setdefault(key, []).append(launch.parts[0])
    for parts in alike.values():
        if 1 < len({device for device, _ in parts}) == len(parts):
            yield parts


def _slow_spans(schedule: Schedule, steps: Sequence[StepReport]) -> list[SlowSpan]:
    found = []
    for each in steps:
        least = 0.05 * each.step.length_ns
        by_name: dict[str, list[tuple[int, RawRecord]]] = {}
        for lane in schedule.threads.values():
            records = lane.between(each.step.begin_ns, each.step.end_ns)
            compiles = [r for r in records if r[0] == names.COMPILE]
            for record in records:
                own = record[2] - record[1]
                if compiles:  # what compiles is told as that
                    own -= _inside(record, compiles)
                by_name.setdefault(record[0], []).append((own, record))
        for name, some in by_name.items():
            if len(some) < 4 or name in STRUCTURE | {names.COMPILE}:
                continue
            length, longest = max(some, key=lambda item: item[0])
            if length <= least:
                continue
            usual = round(statistics.median([own for own, _ in some]))
            excess = length - usual
            if length > _OUTLIER * usual and excess > least:
                tags = dict(longest[6] or {})
                number = each.step.number
                found.append(SlowSpan(name, number, length, usual, tags, excess))
    return sorted(found, key=lambda slow: -slow.excess_ns)[:20]


def _inside(record: RawRecord, compiles: Sequence[RawRecord]) -> int:
    """How long was compiled in a span; tracing and lowering may overlap."""
    total, at = 0, record[1]
    for compile_ in compiles:
        begin, end = max(at, compile_[1]), min(record[2], compile_[2])
        if begin < end:
            total += end - begin
            at = end
    return total
