"""Runs on disk: a folder with metadata, every point of every metric, artifacts."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perf.compat.refunc._entries import as_json
from perf.compat.refunc._experiments import ExperimentContext, new_run
from perf.loggers.backends.jsonl import JsonlBackend
from perf.loggers.pipeline import Pipeline


class ExperimentTracker:
    """Keeps a run of an experiment in a folder.

    That is `<log_dir>/<experiment_name>/<run_name>`, with the run's id behind it if the
    name is taken. In it are `run.json`, the `ExperimentContext`, with the latest value
    of each metric once the run has ended; `metrics.jsonl`, a line for each call; and
    `artifacts/`, copies, in a folder for each type.

    What goes wrong on disk is logged once and stops nothing.

    Args:
        experiment_name: what the experiment is called.
        run_name: what the run is called; by default its id.
        log_dir: where the folders of experiments are.
    """

    def __init__(
        self,
        experiment_name: str,
        run_name: str | None = None,
        log_dir: str | os.PathLike[str] = "./experiments",
    ) -> None:
        self.context: ExperimentContext | None = None
        """The run: of the latest `start_run`."""
        self.run_dir: Path | None = None
        """Its folder."""
        self._experiment_name = experiment_name
        self._run_name = run_name
        self._log_dir = Path(log_dir)
        self._pipeline = Pipeline()

    def start_run(self) -> ExperimentContext:
        """Starts a run; one that is running is completed first."""
        self.end_run()
        self.context = context = new_run(self._experiment_name, self._run_name)
        folder = self._log_dir / _legal(self._experiment_name)
        self.run_dir = folder / _legal(self._run_name or context.run_id)
        if self.run_dir.exists():
            self.run_dir = folder / f"{self.run_dir.name}-{context.run_id}"
        self._pipeline = Pipeline()
        self._pipeline.add(
            _Folder(self.run_dir, context), name="experiment folder", delivery="sync"
        )
        self._pipeline.log_tags({})
        return context

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Logs hyperparameters; starts a run if none is running, as all methods do."""
        self._running().parameters.update(params)
        self._pipeline.log_hparams(params)

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Logs what the run is to be found by."""
        self._running().tags.update(tags)
        self._pipeline.log_tags(tags)

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Logs a point of each metric."""
        context = self._running()
        context.metrics.update(metrics)
        if step is not None:
            context.step = step
        self._pipeline.log_metrics(metrics, step=step)

    def log_artifact(
        self, path: str | os.PathLike[str], artifact_type: str | None = None
    ) -> None:
        """Copies a file or folder."""
        self._running().artifacts.append(os.fspath(path))
        self._pipeline.log_artifact(Path(path).name, path, type=artifact_type)

    def end_run(self, status: str = "completed") -> None:
        """Ends the run, if one is running."""
        if self.context is not None and self.context.is_running:
            self.context.end(status)
            self._pipeline.close()

    def _running(self) -> ExperimentContext:
        if self.context is None or not self.context.is_running:
            return self.start_run()
        return self.context


class _Folder:
    """The folder of a run, as a backend."""

    def __init__(self, folder: Path, context: ExperimentContext) -> None:
        self._folder = folder
        self._context = context
        self._points: JsonlBackend | None = None

    def log_scalar(self, event: str, value: Any, **kwargs: Any) -> None:
        self.log_metrics({event: value}, **kwargs)

    def log_metrics(self, metrics: Mapping[str, Any], **kwargs: Any) -> None:
        if self._points is None:
            self._points = JsonlBackend(self._folder / "metrics.jsonl")
        self._points.log_metrics(metrics, **kwargs)
        # What is there when the process is killed is all there is of the run.
        self._points.flush()

    def log_hparams(self, hparams: Mapping[str, Any]) -> None:
        self._write()

    def log_tags(self, tags: Mapping[str, str]) -> None:
        self._write()

    def log_artifact(self, name: str, path: str, **kwargs: Any) -> None:
        self._write()
        target = self._folder / "artifacts" / _legal(kwargs.get("type") or "") / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if os.path.isdir(path):
            shutil.copytree(path, target, dirs_exist_ok=True)
        else:
            shutil.copy2(path, target)

    def close(self) -> None:
        if self._points is not None:
            self._points.close()
        self._write()

    def _write(self) -> None:
        fields = as_json(vars(self._context))
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = self._folder / "run.json.partial"
        partial.write_text(json.dumps(fields, indent=1), encoding="utf-8")
        partial.replace(self._folder / "run.json")


def _legal(name: str) -> str:
    """A name as one part of a path."""
    return re.sub(r"[^\w.+=-]", "_", name) if name.strip(".") else ""
