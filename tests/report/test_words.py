"""The sentences for what is odd, each in a run that has it."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from typing import Any

import pytest

from perf._model.lock import LockDemand
from perf._model.spans import DEVICE, RawRecord
from perf._read.accounting import BLOCKED, INFERRED, UNACCOUNTED
from perf._read.busy import Busy, Profiled
from perf._read.recording import Recording
from perf._read.what_if import Answer, Change
from perf.report.analysis import Report, SlowSpan, Straggler, analyse
from perf.report.words import Finding, findings
from tests.read import drawn
from tests.read.drawn import Timelines, device, span, work
from tests.read.simulator import MAIN, MS
from tests.report.runs import TrainingRun, account, made, moved, run_of, steps_alike


def found_in(recording: Recording) -> list[Finding]:
    """All sentences of its report."""
    return findings(analyse(recording))


def about(recording: Recording, cause: str) -> list[str]:
    """The sentences that name a cause."""
    return [f.text for f in found_in(recording) if f.cause == cause]


def test_steps_in_which_everything_is_slower_have_a_cause_outside():
    """No stage is blamed: the interpreter or the CPU is."""
    recording = TrainingRun(30).recording()
    first, last = recording.steps[10].begin_ns, recording.steps[13].end_ns

    def slower(time_ns: int) -> int:
        more = min(max(time_ns - first, 0), last - first)
        return time_ns + 9 * more

    (said,) = about(moved(recording, slower), "GIL")
    assert "everything is slower at once" in said


def test_a_run_as_usual_has_no_cause_outside():
    """Neither has one of which a single stage is longer."""
    assert [] == about(TrainingRun(30).recording(), "GIL")


def test_recompilation_is_told_with_its_stage():
    """Compiling in steps after the first is odd."""
    (said,) = about(TrainingRun(20).recording(), "compile")
    assert said.startswith("Recompilation (in ")


def test_time_between_steps_is_told_with_what_it_went_to():
    """A checkpoint outside of the steps is named."""
    timelines: Timelines = [
        (
            MAIN,
            [
                record
                for n in range(6)
                for record in (
                    span("train", 20 * n, 20 * n + 10, 2 * n + 1),
                    span("checkpoint", 20 * n + 10, 20 * n + 19, 2 * n + 2),
                )
            ],
        )
    ]
    recording = made(timelines, [(20 * n, 20 * n + 10) for n in range(6)])
    (said,) = about(recording, "checkpoint")
    assert "passes between steps, most of it in checkpoint" in said


def test_what_happened_once_between_steps_is_told_apart():
    """One gap, where a profiler was stopped say, does not bound the run."""
    windows = [(20 * n, 20 * n + 19) for n in range(5)]
    windows += [(300 + 20 * n, 300 + 20 * n + 19) for n in range(5)]
    spans = [span("train", b, e, n + 1) for n, (b, e) in enumerate(windows)]
    recording = made([(MAIN, spans)], windows)
    first, *_ = found_in(recording)
    assert first.text.startswith("train bounds the run")
    (said,) = about(recording, "outside steps")
    assert "of it at once, before step 5." in said


def test_parts_of_a_step_are_no_longer_than_the_step():
    """Both are means, however the steps differ."""
    windows = [(0, 10), (10, 20), (20, 30), (30, 100), (100, 200)]
    spans = [span("train", b, e, n + 1) for n, (b, e) in enumerate(windows)]
    said = " ".join(about(made([(MAIN, spans)], windows), "train"))
    assert "it is 100 % of the critical path, 40 ms of a step of 40 ms" in said


def said_of_idle(**host: int) -> str:
    """Of steps of 20 ms in which a device waits for what the host does one by one."""
    main: list[RawRecord] = []
    lane: list[RawRecord] = []
    for n in range(6):
        at = 20 * n
        for name, length in host.items():
            main.append(span(name, at, at + length, len(main) + 1))
            at += length
        main.append(span("train", at, 20 * n + 20, len(main) + 1))
        lane.append(work("train", at, 20 * n + 20, len(main)))
    info = device("a")
    windows = [(20 * n, 20 * n + 20) for n in range(6)]
    said = [f.text for f in found_in(made([(MAIN, main), (info, lane)], windows))]
    (text,) = [text for text in said if text.startswith("Devices are idle")]
    return text


def test_what_the_host_does_while_devices_are_idle_is_named():
    """If it is one thing for the most part."""
    assert "(75 % for the host, most of it in reward)." in said_of_idle(reward=15)
    assert "(80 % for the host)." in said_of_idle(reward=8, advantage=8)


def test_a_straggler_is_found_by_arrival():
    """The device that is last to finish what several do, and by how much."""
    timelines: Timelines = [
        (MAIN, [span("train", 10 * n, 10 * n + 10, n + 1) for n in range(6)])
    ]
    for name, late in (("a", 0), ("b", 0), ("c", 4)):
        info = device(name)
        records = [work("train", 10 * n, 10 * n + 5 + late, n + 1) for n in range(6)]
        timelines.append((info, records))
    recording = made(timelines, [(10 * n, 10 * n + 10) for n in range(6)])
    (said,) = about(recording, "c")
    assert said.startswith("c (the train) straggles: it is the last to finish 100 %")
    assert "4 ms behind" in said


def test_who_straggles_in_the_warm_up_alone_is_no_straggler():
    """The first step, which compiles and loads, is left out here too."""
    windows = [(0, 100), *((at, at + 10) for at in range(100, 150, 10))]
    timelines: Timelines = []
    for name, late in (("a", 0), ("b", 4)):
        records = [work("train", n, n + 5 + late, n + 1) for n in range(0, 100, 10)]
        records += [work("train", n, n + 5, n + 1) for n, _ in windows[1:]]
        timelines.append((device(name), records))
    report = analyse(made(timelines, windows))
    assert [0] == [each.step.number for each in report.warm_up]
    assert [] == report.stragglers


def test_work_alike_on_single_devices_belongs_together():
    """Launches of one device each are compared if name and tags are the same."""
    main: list[RawRecord] = []
    lanes: dict[str, list[RawRecord]] = {}
    for n in range(6):
        for at, (name, length) in enumerate((("a", 3), ("b", 8))):
            span_id = 2 * n + at + 1
            main.append(span("shard", 10 * n, 10 * n + 1, span_id, part=n))
            record = work("shard", 10 * n, 10 * n + length, span_id, part=n)
            lanes.setdefault(name, []).append(record)
    timelines: Timelines = [(MAIN, main)]
    for name, records in lanes.items():
        timelines.append((device(name), records))
    recording = made(timelines, [(10 * n, 10 * n + 10) for n in range(6)])
    assert 1 == len(about(recording, "b"))


def test_small_micro_batches_are_told():
    """Many short spans on a device that is idle in between."""
    main = [span("peft_train", n, n + 1, n + 1) for n in range(300)]
    half = MS // 2
    on_device = [
        ("peft_train", n * MS, n * MS + half, n + 1, 0, DEVICE, None, None)
        for n in range(300)
    ]
    info = device("a")
    timelines: Timelines = [(MAIN, main), (info, on_device)]
    recording = made(timelines, [(50 * n, 50 * n + 50) for n in range(6)])
    (said,) = about(recording, "micro-batch")
    assert "peft_train runs 50 times a step for 500 µs each" in said


def test_one_slow_span_is_told_with_its_tags():
    """Of its like in the same step, it takes far longer; what compiles is not it."""
    main = []
    at = 0
    for n in range(30):
        length = 60 if n == 17 else 5
        main.append(span("rollout", at, at + length, n + 1, group_id=f"g{n}"))
        at += length
    cut = [25 * n for n in range(3)] + [75, 155, 180, 205]
    recording = made([(MAIN, main)], list(itertools.pairwise(cut)))
    said = about(recording, "rollout")
    assert any("One slow rollout" in text and "group_id g17" in text for text in said)


@pytest.fixture(scope="module")
def report() -> Report:
    """Of twelve steps that are all alike."""
    return analyse(steps_alike())


def report_of(*steps: dict[str, int]) -> Report:
    """Of steps with stages one after the other."""
    return analyse(run_of(*steps))


def texts(report: Report, cause: str) -> list[str]:
    """Of the sentences that name a cause."""
    return [f.text for f in findings(report) if f.cause == cause]


def test_what_is_about_most_time_comes_first(report):
    """Before what bounds the run, if it is worth that; or else at the end."""

    def order(straggling: float) -> list[str]:
        straggler = Straggler("tpu3", "train", "actor", MS, straggling, 1.0)
        slow = SlowSpan("reward", 3, MS, MS, {}, round(0.2 * report.total_ns))
        odd = dataclasses.replace(report, stragglers=[straggler], slow_spans=[slow])
        found = findings(odd)
        return [f.cause for f in found if f.kind == "odd" or "bounds" in f.text]

    assert ["tpu3", "reward", "rollout"] == order(0.3)
    assert ["reward", "tpu3", "rollout"] == order(0.08)
    assert ["reward", "rollout", "tpu3"] == order(0.079)


@pytest.mark.parametrize(
    ("devices", "unexplained", "said", "most"),
    [
        pytest.param(
            {"occupied_a": 8, UNACCOUNTED: 2}, 40, "20 % of the devices' time", "10 %"
        ),
        pytest.param(
            {"occupied_a": 9, UNACCOUNTED: 1}, 40, "40 % of the critical path", "25 %"
        ),
        pytest.param({}, 40, "40 % of the critical path", "10 %"),
        pytest.param({}, 10, "", ""),
        pytest.param({"occupied_a": 9, UNACCOUNTED: 1}, 25, "", ""),
    ],
)
def test_what_is_not_accounted_for_is_said_of_what_it_is_a_part(
    report, devices, unexplained, said, most
):
    """Up to a tenth of devices' time and a quarter of the path there is advice."""
    path = Counter({"a": 100 - unexplained, UNACCOUNTED: unexplained})
    partial = dataclasses.replace(
        report, account=account(**devices), path=path, total_ns=100
    )
    found = findings(partial)
    assert bool(said) == (found[0].kind == "limit")
    text = f"{said} is unaccounted for, more than {most}:" if said else "a bounds"
    assert found[0].text.startswith(text)
    assert bool(said) != any(f.kind == "help" for f in found)


