"""Every nanosecond of a device in exactly one bucket, and in the right one."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf._model.spans import (
    OPEN,
    QUEUED,
    TimelineInfo,
    TimelineKind,
)
from perf._read.accounting import OCCUPIED, Account, Accountant, stages_of
from perf._read.schedule import Schedule
from tests.read.drawn import LAST, WORKER, Timelines, device, schedules, span, work
from tests.read.simulator import MAIN, MS, TOPOLOGIES, Simulation, agreement


def buckets(
    timelines: Timelines, end: int, of: str = "b", bound_ns: int = 0
) -> dict[str, int]:
    """Milliseconds by bucket of a device in [0, end)."""
    accountant = Accountant(Schedule(timelines, end * MS), bound_ns)
    account = accountant.device(of, 0, end * MS)
    return {name: ns // MS for name, ns in account.buckets.items()}


def evidence(timelines: Timelines, end: int, of: str = "b") -> dict[str, set[str]]:
    """Kinds of evidence by wait."""
    accountant = Accountant(Schedule(timelines, end * MS))
    account = accountant.device(of, 0, end * MS)
    return {name: set(kinds) for name, kinds in account.evidence.items()}


@given(schedules(), st.lists(st.integers(0, LAST), max_size=4), st.sampled_from([0, 3]))
def test_the_buckets_tile_every_window(timelines, cuts, bound):
    """Pieces touch from begin to end, and the windows' buckets add up to the run."""
    accountant = Accountant(Schedule(timelines, LAST * MS), bound * MS)
    edges = [0, *sorted(cuts), LAST]
    for name in ("a", "b", "unknown"):
        total = 0
        for begin, end in itertools.pairwise(edges):
            at = begin * MS
            for piece in accountant.pieces(name, begin * MS, end * MS):
                assert at == piece[0] < piece[1]
                at = piece[1]
            assert end * MS == at or begin == end
            total += accountant.device(name, begin * MS, end * MS).total_ns
        assert LAST * MS == total


@given(schedules(), st.data())
def test_deleting_a_span_gives_no_other_stage_more(timelines, data):
    """What held a device at the same time is named beside it, never instead of it."""

    def occupied(some: Timelines) -> dict[tuple[str, str], int]:
        accountant = Accountant(Schedule(some, LAST * MS))
        found = {}
        for name in ("a", "b"):
            account = accountant.device(name, 0, LAST * MS)
            for stage in ("rollout", "peft_train", "reward"):
                found[name, stage] = sum(
                    ns
                    for bucket, ns in account.buckets.items()
                    if bucket.startswith(OCCUPIED) and stage in stages_of(bucket)
                )
        return found

    places = [
        (i, j)
        for i, (info, records) in enumerate(timelines)
        for j, record in enumerate(records)
        # Compiling and syncing come before occupied, and are no stages.
        if record[0] not in {"compile", "weight_sync"}
    ]
    if not places:
        return
    i, j = data.draw(st.sampled_from(places))
    info, records = timelines[i]
    fewer = [*timelines]
    fewer[i] = info, records[:j] + records[j + 1 :]
    # Whose compilation counts is the earliest span's; without compilers it is exact.
    timelines, fewer = (
        [(t, [r for r in some if r[0] != "compile"]) for t, some in which]
        for which in (timelines, fewer)
    )
    before, after = occupied(timelines), occupied(fewer)
    for (place, stage), ns in after.items():
        assert ns <= before[place, stage]


def test_a_known_truth_is_found():
    """On all topologies, 95 % of simulated device time is in its true bucket."""
    right = total = 0
    topologies = set()
    for seed in range(150):
        simulation = Simulation(seed)
        topologies.add(simulation.topology)
        some_right, some, _ = agreement(simulation)
        right += some_right
        total += some
    assert set(TOPOLOGIES) == topologies
    assert right >= 0.95 * total


