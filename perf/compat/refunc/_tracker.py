"""Runs on disk: a folder with metadata, every point of every metric, artifacts."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from perf.compat.refunc._experiments import ExperimentContext, new_run
from perf.loggers.backends.jsonl import JsonlBackend, plain
from perf.loggers.filters import is_main_process
from perf.loggers.guard import never_raises
from perf.loggers.naming import file_name
from perf.loggers.values import snapshot


class ExperimentTracker:
    """Keeps a run of an experiment in a folder.

    That is `<log_dir>/<experiment_name>/<run_name>`, with the run's id behind it if the
    name is taken. In it are `run.json`, the `ExperimentContext`, with the latest value
    of each metric once the run has ended; `metrics.jsonl`, a line for each call; and
    `artifacts/`, copies, in a folder for each type. What goes wrong on disk is logged
    once and stops nothing. A call starts a run if none is running.

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
        self.run_dir = Path(log_dir)
        """Its folder."""
        self._names = experiment_name, run_name
        self._folder = Path(log_dir) / file_name(experiment_name)
        self._points: JsonlBackend | None = None
        self._copies: dict[Path, Path] = {}
        """Of which file or folder each copy is."""

    @never_raises
    def start_run(self) -> None:
        """Starts a run; one that is running is completed first."""
        self.end_run()
        self.context = context = new_run(*self._names)
        self.run_dir = self._folder / file_name(context.run_name or context.run_id)
        if self.run_dir.exists():
            self.run_dir = self._folder / f"{self.run_dir.name}-{context.run_id}"
        self._save()

    @never_raises
    def log_params(self, params: Mapping[str, Any]) -> None:
        """Logs hyperparameters."""
        self._running().parameters.update(params)
        self._save()

    @never_raises
    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Logs what the run is to be found by."""
        self._running().tags.update(tags)
        self._save()

    @never_raises
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Logs a point of each metric."""
        flat = snapshot(metrics)
        self._running().metrics.update(flat)
        if self._points is None:
            self._points = JsonlBackend(self.run_dir / "metrics.jsonl")
        self._points.log_metrics(flat, **({} if step is None else {"step": step}))

    @never_raises
    def log_artifact(
        self, path: str | os.PathLike[str], artifact_type: str | None = None
    ) -> None:
        """Copies a file or folder.

        One that is given again takes the place of its copy; another one of that name
        has a number in its own, "model-2.pkl".
        """
        self._running().artifacts.append(os.fspath(path))
        self._save()
        if not is_main_process():
            return
        kind = [file_name(artifact_type)] if artifact_type else []
        folder = self.run_dir.joinpath("artifacts", *kind)
        folder.mkdir(parents=True, exist_ok=True)
        copy = self._copy_of(Path(path).absolute(), folder)
        if os.path.isdir(path):
            shutil.copytree(path, copy, dirs_exist_ok=True)
        else:
            shutil.copy2(path, copy)

    @never_raises
    def end_run(self, status: str = "completed") -> None:
        """Ends the run, if one is running."""
        if self.context is not None and self.context.is_running:
            self.context.end(status)
            points, self._points = self._points, None
            if points is not None:
                points.close()
            self._save()

    def _copy_of(self, path: Path, folder: Path) -> Path:
        names = (f"{path.stem}-{number}{path.suffix}" for number in itertools.count(2))
        for name in itertools.chain([path.name], names):
            if self._copies.setdefault(folder / name, path) == path:
                break
        return folder / name

    def _running(self) -> ExperimentContext:
        if self.context is None or not self.context.is_running:
            self.start_run()
        return cast(ExperimentContext, self.context)

    def _save(self) -> None:
        if is_main_process():
            self.run_dir.mkdir(parents=True, exist_ok=True)
            partial = self.run_dir / "run.json.partial"
            text = json.dumps(plain(vars(self.context)), indent=1)
            partial.write_text(text, encoding="utf-8")
            partial.replace(self.run_dir / "run.json")