def test_a_cause_outside_of_the_training_explains_what_is_unaccounted():
    """It stands in the place of the advice to record more."""
    usual = {"a": 10, "b": 10, "c": 10, "d": 10}
    slow = dict.fromkeys(usual, 60)
    held_up = report_of(*[usual] * 8, slow)
    lost = dataclasses.replace(held_up, account=account(occupied_a=1, unaccounted=1))
    first, *others = findings(lost)
    assert "limit" == first.kind
    assert first.text.endswith("or another process the CPU.")
    told = "advice on stages. In 1 step everything is slower at once (a, b, c, d)"
    assert told in first.text
    assert not [f for f in others if f.cause == "GIL"]


@pytest.mark.parametrize(
    ("held", "said"),
    [
        pytest.param({"wait_b": 5, "host_c": 4}, "0.9 % of the time (0.5 % waiting)."),
        pytest.param(
            {"unaccounted": 5, "host_c": 50},
            "5.5 % of the time (5.0 % for the host, most of it in c; "
            "0.5 % unexplained).",
        ),
        pytest.param({"wait_b": 4}, "0.4 % of the time."),
    ],
)
def test_idle_time_is_told_by_its_kinds(report, held, said):
    """Those of half a percent or more."""
    busy_ns = 1000 - sum(held.values())
    idle = dataclasses.replace(report, account=account(occupied_a=busy_ns, **held))
    (found,) = [f for f in findings(idle) if f.text.startswith("Devices are idle")]
    assert f"Devices are idle {said}" == found.text
    assert 0 == found.weight


