"""The metrics of one step: one table of names, formulas and topologies.

All values are seconds. A span counts towards a sum with the part of it that lies in
the step's window, and towards a mean with its whole length in the step where it began;
while it is open it counts up to the window's end. An empty list has the sum 0 and no
mean. Spans that ran on several devices count once.

Source: what the `tunix.perf` path promises its users; docs/reference/metrics.md.

The training waits for them, once a step, when all of this is out of the processor's
caches: what is costly is not how often something runs, but how much there is of it. So
there is no `min` and `max` here, which read keyword arguments even if there are none.
"""

from __future__ import annotations

import operator
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from perf._model import names
from perf._model.roles import ACTOR, CRITIC, REFERENCE, ROLLOUT, Roles
from perf._read.steps import BEGIN, END, ID, NAME, TAGS, Interval, StepSpans

Metrics = dict[str, float]


class _Metric(NamedTuple):
    """The names of what is told of several values."""

    sum: str
    mean: str

    @classmethod
    def of(cls, name: str) -> _Metric:
        return cls(f"perf/sum/{name}", f"perf/mean/{name}")


# Made once: a step's metrics are made while the training waits.
_ROLLOUT_TIME: Final = _Metric.of("rollout_time")
_REFERENCE_TIME: Final = _Metric.of("refer_inference_time")
_ACTOR_TIME: Final = _Metric.of("actor_train_time")
_ACTOR_STEP_TIME: Final = _Metric.of("actor_train_step_time")
_CRITIC_TIME: Final = _Metric.of("critic_train_time")
_MICRO_BATCH_GAP: Final = _Metric.of("between_micro_batch_gap_time")
_REFERENCE_GAP: Final = _Metric.of("refer_gap_time")
_ACTOR_GAP: Final = _Metric.of("actor_gap_time")


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
    main = step.main
    critic_groups = main.get(names.CRITIC_TRAINING, [])
    train_steps = _by_trainer(main.get(names.TRAIN_STEP, []), critic_groups)
    actor_groups = main.get(names.ACTOR_TRAINING, [])
    trainings = actor_groups or _trainings(step, roles, ACTOR, train_steps[ACTOR])
    syncs = main.get(names.WEIGHT_SYNC, [])
    end = step.end
    if step.global_step is not None:
        end = _cut(step.global_step[END], end)

    second = step.per_second
    metrics: Metrics = {
        "perf/global_step_time": (end - step.begin) / second,
        "perf/weight_sync_time": _length(syncs[-1], step) / second if syncs else 0.0,
    }
    if roles.rollout_apart and rollouts:
        # Without a sync (a shared model) the step's end is where one would be.
        sync_begin = syncs[-1][BEGIN] if syncs else end
        # What was done before the step is none of its rollouts.
        ends = [_cut(r[END], step.end) for r in rollouts if r[END] > step.begin]
        first = ends[0] if ends else step.begin
        ends.sort()
        idle = sync_begin - (ends[-1] if ends else step.begin)
        idle = idle if idle > 0 else 0.0  # mutate: ok if equal
        metrics["perf/rollout_idle_time"] = idle / second
        metrics["perf/first_micro_batch_rollout_time"] = (first - step.begin) / second
    _add_sum_and_mean(metrics, _ROLLOUT_TIME, rollouts, step)
    _add_sum_and_mean(metrics, _REFERENCE_TIME, references, step)
    _add_sum_and_mean(metrics, _ACTOR_TIME, trainings, step)
    _add_sum_and_mean(metrics, _ACTOR_STEP_TIME, train_steps[ACTOR], step)
    if roles.trainer_apart or roles.all_apart:
        # A gap lies between work of one step.
        trained, inferred = _own(trainings, step), _own(references, step)
        if roles.trainer_apart:
            pairs = _consecutive(trained, inferred)
            _add_gaps(metrics, _MICRO_BATCH_GAP, pairs, step)
        else:
            _add_gaps(metrics, _REFERENCE_GAP, pairwise(inferred), step)
            _add_gaps(metrics, _ACTOR_GAP, pairwise(trained), step)
    critic = critic_groups or _trainings(step, roles, CRITIC, train_steps[CRITIC])
    if critic:
        _add_sum_and_mean(metrics, _CRITIC_TIME, critic, step)
    return metrics


def _trainings(
    step: StepSpans, roles: Roles, role: str, train_steps: list[Interval]
) -> list[Interval]:
    """The trainings of a role without groups: the union of its steps on its devices."""
    if not train_steps:
        return []
    on_devices = _by_trainer(_of(step, roles, role, names.TRAIN_STEP), ())[role]
    return list(_united(on_devices or train_steps))


def _by_trainer(
    train_steps: list[Interval], critic_groups: Sequence[Interval]
) -> dict[str, list[Interval]]:
    """Whose training steps they are: a tag of v2 tells, or the group of v1 around."""
    if not critic_groups and not any(map(_tags, train_steps)):
        return {ACTOR: train_steps, CRITIC: []}
    actors: list[Interval] = []
    critics: list[Interval] = []
    for train_step in train_steps:
        tags = train_step[TAGS]
        role = tags.get(names.ROLE) if tags else None
        if isinstance(role, str):
            is_critics = role == CRITIC
        else:
            begin = train_step[BEGIN]
            is_critics = bool(critic_groups) and any(
                group[BEGIN] <= begin < group[END] for group in critic_groups
            )
        (critics if is_critics else actors).append(train_step)
    return {ACTOR: actors, CRITIC: critics}