CASES: list[Any] = [
    pytest.param(
        [(MAIN, [span("train", 3, 9, 1)]), (device("b"), [work("train", 3, 9, 1)])],
        {"unaccounted": 4, "occupied/train": 6},
        {},
        id="occupied",
    ),
    pytest.param(
        [(device("b"), [work("train", 0, 6, 1), work("eval", 4, 10, 2)])],
        {"occupied/train": 4, "occupied/eval+train": 2, "occupied/eval": 4},
        {},
        id="several stages at once",
    ),
    pytest.param(
        [(device("b"), [work("train", 0, 6, 1), work("train", 4, 10, 2)])],
        {"occupied/train": 10},
        {},
        id="one stage twice at once is united",
    ),
    pytest.param(
        [(device("b"), [work("train", 0, 6, 1), work("weight_sync", 4, 10, 2)])],
        {"occupied/train": 4, "sync": 6},
        {},
        id="sync before occupied",
    ),
    pytest.param(
        [
            (MAIN, [span("train", 2, 10, 1), span("compile", 3, 7, 2)]),
            (device("b"), [work("train", 2, 10, 1)]),
        ],
        {"unaccounted": 2, "occupied/train": 4, "compile": 4},
        {},
        id="compiling inside the launch",
    ),
    pytest.param(
        [
            (MAIN, [span("eval", 2, 9, 1), span("compile", 3, 7, 2)]),
            (device("b"), [work("train", 0, 5, 3), work("eval", 5, 10, 1)]),
        ],
        {"occupied/train": 5, "compile": 2, "occupied/eval": 3},
        {},
        id="earlier work in flight hides compiling",
    ),
    pytest.param(
        [
            (MAIN, [span("global_step", 0, 10, 1), span("collate", 0, 4, 2),
                    span("train", 6, 10, 3)]),
            (device("b"), [work("train", 6, 10, 3)]),
        ],
        {"host/collate": 4, "unaccounted": 2, "occupied/train": 4},
        {},
        id="the launching thread in a stage; a step is none",
    ),
    pytest.param(
        [
            (MAIN, [span("get", 0, 6, 2, waits_for="a"), span("train", 6, 10, 3)]),
            (device("b"), [work("train", 6, 10, 3)]),
        ],
        {"wait/a": 6, "occupied/train": 4},
        {"wait/a": {"waits_for"}},
        id="a tag says what the thread waits for",
    ),
    pytest.param(
        [
            (WORKER, [span("rollout", 0, 6, 1)]),
            (MAIN, [span("train", 6, 10, 3, after=(1,))]),
            (device("a"), [work("rollout", 0, 5, 1)]),
            (device("b"), [work("train", 6, 10, 3)]),
        ],
        {"wait/rollout": 5, "unaccounted": 1, "occupied/train": 4},
        {"wait/rollout": {"flow"}},
        id="a recorded predecessor",
    ),
    pytest.param(
        [
            (WORKER, [span("rollout", 1, 2, 1), span("reward", 2, 6, 2, after=(1,))]),
            (MAIN, [span("get", 0, 6, 3), span("train", 6, 10, 4, after=(1, 2))]),
            (device("b"), [work("train", 6, 10, 4)]),
        ],
        {"wait/reward": 5, "wait/rollout": 1, "occupied/train": 4},
        {"wait/reward": {"flow"}, "wait/rollout": {"flow"}},
        id="the thread's span ends with the last predecessor",
    ),
    pytest.param(
        [
            (WORKER, [span("rollout", 1, 2, 1), span("reward", 2, 4, 2, after=(1,))]),
            (MAIN, [span("get", 0, 6, 3), span("train", 6, 10, 4, after=(1, 2))]),
            (device("b"), [work("train", 6, 10, 4)]),
        ],
        {"host/get": 6, "occupied/train": 4},
        {},
        id="the thread's span goes on after the last predecessor",
    ),
    pytest.param(
        [
            (WORKER, [span("load", 0, 2, 1), span("rollout", 2, 5, 2),
                      span("reward", 5, 8, 3, after=(2,))]),
            (MAIN, [span("train", 8, 10, 4, after=(3,))]),
            (device("a"), [work("rollout", 2, 5, 2)]),
            (device("b"), [work("train", 8, 10, 4)]),
        ],
        {"wait/load": 2, "wait/rollout": 3, "wait/reward": 3, "occupied/train": 2},
        {name: {"flow"} for name in ("wait/load", "wait/rollout", "wait/reward")},
        id="predecessors of predecessors, and what their thread did before",
    ),
    pytest.param(
        [
            (MAIN, [span("rollout", 0, 6, 1), span("train", 6, 10, 2)]),
            (device("a"), [work("rollout", 0, 5, 1)]),
            (device("b"), [work("train", 6, 10, 2)]),
        ],
        {"wait/rollout": 5, "host/rollout": 1, "occupied/train": 4},
        {"wait/rollout": {"blocked"}},
        id="the thread blocks on work elsewhere",
    ),
    pytest.param(
        [
            (device("a"), [work("rollout", 1, 6, 1)]),
            (device("b"), [work("train", 6, 10, 2)]),
        ],
        {"unaccounted": 1, "wait/rollout": 5, "occupied/train": 4},
        {"wait/rollout": {"inferred"}},
        id="the only other role, until it ended",
    ),
    pytest.param(
        [
            (device("a"), [work("rollout", 0, 4, 1)]),
            (device("b"), [work("train", 6, 10, 2)]),
        ],
        {"unaccounted": 6, "occupied/train": 4},
        {},
        id="overlap in time alone is no cause",
    ),
    pytest.param(
        [
            (device("a"), [work("rollout", 0, 6, 1)]),
            (device("c"), [work("refer_inference", 0, 6, 3)]),
            (device("b"), [work("train", 6, 10, 2)]),
        ],
        {"unaccounted": 6, "occupied/train": 4},
        {},
        id="of two other roles, neither is known to be the cause",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("timelines", "expected", "kinds"), CASES)
def test_each_moment_has_its_bucket(timelines, expected, kinds):
    """The first of the rules that holds decides; waits keep their kind of evidence."""
    assert expected == buckets(timelines, 10)
    assert kinds == evidence(timelines, 10)


def test_what_is_shorter_than_the_error_is_unaccounted():
    """A gap's piece that could be an end seen late proves nothing."""
    timelines: Timelines = [
        (MAIN, [span("collate", 0, 2, 1), span("train", 2, 10, 2)]),
        (device("b"), [work("train", 2, 10, 2)]),
    ]
    assert {"host/collate": 2, "occupied/train": 8} == buckets(timelines, 10)
    expected = {"unaccounted": 2, "occupied/train": 8}
    assert expected == buckets(timelines, 10, bound_ns=3 * MS)


def test_an_open_span_counts_to_the_end():
    """Work in flight at the end of what is known holds its device until then."""
    assert {"unaccounted": 2, "occupied/train": 8} == buckets(
        [(device("b"), [work("train", 2, OPEN, 1)])], 10
    )


def test_queueing_lies_beside_the_buckets():
    """Work that waits for the work before it is reported, and is no bucket."""
    queue = TimelineInfo("b_queue", TimelineKind.QUEUE, "b_queue")
    waits = span("queue", 4, 6, 9, kind=QUEUED, NAME="eval")
    timelines: Timelines = [
        (device("b"), [work("train", 0, 6, 1), work("eval", 6, 10, 2)]),
        (queue, [waits]),
    ]
    account = Accountant(Schedule(timelines, 10 * MS)).device("b", 0, 5 * MS)
    assert {"occupied/train": 5 * MS} == account.buckets
    assert {"eval": MS} == account.queued


ROLES: Timelines = [
    (MAIN, [span("sampling", 0, 9, 5, samples=8, tokens=100)]),
    (device("a"), [work("rollout", 0, 6, 1), work("peft_train", 6, 8, 2)]),
    (device("b"), [work("peft_train", 4, 10, 3)]),
    (device("c"), [work("rollout", 0, 5, 4)]),
]


def test_a_role_has_its_devices_and_others_work_in_one_row():
    """Roles that share a device show each other's work as such."""
    schedule = Schedule(ROLES, 10 * MS)
    assert {"rollout": ("a", "c"), "actor": ("a", "b")} == schedule.roles
    window = Accountant(schedule).window(0, 10 * MS)
    of_actor = window.roles["actor"].buckets
    assert 8 * MS == of_actor["occupied/peft_train"]
    assert 6 * MS == of_actor["other role"]
    assert 20 * MS == window.roles["actor"].total_ns
    assert 30 * MS == window.all.total_ns
    assert pytest.approx(11 / 30) == window.all.bubble_frac


def test_overlap_is_of_devices_that_do_only_the_one():
    """The window's share in which both sides work; None where either is missing."""
    schedule = Schedule(ROLES, 10 * MS)
    window = Accountant(schedule).window(0, 10 * MS)
    assert pytest.approx(0.1) == window.overlap_frac
    alone = Schedule(ROLES[:2], 10 * MS)
    assert Accountant(alone).window(0, 10 * MS).overlap_frac is None


def test_throughput_is_what_tags_say():
    """Samples and tokens of spans that ended in the window."""
    schedule = Schedule(ROLES, 10 * MS)
    accountant = Accountant(schedule)
    window = accountant.window(0, 10 * MS)
    assert (8, 100) == (window.samples, window.tokens)
    assert 0 == accountant.window(0, 5 * MS).samples


def test_no_time_has_no_shares():
    """Shares of an empty account are 0."""
    assert 0.0 == Account().bubble_frac