def test_busy_time_is_told_by_the_stages_that_hold_devices(report):
    """At most four, and what devices do while none holds them if it is a percent."""
    held = Counter({f"occupied/s{n}": 100 - n for n in range(5)})
    busy = Counter({name: ns // 2 for name, ns in held.items()})

    def said(free_busy: int) -> str:
        found = Busy(held + Counter(wait=1000), busy + Counter(wait=free_busy))
        profiled = Profiled(250 * MS, {"tpu0": found}, ())
        told = dataclasses.replace(report, profiled=profiled)
        (text,) = [f.text for f in findings(told) if "profile" in f.text]
        return text

    assert (
        "By a device profile of 250 ms, devices are busy 50 % of the time that spans "
        "hold them (s0 50 %, s1 49 %, s2 50 %, s3 49 %)."
    ) == said(9)
    assert said(10).endswith("s3 49 %), and 1.0 % of the time that none does.")


@pytest.mark.parametrize(
    ("count", "where"),
    [
        (0, ""),
        (1, ", on tpu0"),
        (4, ", on tpu0, tpu1, tpu2, tpu3"),
        (5, ", on tpu0, tpu1, tpu2 and 2 more"),
    ],
)
def test_what_bounds_the_run_is_told_with_its_devices(count, where):
    """Of more than four only some."""
    timelines: Timelines = [(MAIN, [span("train", 0, 10, 1)])]
    timelines += [(device(f"tpu{n}"), [work("train", 0, 10, 1)]) for n in range(count)]
    said = about(made(timelines, [(0, 10)]), "train")[0]
    assert said.endswith(f"10 ms of a step of 10 ms{where}.")


def test_what_bounds_the_run_may_be_on_the_host():
    """Where devices are idle meanwhile."""
    timelines: Timelines = [
        (MAIN, [span("reward", 0, 8, 1), span("train", 8, 10, 2)]),
        (device("tpu0"), [work("train", 8, 10, 2)]),
    ]
    said = about(made(timelines, [(0, 10)]), "reward")[0]
    assert said.endswith("10 ms, on the host.")


def test_the_longest_wait_of_a_role_is_told(report):
    """With the strongest evidence for most of it, and the roles on these devices."""

    def waiting(first: int, second: int) -> list[str]:
        some = account(occupied_rollout=100 - first - second - 4, wait_rollout=first)
        some.held["wait/rollout", INFERRED] = second
        some.held["wait/reward", BLOCKED] = 4
        other = account(occupied_rollout=96, wait_peft_train=4)
        roles = {"rollout": other, "actor": some}
        return [
            f.text
            for f in findings(dataclasses.replace(report, roles=roles))
            if f.text.startswith("The devices of")
        ]

    whose = "The devices of the reference and the actor wait for rollout"
    assert [f"{whose} 22 % of the time, by recorded arrows."] == waiting(12, 10)
    assert [f"{whose} 5.0 % of the time, as far as can be inferred."] == waiting(2, 3)
    assert [] == waiting(2, 2)


def answer(stage: str, percents: int) -> Answer:
    """A what-if that saves so much."""
    return Answer(Change(stage, 2.0), [100 - percents], [100])


def test_what_would_help_is_told_if_it_would(report):
    """At most three changes; why none was asked about."""

    def said(*answers: Answer, refused: str = "") -> list[str]:
        asked = dataclasses.replace(report, answers=answers, refused=refused)
        return [
            f.text for f in findings(asked) if f.kind == "help" or "what-if" in f.text
        ]

    assert [
        "What would help most, by timing the same run anew: a 2 times faster: −20 %; "
        "b 2 times faster: −5.0 %; c 2 times faster: −3.0 % of step time."
    ] == said(answer("a", 20), answer("b", 5), answer("c", 3), answer("d", 2))
    nothing = "Making any one stage faster would save less than 1 %."
    assert [nothing] == said(answer("a", 0))
    assert [] == said()
    assert ["No what-if: rollouts run ahead."] == said(refused="rollouts run ahead")


def compiling(first_ms: int) -> Recording:
    """Five steps of 100 ms, the first of another length; all but 1 and 2 compile."""
    main: list[RawRecord] = []
    windows = [
        (0, first_ms),
        *[(first_ms + n, first_ms + n + 100) for n in range(0, 400, 100)],
    ]
    for number, (at, end) in enumerate(windows):
        some = [
            ("mini_batch_step", 0, end - at),
            ("rollout", 0, 45),
            ("train", 60, 100),
        ]
        if number in (0, 3):
            some += [("generate", 10, 40), ("tokenize", 15, 25), ("late", 35, 41)]
            some += [("compile", 20, 40), ("compile", 22, 30)]
        if number == 4:
            some += [("compile", 70, 80)]
        for name, begin, finish in some:
            main.append(span(name, at + begin, at + finish, len(main) + 1))
    return made([(MAIN, main)], windows)


def test_recompilation_is_told_of_steps_after_the_first():
    """Which may have been left out as the warm-up."""
    (said,) = about(compiling(100), "compile")
    assert "in 2 of 4 steps after the first: shapes or arguments change." in said
    assert said.startswith("Recompilation (in generate) takes 5.0 % of the time")
    (said,) = about(compiling(900), "compile")
    assert "in 2 of 4 steps after the first" in said
    assert said.startswith("Recompilation (in generate) takes 6.2 % of the time")


def test_recompilation_that_takes_no_time_is_not_told():
    """Half a percent is none."""
    compiled = {"train": 99, "compile": 1}
    assert [] == texts(report_of({"train": 100}, compiled), "compile")
    (said,) = texts(report_of({"train": 98}, compiled), "compile")
    assert "Recompilation takes 0.5 % of the time, in 1 of 1 step" in said


def between_steps(*gaps: tuple[str, int], step: int = 20) -> list[str]:
    """What is said of stages between steps, of lengths in milliseconds."""
    main = [span("train", 0, step, 1)]
    windows = [(0, step)]
    for stage, length in gaps:
        end = windows[-1][1]
        main.append(span(stage, end, end + length, len(main) + 1))
        main.append(span("train", end + length, end + length + step, len(main) + 1))
        windows.append((end + length, end + length + step))
    found = found_in(made([(MAIN, main)], windows))
    return [f.text for f in found if "between steps" in f.text]


def test_time_between_steps_is_told_above_a_twentieth():
    """Of the time of the run."""
    most = "of the time passes between steps, most of it in save."
    assert [f"5.3 % {most}"] == between_steps(("save", 2), step=18)
    assert [] == between_steps(("save", 2), step=19)


def test_time_between_steps_has_the_name_of_what_most_of_it_went_to():
    """Half of it is not most."""
    every = "of the time passes between steps"
    assert [f"40 % {every}."] == between_steps(("a", 20), ("b", 20))
    assert [f"42 % {every}, most of it in a."] == between_steps(("a", 24), ("b", 20))


def test_one_gap_of_many_is_told_apart():
    """If it is more than half of the time between steps; of three each may be usual."""
    small = ("save", 5)
    assert [
        "24 % of the time passes between steps, 52 % of it at once, before step 2."
    ] == between_steps(small, ("a", 16), small, small)
    assert "at once" not in between_steps(small, ("a", 15), small, small)[0]
    assert "at once" not in between_steps(small, ("a", 60), small)[0]


def test_only_the_latest_straggler_is_told(report):
    """The page has them all."""
    stragglers = [
        Straggler(name, "train", "actor", 3 * MS, 0.02, 0.75) for name in ("a", "b")
    ]
    late = dataclasses.replace(report, stragglers=stragglers)
    assert [
        "a (the actor) straggles: it is the last to finish 75 % of its train, 3 ms "
        "behind the others on average."
    ] == texts(late, "a")
    assert [] == texts(late, "b")


def test_slow_spans_alike_are_counted(report):
    """Those of another name are not; their excess is what they cost."""
    slow = [
        SlowSpan("reward", 3, 60 * MS, 5 * MS, {"sample": 7, "x": 1}, 55 * MS),
        SlowSpan("fetch", 4, 50 * MS, 4 * MS, {}, 46 * MS),
        SlowSpan("reward", 5, 40 * MS, 5 * MS, {}, 35 * MS),
    ]
    (found,) = [
        f
        for f in findings(dataclasses.replace(report, slow_spans=slow))
        if f.text.startswith("One slow")
    ]
    assert (
        "One slow reward holds its step up in 2 of 12 steps: in step 3 it takes 60 ms, "
        "the others 5 ms (sample 7)." == found.text
    )
    assert pytest.approx(90 * MS / report.total_ns) == found.weight


USUAL = {"a": 98, "b": 98, "c": 98, "d": 98}


@pytest.mark.parametrize(
    ("slow", "stages"),
    [
        pytest.param({"a": 295, "b": 295, "c": 295, "d": 295}, "a, b, c, d", id="all"),
        pytest.param({"a": 294, "b": 295, "c": 295, "d": 295}, "", id="three times"),
        pytest.param({"a": 980, "b": 392, "c": 392, "d": 392}, "a, b, c, d", id="half"),
        pytest.param(
            {"a": 981, "b": 392, "c": 392, "d": 392}, "", id="one most of all"
        ),
        pytest.param({"a": 295, "b": 295, "c": 295}, "", id="three stages"),
    ],
)
def test_everything_is_slower_if_four_stages_take_three_times_as_long(slow, stages):
    """And none of them is more than half of it."""
    said = texts(report_of(*[USUAL] * 9, slow), "GIL")
    start = f"In 1 step everything is slower at once ({stages})"
    assert [True] * bool(stages) == [text.startswith(start) for text in said]


def test_each_of_several_slow_steps_takes_three_times_as_long():
    """Two that take twice as long are no four times."""
    slow = dict.fromkeys(USUAL, 245)
    assert [] == texts(report_of(*[USUAL] * 9, slow, slow), "GIL")
    slow = dict.fromkeys(USUAL, 295)
    (said,) = texts(report_of(*[USUAL] * 9, slow, slow), "GIL")
    assert said.startswith("In 2 steps everything is slower at once")


@pytest.mark.parametrize(("more", "counts"), [(18, False), (19, True)])
def test_a_stage_that_hardly_adds_to_slow_steps_is_no_part_of_everything(more, counts):
    """Up to a fiftieth of what they take longer."""
    usual = {"a": 98, "b": 98, "c": 98, "d": 5}
    slow = {"a": 392, "b": 392, "c": 392, "d": 5 + more}
    assert counts == bool(texts(report_of(*[usual] * 9, slow), "GIL"))


@pytest.mark.parametrize(("steps", "counts"), [(67, True), (68, False)])
def test_slow_steps_have_a_cause_outside_if_they_cost_something(steps, counts):
    """Eight percent of the time of the run."""
    usual = dict.fromkeys("abcd", 1)
    slow = dict.fromkeys("abcd", 4)
    found = report_of(*[usual] * steps, slow, slow)
    (said,) = [f for f in findings(found) if f.text.startswith(("In 2", "a makes 2"))]
    assert counts == (said.cause == "GIL")
    assert pytest.approx(24 / (4 * steps + 32)) == said.weight


def test_steps_that_are_fast_or_as_usual_are_not_slow():
    """Nor do they count among those that everything is slower in."""
    fast = dict.fromkeys(USUAL, 9)
    longer = dict.fromkeys(USUAL, 99)
    slow = dict.fromkeys(USUAL, 400)
    (said,) = texts(report_of(*[USUAL] * 9, longer, fast, slow), "GIL")
    assert said.startswith("In 1 step ")
    found = findings(report_of(*[USUAL] * 9, longer, fast))
    assert not [f for f in found if f.kind == "odd"]


def test_time_without_a_span_is_no_stage_that_is_slower():
    """It is longer in such steps, too."""
    spans: list[RawRecord] = []
    windows, at = [], 0
    for times in [1] * 9 + [4]:
        begin = at
        for name in ("a", "b", "c", "d"):
            spans.append(span(name, at, at + 10 * times, len(spans) + 1))
            at += 10 * times
        at += 2 * times
        windows.append((begin, at))
    (said,) = about(made([(MAIN, spans)], windows), "GIL")
    assert "slower at once (a, b, c, d):" in said


def small_work(
    *, count: int = 30, length_ns: int = 19_999_999, idle: int = 20, steps: int = 2
) -> list[str]:
    """What is said of so many short spans a step, and of devices idle for them."""
    step_ns = 1000 * MS
    on_device: list[RawRecord] = [
        ("train", at, at + length_ns, number + 1, 0, DEVICE, None, None)
        for step in range(steps)
        for number in range(count)
        for at in [step * step_ns + number * 30 * MS]
    ]
    windows = [(1000 * n, 1000 * n + 1000) for n in range(steps)]
    main = [
        span("train", begin, end, n + 1000) for n, (begin, end) in enumerate(windows)
    ]
    found = analyse(made([(MAIN, main), (device("tpu0"), on_device)], windows))
    held = account(
        occupied_train=100 - idle, host_a=idle // 2, unaccounted=idle - idle // 2
    )
    return texts(dataclasses.replace(found, account=held), "micro-batch")


def test_micro_batches_are_too_small_from_thirty_a_step_on():
    """Below 20 ms each, if devices are idle for a fifth of the time, and not once."""
    (said,) = small_work()
    assert (
        "Micro-batches are too small: train runs 30 times a step for 20 ms each, and "
        "devices are idle 20 % of the time while the host launches the next."
    ) == said
    assert [] == small_work(count=29)
    assert [] == small_work(length_ns=20 * MS)
    assert [] == small_work(idle=19)
    assert [] == small_work(steps=1)


def unusual(*steps: dict[str, int]) -> Finding:
    """What is said of steps that are slow among nine of 100 ms."""
    found = report_of(*[{"rollout": 60, "train": 40}] * 9, *steps)
    (said,) = [f for f in findings(found) if "unusually slow" in f.text]
    return said


def test_an_unusual_step_is_told_with_its_reason():
    """The stage that took most of what slow steps took longer, and its steps."""
    said = unusual(
        {"rollout": 60, "train": 80},
        {"rollout": 130, "train": 50},
        {"rollout": 120, "train": 60},
    )
    assert "rollout" == said.cause
    assert (
        "rollout makes 2 steps unusually slow, 160 ms more than usual in all and 81 % "
        "of that in rollout: step 10 takes 180 ms instead of 100 ms."
    ) == said.text
    assert pytest.approx(160 / 1400) == said.weight


def test_no_more_than_the_whole_of_it_is_in_the_reason():
    """Though a stage takes longer by more than its step, where others are shorter."""
    said = unusual({"rollout": 160, "train": 10})
    assert "70 ms more than usual in all and 100 % of that in rollout" in said.text


def test_notes_come_last():
    """What a reader has to know of the file does not hide what bounds the run."""
    noted = dataclasses.replace(TrainingRun(6).recording(), notes=("the file is cut",))
    said = found_in(noted)
    assert "Note: the file is cut." == said[-1].text


def beside(recording: Recording, **values: Any) -> Recording:
    """The same with Python threads that are busy all the time."""
    whole = recording.end_ns - recording.begin_ns
    demand = LockDemand(
        dur_ns=whole,
        wakeups=2_000_000,
        taken=1_900_000,
        late_ns=12 * MS,
        trainer_ns=whole // 10,
        trainer_turns=whole // (5 * MS),
        switch_ns=5 * MS,
        others_ns=whole,
        threads=["tokenizer", "loader"],
        threads_ns=[whole // 2, whole // 4],
    )
    demand = dataclasses.replace(demand, **values)
    end_ns = recording.steps[-1].end_ns
    return dataclasses.replace(recording, lock=[(end_ns, demand)])


def idle_for_the_host() -> Recording:
    """Half of each step the launching thread is in a span of its own."""
    steps = range(6)
    host = [
        record
        for n in steps
        for record in (
            span("prepare", 20 * n, 20 * n + 10, 2 * n + 1),
            span("train", 20 * n + 10, 20 * n + 11, 2 * n + 2),
        )
    ]
    trained = [work("train", 20 * n + 10, 20 * n + 20, 2 * n + 2) for n in steps]
    timelines: Timelines = [(MAIN, host), (drawn.device("tpu0"), trained)]
    return made(timelines, [(20 * n, 20 * n + 20) for n in steps])


def test_threads_that_hold_the_lock_beside_the_training_are_named():
    """With what was seen, and what helps; its time is that of idle devices."""
    found = found_in(beside(idle_for_the_host(), wakeups=200, taken=190))
    assert "GIL" == found[0].cause
    assert pytest.approx(0.5) == found[0].weight
    assert found[0].text == (
        "Python threads hold the interpreter's lock (GIL) beside the training's: "
        "tokenizer runs 50 % of the time, loader 25 %. A thread that woke up found the "
        "lock taken 95 % of 200 times and came late by a median of 12 ms then. So may "
        "the training's, which had the lock itself 10 % of the time at most. Move the "
        "work of these threads to a process or into native code that releases the "
        "lock, or shorten `sys.setswitchinterval`."
    )


def test_where_devices_are_unaccounted_for_busy_threads_are_the_reason():
    """Instead of the advice to record more."""
    recording = idle_for_the_host()
    timelines = [
        (info, [r for r in records if r[0] != "prepare"])
        for info, records in recording.timelines
    ]
    recording = beside(dataclasses.replace(recording, timelines=timelines))
    (said,) = [f.text for f in found_in(recording) if f.cause == "unaccounted"]
    assert "too much to give advice on stages. Python threads" in said
    assert [] == about(recording, "GIL")


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"trainer_ns": 10**12}, id="the training's own thread has it"),
        pytest.param({"trainer_turns": 0}, id="that thread waits for something else"),
        pytest.param({"taken": 10}, id="the lock is free"),
        pytest.param({"threads": [], "threads_ns": []}, id="no thread is busy"),
    ],
)
def test_threads_that_keep_nobody_waiting_for_the_lock_are_not_named(values):
    """However busy others are."""
    assert [] == about(beside(idle_for_the_host(), **values), "GIL")


