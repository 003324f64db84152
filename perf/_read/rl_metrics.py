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
from perf._read.steps import BEGIN, END, ID, NAME, TAGS, Interval, StepSpans

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
    critic_groups = _named(step.main, (names.CRITIC_TRAINING,))
    train_steps: dict[str, list[Interval]] = {ACTOR: [], CRITIC: []}
    for interval in _named(step.main, names.TRAIN_STEP):
        train_steps[_trained(interval, critic_groups)].append(interval)
    actor_groups = _named(step.main, (names.ACTOR_TRAINING,))
    trainings = actor_groups or _trainings(step, roles, ACTOR, train_steps[ACTOR])
    syncs = _named(step.main, names.WEIGHT_SYNC)
    end = step.end
    if step.global_step is not None:
        end = min(step.global_step[END], end)

    metrics: Metrics = {
        "perf/global_step_time": end - step.begin,
        "perf/weight_sync_time": _length(syncs[-1], step) if syncs else 0.0,
    }
    if roles.rollout_apart and rollouts:
        # Without a sync (a shared model) the step's end is where one would be.
        sync_begin = syncs[-1][BEGIN] if syncs else end
        last = min(max([rollout[END] for rollout in rollouts]), step.end)
        first = min(rollouts[0][END], step.end)
        metrics["perf/rollout_idle_time"] = sync_begin - last
        metrics["perf/first_micro_batch_rollout_time"] = first - step.begin
    _add_sum_and_mean(metrics, "rollout_time", rollouts, step)
    _add_sum_and_mean(metrics, "refer_inference_time", references, step)
    _add_sum_and_mean(metrics, "actor_train_time", trainings, step)
    _add_sum_and_mean(metrics, "actor_train_step_time", train_steps[ACTOR], step)
    if roles.trainer_apart:
        pairs = _consecutive(_own(trainings, step), _own(references, step))
        _add_gaps(metrics, "between_micro_batch_gap_time", pairs, step)
    if roles.all_apart:
        _add_gaps(metrics, "refer_gap_time", pairwise(_own(references, step)), step)
        _add_gaps(metrics, "actor_gap_time", pairwise(_own(trainings, step)), step)
    critic = critic_groups or _trainings(step, roles, CRITIC, train_steps[CRITIC])
    if critic:
        _add_sum_and_mean(metrics, "critic_train_time", critic, step)
    return {name: value / step.per_second for name, value in metrics.items()}


def _trainings(
    step: StepSpans, roles: Roles, role: str, train_steps: list[Interval]
) -> list[Interval]:
    """The trainings of a role without groups: the union of its steps on its devices."""
    if not train_steps:
        return []
    on_devices = [
        interval
        for interval in _of(step, roles, role, names.TRAIN_STEP)
        if _trained(interval, ()) == role
    ]
    return list(_united(on_devices or train_steps))


def _trained(train_step: Interval, critic_groups: Iterable[Interval]) -> str:
    """Whose training step it is: a tag of v2 tells, or the group of v1 around it."""
    tags = train_step[TAGS] if len(train_step) > TAGS else None
    role = tags.get(names.ROLE) if tags else None
    if isinstance(role, str):
        return CRITIC if role == CRITIC else ACTOR
    for group in critic_groups:
        if group[BEGIN] <= train_step[BEGIN] < group[END]:
            return CRITIC
    return ACTOR


def _of(
    step: StepSpans, roles: Roles, role: str, wanted: Container[str]
) -> list[Interval]:
    """What a role ran: on its devices, or on the host if no device knows.

    A role whose devices are unknown is measured on all. A launch over many devices is
    one: from its first begin to its last end.
    """
    devices = roles.devices.get(role) or step.devices
    found = [_named(step.devices.get(device, []), wanted) for device in devices]
    found = [some for some in found if some]
    if len(found) == 1:
        return found[0]
    if found:
        return _launches(found)
    if any(_named(some, wanted) for some in step.devices.values()):
        return []
    return sorted(_named(step.main, wanted) + _named(step.hosts, wanted), key=_begin)


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


def _named(intervals: list[Interval], wanted: Container[str]) -> list[Interval]:
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
    metrics: Metrics, name: str, intervals: list[Interval], step: StepSpans
) -> None:
    total, own = 0.0, []
    step_begin, step_end = step.begin, step.end
    for interval in intervals:
        begin, end = interval[BEGIN], interval[END]
        if end > step_end:  # mutate: ok if equal
            end = step_end
        if begin >= step_begin:
            own.append(end - begin)
            total += end - begin
        elif end > step_begin:  # mutate: ok if equal
            total += end - step_begin
    _add(metrics, name, total, own)


def _add_gaps(
    metrics: Metrics,
    name: str,
    pairs: Iterable[tuple[Interval, Interval]],
    step: StepSpans,
) -> None:
    """From the end of one to the begin of the next, never below 0."""
    gaps = [
        max(0.0, after[BEGIN] - min(before[END], step.end)) for before, after in pairs
    ]
    _add(metrics, name, sum(gaps), gaps)


def _add(metrics: Metrics, name: str, total: float, values: list[float]) -> None:
    metrics[f"perf/sum/{name}"] = total
    if values:
        metrics[f"perf/mean/{name}"] = sum(values) / len(values)


def _own(intervals: list[Interval], step: StepSpans) -> list[Interval]:
    """Those that began in the step: a gap lies between work of one step."""
    return [interval for interval in intervals if interval[BEGIN] >= step.begin]


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
        while remaining and remaining[-1][BEGIN] >= training[BEGIN]:
            found = remaining.pop()
        if found is not following and found is not None:
            yield training, found
        following = found


def _length(interval: Interval, step: StepSpans) -> float:
    end = min(interval[END], step.end)
    return float(max(0.0, end - max(interval[BEGIN], step.begin)))


_begin = operator.itemgetter(BEGIN)
