"""Each backend with a way to make it and a reader that is not ours."""

from __future__ import annotations

import glob
import json
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from perf.loggers.protocol import LoggingBackend
from tests.loggers import wandb_file

Make = Callable[[Path], LoggingBackend]
Read = Callable[[Path], Mapping[tuple[str, int], float]]


def read_tensorboard(folder: Path) -> dict[tuple[str, int], float]:
    """Through TensorBoard's own event reader."""
    found = {}
    accumulator = tensorboard_events(folder)
    for tag in accumulator.Tags()["scalars"]:
        for event in accumulator.Scalars(tag):
            found[tag, event.step] = event.value
    return found


def tensorboard_events(folder: Path) -> Any:
    """TensorBoard's event reader over a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return accumulator


def read_jsonl(path: Path) -> dict[tuple[str, int], float]:
    """Through Python's JSON."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for name, value in row.items():
            if isinstance(value, float):
                found[name, row.get("step", 0)] = value
    return found


def read_wandb(folder: Path) -> dict[tuple[str, int], float]:
    """From the files of offline runs."""
    import wandb

    wandb.teardown()  # Its service writes a run's last rows after the run has finished.
    found: dict[tuple[str, int], float] = {}
    for path in glob.glob(f"{folder}/wandb/offline-run-*/*.wandb"):
        for row in wandb_file.history(Path(path)):
            for name, value in row.items():
                if isinstance(value, int | float):
                    found[name, row.get("global_step", 0)] = value
    return found


def read_mlflow(folder: Path) -> dict[tuple[str, int], float]:
    """Through MLflow's own client."""
    from mlflow import MlflowClient

    client = MlflowClient(folder.as_uri())
    found = {}
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id]):
            for name in run.data.metrics:
                for metric in client.get_metric_history(run.info.run_id, name):
                    found[name.replace(".", "/"), metric.step] = metric.value
    return found


def scrape(port: int) -> dict[str, float]:
    """What `/metrics` shows, through prometheus-client's own parser."""
    from prometheus_client.parser import text_string_to_metric_families

    url = f"http://127.0.0.1:{port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as response:
        text = response.read().decode()
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
