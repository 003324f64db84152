"""What logging a metric costs, to each backend beside the plain library of its service.

The floor of a row is that library, called as its documents show it. `caller` is what a
training pays: its record waits in a queue, and the backend's thread is kept from the
processor meanwhile, as a training has it most of the time.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter_ns as now
from typing import Any, Final

from benchmarks.timing import Case, Reading, interleaved
from perf.loggers import BackendHandler, Pipeline, create_backend
from perf.loggers.records import make_record

_ROUNDS: Final = 12
_COUNT: Final = 1_000


def measure(subject: str) -> dict[str, Reading]:
    """Readings in microseconds."""
    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    found = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if subject == "metrax":
            return {"tensorboard": _metrax(Path(folder))}
        for name, library, plain, options in _services(Path(folder)):
            if importlib.util.find_spec(library) is None:
                continue
            count = 20 if name == "mlflow" else _COUNT
            backend = create_backend(name, options)
            cases = {
                "ours": _case(_records(backend), count),
                "plain": _case(plain(), count),
            }
            if name == "tensorboard":
                cases["caller"] = _caller(count)
            times = interleaved(cases, rounds=_ROUNDS)
            found[name] = times["ours"].reading(1e3, times["plain"])
            if "caller" in times:
                found["caller"] = times["caller"].reading(1e3, times["plain"])
            backend.close()
    return found


Log = Callable[[int], object]
"""Logs one value at a step."""


def _case(log: Log, count: int) -> Case:
    def run(count: int) -> int:
        begin_ns = now()
        for step in range(count):
            log(step)
        return now() - begin_ns

    return Case(run, count=count)


def _records(backend: Any) -> Log:
    handler = BackendHandler(backend)
    return lambda step: handler.handle(make_record({"loss": 0.5}, step=step))


def _caller(count: int) -> Case:
    """A call while the backend's thread has something else to wait for."""

    class Busy:
        def __init__(self) -> None:
            self.go_on = threading.Event()

        def log_scalar(self, event: str, value: Any, **kwargs: Any) -> None:
            self.go_on.wait()

        def close(self) -> None:
            """Nothing."""

    busy = Busy()
    pipeline = Pipeline([busy])

    def after() -> None:
        busy.go_on.set()
        pipeline.flush()

    case = _case(lambda step: pipeline.log_scalar("loss", 0.5, step=step), count)
    return Case(case.run, before=busy.go_on.clear, after=after, count=count)


def _services(
    folder: Path,
) -> Iterator[tuple[str, str, Callable[[], Log], dict[str, Any]]]:
    """Backend, library, its plain use, and the backend's options."""
    tensorboard = {"log_dir": folder / "ours"}
    yield "tensorboard", "tensorboardX", lambda: _tensorboardx(folder), tensorboard
    yield "jsonl", "json", lambda: _jsonl(folder), {"path": folder / "ours.jsonl"}
    yield "files", "logging", lambda: _logging(folder), {"path": folder / "ours.log"}
    yield "console", "rich", _rich, {"file": io.StringIO()}
    yield "prometheus", "prometheus_client", _prometheus, {"port": 0}
    yield "opentelemetry", "opentelemetry", _opentelemetry, {}
    wandb = {"project": "benchmarks", "dir": str(folder)}
    yield "wandb", "wandb", lambda: _wandb(folder), wandb
    mlflow = {"tracking_uri": (folder / "ours-mlflow").as_uri()}
    yield "mlflow", "mlflow", lambda: _mlflow(folder), mlflow


def _metrax(folder: Path) -> Reading:
    from metrax.logging import TensorboardBackend

    backend = TensorboardBackend(str(folder))
    case = _case(lambda step: backend.log_scalar("loss", 0.5, step=step), _COUNT)
    times = interleaved({"ours": case}, rounds=_ROUNDS)
    backend.close()
    return times["ours"].reading(1e3)


def _tensorboardx(folder: Path) -> Log:
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(folder / "plain"))
    return lambda step: writer.add_scalar("loss", 0.5, step)


def _jsonl(folder: Path) -> Log:
    file = (folder / "plain.jsonl").open("a")
    return lambda step: file.write(json.dumps({"loss": 0.5, "step": step}) + "\n")


def _logging(folder: Path) -> Log:
    import logging.handlers

    logger = logging.Logger("plain")
    path = folder / "plain.log"
    logger.addHandler(logging.handlers.RotatingFileHandler(path, maxBytes=2**27))
    return lambda step: logger.info("step=%s loss=%.4f", step, 0.5)


def _rich() -> Log:
    import logging

    from rich.console import Console
    from rich.logging import RichHandler

    logger = logging.Logger("plain")
    logger.addHandler(RichHandler(console=Console(file=io.StringIO()), show_path=False))
    return lambda step: logger.info("step %s: loss=%.4f", step, 0.5)


def _prometheus() -> Log:
    from prometheus_client import CollectorRegistry, Gauge

    gauge = Gauge("loss", "loss", registry=CollectorRegistry())
    return lambda step: gauge.set(0.5)


def _opentelemetry() -> Log:
    from opentelemetry import metrics

    gauge = metrics.get_meter("plain").create_gauge("loss")
    return lambda step: gauge.set(0.5, {"mode": "train"})


def _wandb(folder: Path) -> Log:
    import wandb

    run = wandb.init(project="plain", dir=str(folder), reinit="create_new")
    return lambda step: run.log({"loss": 0.5}, step=step)


def _mlflow(folder: Path) -> Log:
    from mlflow import MlflowClient

    client = MlflowClient((folder / "plain-mlflow").as_uri())
    run = client.create_run(client.create_experiment("plain"))
    return lambda step: client.log_metric(run.info.run_id, "loss", 0.5, step=step)
