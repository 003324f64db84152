"""What-if against a training whose every rule is known: it is run again, changed."""

from __future__ import annotations

import dataclasses
import itertools
import statistics

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from perf._model.spans import RawRecord
from perf._read.schedule import Schedule
from perf._read.what_if import Change, WhatIf, is_asynchronous
from tests.read.drawn import WORKER, Timelines, device, span, work
from tests.read.simulator import MAIN, MS

STEPS = 100
SETTLED = slice(50, -10)
"""Steps for which it is long ago that the queue was full, and that have later ones."""


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """A training whose rollouts go on across steps; its times are milliseconds.

    One thread makes rollouts one after the other, as far ahead as the limits allow. The
    trainer trains on each, and copies the weights to the rollout's device after a step.
    """

    rollout: int
    train: int
    sync: int
    per_step: int
    """Rollouts that are trained on in a step."""
    capacity: int
    staleness: int
    tells: bool
    """Whether the trainer's waits are spans."""

    def run(self) -> tuple[Timelines, list[tuple[int, int]]]:
        """What is recorded, and begin and end of the steps in nanoseconds."""
        on_worker: list[RawRecord] = []
        on_main: list[RawRecord] = []
        on_b: list[RawRecord] = []
        copies: list[tuple[int, int, int]] = []
        trained: list[int] = []  # when each opened
        made_ms = now_ms = 0
        windows = []
        ids = itertools.count(1)
        asked = 0
        made: list[tuple[int, int]] = []  # id and end

        def make() -> None:
            """The next rollouts that may open by what has happened so far."""
            nonlocal made_ms, asked
            while asked < STEPS * self.per_step:
                version = asked // self.per_step - self.staleness
                opens = made_ms
                if asked >= self.capacity:
                    if asked - self.capacity >= len(trained):
                        return
                    opens = max(opens, trained[asked - self.capacity])
                if version > 0:
                    if version > len(copies):
                        return
                    opens = max(opens, copies[version - 1][2])
                known = [number for number, _, end in copies if end <= opens]
                number = next(ids)
                made_ms = opens + self.rollout
                on_worker.append(
                    span("rollout", opens, made_ms, number, after=tuple(known[-1:]))
                )
                made.append((number, made_ms))
                asked += 1

        for _ in range(STEPS):
            begin_ms = now_ms
            for _ in range(self.per_step):
                make()
                rollout, ready_ms = made[len(trained)]
                if self.tells and now_ms < ready_ms:
                    on_main.append(span("queue_get", now_ms, ready_ms, next(ids)))
                now_ms = max(now_ms, ready_ms)
                trained.append(now_ms)
                number, since, now_ms = next(ids), now_ms, now_ms + self.train
                on_main.append(
                    span("peft_train", since, now_ms, number, after=(rollout,))
                )
                on_b.append(work("peft_train", since, now_ms, number))
            copies.append((next(ids), now_ms, now_ms + self.sync))
            now_ms += self.sync
            windows.append((begin_ms * MS, now_ms * MS))
        on_main += [span("weight_sync", b, e, n) for n, b, e in copies]
        timelines = [(MAIN, on_main), (WORKER, on_worker)]
        timelines += [(device("a"), _drawn([*on_worker, *on_main[-STEPS:]]))]
        return [*timelines, (device("b"), on_b)], windows


def _drawn(launched: list[RawRecord]) -> list[RawRecord]:
    """As the tracer draws a device: one after the other, in the order of their ends."""
    found, last_ns = [], 0
    for record in sorted(launched, key=lambda record: record[2]):
        begin_ns = max(record[1], last_ns)
        last_ns = max(record[2], begin_ns)
        found.append((record[0], begin_ns, last_ns, record[3], 0, 1, None, None))
    return found


@st.composite
def pipelines(draw: st.DrawFn) -> Pipeline:
    """Trainings of all kinds."""
    return Pipeline(
        rollout=draw(st.integers(10, 100)),
        train=draw(st.integers(5, 60)),
        sync=draw(st.integers(1, 60)),
        per_step=draw(st.integers(1, 4)),
        capacity=draw(st.integers(1, 8)),
        staleness=draw(st.integers(0, 3)),
        tells=draw(st.booleans()),
    )


@given(
    pipelines(),
    st.sampled_from(["rollout", "train", "sync"]),
    st.sampled_from([1, 2, 5]),
)
def test_a_change_does_what_it_would_have_done(pipeline, stage, factor):
    """An asynchronous run is predicted from that of a slower one."""
    whole = dataclasses.replace(pipeline, **{stage: factor * getattr(pipeline, stage)})
    # Where neither side is much faster, a full queue takes the whole run to change.
    making = pipeline.per_step * pipeline.rollout
    training = pipeline.per_step * pipeline.train + pipeline.sync
    assume(abs(making - training) > 0.2 * max(making, training))
    timelines, windows = whole.run()
    schedule = Schedule(timelines, windows[-1][1])
    assume(is_asynchronous(schedule, windows))
    name = {"train": "peft_train", "sync": "weight_sync"}.get(stage, stage)
    run = WhatIf(
        schedule,
        windows[5:],
        queue_capacity=whole.capacity,
        staleness_limit=whole.staleness,
    )
    answer = run.answer(Change(name, factor))
    _, truth = pipeline.run()
    ends = [end for _, end in truth[5:]]
    found = statistics.median(answer.steps_ns[SETTLED])
    lengths = [later - end for end, later in itertools.pairwise(ends)]
    expected = statistics.median(lengths[SETTLED])
    assert expected == pytest.approx(found)


def test_what_trains_on_a_rollout_is_looked_for_once(monkeypatch):
    """Though every training comes after all before it."""
    looked_at = []
    predecessors = Schedule.predecessors

    def counted(schedule, launch):
        looked_at.append(launch)
        return predecessors(schedule, launch)

    monkeypatch.setattr(Schedule, "predecessors", counted)
    rollouts = [span("rollout", at, at + 1, 2 * at + 1) for at in range(STEPS)]
    trainings = [
        span("peft_train", at, at + 1, 2 * at, after=(2 * at - 2, 2 * at - 5))
        for at in range(3, STEPS)
    ]
    schedule = Schedule([(WORKER, rollouts), (MAIN, trainings)], STEPS * MS)
    windows = [(at * MS, (at + 1) * MS) for at in range(STEPS)]
    assert is_asynchronous(schedule, windows), "a rollout is trained on 3 steps later"
    assert len(looked_at) <= 2 * len(trainings)