@pytest.mark.parametrize(
    ("tags", "weight"),
    [({}, None), ({"end_error_ns": 15 * MS}, 0.25), ({"end_error_ns": 10**9}, 0.65)],
)
def test_devices_that_work_do_not_wait_for_the_lock(tags, weight):
    """But their ends may have been seen so late that they did not work."""
    timelines: Timelines = [
        (MAIN, [span("train", 0, 60, 1)]),
        (drawn.device("tpu0"), [work("train", 0, 60, 1, **tags)]),
    ]
    recording = made(timelines, [(0, 20), (20, 40), (40, 60)])
    busy = beside(recording, trainer_ns=recording.end_ns * 3 // 10)
    expected = [] if weight is None else [pytest.approx(weight, abs=1e-3)]
    assert expected == [f.weight for f in found_in(busy) if f.cause == "GIL"]


def test_without_devices_all_of_the_time_may_be_waited():
    """Nothing tells that it is not."""
    recording = made([(MAIN, [span("train", 0, 60, 1)])], [(0, 20), (20, 60)])
    (said,) = [f for f in found_in(beside(recording)) if f.cause == "GIL"]
    assert pytest.approx(0.95 - 0.1, abs=1e-3) == said.weight


def hang(at: int, step: Any, seconds: Any, where: str = "loop") -> tuple[int, str, Any]:
    """What the watchdog records; at milliseconds, of a step so many seconds old."""
    says = f"step {step} has not ended after {seconds} s: Main is in {where}: here"
    return at * MS, "hang", {"step": step, "seconds": seconds, "says": says}


def said_of_hangs(*instants: tuple[int, str, Any], windows: Any = None) -> list[str]:
    """The first sentence, if it is about these."""
    windows = windows or [(0, 100), (100, 200), (200, 300)]
    spans = [span("train", b, e, n + 1) for n, (b, e) in enumerate(windows)]
    recording = dataclasses.replace(made([(MAIN, spans)], windows), instants=instants)
    found = found_in(recording)
    assert all(finding.cause != "hang" for finding in found[1:])
    return [finding.text for finding in found[:1] if finding.cause == "hang"]


def test_a_step_that_hangs_comes_first():
    """As it was seen the last time."""
    assert [
        "The run hung: step 12 had not ended after 60 min: Main is in sync: here."
    ] == said_of_hangs(hang(2_000_000, 12, 1800), hang(3_900_000, 12, 3600.0, "sync"))


def test_of_several_that_hang_the_longest_comes_first():
    """The others are counted."""
    hangs = [
        hang(5_000_000, 3, 100),
        hang(9_000_000, 12, 900),
        hang(9_500_000, 14, 20),
    ]
    assert [
        "The run hung: step 12 had not ended after 15 min (2 other steps hung, too): "
        "Main is in loop: here."
    ] == said_of_hangs(*hangs)


def test_a_hang_between_ends_of_steps_is_one():
    """The step's span may end before the export that hangs, or after it was seen."""
    (said,) = said_of_hangs(hang(290, 2, 0.15))
    assert said.startswith("The run hung: step 2 had not ended after 150 ms: ")


@pytest.mark.parametrize(
    ("at", "seconds", "told"), [(290, 0.2, 1), (290, 0.191, 0), (310, 0.2, 0)]
)
def test_a_run_whose_steps_end_does_not_hang(at: int, seconds: float, told: int):
    """It does not call `export`; two ends of steps are evidence of it."""
    windows = [(0, 100), (100, 200), (200, 300)]
    if told:
        windows = [(0, 90), (90, 200), (200, 300)]
    assert told == len(said_of_hangs(hang(at, 0, seconds), windows=windows))


@pytest.mark.parametrize(
    "instant",
    [
        (1, "hang", {}),
        (1, "hang", {"step": "x", "seconds": 3.0, "says": "a: b"}),
        (1, "hang", {"step": 3, "seconds": "NaN", "says": "a: b"}),
        (1, "anything", hang(1, 1, 1.0)[2]),
    ],
)
def test_instants_of_others_are_no_hangs(instant: tuple[int, str, Any]):
    """Whatever they are called."""
    assert [] == said_of_hangs(instant)