def _of(
    step: StepSpans, roles: Roles, role: str, wanted: frozenset[str]
) -> list[Interval]:
    """What a role ran: on its devices, or on the host if no device knows.

    A role whose devices are unknown is measured on all. A launch over many devices is
    one: from its first begin to its last end.
    """
    found: list[list[Interval]] = []
    before: list[Interval] = []
    for device in roles.devices.get(role) or step.devices:
        # The devices of a mesh share their records: they are looked at once.
        if device in step.devices and step.devices[device] != before:
            before = step.devices[device]
            some = _named(before, wanted)
            if some and some not in found:
                found.append(some)
    if len(found) == 1:
        return found[0]
    if found:
        return _launches(found)
    if any(_named(some, wanted) for some in step.devices.values()):
        return []
    return sorted(step.main.get(wanted, []) + step.hosts.get(wanted, []), key=_begin)


def _launches(devices: list[list[Interval]]) -> list[Interval]:
    """What ran on any of several devices, each launch once, by begin."""
    found: dict[int, Interval] = {}
    for some in devices:
        for new in some:
            old = found.setdefault(new[ID], new)
            if new[BEGIN] < old[BEGIN] or new[END] > old[END]:  # mutate: ok if equal
                begin, end = min(old[BEGIN], new[BEGIN]), max(old[END], new[END])
                found[new[ID]] = (new[NAME], begin, end, *new[ID:])
    return sorted(found.values(), key=_begin)


def _named(intervals: Iterable[Interval], wanted: Container[str]) -> list[Interval]:
    return [interval for interval in intervals if interval[NAME] in wanted]


def _united(intervals: list[Interval]) -> Iterator[Interval]:
    """Overlapping stretches as one."""
    current: Interval | None = None
    for interval in intervals:
        if current is None:
            current = interval
        elif interval[BEGIN] < current[END]:
            end = max(current[END], interval[END])
            current = (current[NAME], current[BEGIN], end, *current[ID:])
        else:
            yield current
            current = interval
    if current is not None:
        yield current


def _add_sum_and_mean(
    metrics: Metrics, metric: _Metric, intervals: list[Interval], step: StepSpans
) -> None:
    step_begin, step_end = step.begin, step.end
    before = 0.0
    first = 0
    for interval in intervals:
        if interval[BEGIN] >= step_begin:
            break
        first += 1
        end = _cut(interval[END], step_end)
        if end > step_begin:  # mutate: ok if equal
            before += end - step_begin
    own = [
        (i[END] if i[END] < step_end else step_end) - i[BEGIN]  # mutate: ok if equal
        for i in (intervals[first:] if first else intervals)
    ]
    _add(metrics, metric, sum(own, before), own, step)


def _add_gaps(
    metrics: Metrics,
    metric: _Metric,
    pairs: Iterable[tuple[Interval, Interval]],
    step: StepSpans,
) -> None:
    """From the end of one to the begin of the next, never below 0."""
    gaps = []
    for before, after in pairs:
        end, begin = _cut(before[END], step.end), after[BEGIN]
        gaps.append(begin - end if begin > end else 0.0)  # mutate: ok if equal
    _add(metrics, metric, sum(gaps), gaps, step)


def _add(
    metrics: Metrics,
    metric: _Metric,
    total: float,
    values: list[float],
    step: StepSpans,
) -> None:
    metrics[metric.sum] = total / step.per_second
    if values:
        metrics[metric.mean] = sum(values) / len(values) / step.per_second


def _own(intervals: list[Interval], step: StepSpans) -> list[Interval]:
    """Those that began in the step."""
    begin = step.begin
    if not intervals or intervals[0][BEGIN] >= begin:  # mutate: ok a shortcut
        return intervals
    return [interval for interval in intervals if interval[BEGIN] >= begin]


def _consecutive(
    trainings: list[Interval], references: list[Interval]
) -> list[tuple[Interval, Interval]]:
    """Each training with the next reference inference that began after it did.

    By time and not by number: either may be missing for a micro-batch. Of trainings
    without an inference between them only the last one is followed by a gap.
    """
    found: list[tuple[Interval, Interval]] = []
    after = at = len(references)
    for training in reversed(trainings):
        while at and references[at - 1][BEGIN] >= training[BEGIN]:
            at -= 1
        if at < after:
            found.append((training, references[at]))
        after = at
    return found


def _length(interval: Interval, step: StepSpans) -> float:
    end = _cut(interval[END], step.end)
    begin = interval[BEGIN]
    if begin < step.begin:  # mutate: ok if equal
        begin = step.begin
    return float(end - begin) if end > begin else 0.0  # mutate: ok if equal


def _cut(end: float, window_end: float) -> float:
    return end if end < window_end else window_end  # mutate: ok if equal


_begin = operator.itemgetter(BEGIN)
_tags = operator.itemgetter(TAGS)
