"""The spans of one step: whose they are, and where its window begins and ends."""

from __future__ import annotations

from itertools import chain
from typing import Any

from perf._model.spans import (
    COUNTER,
    DEVICE,
    GROUP,
    INSTANT,
    OPEN,
    QUEUED,
    SPAN,
    RawRecord,
    TimelineInfo,
    TimelineKind,
)
from perf._model.tree import Span, SpanGroup
from perf._read.steps import (
    BEGIN,
    END,
    ID,
    NAME,
    ByStage,
    Interval,
    StepSpans,
    from_records,
    from_trees,
)
from perf._record.store import Step

MAIN = TimelineInfo("main", TimelineKind.HOST, "main", is_main=True)
WORKER = TimelineInfo("worker", TimelineKind.HOST, "worker")
TRACK = TimelineInfo("server", TimelineKind.NAMED, "server")
TPU = TimelineInfo("tpu0", TimelineKind.DEVICE, "tpu0")
QUEUE = TimelineInfo("tpu0_queue", TimelineKind.QUEUE, "tpu0_queue")
S = 1_000_000_000
INF = float("inf")


def record(
    name: str, begin_s: float, end_s: float, span_id: int, kind: int = SPAN
) -> RawRecord:
    """A record; times in seconds, inf is open."""
    end_ns = OPEN if end_s == INF else round(end_s * S)
    return (name, round(begin_s * S), end_ns, span_id, 0, kind, None, None)


def seconds(interval: Interval | None) -> Interval | None:
    """What tells an interval, its times in seconds."""
    if interval is None:
        return None
    return (interval[NAME], interval[BEGIN] / S, interval[END] / S, interval[ID])


def all_seconds(intervals: list[Interval]) -> list[Interval | None]:
    """Likewise of several."""
    return [seconds(interval) for interval in intervals]


def flat(step: StepSpans, device: str) -> list[Interval | None]:
    """What ran on a device, times in seconds."""
    return all_seconds(step.devices[device])


def together(stages: ByStage) -> list[Interval]:
    """All that ran on a thread, by begin."""
    return sorted(chain.from_iterable(stages.values()), key=lambda i: i[BEGIN])


def window(step: StepSpans) -> tuple[float, float]:
    """Begin and end in seconds."""
    return step.begin / step.per_second, step.end / step.per_second


def step_of(
    *records: tuple[TimelineInfo, list[RawRecord]],
    opened: Any = (),
    begin: float = 0.0,
    end: float = 20.0,
) -> StepSpans:
    """The step that these records make, from the export before it to its own."""
    step = Step(0, round(begin * S))
    step.parts, step.opened, step.end_ns = [*records], [*opened], round(end * S)
    return from_records(step)


def test_spans_go_where_they_ran() -> None:
    """The trainer's thread, other threads and named tracks, each device."""
    step = step_of(
        (MAIN, [record("weight_sync", 3, 4, 2), record("rollout", 1, 5, 1, GROUP)]),
        (WORKER, [record("refer_inference", 2, 3, 3)]),
        (TRACK, [record("rollout", 1, 2, 4)]),
        (TPU, [record("rollout", 1, 2, 2, DEVICE)]),
    )
    assert [
        ("rollout", 1.0, 5.0, 1),
        ("weight_sync", 3.0, 4.0, 2),
    ] == all_seconds(together(step.main))
    assert [
        ("rollout", 1.0, 2.0, 4),
        ("refer_inference", 2.0, 3.0, 3),
    ] == all_seconds(together(step.hosts))
    assert [("rollout", 1.0, 2.0, 2)] == all_seconds(step.devices["tpu0"])


def test_what_waits_behind_open_work_that_may_overlap_begins_when_it_may() -> None:
    """Concurrent work in flight is on its device, and holds nobody up."""
    step = step_of(
        (TPU, [record("rollout", 1, 4, 1, DEVICE)]),
        opened=[
            (TPU, [record("rollout", 2, INF, 2, DEVICE)]),
            (QUEUE, [record("refer_inference", 3, INF, 3, DEVICE)]),
        ],
    )
    assert [
        ("rollout", 1.0, 4.0, 1),
        ("rollout", 2.0, INF, 2),
        ("refer_inference", 4.0, INF, 3),
    ] == flat(step, "tpu0")


def test_a_track_with_the_name_of_a_device_is_none() -> None:
    """What somebody recorded on it does not hold the device."""
    track = TimelineInfo("tpu0", TimelineKind.NAMED, "tpu0")
    step = step_of(
        (track, [record("rollout", 1, 9, 1)]),
        opened=[(QUEUE, [record("rollout", 3, INF, 3, DEVICE)])],
    )
    assert [("rollout", 3.0, INF, 3)] == flat(step, "tpu0")


