"""MLflow, through the client of mlflow-skinny."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlparse

import numpy as np

from perf.loggers.filters import is_main_process
from perf.loggers.naming import timestamp_name
from perf.loggers.values import as_float, step_or_zero

__all__ = ["MLflowBackend"]

_ILLEGAL: Final = re.compile(r"[^\w\-. :/]")
_MAX_PARAM: Final = 6000


class MLflowBackend:
    """Logs into an MLflow run of its own.

    Args:
        tracking_uri: a server or store; by default MLFLOW_TRACKING_URI. In a store of
            plain files the slashes of names become points.
        experiment_name: made if there is none of that name.
        run_name: by default the time of its start.
    """

    stall_timeout_s = 30.0
    takes_wall_time = True

    def __init__(
        self,
        tracking_uri: str | None = None,
        experiment_name: str = "rlperf",
        run_name: str | None = None,
    ) -> None:
        self._client: Any = None
        if not is_main_process():
            return
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        self._metric = Metric
        client = MlflowClient(tracking_uri)
        found = client.get_experiment_by_name(experiment_name)
        if found is None:
            experiment_id = client.create_experiment(experiment_name)
        else:
            experiment_id = found.experiment_id
        run = client.create_run(experiment_id, run_name=run_name or timestamp_name())
        # A folder cannot hold both "loss" and "loss/entropy".
        scheme = urlparse(client.tracking_uri).scheme
        self._separator = "." if scheme in ("", "file") else "/"
        self._client = client
        self.run_id: str = run.info.run_id

    def log_scalar(self, event: str, value: float | np.ndarray, **kwargs: Any) -> None:
        """Logs one value."""
        self.log_metrics({event: value}, **kwargs)

    def log_metrics(self, metrics: Mapping[str, Any], **kwargs: Any) -> None:
        """Logs all values of a call in one request."""
        if self._client is None:
            return
        time_ms = int((kwargs.get("wall_time") or time.time()) * 1000)
        step = step_or_zero(kwargs)
        numbers = {name: as_float(value) for name, value in metrics.items()}
        self._client.log_batch(
            self.run_id,
            metrics=[
                self._metric(self._legal(name), number, time_ms, step)
                for name, number in numbers.items()
                if number is not None
            ],
        )

    def log_text(self, name: str, text: str, **kwargs: Any) -> None:
        """Keeps a text as a file of the run."""
        if self._client is not None:
            file = f"{self._legal(name)}/{step_or_zero(kwargs)}.txt"
            self._client.log_text(self.run_id, text, file)

    def log_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Logs parameters; one that has another value already keeps it."""
        if self._client is not None:
            known = self._client.get_run(self.run_id).data.params
            for name, value in hparams.items():
                if self._legal(name) not in known:
                    text = str(value)[:_MAX_PARAM]
                    self._client.log_param(self.run_id, self._legal(name), text)

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Sets tags."""
        if self._client is not None:
            for name, value in tags.items():
                self._client.set_tag(self.run_id, self._legal(name), str(value))

    def log_artifact(self, name: str, path: str, **kwargs: Any) -> None:
        """Keeps a file or folder under its name."""
        if self._client is not None:
            self._client.log_artifact(self.run_id, path, self._legal(name))

    def close(self) -> None:
        """Ends the run."""
        if self._client is not None:
            client, self._client = self._client, None
            client.set_terminated(self.run_id)

    def _legal(self, name: str) -> str:
        """A name that MLflow takes: no leading slash, no signs it does not know."""
        legal = _ILLEGAL.sub("_", name).strip("/") or "_"
        return legal.replace("/", self._separator)
