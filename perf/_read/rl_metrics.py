"""The metrics of one step: one table of names, formulas and topologies.

All values are seconds. A span counts towards a sum with the part of it that lies in
the step's window, and towards a mean with its whole length in the step where it began;
while it is open it counts up to the window's end. An empty list has the sum 0 and no
mean. Spans that ran on several devices count once.

Source: what the `tunix.perf` path promises its users; docs/reference/metrics.md.
"""

from __future__ import annotations

import operator
from collections.abc import Container, Iterable, Iterator
from itertools import pairwise

from perf._model import names
from perf._model.roles import ACTOR, CRITIC, REFERENCE, ROLLOUT, Roles
from perf._read.steps import Interval, StepSpans

Metrics = dict[str, float]


def step_metrics(step: StepSpans, roles: Roles) -> Metrics:
    """All metrics of a step that the roles' topology has.

    Args:
        step: its spans.
        roles: the devices of each role; an unknown one is measured on the host.

    Returns:
        Name (`perf/…`) to seconds.
    """
    rollouts = _of(step, roles, ROLLOUT, names.ROLLOUT)
    references = _of(step, roles, REFERENCE, names.REFERENCE_INFERENCE)
    train_steps = _named(step.main, names.TRAIN_STEP)
    trainings = _trainings(step, roles, names.ACTOR_TRAINING, ACTOR, train_steps)
    sync = next(iter(_named(step.main, names.WEIGHT_SYNC)[::-1]), None)
    end = step.end if step.global_step is None else min(step.global_step.end, step.end)

    metrics: Metrics = {
        "perf/global_step_time": end - step.begin,
        "perf/weight_sync_time": 0.0 if sync is None else _length(sync, step),
    }
    if roles.rollout_apart and rollouts:
        # Without a sync (a shared model) the step's end is where one would be.
        sync_begin = end if sync is None else sync.begin
        metrics["perf/rollout_idle_time"] = sync_begin - max(
            _until(rollout, step) for rollout in rollouts
        )
        metrics["perf/first_micro_batch_rollout_time"] = (
            _until(rollouts[0], step) - step.begin
        )
    metrics |= _sum_and_mean("rollout_time", rollouts, step)
    metrics |= _sum_and_mean("refer_inference_time", references, step)
    metrics |= _sum_and_mean("actor_train_time", trainings, step)
    metrics |= _sum_and_mean("actor_train_step_time", train_steps, step)
    if roles.trainer_apart:
        pairs = _consecutive(_own(trainings, step), _own(references, step))
        metrics |= _gaps("between_micro_batch_gap_time", pairs, step)
    if roles.all_apart:
        metrics |= _gaps("refer_gap_time", pairwise(_own(references, step)), step)
        metrics |= _gaps("actor_gap_time", pairwise(_own(trainings, step)), step)
    critic = _trainings(step, roles, names.CRITIC_TRAINING, CRITIC, [])
    if critic:
        metrics |= _sum_and_mean("critic_train_time", critic, step)
    return metrics


def _trainings(
    step: StepSpans, roles: Roles, group: str, role: str, train_steps: list[Interval]
) -> list[Interval]:
    """The trainings of a role: its groups; without groups, the union of its steps."""
    groups = _named(step.main, {group})
    if groups or not train_steps:
        return groups
    return list(_united(_of(step, roles, role, names.TRAIN_STEP) or train_steps))


def _of(
    step: StepSpans, roles: Roles, role: str, wanted: Container[str]
) -> list[Interval]:
    """What a role ran: on its devices, or on the host if no device knows.

    A role whose devices are unknown is measured on all. A launch over many devices is
    one: from its first begin to its last end.
    """
    found: dict[int, Interval] = {}
    for device in roles.devices.get(role) or step.devices:
        for new in step.devices.get(device, ()):
            if new.name in wanted:
                old = found.setdefault(new.id, new)
                if new.begin < old.begin or new.end > old.end:  # mutate: ok if equal
                    begin, end = min(old.begin, new.begin), max(old.end, new.end)
                    found[new.id] = Interval(new.name, begin, end, new.id)
    if found:
        return sorted(found.values(), key=_begin)
    if any(_named(some, wanted) for some in step.devices.values()):
        return []
    return sorted(_named(step.main, wanted) + _named(step.hosts, wanted), key=_begin)


def _named(intervals: list[Interval], wanted: Container[str]) -> list[Interval]:
    return [interval for interval in intervals if interval.name in wanted]


def _united(intervals: list[Interval]) -> Iterator[Interval]:
    """Overlapping stretches as one."""
    current: Interval | None = None
    for interval in intervals:
        if current is None:
            current = interval
        elif interval.begin < current.end:
            end = max(current.end, interval.end)
            current = Interval(current.name, current.begin, end, current.id)
        else:
            yield current
            current = interval
    if current is not None:
        yield current


def _sum_and_mean(name: str, intervals: list[Interval], step: StepSpans) -> Metrics:
    total, own = 0.0, []
    for interval in intervals:
        end = _until(interval, step)
        if interval.begin >= step.begin:
            own.append(end - interval.begin)
            total += own[-1]
        else:
            total += max(0.0, end - step.begin)
    return _aggregated(name, total, own)


def _gaps(
    name: str, pairs: Iterable[tuple[Interval, Interval]], step: StepSpans
) -> Metrics:
    """From the end of one to the begin of the next, never below 0."""
    gaps = [max(0.0, after.begin - _until(before, step)) for before, after in pairs]
    return _aggregated(name, sum(gaps), gaps)


def _own(intervals: list[Interval], step: StepSpans) -> list[Interval]:
    """Those that began in the step: a gap lies between work of one step."""
    return [interval for interval in intervals if interval.begin >= step.begin]


def _consecutive(
    trainings: list[Interval], references: list[Interval]
) -> Iterator[tuple[Interval, Interval]]:
    """Each training with the next reference inference that began after it did.

    By time and not by number: either may be missing for a micro-batch. Of trainings
    without an inference between them only the last one is followed by a gap.
    """
    following: Interval | None = None
    remaining = list(references)
    for training in reversed(trainings):
        found = following
        while remaining and remaining[-1].begin >= training.begin:
            found = remaining.pop()
        if found is not following and found is not None:
            yield training, found
        following = found


def _aggregated(name: str, total: float, values: list[float]) -> Metrics:
    metrics = {f"perf/sum/{name}": float(total)}
    if values:
        metrics[f"perf/mean/{name}"] = sum(values) / len(values)
    return metrics


def _until(interval: Interval, step: StepSpans) -> float:
    return min(interval.end, step.end)


def _length(interval: Interval, step: StepSpans) -> float:
    return max(0.0, _until(interval, step) - max(interval.begin, step.begin))


_begin = operator.attrgetter("begin")
