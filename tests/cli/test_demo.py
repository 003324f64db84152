"""`rlperf demo`, as its user runs it: a process of its own, its files read back."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from perf.__main__ import main
from perf.cli import demo
from tools.perfetto import chromium, ui
from tools.perfetto.trace_processor import (
    Slice,
    TraceProcessor,
    counters,
    flows,
    slices,
)

STEPS = 3
MICRO_BATCHES = 6
"""Per step: two mini-batches of three."""
COMMAND = (sys.executable, "-m", "perf", "demo")
SINGLE = {
    "perf/global_step_time",
    "perf/weight_sync_time",
    "perf/rollout_idle_time",
    "perf/first_micro_batch_rollout_time",
}
AGGREGATED = {
    f"perf/{how}/{what}_time"
    for how in ("sum", "mean")
    for what in (
        "rollout",
        "refer_inference",
        "actor_train",
        "actor_train_step",
        "between_micro_batch_gap",
    )
}
COLLECTED = {
    "loss",
    "perplexity",
    "learning_rate",
    "step_time_sec",
    "steps_per_sec",
    "tflops_per_step",
    "rewards/sum",
    "rewards/right_places",
    "kl",
    "pg_clipfrac",
    "actor_dequeue_time",
    "exact",
    *(
        f"{prefix}/{statistic}{suffix}"
        for prefix, suffix in [
            ("rewards", ""),
            ("score", ""),
            ("advantages", ""),
            ("completions", "_length"),
        ]
        for statistic in ("mean", "max", "min")
    ),
}
"""What a GRPO without critic, entropy bonus or penalty in the reward has."""


@dataclasses.dataclass(frozen=True)
class Finished:
    """What a run of the demo left behind."""

    output: str
    folder: Path
    lines: list[dict[str, Any]]

    def trace(self, version: str) -> Path:
        """The one trace of a version."""
        pattern = {
            "v1": r"perfetto_trace_\d+\.pb",
            "v2": r"perfetto_trace_v2_\d+\.pb",
        }
        names = [
            path
            for path in self.folder.iterdir()
            if re.fullmatch(pattern[version], path.name)
        ]
        (path,) = names
        return path


def environment() -> dict[str, str]:
    """The test's own, without what the other tests need of JAX."""
    return {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}


def finished(folder: Path, *arguments: str, at: Path | None = None) -> Finished:
    """Runs the demo to its end, in the folder `at`."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment(),
        cwd=at,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    return Finished(done.stdout, folder, lines)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A short run with rollouts apart, both tracers on."""
    folder = tmp_path_factory.mktemp("demo")
    return finished(folder, "--steps", str(STEPS), "--trace-dir", str(folder))


def of_version(run: Finished, version: str) -> list[Slice]:
    """The slices of a trace that lost nothing."""
    with TraceProcessor(run.trace(version)) as tp:
        tp.assert_clean()
        return slices(tp)


def test_every_step_has_a_line_of_metrics(run: Finished) -> None:
    """The JSON-lines file holds every `perf/…` metric of each step, v1's and v2's."""
    assert list(range(STEPS)) == [line["step"] for line in run.lines]
    for line in run.lines:
        names = {name for name in line if name.startswith("perf/")}
        assert SINGLE | AGGREGATED == names
        # v2 adds how idle the devices are, and how far both sides overlap.
        assert names | {"perf/bubble_frac", "perf/overlap_frac"} == set(line["v2"])
        assert all(value >= 0 for name, value in line.items() if name in AGGREGATED)


def test_every_step_has_the_collected_metrics(run: Finished) -> None:
    """All that apply to GRPO, by their documented names; no text among them."""
    for line in run.lines:
        names = {name for name in line if not name.startswith("perf/")}
        assert COLLECTED == names - {"step", "v2"}
        assert all(isinstance(line[name], float) for name in COLLECTED)
    work = [line["tflops_per_step"] for line in run.lines]
    assert [work[0]] * STEPS == work
    assert 0.01 < work[0] < 0.1


