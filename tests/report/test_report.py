"""What a report says of runs whose truth is known."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from perf.__main__ import main
from perf._read.recording import Recording, Step
from perf.report.analysis import Report, analyse
from perf.report.plain import as_text, as_values
from perf.report.words import findings
from tests.read.drawn import span
from tests.read.simulator import MAIN, MS
from tests.report.runs import TrainingRun, moved


@pytest.fixture(scope="module")
def report() -> Report:
    """Of a simulated training."""
    return analyse(TrainingRun(12).recording())


def test_words_come_first_and_name_what_bounds_the_run(report):
    """The sentences hold the bound, and what would help."""
    said = findings(report)
    kinds = {finding.kind for finding in said}
    assert {"bound", "help"} <= kinds
    stage = report.path.most_common(1)[0][0]
    assert any(stage in finding.text for finding in said if finding.kind == "bound")


def test_everything_adds_up(report):
    """Buckets fill the devices' time, stages the steps, stacks each step."""
    assert report.account.total_ns == 2 * report.total_ns
    assert report.total_ns == sum(report.path.values())
    for each in report.steps:
        assert each.step.length_ns == sum(each.by_stage.values())


def test_what_ifs_are_ranked(report):
    """Those that save most come first; twice as fast never makes a run longer."""
    savings = [answer.saving for answer in report.answers]
    assert savings == sorted(savings, reverse=True)
    assert all(saving >= -1e-9 for saving in savings)


def stretched(run: TrainingRun, step: int, by_ns: int) -> Recording:
    """The same with one step longer by a stage of its trainer's thread."""
    cut = run.windows[step].end_ns - 1
    longer = moved(
        run.recording(), lambda time_ns: time_ns + by_ns if time_ns > cut else time_ns
    )
    for info, records in longer.timelines:
        if info.is_main:
            records.append(
                ("checkpoint", cut, cut + by_ns, 10**9, 0, 0, {"step": step}, None)
            )
    return longer


def test_an_unusual_step_is_named_with_its_reason():
    """The step that leaves the others is told, with the stage that differs."""
    found = analyse(stretched(TrainingRun(20), 7, 60 * 10**9))
    (odd,) = [s for s in found.steps if s.is_unusual]
    assert (7, "checkpoint") == (odd.step.number, odd.reason)
    first = findings(found)[0]
    assert "checkpoint" == first.cause
    assert "step 7" in first.text


def test_too_much_unaccounted_is_said_first_and_no_advice_given():
    """Above ten per cent the report leads with that."""
    run = TrainingRun(6)
    for info, records in run.records.items():
        if info.kind.value == "host":
            records[:] = [r for r in records if r[0] == "global_step"]
    found = analyse(run.recording())
    assert found.unaccounted_frac > 0.1
    said = findings(found)
    assert "limit" == said[0].kind
    assert "unaccounted" in said[0].text
    assert not any(finding.kind == "help" for finding in said)


def test_what_limits_all_numbers_comes_behind_the_first_sentence(report):
    """Other notes come last; those to read beside the report are in that order, too."""
    recording = dataclasses.replace(
        report.recording, limits=("a part is missing",), notes=("1 span has no end",)
    )
    limited = dataclasses.replace(report, recording=recording)
    plain, found = findings(report), findings(limited)
    texts = [finding.text for finding in found]
    assert plain[0] == found[0]
    assert ["Note: a part is missing.", plain[1].text] == texts[1:3]
    assert "Note: 1 span has no end." == texts[-1]
    assert ("a part is missing", "1 span has no end") == limited.notes


def test_no_step_gives_a_partial_report():
    """A trace without a whole step says so."""
    run = TrainingRun(1)
    recording = run.recording()
    empty = type(recording)(
        recording.path, {}, recording.timelines, [], [], [], 0, recording.end_ns, ()
    )
    found = analyse(empty)
    assert "no whole step" in as_text(found)
    assert as_values(found)["step_time_median_s"] is None


