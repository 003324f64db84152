"""What changed between two runs, and how sure that is."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest

from perf.__main__ import main
from perf.report.analysis import Report, analyse
from perf.report.compare import (
    CompareError,
    Comparison,
    Estimate,
    StageChange,
    as_text,
    as_values,
    compare,
    sentences,
)
from perf.report.figures import duration, percent
from tests.read.simulator import MS
from tests.report.runs import TrainingRun, run_of


@pytest.fixture(scope="module")
def base() -> Report:
    """Of a simulated training."""
    return analyse(TrainingRun(30).recording())


def longer(report: Report, stage: str, by: float) -> Report:
    """The same with a stage that is so many times as long on every path."""
    steps = []
    for each in report.steps:
        more = round(each.by_stage.get(stage, 0) * (by - 1))
        by_stage = {**each.by_stage, stage: each.by_stage.get(stage, 0) + more}
        steps.append(dataclasses.replace(each, by_stage=by_stage))
    return dataclasses.replace(report, steps=steps)


def test_a_run_equals_itself(base):
    """No change, and none is sure."""
    found = compare(base, base)
    assert 0 == found.change.value
    assert not found.change.is_sure
    assert sentences(found)[0].startswith("No sure change")


def made_of(
    *stages: StageChange,
    change: Estimate,
    step_ns: tuple[float, float] = (100 * MS, 120 * MS),
) -> Comparison:
    """Of two runs."""
    return Comparison(("a.pb", "b.pb"), (7, 9), step_ns, change, stages, ())


def changed(stage: str, before_ms: float, by_ms: float) -> StageChange:
    """Surely, give or take a millionth."""
    by_ns = by_ms * MS
    estimate = Estimate(by_ns, by_ns - 1, by_ns + 1)
    return StageChange(stage, before_ms * MS, (before_ms + by_ms) * MS, estimate)


def test_a_bound_at_nothing_is_not_sure():
    """Nothing may be the truth."""
    assert [False, True, False, True] == [
        Estimate(0.5, low, high).is_sure
        for low, high in ((0, 1), (0.1, 1), (-1, 0), (-1, -0.1))
    ]


def test_three_steps_are_enough(base):
    """Of either run."""
    short = dataclasses.replace(base, steps=base.steps[:3])
    assert (3, 3) == compare(short, short).steps


def test_the_interval_is_that_of_the_theory_of_means():
    """In 95 of 100 cases a normal difference is within 1.96 standard errors."""
    draw = np.random.default_rng(1)
    runs, variance = [], 0.0
    for mean in (100, 104):
        lengths = draw.normal(1000 * mean, 5000, size=200).astype(int)
        runs.append(analyse(run_of(*[{"train": int(ms)} for ms in lengths])))
        variance += lengths.var() / len(lengths)
    change = compare(*runs).stages[0].change_ns
    error = 1.96 * variance**0.5 * MS
    assert pytest.approx(error, rel=0.04) == change.value - change.low
    assert pytest.approx(error, rel=0.04) == change.high - change.value


def test_a_stage_of_one_run_alone_is_compared():
    """With no time at all in the other."""
    steps = [{"train": 100}, {"train": 102}, {"train": 98}]
    more = [{**step, "eval": 40} for step in steps]
    runs = [analyse(run_of(*some)) for some in (steps, more)]
    (new,) = [stage for stage in compare(*runs).stages if stage.stage == "eval"]
    assert (0, 40 * MS, 40 * MS) == (new.before_ns, new.after_ns, new.change_ns.value)
    (gone,) = [s for s in compare(*runs[::-1]).stages if s.stage == "eval"]
    assert (40 * MS, 0, -40 * MS) == (
        gone.before_ns,
        gone.after_ns,
        gone.change_ns.value,
    )


def test_stages_that_matter_are_a_twentieth_of_the_step():
    """Of each kind of trace."""

    def notes(least: int) -> list[str]:
        whole = {"train": 100 - least}
        runs = [
            analyse(run_of(*[{**whole, stage: least}] * 3)) for stage in ("old", "new")
        ]
        return list(compare(*runs).notes)

    assert [
        "Note: A alone has old, B alone new: names that changed, or traces of two "
        "kinds (v1 and v2)?"
    ] == notes(5)
    assert [] == notes(4)


def test_the_four_stages_that_changed_most_are_named():
    """Each with its part of the change."""
    stages = [changed(name, 20, 5 - n) for n, name in enumerate("abcde")]
    said = sentences(made_of(*stages, change=Estimate(0.2, 0.1, 0.3)))
    assert "The second run is 20 % slower" in said[0]
    assert "100 ms → 120 ms a step." in said[0]
    assert ["a", "b", "c", "d"] == [text.partition(":")[0] for text in said[1:]]
    assert (
        "a: +5 ms a step (+5 ms to +5 ms), 25 % of the change, 20 ms → 25 ms."
    ) == said[1]


@pytest.mark.parametrize(
    ("by", "alike"),
    [
        pytest.param((4, 4, 4), True, id="alike"),
        pytest.param((2, 4, 8), True, id="from half as much to twice as much"),
        pytest.param((1.9, 4, 4), False, id="less than half"),
        pytest.param((4, 4, 8.1), False, id="more than twice"),
        pytest.param((4, 4), False, id="two"),
    ],
)
def test_stages_that_changed_alike_have_one_cause(by, alike):
    """Three of them, each by about as much of its time as the step."""
    stages = [changed(name, 20, ms) for name, ms in zip("abc", by, strict=False)]
    for step_ns, sign in (((100 * MS, 120 * MS), 1), ((400 * MS, 320 * MS), -1)):
        some = [
            dataclasses.replace(s, change_ns=Estimate(sign * s.change_ns.value, 1, 2))
            for s in stages
        ]
        found = made_of(*some, change=Estimate(sign * 0.2, sign, sign), step_ns=step_ns)
        assert alike == any("changed alike" in text for text in sentences(found))


def test_stages_that_matter_are_a_twentieth_of_the_first_run():
    """Those that are shorter may change as they like."""
    some = [changed(name, 20, 4) for name in "abc"]
    change = Estimate(0.2, 0.1, 0.3)
    for before_ms, alike in ((5, False), (4.9, True)):
        found = made_of(*some, changed("d", before_ms, 0), change=change)
        assert alike == any("changed alike" in text for text in sentences(found))


def test_the_text_names_the_runs_and_marks_what_is_not_sure():
    """By their files and how many steps each has."""
    unsure = StageChange("eval", 10 * MS, 9 * MS, Estimate(-MS, -3 * MS, MS))
    change = Estimate(0.2, 0.1, 0.3)
    text = as_text(made_of(changed("train", 20, 4), unsure, change=change))
    lines = text.splitlines()
    assert ["A a.pb (7 steps)", "B b.pb (9 steps)"] == lines[:2]
    assert "  ".join(["train", "20 ms", "24 ms", "+4 ms", "+4 ms to +4 ms"]) == (
        re.sub("  +", "  ", lines[-2]).strip()
    )
    assert "  ".join(["eval", "10 ms", "9 ms", "−1 ms", "−3 ms to +1 ms ?"]) == (
        re.sub("  +", "  ", lines[-1]).strip()
    )


def test_values_are_all_that_a_machine_needs():
    """The files, steps and bounds, too."""
    change = Estimate(0.2, 0.1, 0.3)
    second = StageChange("train", 1e9, 2e9, Estimate(1e9, 0.5e9, 1.5e9))
    found = made_of(second, change=change, step_ns=(1e9, 2e9))
    values = as_values(found)
    assert {
        "format_version": 1,
        "files": ["a.pb", "b.pb"],
        "steps": [7, 9],
        "sentences": sentences(found),
        "step_time_s": [1.0, 2.0],
        "change_frac": {"value": 0.2, "low": 0.1, "high": 0.3, "is_sure": True},
        "stages": [
            {
                "stage": "train",
                "before_s": 1.0,
                "after_s": 2.0,
                "change_s": {"value": 1.0, "low": 0.5, "high": 1.5, "is_sure": True},
            }
        ],
    } == values


def test_no_change_has_no_sign():
    """Neither of the step nor of a stage."""
    nothing = StageChange("train", MS, MS, Estimate(0.0, -1, 1))
    found = made_of(nothing, change=Estimate(0.0, 0.0, 0.0), step_ns=(MS, MS))
    assert [
        "No sure change of step time: 0.0 % (95 % sure: 0.0 % to 0.0 %), "
        "1 ms → 1 ms a step."
    ] == sentences(found)
    assert as_text(found).endswith(" 0 ns  −1 ns to +1 ns ?\n")


def test_the_stage_that_changed_explains_the_change(base):
    """Its change is all of the steps', and the words name it first."""
    found = compare(base, longer(base, "peft_train", 3.0))
    assert found.change.is_sure
    assert "peft_train" == found.stages[0].stage
    whole = found.step_ns[1] - found.step_ns[0]
    assert pytest.approx(whole) == sum(s.change_ns.value for s in found.stages)
    said = sentences(found)
    assert "slower" in said[0]
    assert said[1].startswith("peft_train: +")


