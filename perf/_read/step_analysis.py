"""Accounting and critical path of one step, as metrics while the training runs."""

from __future__ import annotations

import dataclasses
import statistics
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Final

from perf._model.ids import QUEUE_SUFFIX
from perf._model.roles import ACTOR, ROLLOUT, Roles
from perf._model.spans import DEVICE, OPEN, RawRecord, TimelineInfo, TimelineKind
from perf._read.accounting import Accountant, account_window
from perf._read.critical_path import critical_path
from perf._read.schedule import Schedule

OFF: Final = "off"
DEFAULT: Final = "default"
"""`perf/bubble_frac` and `perf/overlap_frac`."""
ALL: Final = "all"
"""Every bucket and every stage of the critical path, too."""
LEVELS: Final = (OFF, DEFAULT, ALL)

_HISTORY: Final = 64
_LEAST_HISTORY: Final = 8
_UNUSUAL: Final = 4.0
"""Robust standard deviations; and at least `_WORTH` longer than the median."""
_WORTH: Final = 0.1
_MAD_SCALE: Final = 1.4826

Records = Iterable[tuple[TimelineInfo, list[RawRecord]]]
_Stretch = tuple[int, int]


@dataclasses.dataclass(frozen=True, slots=True)
class StepAnomaly:
    """A step that leaves its own history.

    Attributes:
        seconds: it took.
        median_s: of the steps before it.
        stage: whose part of the critical path grew most.
        stage_s: by how much over its median.
        text: all that in words.
    """

    seconds: float
    median_s: float
    stage: str
    stage_s: float
    text: str


OnAnomaly = Callable[[int, StepAnomaly], object]
"""Is given the number of the step and what is unusual."""


class StepAnalysis:
    """Analyses the steps of one run, one after the other.

    Work per step depends on that step alone, and on the last 64 lengths.

    Args:
        roles: the devices of each role; those not known are found by their spans.
        level: which metrics, see `LEVELS`.
        finds_anomalies: whether unusual steps are looked for.

    Raises:
        ValueError: an unknown level.
    """

    def __init__(self, roles: Roles, level: str, *, finds_anomalies: bool) -> None:
        if level not in LEVELS:
            raise ValueError(f"analysis={level!r}: expected one of {', '.join(LEVELS)}")
        self._roles = roles
        self._level = level
        self._finds_anomalies = finds_anomalies
        self._devices: dict[str, None] = {}
        """All that were seen to work so far: those without work now are idle."""
        self._lengths: deque[float] = deque(maxlen=_HISTORY)
        self._stages: deque[Mapping[str, int]] = deque(maxlen=_HISTORY)

    def step(
        self, records: Records, opened: Records, begin_ns: int, end_ns: int
    ) -> tuple[dict[str, float], StepAnomaly | None]:
        """Metrics of a step, and what is unusual about it.

        Args:
            records: closed between the export before and this one.
            opened: open now, device work in flight on its queue's timeline.
            begin_ns: of the step.
            end_ns: this export.
        """
        if end_ns <= begin_ns or (self._level == OFF and not self._finds_anomalies):
            return {}, None
        for info, _ in chain(records, opened):
            if info.kind in (TimelineKind.DEVICE, TimelineKind.QUEUE):
                self._devices[_device_of(info)] = None
        if self._level != ALL and not self._finds_anomalies:
            return self._of_devices(records, opened, begin_ns, end_ns), None
        schedule = Schedule(
            [*_with_flights(records, opened, end_ns), *_without_work(self._devices)],
            end_ns,
        )
        stages = critical_path(schedule, begin_ns, end_ns).by_stage()
        metrics: dict[str, float] = {}
        if self._level == ALL:
            metrics = self._all(schedule, begin_ns, end_ns)
            metrics |= {
                f"perf/critical_path/{s}_s": ns / 1e9 for s, ns in stages.items()
            }
        elif self._level == DEFAULT:
            metrics = self._of_devices(records, opened, begin_ns, end_ns)
        found = self._anomaly((end_ns - begin_ns) / 1e9, stages)
        return metrics, found if self._finds_anomalies else None

    def _of_devices(
        self, records: Records, opened: Records, begin_ns: int, end_ns: int
    ) -> dict[str, float]:
        """By the union of what held each device."""
        if not self._devices:
            return {}
        by_device: dict[str, list[RawRecord]] = {d: [] for d in self._devices}
        for info, some in chain(records, opened):
            if info.kind in (TimelineKind.DEVICE, TimelineKind.QUEUE):
                by_device[_device_of(info)] += some
        # The devices of a mesh share their records: what they say is found out once.
        known: dict[tuple[int, ...], list[_Stretch]] = {}
        united: dict[str, list[_Stretch]] = {}
        for device, some in by_device.items():
            same = tuple(map(id, some))
            if same not in known:
                held = [
                    (r[1], end_ns if r[2] == OPEN else r[2])
                    for r in some
                    if r[5] == DEVICE and (r[2] > begin_ns or r[2] == OPEN)
                ]
                known[same] = _united(held, begin_ns, end_ns)
            united[device] = known[same]
        whole = len(united) * (end_ns - begin_ns)
        occupied = sum([e - b for some in united.values() for b, e in some])
        metrics = {"perf/bubble_frac": 1 - occupied / whole}
        rollout = set(self._roles.devices.get(ROLLOUT, ()))
        trainer = set(self._roles.devices.get(ACTOR, ()))
        sides = []
        for devices in (rollout - trainer, trainer - rollout):
            different = {id(united[d]): united[d] for d in devices if d in united}
            if devices:
                held = [*chain.from_iterable(different.values())]
                sides.append(_united(held, begin_ns, end_ns))
        if len(sides) == 2:
            both = _common(*sides)
            metrics["perf/overlap_frac"] = both / (end_ns - begin_ns)
        return metrics

    def _all(self, schedule: Schedule, begin_ns: int, end_ns: int) -> dict[str, float]:
        window = account_window(Accountant(schedule), schedule, begin_ns, end_ns)
        metrics = {
            f"perf/account/{b}_s": ns / 1e9 for b, ns in window.all.buckets.items()
        }
        if window.devices:
            metrics["perf/bubble_frac"] = window.all.bubble_frac
        for role, account in window.roles.items():
            metrics[f"perf/bubble_frac/{role}"] = account.bubble_frac
        if window.overlap_frac is not None:
            metrics["perf/overlap_frac"] = window.overlap_frac
        length_s = (end_ns - begin_ns) / 1e9
        for name, total in (("samples", window.samples), ("tokens", window.tokens)):
            if total:
                metrics[f"perf/{name}_per_s"] = total / length_s
        return metrics

    def _anomaly(
        self, length_s: float, stages: Mapping[str, int]
    ) -> StepAnomaly | None:
        found = None
        if len(self._lengths) >= _LEAST_HISTORY:
            median_s = statistics.median(self._lengths)
            mad_s = statistics.median([abs(s - median_s) for s in self._lengths])
            scale_s = _MAD_SCALE * max(mad_s, median_s / 100)
            longer_s = length_s - median_s
            if longer_s > max(_UNUSUAL * scale_s, _WORTH * median_s):
                found = self._explained(length_s, median_s, stages)
        self._lengths.append(length_s)
        self._stages.append(stages)
        return found

    def _explained(
        self, length_s: float, median_s: float, stages: Mapping[str, int]
    ) -> StepAnomaly:
        excess = {
            stage: ns - statistics.median([s.get(stage, 0) for s in self._stages])
            for stage, ns in stages.items()
        }
        stage = max(excess, key=lambda name: excess[name])
        stage_s = excess[stage] / 1e9
        text = (
            f"the step took {length_s:.3g} s instead of {median_s:.3g} s; "
            f"{stage} is {stage_s:.3g} s longer than usual"
        )
        return StepAnomaly(length_s, median_s, stage, stage_s, text)