def test_text_and_values_say_the_same(report):
    """The terminal's page and the JSON hold the findings and the shares."""
    text, values = as_text(report), as_values(report)
    json.dumps(values, allow_nan=False)
    for finding in values["findings"]:
        assert finding["text"] in text
    assert "Critical path" in text
    assert pytest.approx(report.total_ns / 1e9) == sum(
        values["critical_path_s"].values()
    )


def test_names_cannot_steer_a_terminal():
    """Escapes and lone surrogates are shown, not obeyed."""
    hostile = "\x1b[2Jrm\ud800\u202e"
    run = TrainingRun(6, rename={"rollout": hostile, "peft_train": hostile})
    text = as_text(analyse(run.recording()))
    assert not {"\x1b", "\ud800", "\u202e"} & set(text)
    assert r"\x1b[2Jrm\ud800\u202e" in text


def run_cli(*arguments: object) -> int:
    """The exit code of the command line."""
    return main([str(argument) for argument in arguments])


def test_the_command_writes_a_page(tmp_path, capsys, monkeypatch):
    """By default report.html in the working directory; the first sentence is said."""
    trace = TrainingRun(5).write(tmp_path / "a.pb")
    monkeypatch.chdir(tmp_path)
    assert 0 == run_cli("report", trace)
    page = Path("report.html").read_text(encoding="utf-8")
    first = capsys.readouterr().out.splitlines()[0]
    assert first.split(" ")[0] in page
    assert 0 == run_cli("report", trace, "--json")
    assert 1 == json.loads(capsys.readouterr().out)["format_version"]
    assert 0 == run_cli("report", trace, "--text", "-o", tmp_path / "b.html")
    assert (tmp_path / "b.html").exists()


def test_of_several_traces_each_sentence_says_of_which(tmp_path, capsys):
    """The path stands before it; of one trace it needs none."""
    traces = [
        TrainingRun(5, seed=seed).write(tmp_path / name)
        for seed, name in ((0, "a.pb"), (50, "b.pb"))
    ]
    page = tmp_path / "c.html"
    assert 0 == run_cli("report", *traces, "-o", page)
    said = capsys.readouterr().out.splitlines()
    assert [str(trace) for trace in traces] == [s.split(": ")[0] for s in said[:-1]]
    assert 0 == run_cli("report", traces[0], "-o", page)
    alone = capsys.readouterr().out.splitlines()[0]
    assert f"{traces[0]}: {alone}" == said[0]


@pytest.mark.parametrize(("data", "said"), [(b"", "an empty file"), (b"x", "0x78")])
def test_what_is_no_trace_is_told(tmp_path, capsys, data, said):
    """Exit code 1 and a message, no traceback."""
    path = tmp_path / "a.pb"
    path.write_bytes(data)
    assert 1 == run_cli("report", path)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--queue-capacity", "-3", "-3: expected at least 1"),
        ("--queue-capacity", "0", "0: expected at least 1"),
        ("--staleness-limit", "-1", "-1: expected at least 0"),
        ("--error-bound-us", "-0.5", "-0.5: expected 0 or more"),
        ("--error-bound-us", "nan", "nan: expected 0 or more"),
    ],
)
def test_limits_that_cannot_be_are_refused(capsys, option, value, said):
    """Before a file is read: no queue holds fewer rollouts than one."""
    with pytest.raises(SystemExit, match="2"):
        run_cli("report", "a.pb", f"{option}={value}")
    assert said in capsys.readouterr().err


def test_one_of_a_kind_is_singular():
    """The text's title counts spans and steps."""
    one = (MAIN, [span("global_step", 0, 8, 1)])
    recording = Recording(
        "a.pb", {}, [one], [Step(0, 0, 8 * MS)], [], [], 0, 8 * MS, ()
    )
    assert as_text(analyse(recording)).startswith("a.pb: 1 span, 1 step\n")