def test_the_interval_holds_the_truth(base):
    """Of runs drawn from one law, hardly any two are called different."""
    called = 0
    for seed in range(0, 800, 100):
        runs = [analyse(TrainingRun(12, seed=seed + n).recording()) for n in (0, 50)]
        called += compare(*runs).change.is_sure
    assert called <= 2


def test_what_is_wrong_with_either_trace_is_said(base):
    """As a report on it says it."""
    cut = dataclasses.replace(base.recording, notes=("the file ends early",))
    found = compare(base, dataclasses.replace(base, recording=cut))
    assert "Note on B: the file ends early." == sentences(found)[-1]
    assert not [text for text in sentences(compare(base, base)) if "Note" in text]


def test_traces_of_two_kinds_are_told(base):
    """Stages that matter have other names in each."""
    renamed = analyse(TrainingRun(30, rename={"peft_train": "train"}).recording())
    note = compare(base, renamed).notes[-1]
    assert "A alone has peft_train, B alone train:" in note
    without = dataclasses.replace(
        renamed,
        path=type(base.path)({s: n for s, n in base.path.items() if s != "peft_train"}),
    )
    assert not compare(base, without).notes


def test_a_slower_machine_is_told_from_a_slower_stage(base):
    """All stages are slower by as much."""
    said = sentences(compare(base, slower_everywhere(base, 1.5)))
    assert any("Every stage changed alike" in text for text in said)
    said = sentences(compare(base, slower_everywhere(base, 0.5)))
    assert any("Every stage changed alike" in text for text in said)
    said = sentences(compare(base, longer(base, "peft_train", 3.0)))
    assert not any("Every stage" in text for text in said)
    assert not any("Every stage" in text for text in sentences(compare(base, base)))


