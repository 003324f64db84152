"""The path that a step took, and the same run timed anew."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf._read import graph as graph_module
from perf._read.critical_path import critical_path, walk_back
from perf._read.graph import Graph, Node, build
from perf._read.schedule import Schedule
from perf._read.what_if import (
    Change,
    WhatIf,
    WhatIfError,
    is_asynchronous,
    retime,
)
from tests.read.drawn import LAST, WORKER, Timelines, device, schedules, span, work
from tests.read.simulator import MAIN, MS, Simulation


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Small graphs of work: each node starts a lag after the latest before it."""
    nodes: list[Node] = []
    for at in range(draw(st.integers(1, 8))):
        before = draw(st.sets(st.integers(0, at - 1), max_size=3)) if at else set()
        lag, length = draw(st.integers(0, 3)), draw(st.integers(0, 6))
        start = lag + max([nodes[p].finish_ns for p in before], default=0)
        stage = draw(st.sampled_from("abc"))
        node = Node(start, start + length, stage, "", "", sorted(before), lag)
        nodes.append(node)
    end = max(node.finish_ns for node in nodes)
    nodes.append(Node(end, end, "", "", "", list(range(len(nodes)))))
    return Graph(0, nodes, [len(nodes) - 1])


def paths(nodes: Sequence[Node], at: int) -> Iterator[list[int]]:
    """Every way back from a node to one with none before it, first to last."""
    if not nodes[at].before:
        yield [at]
    for earlier in nodes[at].before:
        for path in paths(nodes, earlier):
            yield [*path, at]


def length(nodes: Sequence[Node], path: Sequence[int], change: Change) -> int:
    """Of the lags and the changed lengths along a path."""
    total = 0
    for at in path:
        own = nodes[at].finish_ns - nodes[at].start_ns
        if nodes[at].stage == change.stage:
            own = round(own / change.times_faster)
        total += nodes[at].lag_ns + own
    return total


@given(graphs(), st.sampled_from("abc"), st.sampled_from([1.0, 2.0, 3.0, float("inf")]))
def test_timing_anew_finds_the_longest_path(graph, stage, factor):
    """The end equals the longest of all paths, found one by one."""
    change = Change(stage, factor)
    end = graph.marks[-1]
    longest = max(length(graph.nodes, p, change) for p in paths(graph.nodes, end))
    assert [longest] == retime(graph, change)


@given(graphs())
def test_the_path_is_a_longest_one(graph):
    """Walking back along what arrived last finds work and gaps that fill the step."""
    end = graph.nodes[graph.marks[-1]].finish_ns
    found = walk_back(graph, end)
    assert end == sum(piece.length_ns for piece in found.pieces)
    busy = sum(p.length_ns for p in found.pieces if p.stage != "unaccounted")
    candidates = [
        sum(graph.nodes[at].finish_ns - graph.nodes[at].start_ns for at in path)
        for path in paths(graph.nodes, graph.marks[-1])
        if length(graph.nodes, path, Change("")) == end
    ]
    assert busy in candidates


@given(schedules(), st.lists(st.integers(1, LAST), min_size=1, max_size=3, unique=True))
def test_pieces_tile_the_step_and_replay_is_exact(timelines, marks):
    """Whatever was recorded: the path fills each step, the graph gives its ends."""
    marks_ns = sorted(mark * MS for mark in marks)
    schedule = Schedule(timelines, LAST * MS)
    assert marks_ns == retime(build(schedule, 0, marks_ns))
    for begin, end in itertools.pairwise([0, *marks_ns]):
        path = critical_path(schedule, begin, end)
        at = begin
        for piece in path.pieces:
            assert at == piece.begin_ns < piece.end_ns
            at = piece.end_ns
        assert end == at
        assert path.carried_in is None or path.carried_in.end_ns == begin


@given(st.integers(0, 10_000))
def test_a_simulated_run_is_explained(seed):
    """Of a run in which nearly everything is recorded, the path is nearly all work."""
    simulation = Simulation(seed)
    schedule = Schedule(simulation.timelines(), simulation.end_ns)
    end = simulation.main.now_ns
    blame = critical_path(schedule, 0, end).by_stage()
    assert end == sum(blame.values())
    # What no span tells of: up to half a millisecond a micro-batch, and one wait.
    if simulation.keeps_arrows == 1.0 and simulation.worker is simulation.main:
        assert blame["unaccounted"] <= 0.5 * end


