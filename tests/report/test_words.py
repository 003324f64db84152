"""The sentences for what is odd, each in a run that has it."""

from __future__ import annotations

import dataclasses
import itertools

from perf._model.spans import DEVICE, RawRecord, TimelineInfo, TimelineKind
from perf._read.recording import Recording
from perf.report.analysis import analyse
from perf.report.words import Finding, findings
from tests.read.drawn import Timelines, span, work
from tests.read.simulator import MAIN, MS
from tests.report.runs import TrainingRun, made, moved


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
    info = TimelineInfo("a", TimelineKind.DEVICE, "a")
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
    for device, late in (("a", 0), ("b", 0), ("c", 4)):
        info = TimelineInfo(device, TimelineKind.DEVICE, device)
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
    for device, late in (("a", 0), ("b", 4)):
        records = [work("train", n, n + 5 + late, n + 1) for n in range(0, 100, 10)]
        records += [work("train", n, n + 5, n + 1) for n, _ in windows[1:]]
        timelines.append((TimelineInfo(device, TimelineKind.DEVICE, device), records))
    report = analyse(made(timelines, windows))
    assert [0] == [each.step.number for each in report.warm_up]
    assert [] == report.stragglers


def test_work_alike_on_single_devices_belongs_together():
    """Launches of one device each are compared if name and tags are the same."""
    main: list[RawRecord] = []
    lanes: dict[str, list[RawRecord]] = {}
    for n in range(6):
        for at, (device, length) in enumerate((("a", 3), ("b", 8))):
            span_id = 2 * n + at + 1
            main.append(span("shard", 10 * n, 10 * n + 1, span_id, part=n))
            record = work("shard", 10 * n, 10 * n + length, span_id, part=n)
            lanes.setdefault(device, []).append(record)
    timelines: Timelines = [(MAIN, main)]
    for device, records in lanes.items():
        timelines.append((TimelineInfo(device, TimelineKind.DEVICE, device), records))
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
    info = TimelineInfo("a", TimelineKind.DEVICE, "a")
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


def test_notes_come_last():
    """What a reader has to know of the file does not hide what bounds the run."""
    noted = dataclasses.replace(TrainingRun(6).recording(), notes=("the file is cut",))
    said = found_in(noted)
    assert "Note: the file is cut." == said[-1].text
