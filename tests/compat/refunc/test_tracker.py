"""`ExperimentTracker`: a run as a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from perf.compat.refunc.logging import ExperimentTracker


@pytest.mark.row("R27")
def test_a_run_is_a_folder(tmp_path: Path) -> None:
    """It has metadata, every point of every metric, and copies of the artifacts."""
    Path("model.pkl").write_text("weights")
    Path("plot.png").write_text("pixels")
    Path("checkpoint").mkdir()
    Path("checkpoint/0").write_text("shard")
    tracker = ExperimentTracker(
        experiment_name="image_classification",
        run_name="resnet_baseline",
        log_dir="./experiments",
    )
    tracker.start_run()
    tracker.log_params({"lr": 0.001, "batch_size": 32})
    tracker.log_tags({"model": "resnet50"})
    for step in range(100):
        tracker.log_metrics({"loss": np.float32(step), "accuracy": 0.5}, step=step)
    tracker.log_artifact("model.pkl")
    tracker.log_artifact("plot.png", artifact_type="plot")
    tracker.log_artifact("checkpoint", artifact_type="model")
    tracker.end_run(status="completed")
    folder = tmp_path / "experiments" / "image_classification" / "resnet_baseline"
    assert folder == tmp_path / tracker.run_dir
    run = json.loads((folder / "run.json").read_text())
    assert tracker.context is not None
    assert tracker.context.run_id == run["run_id"]
    assert {"lr": 0.001, "batch_size": 32} == run["parameters"]
    assert {"model": "resnet50"} == run["tags"]
    assert {"loss": 99.0, "accuracy": 0.5} == run["metrics"]
    assert ["model.pkl", "plot.png", "checkpoint"] == run["artifacts"]
    assert "completed" == run["status"]
    assert run["end_time"] >= run["start_time"]
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    points = [json.loads(line) for line in lines]
    assert [(step, step, 0.5) for step in range(100)] == [
        (point["step"], point["loss"], point["accuracy"]) for point in points
    ]
    assert "weights" == (folder / "artifacts" / "model.pkl").read_text()
    assert "pixels" == (folder / "artifacts" / "plot" / "plot.png").read_text()
    copied = folder / "artifacts" / "model" / "checkpoint" / "0"
    assert "shard" == copied.read_text()


@pytest.mark.row("R27")
def test_artifacts_of_one_name_are_all_kept() -> None:
    """Those of other folders get a number; one that is given again is replaced."""
    tracker = ExperimentTracker("images", "a")
    for folder in ("a", "b", "c"):
        Path(folder, "weights").mkdir(parents=True)
        Path(folder, "model.pkl").write_text(folder)
        Path(folder, "weights", "0").write_text(folder)
        tracker.log_artifact(f"{folder}/model.pkl")
        tracker.log_artifact(f"{folder}/weights")
    Path("b/model.pkl").write_text("b, later")
    tracker.log_artifact("b/model.pkl")
    tracker.end_run()
    found = tracker.run_dir / "artifacts"
    assert {
        "model.pkl": "a",
        "model-2.pkl": "b, later",
        "model-3.pkl": "c",
        "weights/0": "a",
        "weights-2/0": "b",
        "weights-3/0": "c",
    } == {
        str(path.relative_to(found)): path.read_text()
        for path in found.rglob("*")
        if path.is_file()
    }


def test_a_run_can_be_read_while_it_runs() -> None:
    """What was logged is on disk, whatever becomes of the process."""
    tracker = ExperimentTracker("images", "a")
    tracker.log_params({"lr": 0.1})
    tracker.log_metrics({"loss": 0.5})
    run = json.loads((tracker.run_dir / "run.json").read_text())
    assert ("running", {"lr": 0.1}) == (run["status"], run["parameters"])
    [line] = (tracker.run_dir / "metrics.jsonl").read_text().splitlines()
    assert 0.5 == json.loads(line)["loss"]
    tracker.end_run()


def test_no_run_writes_over_another() -> None:
    """The second of a name has its id behind it; the first ends when it starts."""
    tracker = ExperimentTracker("images", "a")
    tracker.start_run()
    first = tracker.run_dir
    tracker.start_run()
    assert tracker.context is not None
    assert f"a-{tracker.context.run_id}" == tracker.run_dir.name
    assert "completed" == json.loads((first / "run.json").read_text())["status"]
    tracker.end_run("aborted")
    tracker.end_run()
    run = json.loads((tracker.run_dir / "run.json").read_text())
    assert "aborted" == run["status"]


def test_what_goes_wrong_on_disk_stops_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each sort of failure is said once; what is known is kept."""
    Path("experiments").write_text("a file")
    tracker = ExperimentTracker("images", "a")
    tracker.start_run()
    for step in range(3):
        tracker.log_metrics({"loss": step}, step=step)
        tracker.log_artifact("no such file")
    tracker.end_run()
    assert tracker.context is not None
    assert ("completed", {"loss": 2}) == (
        tracker.context.status,
        tracker.context.metrics,
    )
    said = [each.getMessage().partition(" failed")[0] for each in caplog.records]
    assert sorted(set(said)) == sorted(said)
    assert {"ExperimentTracker.log_metrics", "ExperimentTracker.log_artifact"} < {*said}


def test_only_the_main_process_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others have no folder."""
    monkeypatch.setenv("RANK", "1")
    tracker = ExperimentTracker("images", "a")
    tracker.log_metrics({"loss": 1.0}, step=1)
    tracker.end_run()
    assert not Path("experiments").exists()