def test_both_versions_measure_the_same_run(run: Finished) -> None:
    """What both measure on the devices is equal up to when each tracer looked (P23)."""
    for line in run.lines[1:]:
        whole = line["perf/global_step_time"]
        for name in ("perf/global_step_time", "perf/sum/rollout_time"):
            assert abs(line[name] - line["v2"][name]) < 0.1 * whole


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_trace_holds_every_span(run: Finished, version: str) -> None:
    """Each stage is there once per micro-batch, on its thread and its devices."""
    counts = Counter(
        (slice_.track[-1], slice_.name) for slice_ in of_version(run, version)
    )
    train = {"v1": "peft_train_step", "v2": "peft_train"}[version]
    refer = {"v1": "refer_inference", "v2": "reference_inference"}[version]
    expected = STEPS * MICRO_BATCHES
    assert expected == counts["cpu0", "rollout"]
    assert expected == counts["cpu2", train]
    assert expected == counts["cpu2", refer]
    if version == "v1":
        assert expected == counts["Rollout", "rollout"]
        assert STEPS == counts["Main", "global_step"]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_nothing_is_unfinished_in_a_run_that_ended(run: Finished, version: str) -> None:
    """Every slice has an end, device work in flight at the last step included."""
    assert [] == [each for each in of_version(run, version) if each.dur < 0]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_reward_is_a_curve_and_training_follows_its_rollouts(
    run: Finished, version: str
) -> None:
    """Counters hold the rewards of the run; arrows lead to the training steps."""
    with TraceProcessor(run.trace(version)) as tp:
        rewards = [each.value for each in counters(tp) if each.track[-1] == "reward"]
        by_id = {each.id: each.name for each in slices(tp)}
        arrows = {(by_id[f.slice_out], by_id[f.slice_in]) for f in flows(tp)}
    assert rewards == pytest.approx([line["rewards/mean"] for line in run.lines])
    assert {"peft_train_step", "peft_train"} & {into for _, into in arrows}


def test_the_report_says_where_the_time_went(run: Finished) -> None:
    """The table names the stages, and the files are named to be opened."""
    for words in ("global step", "rollout", "actor training", "Tracing itself"):
        assert words in run.output
    assert "ui.perfetto.dev" in run.output
    for command in ("report", "view"):
        assert f" {command} {run.trace('v2')}\n" in run.output
    assert str(run.trace("v1")) in run.output
    assert str(run.trace("v2")) in run.output


@pytest.mark.skipif(
    chromium.find() is None and "RLPERF_REQUIRE_BROWSER" not in os.environ,
    reason=f"needs a browser on the PATH, one of {', '.join(chromium.NAMES)}",
)
@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("v1", {"Main", "Rollout", "Reference", "Actor", "Devices", "cpu0", "reward"}),
        ("v2", {"Host - Main threads", "Rollout Cluster", "cpu0", "cpu2", "reward"}),
    ],
)
@pytest.mark.row("P30")
def test_the_trace_opens_in_the_real_ui(
    run: Finished, version: str, expected: set[str]
) -> None:
    """The Perfetto UI shows the tracks and complains of nothing."""
    view = ui.view(run.trace(version).read_bytes(), width=1200, height=900)
    assert expected <= {name for track in view.tracks for name in track}
    assert not view.import_errors
    assert not view.dialogs


@pytest.mark.row("P10")
def test_options_come_from_yaml(tmp_path: Path) -> None:
    """The document's YAML configures the run; what is off leaves no file (P5).

    Where it names no folder, traces go where the metrics go. Texts come if asked for.
    """
    folder = tmp_path / "traces"
    config = tmp_path / "run.yaml"
    config.write_text(
        "rl_training_config:\n"
        "  perf_metrics_options:\n"
        "    enable_perf_v1: false\n"
        "    enable_perf_v2: true\n"
        "  trace_files:\n"
        "    compress: true\n",
        encoding="utf-8",
    )
    run = finished(
        folder,
        *("--steps", "1", "--topology", "colocated", "--texts"),
        *("--config", str(config)),
        at=tmp_path,
    )
    packets = pb.Trace.FromString(run.trace("v2").read_bytes()).packet
    assert any(packet.HasField("compressed_packets") for packet in packets)
    assert 3 == len(list(folder.iterdir()))
    (line,) = run.lines
    assert "perf/global_step_time" in line
    assert "perf/rollout_idle_time" not in line
    assert "actor_dequeue_time" not in line
    (texts,) = (folder / "texts.jsonl").read_text(encoding="utf-8").splitlines()
    assert {"step", "prompts", "completions", "trajectory_ids"} == set(
        json.loads(texts)
    )