def _with_flights(records: Records, opened: Records, end_ns: int) -> Records:
    """Work in flight stands on its queue's timeline; a device runs the first of it."""
    found = [*records]
    free: dict[str, int] = {}
    for info, some in found:
        if info.kind is TimelineKind.DEVICE:
            free[info.id] = max([free.get(info.id, 0), *(r[2] for r in some)])
    for info, some in opened:
        if info.kind is not TimelineKind.QUEUE:
            found.append((info, some))
            continue
        flying = [r for r in some if r[5] == DEVICE]
        if flying:
            device = _device_of(info)
            first = min(flying, key=lambda r: int(r[3]))
            begin = min(max(first[1], free.get(device, 0)), end_ns)
            info = TimelineInfo(device, TimelineKind.DEVICE, device)
            found.append((info, [(first[0], begin, *first[2:])]))
    return found


def _without_work(devices: Iterable[str]) -> Records:
    """Nothing, on each: what has no timeline is not accounted for."""
    return [(TimelineInfo(d, TimelineKind.DEVICE, d), []) for d in devices]


def _device_of(info: TimelineInfo) -> str:
    """Of a device's own timeline, or its queue's."""
    is_queue = info.kind is TimelineKind.QUEUE
    return info.id.removesuffix(QUEUE_SUFFIX) if is_queue else info.id


def _united(stretches: list[_Stretch], begin_ns: int, end_ns: int) -> list[_Stretch]:
    """Cut to the window, by begin, none touching another."""
    found: list[_Stretch] = []
    for begin, end in sorted(stretches):
        begin, end = max(begin, begin_ns), min(end, end_ns)
        if begin >= end:
            continue
        if found and begin <= found[-1][1]:
            if end > found[-1][1]:
                found[-1] = found[-1][0], end
        else:
            found.append((begin, end))
    return found


def _common(first: list[_Stretch], second: list[_Stretch]) -> int:
    """How long both are under way."""
    total, at = 0, 0
    for begin, end in first:
        while at < len(second) and second[at][1] <= begin:
            at += 1
        place = at
        while place < len(second) and second[place][0] < end:
            total += min(end, second[place][1]) - max(begin, second[place][0])
            place += 1
    return total