ASYNC_STEP: Timelines = [
    (WORKER, [span("rollout", 0, 6, 1), span("reward", 6, 7, 2, after=(1,))]),
    (MAIN, [span("train", 8, 12, 3, after=(2,)), span("weight_sync", 12, 14, 4)]),
    (device("a"), [work("rollout", 0, 5, 1), work("weight_sync", 12, 14, 4)]),
    (device("b"), [work("train", 8, 12, 3)]),
]


def stages(timelines: Timelines, begin: int, end: int) -> list[tuple[str, int]]:
    """Stage and milliseconds of each piece of the path."""
    path = critical_path(Schedule(timelines, 99 * MS), begin * MS, end * MS)
    return [(p.stage, p.length_ns // MS) for p in path.pieces]


def test_the_path_crosses_threads_and_devices():
    """From the step's end over sync, training, reward and rollout to its begin."""
    expected = [
        ("rollout", 5),
        ("rollout", 1),
        ("reward", 1),
        ("unaccounted", 1),
        ("train", 4),
        ("weight_sync", 2),
    ]
    assert expected == stages(ASYNC_STEP, 0, 14)


def test_what_began_before_is_carried_in():
    """Work under way at the begin counts from there; what it did before is told."""
    path = critical_path(Schedule(ASYNC_STEP, 99 * MS), 2 * MS, 14 * MS)
    assert 12 * MS == sum(piece.length_ns for piece in path.pieces)
    assert path.carried_in is not None
    assert ("rollout", 2 * MS) == (path.carried_in.stage, path.carried_in.length_ns)


def test_work_waits_for_what_its_input_comes_from():
    """Launched early, it began when the last of its inputs was ready."""
    timelines: Timelines = [
        (MAIN, [span("refer", 0, 1, 1), span("train", 1, 10, 2, after=(1,))]),
        (device("a"), [work("refer", 0, 6, 1)]),
        (device("b"), [work("train", 1, 10, 2)]),
    ]
    assert [("refer", 6), ("train", 4)] == stages(timelines, 0, 10)


def test_work_that_was_overtaken_was_under_way():
    """A copy that was launched later and done earlier held nobody up."""
    timelines: Timelines = [
        (WORKER, [span("rollout", 2, 20, 1)]),
        (MAIN, [span("weight_sync", 5, 8, 2), span("train", 20, 24, 3, after=(1,))]),
        (device("a"), [work("weight_sync", 5, 8, 2), work("rollout", 8, 20, 1)]),
    ]
    assert ("rollout", 18) in stages(timelines, 0, 24)
    assert 9 == saved(timelines, Change("rollout", 2.0), 24)


@pytest.mark.parametrize("saves", [False, True])
@pytest.mark.parametrize(("seen", "known_to_ns"), [(80, 0), (81, 0), (84, 4 * MS)])
def test_a_thread_waits_for_its_own_work_outside_of_stages(saves, seen, known_to_ns):
    """As `float(loss)` does at the end of a step, or before a stage of the host.

    The end of the work may be seen after the thread has gone on: it is what it waited
    for if it is known no better.
    """
    spans = [span("rollout", 0, 1, 2), span("peft_train", 1, 2, 3)]
    expected, end = {"rollout": 50, "peft_train": 30}, 80
    if saves:
        spans.append(span("save", 80, 90, 4))
        expected, end = expected | {"save": 10}, 90
    trained = work("peft_train", 50, seen, 3, end_error_ns=known_to_ns)
    timelines: Timelines = [
        (MAIN, [*spans, span("global_step", 0, end, 1)]),
        (device("a"), [work("rollout", 0, 50, 2), trained]),
    ]
    found = critical_path(Schedule(timelines, end * MS), 0, end * MS).by_stage()
    assert expected == {stage: ns // MS for stage, ns in found.items() if ns}


def test_work_waits_until_it_is_compiled():
    """It is drawn from its launch, as the span is opened before the compiler runs."""
    timelines: Timelines = [
        (
            MAIN,
            [
                span("compile", 5, 40, 3),
                span("rollout", 0, 50, 2),
                span("global_step", 0, 80, 1),
            ],
        ),
        (device("a"), [work("rollout", 0, 80, 2)]),
    ]
    found = critical_path(Schedule(timelines, 80 * MS), 0, 80 * MS).by_stage()
    assert {"rollout": 45, "compile": 35} == {s: ns // MS for s, ns in found.items()}


@pytest.mark.parametrize(("seen", "known_to_ns"), [(80, 0), (81, 0), (84, 4 * MS)])
def test_a_span_that_only_waits_is_no_stage(seen, known_to_ns):
    """Also if the end that it waited for was seen after its own."""
    waiting = span("wait_loss", 2, 80, 3, waits_for="train")
    timelines: Timelines = [
        (MAIN, [span("train", 0, 1, 2), waiting, span("global_step", 0, 80, 1)]),
        (device("a"), [work("train", 0, seen, 2, end_error_ns=known_to_ns)]),
    ]
    found = critical_path(Schedule(timelines, seen * MS), 0, 80 * MS).by_stage()
    assert {"train": 80} == {s: ns // MS for s, ns in found.items()}


def test_a_thread_that_went_on_long_before_did_not_wait():
    """What ends some milliseconds later, and is known better, it had only launched."""
    timelines: Timelines = [
        (MAIN, [span("train", 0, 1, 2), span("global_step", 0, 80, 1)]),
        (device("a"), [work("train", 0, 84, 2)]),
    ]
    found = critical_path(Schedule(timelines, 84 * MS), 0, 80 * MS).by_stage()
    assert {"train": 1, "unaccounted": 79} == {s: ns // MS for s, ns in found.items()}


def test_a_step_hands_work_to_a_thread():
    """What begins right after a step has begun on another thread began with it."""
    timelines: Timelines = [
        (
            MAIN,
            [
                span("weight_sync", 0, 5, 1),
                span("global_step", 8, 18, 2),
                span("train", 15, 18, 3, after=(4,)),
            ],
        ),
        (WORKER, [span("rollout", 9, 15, 4)]),
    ]
    assert 5 == saved(timelines, Change("weight_sync", float("inf")), 18)


def test_the_trainer_waits_for_work_of_its_step_on_others():
    """Where nothing is recorded of it: a framework does this and that before it trains.

    Not for work ahead of it, of another step, or done before its own last work.
    """
    timelines: Timelines = [
        (MAIN, [span("sync", 0, 4, 1, step=0), span("train", 16, 20, 2, step=1)]),
        (
            WORKER,
            [
                span("reward", 1, 3, 3, step=1),
                span("rollout", 5, 13, 4, step=1),
                span("rollout", 13, 14, 5, step=2),
            ],
        ),
    ]
    expected = [("unaccounted", 1), ("rollout", 8), ("unaccounted", 3), ("train", 4)]
    assert [("sync", 4), *expected] == stages(timelines, 0, 20)
    (_, own), (info, others) = timelines
    none = [(MAIN, own), (info, [others[0], others[2]])]
    expected = [("sync", 4), ("unaccounted", 12), ("train", 4)]
    assert expected == stages(none, 0, 20)


def test_threads_of_one_step_need_not_wait_for_each_other():
    """A pool takes what comes: it is the trainer who needs all of a step."""
    pool: Timelines = [
        (MAIN, [span("train", 16, 20, 1, step=1, after=(3,))]),
        (WORKER, [span("reward", 0, 4, 2, step=1)]),
        (WORKER._replace(id="host-3"), [span("reward", 6, 15, 3, step=1)]),
    ]
    expected = [("unaccounted", 6), ("reward", 9), ("unaccounted", 1), ("train", 4)]
    assert expected == stages(pool, 0, 20)


def test_a_thread_waits_for_what_its_tag_names():
    """A span tagged `waits_for` leads to the last work of that name."""
    timelines: Timelines = [
        (MAIN, [span("get", 0, 7, 1, waits_for="rollout"), span("train", 7, 10, 2)]),
        (WORKER, [span("rollout", 0, 2, 3), span("rollout", 2, 6, 4)]),
    ]
    expected = [("rollout", 6), ("unaccounted", 1), ("train", 3)]
    assert expected == stages(timelines, 0, 10)


def queued(stage: str, *, rewarded: int = 40, **tags: Any) -> tuple[Timelines, int]:
    """Three steps: a stage of the trainer from 5 to 40, then training on a reward.

    Returns:
        The timelines, and when the last step ends, in milliseconds.
    """
    main, made, on_b = [], [], []
    for step in range(3):
        at, first = 60 * step, 4 * step + 1
        made.append(span("rollout", at, at + 10, first))
        made.append(span("reward", at + 10, at + rewarded, first + 1, after=(first,)))
        main.append(span(stage, at + 5, at + 40, first + 2, **tags))
        after = (first, first + 1)
        main.append(span("train", at + 45, at + 60, first + 3, after=after))
        on_b.append(work("train", at + 45, at + 60, first + 3))
    return [(MAIN, main), (WORKER, made), (device("b"), on_b)], 180


@pytest.mark.parametrize("rewarded", [40, 41])
@pytest.mark.parametrize(
    "tags", [{}, {"waits_for": "rollout"}, {"waits_for": "nobody"}]
)
def test_a_span_that_ends_with_the_consumers_predecessors_waits_for_them(
    rewarded, tags
):
    """Whatever it is tagged with: what ended last decides, by arrows.

    The end of the reward may be seen a little after the thread had it.
    """
    timelines, end = queued("queue_get", rewarded=rewarded, **tags)
    blame = critical_path(Schedule(timelines, end * MS), 0, end * MS).by_stage()
    assert 0 == blame["queue_get"]
    assert blame["reward"] >= 3 * 30 * MS
    assert 3 * 15 == saved(timelines, Change("reward", 2.0), end)


def test_a_wait_is_held_against_each_of_several_predecessors():
    """Threads take one after the other out of a queue; the last one tells of them."""
    main, made = [], []
    for step in range(2):
        at, first = 60 * step, 9 * step + 1
        ids = range(first, first + 3)
        made += [span("rollout", at + 15 * n, at + 15 * n + 15, first + n)
                 for n in range(3)]  # fmt: skip
        main += [span("queue_get", at + 15 * n + 1, at + 15 * n + 15, first + n + 3)
                 for n in range(3)]  # fmt: skip
        main.append(span("train", at + 45, at + 60, first + 6, after=(*ids,)))
    timelines: Timelines = [(MAIN, main), (WORKER, made)]
    blame = critical_path(Schedule(timelines, 120 * MS), 0, 120 * MS).by_stage()
    assert {"rollout": 90, "train": 30} == {s: ns // MS for s, ns in blame.items()}


@pytest.mark.parametrize("rewarded", [15, 37])
def test_a_stage_that_only_overlaps_a_predecessor_is_work(rewarded):
    """It ran on when that was done."""
    timelines, end = queued("data_loading", rewarded=rewarded)
    blame = critical_path(Schedule(timelines, end * MS), 0, end * MS).by_stage()
    assert 3 * 35 * MS == blame["data_loading"]


@pytest.mark.parametrize("others", [6, 37, 44])
def test_a_stage_that_ended_once_with_a_predecessor_is_work(others):
    """By chance: its like ended otherwise, or took long with nothing to wait for."""
    timelines, end = queued("data_loading")
    made = timelines[1][1]
    made[3:] = [
        (*r[:2], 60 * at * MS + others * MS, *r[3:]) if r[0] == "reward" else r
        for at, r in ((r[1] // (60 * MS), r) for r in made[3:])
    ]
    assert {} == Schedule(timelines, end * MS).waits


def test_what_others_need_is_work():
    """A stage whose own end is waited for, or that has predecessors, does not wait."""
    timelines, end = queued("advantage")
    main = timelines[0][1]
    fed = [(*r[:7], (r[3] - 2,)) if r[0] == "advantage" else r for r in main]
    needed = [(*r[:7], (*r[7], r[3] - 1)) if r[0] == "train" else r for r in main]
    for spans in (fed, needed):
        timelines[0] = MAIN, spans
        assert {} == Schedule(timelines, end * MS).waits


@pytest.mark.parametrize(("rewarded", "waits"), [(7, 0), (8, 1)])
def test_how_right_an_end_has_to_be_depends_on_the_length(rewarded, waits):
    """In a short stage something ends in its last millisecond easily."""
    timelines: Timelines = [
        (MAIN, [span("get", 5, 8, 1), span("train", 8, 12, 2, after=(3,))]),
        (WORKER, [span("reward", 0, rewarded, 3)]),
    ]
    assert waits == len(Schedule(timelines, 12 * MS).waits)


def test_what_the_own_thread_did_it_did_not_wait_for():
    """Of the predecessors those of others count, though the thread's own ended last."""
    timelines: Timelines = [
        (
            MAIN,
            [
                span("get", 0, 20, 1),
                span("advantage", 20, 23, 2),
                span("train", 23, 30, 3, after=(2, 4)),
            ],
        ),
        (WORKER, [span("reward", 0, 20, 4)]),
    ]
    schedule = Schedule(timelines, 30 * MS)
    ((wait,),) = schedule.waits.values()
    assert (0, 20 * MS, "reward") == (*wait[:2], wait.awaited.record[0])
    expected = [("reward", 20), ("advantage", 3), ("train", 7)]
    assert expected == stages(timelines, 0, 30)


def test_without_a_trainer_the_last_work_counts():
    """A trace of devices alone still has a path."""
    timelines: Timelines = [(device("a"), [work("x", 0, 4, 1), work("y", 5, 9, 2)])]
    expected = [("x", 4), ("unaccounted", 1), ("y", 4), ("unaccounted", 1)]
    assert expected == stages(timelines, 0, 10)


def saved(timelines: Timelines, change: Change, end: int = 14) -> int:
    """Milliseconds that a change saves in one step."""
    schedule = Schedule(timelines, 99 * MS)
    answer = WhatIf(schedule, [(0, end * MS)]).answer(change)
    assert end * MS == sum(answer.recorded_ns)
    return round((end * MS - sum(answer.steps_ns)) / MS)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (Change("train", 2.0), 2),
        (Change("train", float("inf")), 4),
        (Change("rollout", 2.0), 3),
        (Change("weight_sync", overlapped=True), 2),
        (Change("reward", 1.0), 0),
    ],
)
def test_what_a_change_saves(change, expected):
    """Lengths along the path shrink; what is overlapped holds nobody up."""
    assert expected == saved(ASYNC_STEP, change)


def test_an_overlapped_copy_does_not_hold_its_device():
    """The next rollout has the old weights meanwhile."""
    timelines: Timelines = [
        (
            MAIN,
            [
                span("weight_sync", 0, 6, 1),
                span("rollout", 6, 10, 2, after=(1,)),
                span("weight_sync", 10, 16, 3),
                span("rollout", 16, 20, 4, after=(3,)),
            ],
        ),
        (
            device("a"),
            [
                work("weight_sync", 0, 6, 1),
                work("rollout", 6, 10, 2),
                work("weight_sync", 10, 16, 3),
                work("rollout", 16, 20, 4),
            ],
        ),
    ]
    assert 12 == saved(timelines, Change("weight_sync", overlapped=True), 20)


def test_what_is_not_on_the_path_saves_nothing():
    """Making what nobody waits for faster leaves the step as long as it was."""
    timelines = [*ASYNC_STEP, (device("c"), [work("spare", 0, 5, 9)])]
    assert 0 == saved(timelines, Change("spare", float("inf")))


def async_run(steps: int) -> tuple[Timelines, list[tuple[int, int]]]:
    """Rollouts of 10 ms one after the other, training of 4 ms one step behind."""
    worker: list[Any] = []
    main: list[Any] = []
    on_a: list[Any] = []
    on_b: list[Any] = []
    for number in range(steps):
        at, made = 10 * number, 3 * number + 1
        worker.append(span("rollout", at, at + 10, made))
        on_a.append(work("rollout", at, at + 10, made))
        main.append(span("train", at + 10, at + 14, made + 1, after=(made,)))
        on_b.append(work("train", at + 10, at + 14, made + 1))
    timelines = [(MAIN, main), (WORKER, worker), (device("a"), on_a)]
    timelines.append((device("b"), on_b))
    for info, records in timelines:
        if info.id == "a":
            records[:] = [("rollout", *record[1:]) for record in records]
    windows = [(10 * n * MS + 4 * MS, 10 * n * MS + 14 * MS) for n in range(steps)]
    return timelines, windows


def test_asynchronous_runs_need_steps_and_limits():
    """One step does not set the pace; without the limits there is no answer."""
    timelines, windows = async_run(30)
    schedule = Schedule(timelines, 999 * MS)
    with pytest.raises(WhatIfError, match="at least 20 steps are needed, found 5"):
        WhatIf(schedule, windows[:5], queue_capacity=1, staleness_limit=1)
    for limits, missing in (
        ({}, "queue's capacity and the limit of staleness (--queue-capacity, --stale"),
        ({"queue_capacity": 2}, "decides. Give the limit of staleness (--staleness-"),
        ({"staleness_limit": 0}, "Give the queue's capacity (--queue-capacity)"),
    ):
        with pytest.raises(WhatIfError, match=re.escape(missing)):
            WhatIf(schedule, windows, **limits)
    run = WhatIf(schedule, windows, queue_capacity=8, staleness_limit=99)
    assert pytest.approx(0.5) == run.answer(Change("rollout", 2.0)).saving


def test_rollouts_of_threads_alone_count():
    """An engine without devices of its own is asynchronous all the same."""
    timelines, windows = async_run(30)
    hosts = [t for t in timelines if t[0].id.startswith("host-")]
    assert is_asynchronous(Schedule(hosts, 999 * MS), windows)
    assert not is_asynchronous(Schedule(ASYNC_STEP, 99 * MS), [(0, 14 * MS)] * 3)


def test_rollouts_made_for_later_steps_count():
    """That their thread was busy with a reward when a step ended changes nothing."""
    worker: list[Any] = []
    main: list[Any] = []
    for number in range(6):
        at, made = 10 * number, 3 * number + 1
        worker.append(span("rollout", at, at + 5, made))
        worker.append(span("reward", at + 5, at + 10, made + 1, after=(made,)))
        main.append(span("peft_train", at + 12, at + 17, made + 2, after=(made + 1,)))
    windows = [(10 * n * MS + 7 * MS, 10 * n * MS + 17 * MS) for n in range(6)]
    schedule = Schedule([(MAIN, main), (WORKER, worker)], 999 * MS)
    assert is_asynchronous(schedule, windows)
    at_once = [(begin + 3 * MS, end + 3 * MS) for begin, end in windows]
    ended = Schedule([(MAIN, main), (WORKER, worker[:2])], 999 * MS)
    assert not is_asynchronous(ended, at_once)


def test_a_full_queue_holds_the_rollouts_up():
    """With one place, a rollout opens when the training on the one before does."""
    timelines, windows = async_run(30)
    schedule = Schedule(timelines, 999 * MS)
    faster = Change("rollout", float("inf"))
    free = WhatIf(schedule, windows, queue_capacity=30, staleness_limit=99)
    tight = WhatIf(schedule, windows, queue_capacity=2, staleness_limit=99)
    assert free.answer(faster).saving >= tight.answer(faster).saving


def test_contention_is_refused():
    """Overlapping stages of one device would slow each other down by nobody knows."""
    timelines: Timelines = [
        (MAIN, [span("rollout", 0, 5, 1), span("peft_train", 5, 9, 2)]),
        (device("a"), [work("rollout", 0, 5, 1), work("peft_train", 5, 9, 2)]),
    ]
    with pytest.raises(WhatIfError, match="'rollout' shares a with the role 'actor'"):
        saved(timelines, Change("rollout", overlapped=True), 9)


def test_an_unknown_stage_is_named():
    """The message says which stages there are."""
    with pytest.raises(WhatIfError, match="'nope' not found; recorded: reward, "):
        saved(ASYNC_STEP, Change("nope"))


@pytest.mark.parametrize(("overtaking", "is_found"), [(3, True), (4, False)])
def test_how_much_may_overtake_is_bounded(
    overtaking: int, is_found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a device that worked in the reverse order would take for ever."""
    monkeypatch.setattr(graph_module, "_MOST_OVERTAKING", 3)
    others = range(3, 3 + overtaking)
    launches = [span("first", 0, 1, 1), span("late", 1, 2, 2)]
    launches += [span("train", number, number + 1, number) for number in others]
    works = [work("first", 10, 11, 1), work("late", 30, 31, 2)]
    works += [work("train", 10 + n, 11 + n, n) for n in others]
    schedule = Schedule([(MAIN, launches), (device("a"), works)], 40 * MS)
    nodes = build(schedule, 0, [40 * MS]).nodes
    (late,) = [node for node in nodes if node.stage == "late" and node.on_device]
    before = {nodes[at].stage for at in late.before if nodes[at].on_device}
    assert ({"first"} if is_found else set()) == before
