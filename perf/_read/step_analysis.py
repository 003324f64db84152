"""Accounting and critical path of one step, as metrics while the training runs."""

from __future__ import annotations

import dataclasses
import operator
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Final

from perf._model.roles import ACTOR, ROLLOUT, Roles
from perf._model.spans import Records, TimelineInfo, TimelineKind
from perf._read import robust
from perf._read.accounting import Accountant
from perf._read.critical_path import critical_path
from perf._read.schedule import Schedule
from perf._read.steps import BEGIN, END, Interval, StepSpans, on_devices
from perf._read.stretches import Stretch, common, united

OFF: Final = "off"
DEFAULT: Final = "default"
"""`perf/bubble_frac` and `perf/overlap_frac`."""
ALL: Final = "all"
"""Every bucket and every stage of the critical path, too."""
LEVELS: Final = (OFF, DEFAULT, ALL)

_HISTORY: Final = 64
_LEAST_HISTORY: Final = 8
_WORTH: Final = 0.1
"""Nobody is told of a step that is longer by a smaller part of the median."""


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
        rollout = set(roles.devices.get(ROLLOUT, ()))
        trainer = set(roles.devices.get(ACTOR, ()))
        self._sides = rollout - trainer, trainer - rollout
        """Devices that only roll out, and those that only train."""
        self._level = level
        self._finds_anomalies = finds_anomalies
        self._devices: dict[str, None] = {}
        """All that were seen to work so far: those without work now are idle."""
        self._lengths: deque[int] = deque(maxlen=_HISTORY)
        self._stages: deque[Mapping[str, int]] = deque(maxlen=_HISTORY)

    def step(
        self, step: StepSpans, records: Records, opened: Records
    ) -> tuple[dict[str, float], StepAnomaly | None]:
        """Metrics of a step, and what is unusual about it.

        Args:
            step: its spans, in nanoseconds.
            records: closed between the export before and this one.
            opened: open now, device work in flight on its queue's timeline.
        """
        if step.end <= step.begin or (self._level == OFF and not self._finds_anomalies):
            return {}, None
        for device in step.devices:
            self._devices[device] = None
        metrics: dict[str, float] = {}
        if self._level != OFF:
            metrics = self._of_devices(step)
        if self._level != ALL and not self._finds_anomalies:
            return metrics, None
        begin_ns, end_ns = int(step.begin), int(step.end)
        schedule = Schedule(
            [*records, *on_devices(records, opened), *_without_work(self._devices)],
            end_ns,
        )
        stages = critical_path(schedule, begin_ns, end_ns).by_stage()
        if self._level == ALL:
            metrics |= self._all(schedule, begin_ns, end_ns)
            metrics |= {
                f"perf/critical_path/{s}_s": ns / 1e9 for s, ns in stages.items()
            }
        if not self._finds_anomalies:
            return metrics, None
        return metrics, self._anomaly(end_ns - begin_ns, stages)

    def _of_devices(self, step: StepSpans) -> dict[str, float]:
        """By the union of what held each device."""
        if not self._devices:
            return {}
        begin, end = step.begin, step.end
        occupied = 0
        before: list[Interval] | None = None
        sides: tuple[list[list[Stretch]], ...] = [], []  # What held each, once.
        for device in self._devices:
            some = step.devices.get(device, [])
            # The devices of a mesh share their records: they are looked at once.
            if some != before:
                before = some
                mine = united(map(_times, some), begin, end)
                mine_ns = sum([until - since for since, until in mine])
            occupied += mine_ns
            for which, side in enumerate(self._sides):
                if device in side and mine not in sides[which]:
                    sides[which].append(mine)
        metrics = {
            "perf/bubble_frac": 1 - occupied / (len(self._devices) * (end - begin))
        }
        if all(self._sides):
            both = [
                held[0]
                if len(held) == 1
                else united(sorted(chain.from_iterable(held)), begin, end)
                for held in sides
            ]
            metrics["perf/overlap_frac"] = common(*both) / (end - begin)
        return metrics

    def _all(self, schedule: Schedule, begin_ns: int, end_ns: int) -> dict[str, float]:
        window = Accountant(schedule).window(begin_ns, end_ns)
        metrics = {
            f"perf/account/{b}_s": ns / 1e9 for b, ns in window.all.buckets.items()
        }
        for role, account in window.roles.items():
            metrics[f"perf/bubble_frac/{role}"] = account.bubble_frac
        length_s = (end_ns - begin_ns) / 1e9
        for name, total in (("samples", window.samples), ("tokens", window.tokens)):
            if total:
                metrics[f"perf/{name}_per_s"] = total / length_s
        return metrics

    def _anomaly(self, length_ns: int, stages: Mapping[str, int]) -> StepAnomaly | None:
        found = None
        if len(self._lengths) >= _LEAST_HISTORY:
            median_ns, mad_ns = robust.median_and_mad(self._lengths)
            deviation = robust.deviation(length_ns, median_ns, mad_ns)
            if (
                deviation > robust.ALARMING  # mutate: ok if equal
                and length_ns - median_ns > _WORTH * median_ns
            ):
                found = self._explained(length_ns / 1e9, median_ns / 1e9, stages)
        self._lengths.append(length_ns)
        self._stages.append(stages)
        return found

    def _explained(
        self, length_s: float, median_s: float, stages: Mapping[str, int]
    ) -> StepAnomaly:
        usual = robust.usual_stages(self._stages)
        stage, ns = robust.reason(stages, usual, longer=True)
        text = (
            f"the step took {length_s:.3g} s instead of {median_s:.3g} s; "
            f"{stage} is {ns / 1e9:.3g} s longer than usual"
        )
        return StepAnomaly(length_s, median_s, stage, ns / 1e9, text)


def _without_work(devices: Iterable[str]) -> Records:
    """Nothing, on each: what has no timeline is not accounted for."""
    return [(TimelineInfo(d, TimelineKind.DEVICE, d), []) for d in devices]


_times = operator.itemgetter(BEGIN, END)
