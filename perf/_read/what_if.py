"""The same run, had one stage been different: its graph timed anew.

Every other length and lag stays what it was recorded to be. So the answer holds as far
as stages do not slow each other down where they share a machine: what would change
that is refused.

Docs: docs/report.md.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from perf._model import names
from perf._model.errors import PerfError
from perf._read.graph import Graph, Limits, Node, build
from perf._read.schedule import Launch, Schedule, role_of

LEAST_ASYNC_STEPS: Final = 20
"""Of a run whose rollouts go on across steps, no fewer are timed anew: what one step
gains there, another may lose."""


class WhatIfError(PerfError):
    """The recorded run cannot answer the question; the message says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """What is to be different.

    Attributes:
        stage: the name of the spans.
        times_faster: every length of it divided by that; inf removes it.
        overlapped: nothing waits for it any more; it still holds its devices, unless
            it is a weight sync: a copy takes no turns with their programs.
    """

    stage: str
    times_faster: float = 1.0
    overlapped: bool = False

    def __str__(self) -> str:
        if self.overlapped:
            return f"{self.stage} overlapped"
        if self.times_faster == float("inf"):
            return f"without {self.stage}"
        return f"{self.stage} {self.times_faster:g} times faster"


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """How long the steps would have taken.

    Attributes:
        steps_ns: of each step, anew.
        recorded_ns: of each step, as it was.
    """

    change: Change
    steps_ns: Sequence[int]
    recorded_ns: Sequence[int]

    @property
    def saving(self) -> float:
        """Part of the recorded time that would be saved; negative if it grows."""
        recorded = sum(self.recorded_ns)
        return 1 - sum(self.steps_ns) / recorded if recorded else 0.0


def retime(graph: Graph, change: Change | None = None) -> list[int]:
    """When the marks of a graph would have been reached.

    Args:
        graph: of the run.
        change: what is different; None: nothing, which gives what was recorded.
    """
    finishes: list[int] = []
    for node in graph.nodes:
        before = node.before
        if change is not None and change.overlapped:
            before = [p for p in before if not _let_go(graph.nodes[p], node, change)]
        since = max([finishes[p] for p in before], default=graph.begin_ns)
        finishes.append(since + node.lag_ns + _length(node, change))
    return [finishes[mark] for mark in graph.marks]


class WhatIf:
    """A run of steps, to be timed anew with one change or another.

    Args:
        schedule: the run.
        steps: begin and end of consecutive steps.
        queue_capacity: how many rollouts may be made ahead of the training on them.
        staleness_limit: how many steps older than the policy in training that of a
            rollout may be.

    Raises:
        WhatIfError: the run is asynchronous and too short, or its limits are not
            given.
    """

    def __init__(
        self,
        schedule: Schedule,
        steps: Sequence[tuple[int, int]],
        *,
        queue_capacity: int | None = None,
        staleness_limit: int | None = None,
    ) -> None:
        limits: Limits | None = None
        if is_asynchronous(schedule, steps):
            if len(steps) < LEAST_ASYNC_STEPS:
                raise WhatIfError(
                    "rollouts are used in a later step, so one step's path does not "
                    f"set the pace: at least {LEAST_ASYNC_STEPS} steps are needed, "
                    f"found {len(steps)}"
                )
            if queue_capacity is None or staleness_limit is None:
                raise WhatIfError(_missing_limits(queue_capacity, staleness_limit))
            limits = _limits(schedule, steps, queue_capacity, staleness_limit)
        ends_ns = [end for _, end in steps]
        self._schedule = schedule
        self._graph = build(schedule, steps[0][0], ends_ns, limits)
        self._recorded_ns = _differences(steps[0][0], ends_ns)

    def answer(self, change: Change) -> Answer:
        """How long the steps would have taken with a change.

        Raises:
            WhatIfError: the stage was not recorded, or stages that share devices would
                be overlapped.
        """
        launches = self._schedule.by_name.get(change.stage)
        if not launches:
            known = ", ".join(sorted(self._schedule.by_name))
            raise WhatIfError(f"stage {change.stage!r} not found; recorded: {known}")
        if change.overlapped:
            _refuse_contention(self._schedule, change.stage, launches)
        marks = retime(self._graph, change)
        return Answer(
            change, _differences(self._graph.begin_ns, marks), self._recorded_ns
        )