def stderr_pieces(process: subprocess.Popen[str]) -> Iterator[str]:
    """What a progress bar writes, piece by piece."""
    assert process.stderr is not None
    piece = ""
    while character := process.stderr.read(1):
        piece += character
        if character in "\r\n":
            yield piece
            piece = ""


def test_an_interrupted_run_leaves_readable_traces(tmp_path: Path) -> None:
    """Ctrl-C ends the run in order: report, metrics so far, traces without a loss."""
    with subprocess.Popen(
        [*COMMAND, "--trace-dir", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        try:
            assert any("2/40" in piece for piece in stderr_pieces(process))
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert 130 == process.returncode, errors
    assert "Interrupted" in output
    assert "Traceback" not in errors
    for path in tmp_path.glob("*.pb"):
        with TraceProcessor(path) as tp:
            tp.assert_clean()
            assert "rollout" in {each.name for each in slices(tp)}
    assert 2 == len(list(tmp_path.glob("*.pb")))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--steps", "0"], 2, "at least 1"),
        (["--topology", "nowhere"], 2, "nowhere"),
        (
            ["--config", "missing.yaml"],
            1,
            "--config missing.yaml: expected a YAML file with rl_training_config.perf_"
            "metrics_options, found none (from ",
        ),
        (["--config", "{folder}"], 1, "perf_metrics_options, found a folder (from "),
        (["--config", "{binary}"], 1, "binary is no YAML: "),
        (
            ["--trace-dir", "{binary}"],
            1,
            "binary: expected a folder to write metrics.jsonl to, found a file of that "
            "name ({binary}): name another with --trace-dir",
        ),
        (
            ["--trace-dir", "{binary}/in/it"],
            1,
            "found a file where a folder of its path should be ({binary}/in",
        ),
        (
            ["--trace-dir", "{folder}"],
            1,
            "found a folder ({folder}/metrics.jsonl): name another with --trace-dir",
        ),
        (["--config", "{config}"], 1, "traces to {binary}: expected a folder"),
        (
            ["--config", "{config}", "--trace-dir", "{folder}"],
            1,
            "traces to {folder}: expected a folder",
        ),
    ],
)
def test_wrong_arguments_are_named(
    arguments: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The message says what was asked, found, and what to do; nothing is trained."""
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    (tmp_path / "metrics.jsonl").mkdir()
    config = tmp_path / "run.yaml"
    config.write_text(f"perf_metrics_options: {{trace_dir: {binary}}}")
    paths = {"folder": tmp_path, "binary": binary, "config": config}
    given = [each.format_map(paths) for each in arguments]
    try:
        found = main(["demo", *given])
    except SystemExit as left:
        found = int(left.code or 0)
    assert code == found
    shown = capsys.readouterr().err
    assert said.format_map(paths) in shown
    assert "Errno" not in shown


@pytest.mark.parametrize(
    ("found", "script", "command"),
    [
        ("/bin/rlperf", "/other/rlperf", "rlperf"),
        (None, ".venv/bin/rlperf", ".venv/bin/rlperf"),
        (None, "/x/perf/__main__.py", f"{sys.executable} -m perf"),
    ],
)
def test_the_next_command_can_be_called(
    found: str | None, script: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the environment is not active it is named with its path."""
    monkeypatch.setattr("shutil.which", lambda name: found)
    monkeypatch.setattr(sys, "argv", [script, "demo"])
    assert command == demo._command()


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    """`rlperf --version` prints it."""
    import perf

    with pytest.raises(SystemExit):
        main(["--version"])
    assert perf.__version__ == capsys.readouterr().out.strip()


def test_a_command_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    """Without one the usage is shown."""
    with pytest.raises(SystemExit) as left:
        main([])
    assert 2 == left.value.code
    assert "COMMAND" in capsys.readouterr().err
