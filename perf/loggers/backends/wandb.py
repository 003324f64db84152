"""Weights & Biases, through its own client."""

from __future__ import annotations

import netrc
import os
import threading
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlparse

import numpy as np

from perf.loggers.filters import is_main_process
from perf.loggers.images import as_batches
from perf.loggers.naming import timestamp_name
from perf.loggers.sharing import Shared
from perf.loggers.values import as_float, finite_values

__all__ = ["STEP_COLUMN", "WandbBackend"]

STEP_COLUMN: Final = "global_step"
"""Holds the step as it was given: a run's own step cannot go back, ours may, where the
parts of a training count on their own."""


class _Run:
    """A run, and at which step it is; written to by several threads."""

    def __init__(self, run: Any) -> None:
        self.run = run
        self._lock = threading.Lock()
        self._last: int | None = None
        run.define_metric("*", step_metric=STEP_COLUMN)

    def log(self, row: dict[str, Any], step: int | None) -> None:
        with self._lock:
            if step is None:
                self.run.log(row)
                return
            row[STEP_COLUMN] = step
            # A step is a row; one lower than that of the last row gets the next.
            number = max(step, self.run.step)
            if number != step and self._last not in (None, step):
                number += 1
            self._last = step
            self.run.log(row, step=number)


_runs: Final[Shared[_Run]] = Shared()


class WandbBackend:
    """Logs into a W&B run.

    Backends of one process with the same arguments log into one run. Without a key
    (WANDB_API_KEY, or `wandb login`) and unless told otherwise the run stays on disk.

    Args:
        project: the project.
        name: of the run, by default the time of its start. Runs of one name are told
            apart by their ids.
        **kwargs: for `wandb.init`: `entity`, `tags`, `notes`, `mode`, `dir`, `id` …
    """

    stall_timeout_s = 120.0
    """Closing uploads what is left."""

    def __init__(self, project: str, name: str | None = None, **kwargs: Any) -> None:
        self._run: Any = None
        if not is_main_process():
            return
        import wandb

        self._wandb = wandb
        self._key = repr((project, name, sorted(kwargs.items())))
        if "mode" not in kwargs and not os.environ.get("WANDB_MODE") and not _has_key():
            kwargs["mode"] = "offline"
        if "dir" in kwargs:
            # A folder that is not there would make W&B write to a temporary one.
            os.makedirs(kwargs["dir"], exist_ok=True)
        # Not the program's own run, if it has one: that is not ours to finish.
        kwargs.setdefault("reinit", "create_new")
        self._shared = _runs.take(
            self._key,
            lambda: _Run(
                wandb.init(project=project, name=name or timestamp_name(), **kwargs)
            ),
        )
        self._run = self._shared.run

    def log_scalar(self, event: str, value: float | np.ndarray, **kwargs: Any) -> None:
        """Logs one value."""
        self.log_metrics({event: value}, **kwargs)

    def log_metrics(self, metrics: Mapping[str, Any], **kwargs: Any) -> None:
        """Logs all values of a call as a row; what is no single number is left out."""
        numbers = {name.lstrip("/"): as_float(value) for name, value in metrics.items()}
        row = {name: value for name, value in numbers.items() if value is not None}
        if row:
            self._log(row, kwargs)

    def log_text(self, name: str, text: str, **kwargs: Any) -> None:
        """Logs a text."""
        if self._run is not None:
            self._log({name: self._wandb.Html(_escaped(text))}, kwargs)

    def log_image(self, name: str, image: Any, **kwargs: Any) -> None:
        """Logs an image or a batch."""
        if self._run is not None:
            images = [self._wandb.Image(one) for one in as_batches(image)]
            self._log({name: images}, kwargs)

    def log_histogram(self, name: str, values: Any, **kwargs: Any) -> None:
        """Logs a histogram of the finite values."""
        if self._run is not None:
            finite = finite_values(values)
            if finite.size:
                self._log({name: self._wandb.Histogram(finite)}, kwargs)

    def log_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Adds to the run's config."""
        if self._run is not None:
            self._run.config.update(dict(hparams), allow_val_change=True)

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Adds to the run's tags, as "name:value"."""
        if self._run is not None:
            new = tuple(f"{name}:{value}" for name, value in tags.items())
            self._run.tags = (self._run.tags or ()) + new

    def log_result(self, results: Mapping[str, Any], **kwargs: Any) -> None:
        """Writes results into the run's summary."""
        if self._run is not None:
            for name, value in results.items():
                number = as_float(value)
                self._run.summary[name] = str(value) if number is None else number

    def log_artifact(self, name: str, path: str, **kwargs: Any) -> None:
        """Logs a file or folder as an artifact."""
        if self._run is not None:
            kind = str(kwargs.get("type") or "file")
            artifact = self._wandb.Artifact(name, type=kind)
            if os.path.isdir(path):
                artifact.add_dir(path)
            else:
                artifact.add_file(path)
            self._run.log_artifact(artifact)

    def close(self) -> None:
        """The last to close finishes the run."""
        if self._run is not None:
            self._run = None
            _runs.release(self._key, lambda shared: shared.run.finish())

    def _log(self, row: dict[str, Any], kwargs: Mapping[str, Any]) -> None:
        if self._run is not None:
            step = kwargs.get("step")
            self._shared.log(row, None if step is None else int(step))


def _has_key() -> bool:
    """Whether this machine can log in to W&B."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    url = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    try:
        entries = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    return entries.authenticators(urlparse(url).hostname or "") is not None


def _escaped(text: str) -> str:
    import html

    return f"<pre>{html.escape(text)}</pre>"