def test_what_ran_comes_by_begin() -> None:
    """However it closed; of two that begin together the one that closed first."""
    closed = [record("rollout", *times) for times in ((3, 4, 1), (2, 5, 2), (2, 6, 3))]
    step = step_of((MAIN, closed), (WORKER, closed), (TPU, closed))
    for stages in (step.main, step.hosts, step.devices):
        assert [[2, 3, 1]] == [[i[ID] for i in some] for some in stages.values()]


def test_moments_and_waits_are_no_work() -> None:
    """Instants, counters and the spans of a queue."""
    step = step_of(
        (MAIN, [record("rollout", 1, 1, 1, k) for k in (INSTANT, COUNTER)]),
        (QUEUE, [record("queue", 1, 2, 3, QUEUED)]),
    )
    assert ([], [], {}) == (together(step.main), together(step.hosts), step.devices)


def test_what_no_metric_needs_is_left_out() -> None:
    """A step may have very many spans; they only tell when it began."""
    step = step_of(
        (MAIN, [record("prompts", 3, 4, 1), record("rollout", 4, 5, 2)]),
        (WORKER, [record("tokenize", 2, 3, 3)]),
        (TPU, [record("copy", 1, 2, 4, DEVICE)]),
    )
    assert 2.0 == window(step)[0]
    assert ["rollout"] == [interval[NAME] for interval in together(step.main)]
    assert [] == together(step.hosts)
    assert ["copy"] == [interval[NAME] for interval in step.devices["tpu0"]], "held it"


def test_what_is_open_is_in_the_step() -> None:
    """Without an end; device work in flight is on its device since that is free."""
    opened = [
        (MAIN, [record("rollout", 1, INF, 1)]),
        (QUEUE, [record("rollout", 2, INF, 2, DEVICE)]),
    ]
    step = step_of((TPU, [record("peft_train", 1, 3, 3, DEVICE)]), opened=opened)
    assert [("rollout", 1.0, INF, 1)] == all_seconds(together(step.main))
    expected = [("peft_train", 1.0, 3.0, 3), ("rollout", 3.0, INF, 2)]
    assert expected == all_seconds(step.devices["tpu0"])


def test_of_work_in_flight_the_first_runs() -> None:
    """A device does one program at a time: what is queued behind it does not count."""
    flights = [record("copy", 4, INF, 5, DEVICE), record("rollout", 3, INF, 4, DEVICE)]
    step = step_of(opened=[(QUEUE, flights)])
    assert [("rollout", 3.0, INF, 4)] == all_seconds(step.devices["tpu0"])
    step = step_of(opened=[(QUEUE, flights[:1])])
    assert [("copy", 4.0, INF, 5)] == all_seconds(step.devices["tpu0"])


def test_flights_come_one_by_one_and_may_be_none() -> None:
    """As the recorder gives them; what ended a moment ago leaves an empty entry."""
    first, second = (record("rollout", n, INF, n, DEVICE) for n in (3, 4))
    for opened in (
        [(QUEUE, [first]), (QUEUE, [second])],
        [(QUEUE, [second]), (QUEUE, []), (QUEUE, [first])],
    ):
        step = step_of(opened=opened)
        assert [("rollout", 3.0, INF, 3)] == all_seconds(step.devices["tpu0"])
    assert {} == step_of(opened=[(QUEUE, [])]).devices


def test_work_in_flight_that_may_overlap_counts_from_its_launch() -> None:
    """It is on the device's own timeline, as it waits for nothing."""
    flights = [record("rollout", n, INF, n, DEVICE) for n in (3, 4)]
    step = step_of(opened=[(TPU, flights)])
    expected = [("rollout", 3.0, INF, 3), ("rollout", 4.0, INF, 4)]
    assert expected == all_seconds(step.devices["tpu0"])


def test_the_window_of_a_global_step() -> None:
    """From the begin of the last one to the export."""
    step = step_of(
        (
            MAIN,
            [
                record("early", 1, 2, 1),
                record("global_step", 3, 5, 2, GROUP),
                record("between", 6, 7, 3),
                record("global_step", 8, 9, 4, GROUP),
            ],
        )
    )
    assert (8.0, 20.0) == window(step)
    assert ("global_step", 8.0, 9.0, 4) == seconds(step.global_step)


def test_a_global_step_may_be_open() -> None:
    """At an export inside it."""
    step = step_of(opened=[(MAIN, [record("global_step", 3, INF, 2, GROUP)])])
    assert (3.0, ("global_step", 3.0, INF, 2)) == (
        window(step)[0],
        seconds(step.global_step),
    )