def is_asynchronous(schedule: Schedule, steps: Sequence[tuple[int, int]]) -> bool:
    """Whether rollouts are ahead at the ends of steps, more often than not.

    That is one under way, or one begun that a later step trains on.
    """
    # An inference engine may be recorded by its threads alone.
    lanes = [*schedule.devices.values(), *schedule.threads.values()]
    ends = [end for _, end in steps[:-1]]
    crossed = {
        at
        for at, end in enumerate(ends)
        for lane in lanes
        for record in lane.between(end, end + 1)
        if record[0] in names.ROLLOUT and record[1] < end
    }
    rollouts = _of_names(schedule, names.ROLLOUT)
    for rollout, consumer in _consumers(schedule, rollouts).items():
        opened = schedule.launches[rollout].record[1]
        trained = consumer.record[1]
        crossed.update(range(bisect_right(ends, opened), bisect_right(ends, trained)))
    return 2 * len(crossed) > len(ends)


def _missing_limits(queue_capacity: int | None, staleness_limit: int | None) -> str:
    limits = (
        ("the queue's capacity", "--queue-capacity", queue_capacity),
        ("the limit of staleness", "--staleness-limit", staleness_limit),
    )
    missing = [(what, option) for what, option, given in limits if given is None]
    return (
        "rollouts are used in a later step: how far they may run ahead decides. Give "
        f"{' and '.join(what for what, _ in missing)} "
        f"({', '.join(option for _, option in missing)})"
    )


def _limits(
    schedule: Schedule,
    steps: Sequence[tuple[int, int]],
    queue_capacity: int,
    staleness_limit: int,
) -> Limits:
    rollouts = _of_names(schedule, names.ROLLOUT)
    consumed = _consumers(schedule, rollouts)
    places = []
    for launch, later in zip(rollouts, rollouts[queue_capacity:], strict=False):
        consumer = consumed.get(launch.record[3])
        if consumer is not None:
            places.append((consumer.record[3], later.record[3]))
    ends = [end for _, end in steps]
    trained = [la.record[1] for la in _of_names(schedule, names.TRAIN_STEP)]
    synced: dict[int, int] = {}
    """By the step that trained them, the sync of its weights."""
    for sync in _of_names(schedule, names.WEIGHT_SYNC):
        at = bisect_right(trained, sync.record[1]) - 1
        if at >= 0 and trained[at] >= steps[0][0]:
            synced[bisect_right(ends, trained[at])] = sync.record[3]
    versions = {}
    for rollout, consumer in consumed.items():
        step = bisect_right(ends, consumer.record[1])
        versions[rollout] = synced.get(step - 1 - staleness_limit)
    return Limits(places, versions)


def _of_names(schedule: Schedule, wanted: frozenset[str]) -> list[Launch]:
    found = [la for name in wanted for la in schedule.by_name.get(name, ())]
    return sorted(found, key=lambda launch: (int(launch.record[1]), launch.record[3]))


def _consumers(schedule: Schedule, rollouts: Sequence[Launch]) -> dict[int, Launch]:
    """The first training on each rollout, by arrows."""
    ours = {launch.record[3] for launch in rollouts}
    found: dict[int, Launch] = {}
    # What an earlier training led to leads only to rollouts that have their first.
    seen: set[int] = set()
    for launch in _of_names(schedule, names.TRAIN_STEP):
        waiting = [launch]
        while waiting:
            for predecessor in schedule.predecessors(waiting.pop()):
                span_id = predecessor.record[3]
                if span_id in ours:
                    found.setdefault(span_id, launch)
                elif span_id not in seen:
                    seen.add(span_id)
                    waiting.append(predecessor)
    return found


def _refuse_contention(
    schedule: Schedule, stage: str, launches: Sequence[Launch]
) -> None:
    if stage in names.WEIGHT_SYNC:
        return
    own = {role_of(launch.record) for launch in launches}
    devices = {device for launch in launches for device, _ in launch.parts}
    for role, others in schedule.roles.items():
        shared = sorted(devices.intersection(others))
        if role not in own and shared:
            raise WhatIfError(
                f"{stage!r} shares {', '.join(shared)} with the role {role!r}: how "
                "much two stages slow each other down on one device is not recorded"
            )


def _let_go(earlier: Node, node: Node, change: Change) -> bool:
    """Whether a node no longer waits for work that is overlapped."""
    if earlier.stage != change.stage or not earlier.on_device:
        return False
    if earlier.stage in names.WEIGHT_SYNC and node.stage != earlier.stage:
        return True
    return not (node.on_device and earlier.place == node.place)


def _length(node: Node, change: Change | None) -> int:
    length = node.finish_ns - node.start_ns
    if change is None or node.stage != change.stage:
        return length
    if change.overlapped:
        # It goes on elsewhere; the thread does not stay for it.
        return length if node.on_device else 0
    return round(length / change.times_faster)


def _differences(begin_ns: int, ends_ns: Sequence[int]) -> list[int]:
    return [
        end - since for since, end in zip([begin_ns, *ends_ns], ends_ns, strict=False)
    ]