def slower_everywhere(report: Report, by: float) -> Report:
    """The same on a machine so many times as slow."""
    for stage in report.path:
        report = longer(report, stage, by)
    return report


def test_too_few_steps_are_refused(base):
    """Two steps say nothing about chance."""
    short = dataclasses.replace(base, steps=base.steps[:2])
    with pytest.raises(CompareError, match="at least 3 steps are needed"):
        compare(base, short)


def test_text_and_values_hold_the_sentences(base):
    """Both say the same."""
    found = compare(base, longer(base, "rollout", 1.5))
    values = json.loads(json.dumps(as_values(found)))
    for sentence in values["sentences"]:
        assert sentence in as_text(found)


@pytest.mark.parametrize(
    ("limit", "code"), [(None, 0), ("5%", 3), ("0.05", 3), ("900%", 0)]
)
def test_the_exit_code_is_a_gate(tmp_path, capsys, limit, code):
    """3 for a run that is slower by more than the limit, else 0."""
    run = TrainingRun(12)
    before = run.write(tmp_path / "a.pb")
    first = run.windows[0].begin_ns
    run.records = {
        info: [
            (r[0], first + 2 * (r[1] - first), first + 2 * (r[2] - first), *r[3:])
            for r in records
        ]
        for info, records in run.records.items()
    }
    run.end_ns = first + 2 * (run.end_ns - first)
    after = run.write(tmp_path / "b.pb")
    more = ["--fail-over", limit] if limit else []
    assert code == main(["diff", str(before), str(after), *more])
    assert "100 % slower" in capsys.readouterr().out
    assert 0 == main(["diff", str(after), str(before), "--json", *more])
    assert -0.5 == pytest.approx(
        json.loads(capsys.readouterr().out)["change_frac"]["value"]
    )