def test_global_steps_of_other_threads_do_not_count() -> None:
    """The trainer's thread says what a step is."""
    worker = (WORKER, [record("global_step", 3, 5, 2, GROUP)])
    assert None is step_of(worker).global_step
    step = step_of(worker, (MAIN, [record("global_step", 4, 6, 1, GROUP)]))
    assert ("global_step", 4.0, 6.0, 1) == seconds(step.global_step)
    assert 4.0 == window(step)[0]


def test_the_window_without_a_global_step() -> None:
    """From the first span of any thread after the export before."""
    main = [record("weight_sync", 13, 14, 2), record("rollout", 12, 15, 1)]
    step = step_of((MAIN, main), (WORKER, [record("rollout", 16, 17, 3)]), begin=10.0)
    assert (12.0, None) == (window(step)[0], step.global_step)


def test_a_worker_may_begin_the_step() -> None:
    """A trainer that waits for its workers' rollouts is outside of all spans then."""
    rollouts = [record("rollout", 8, 10.5, 1), record("rollout", 11, 12, 2)]
    training = record("peft_train", 13, 14, 3)
    step = step_of((WORKER, rollouts), (MAIN, [training]), begin=10.0)
    assert 11.0 == window(step)[0]


def test_what_was_recorded_by_hand_does_not_begin_the_window() -> None:
    """A named track may hold what a server did long after or before it is recorded."""
    training = record("peft_train", 13, 14, 3)
    step = step_of((TRACK, [record("rollout", 11, 12, 1)]), (MAIN, [training]))
    assert 13.0 == window(step)[0]


def test_a_span_that_begins_with_the_export_is_after_it() -> None:
    """On a coarse clock the next step begins at the same moment."""
    step = step_of((MAIN, [record("x", 12, 13, 2), record("x", 10, 11, 1)]), begin=10.0)
    assert 10.0 == window(step)[0]


def test_a_span_from_before_does_not_begin_the_window() -> None:
    """One that crosses the export before, or is open for the whole run."""
    crossing, mine = record("rollout", 8, 11, 1), record("weight_sync", 13, 14, 2)
    opened = [(MAIN, [record("training", 0, INF, 3)])]
    step = step_of((MAIN, [crossing, mine]), opened=opened, begin=10.0)
    assert 13.0 == window(step)[0]
    assert [8 * S, 13 * S] == [i[BEGIN] for i in together(step.main)]


def test_the_window_of_a_step_inside_one_span() -> None:
    """Where nothing began, all of the time since the export is the step's.

    What had begun before was still at work.
    """
    opened = [(MAIN, [record("training", 0, INF, 3)])]
    assert 10.0 == window(step_of(opened=opened, begin=10.0))[0]
    closed = (MAIN, [record("training", 0, 15, 3)])
    assert 10.0 == window(step_of(closed, begin=10.0))[0]


def test_the_window_of_a_step_in_which_nothing_ran() -> None:
    """It is empty."""
    assert (20.0, 20.0) == window(step_of(begin=10.0))


def tree() -> SpanGroup:
    """A root with two global steps, the last one with spans and a group inside."""
    root = SpanGroup("root")
    for begin in (0.0, 10.0):
        step = SpanGroup("global_step", root)
        step.begin, step.end = begin, begin + 9
        mini = SpanGroup("mini", step)
        mini.begin, mini.end = begin + 1, begin + 3
        for outer, name, start in (
            (step, "weight_sync", 5.0),
            (mini, "rollout", 2.0),
            (mini, "mine", 2.5),
        ):
            span = Span(name, begin + start)
            span.end = begin + start + 1
            outer.inner.append(span)
    return root


def test_trees_give_their_last_global_step() -> None:
    """With everything inside, however deep, and an end at the last thing's end."""
    step = from_trees(tree(), [tree()], {"tpu0": tree(), "tpu1": SpanGroup("root")})
    measured = ["global_step", "rollout", "weight_sync"]
    for stages in (step.main, step.hosts):
        assert measured == [interval[NAME] for interval in together(stages)]
    assert (10.0, 19.0) == window(step)
    names = ["global_step", "mini", "rollout", "mine", "weight_sync"]
    on_device = step.devices["tpu0"]
    assert names == [interval[NAME] for interval in on_device]
    assert [] == step.devices["tpu1"]
    assert 5 == len({interval[ID] for interval in on_device})


def test_trees_may_have_open_ends() -> None:
    """They do not end the window."""
    root = tree()
    root.inner[-1].end = INF
    assert 16.0 == from_trees(root, [], {}).end


def test_trees_without_a_global_step() -> None:
    """There is no step then."""
    for root in (None, SpanGroup("root")):
        step = from_trees(root, [], {})
        assert (None, 0.0, 0.0) == (step.global_step, step.begin, step.end)