@pytest.mark.parametrize("limit", ["x", "-5%", "nan"])
def test_a_wrong_limit_is_named(limit, capsys):
    """Exit code 2 and what is expected."""
    with pytest.raises(SystemExit) as left:
        main(["diff", "a", "b", f"--fail-over={limit}"])
    assert 2 == left.value.code
    assert "expected" in capsys.readouterr().err


def test_values_are_seconds_and_shares(base):
    """Of one stage that takes longer, in numbers and in words."""
    stage = "peft_train"
    found = compare(base, longer(base, stage, 3.0))
    before_s = sum(s.by_stage[stage] for s in base.steps) / len(base.steps) / 1e9
    first, *others = as_values(found)["stages"]
    assert stage == first["stage"]
    assert pytest.approx([before_s, 3 * before_s, 2 * before_s]) == [
        first["before_s"],
        first["after_s"],
        first["change_s"]["value"],
    ]
    assert first["change_s"]["low"] < first["change_s"]["value"]
    assert first["change_s"]["value"] < first["change_s"]["high"]
    assert 0 == sum(abs(other["change_s"]["value"]) for other in others)
    longest = f"+{duration(2 * before_s * 1e9)}"
    verdict, change = sentences(found)[:2]
    assert f"slower (95 % sure: +{percent(found.change.low)} to +" in verdict
    assert change.startswith(f"{stage}: {longest} a step (+")
    assert ", 100 % of the change, " in change
    (row,) = [r for r in as_text(found).splitlines() if r.startswith(f"  {stage} ")]
    assert f" {longest} " in row
    (row, *_) = [r for r in as_text(found).splitlines() if r.startswith("  rollout ")]
    assert " 0 ns " in row
    shorter = sentences(compare(longer(base, stage, 3.0), base))
    assert shorter[1].startswith(f"{stage}: {longest.replace('+', '−')} a step (−")


def test_a_change_that_no_stage_explains_is_said(base):
    """Each of many stages may have changed by chance, all together surely not."""
    found = compare(base, longer(base, "peft_train", 3.0))
    unsure = [
        dataclasses.replace(
            s, change_ns=dataclasses.replace(s.change_ns, low=-1, high=1)
        )
        for s in found.stages
    ]
    said = sentences(dataclasses.replace(found, stages=unsure))
    assert "No single stage explains it for sure: more steps would." == said[-1]
    assert said[-1] not in sentences(found)
    assert said[-1] not in sentences(compare(base, base))


def test_a_stage_that_hardly_takes_time_does_not_count(base):
    """All that matter changed alike, whatever the least does."""
    found = compare(base, slower_everywhere(base, 1.5))
    least = min(found.stages, key=lambda stage: stage.before_ns)
    odd = [
        dataclasses.replace(
            s,
            before_ns=0.04 * found.step_ns[0],
            change_ns=dataclasses.replace(s.change_ns, value=0.0),
        )
        if s is least
        else s
        for s in found.stages
    ]
    changed = dataclasses.replace(found, stages=odd)
    assert any("Every stage changed alike" in text for text in sentences(changed))
