"""Every backend passes the one suite; the suite notices what does not."""

from __future__ import annotations

import importlib.machinery
import io
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from perf.loggers.registry import create_backend, known_backends
from perf.testing import backend_checks, check_backend
from tests.loggers import backends as readers

READERS: dict[str, Callable[[Path], Mapping[tuple[str, int], float]]] = {
    "tensorboard": lambda folder: readers.read_tensorboard(folder / "tb"),
    "jsonl": lambda folder: readers.read_jsonl(folder / "metrics.jsonl"),
    "mlflow": lambda folder: readers.read_mlflow(folder / "ml"),
    "wandb": readers.read_wandb,
}
LIBRARIES = {
    "console": "rich",
    "mlflow": "mlflow",
    "opentelemetry": "opentelemetry.sdk.metrics",
    "prometheus": "prometheus_client",
    "slack": "slack_sdk",
    "tensorboard": "tensorboardX",
    "wandb": "wandb",
}


def fake_clu(written: list[tuple[str, int, dict[str, Any]]]) -> types.ModuleType:
    """CLU without its TensorFlow: a writer that keeps what it is told."""

    class Writer:
        def write_scalars(self, step: int, scalars: dict[str, Any]) -> None:
            written.append(("scalars", step, scalars))

        def write_texts(self, step: int, texts: dict[str, Any]) -> None:
            written.append(("texts", step, texts))

        def write_hparams(self, hparams: dict[str, Any]) -> None:
            written.append(("hparams", 0, hparams))

        def flush(self) -> None:
            written.append(("flush", 0, {}))

        def close(self) -> None:
            written.append(("close", 0, {}))

    metric_writers = types.ModuleType("clu.metric_writers")
    metric_writers.create_default_writer = lambda logdir: Writer()  # type: ignore[attr-defined]
    clu = types.ModuleType("clu")
    clu.metric_writers = metric_writers  # type: ignore[attr-defined]
    clu.__spec__ = importlib.machinery.ModuleSpec("clu", None, origin="a fake")
    return clu


def options(name: str, folder: Path) -> dict[str, Any]:
    """What a backend needs to be told."""
    needed: dict[str, dict[str, Any]] = {
        "clu": {"logdir": str(folder)},
        "console": {"file": io.StringIO()},
        "files": {"path": folder / "metrics.log"},
        "jsonl": {"path": folder / "metrics.jsonl"},
        "mlflow": {"tracking_uri": (folder / "ml").as_uri()},
        "prometheus": {"port": 0},
        # Nobody listens on that port: the suite sends nothing that is to arrive.
        "slack": {
            "webhook_url": "http://127.0.0.1:9/services/T/B/x",
            "completion_notifications": False,
        },
        "tensorboard": {"log_dir": folder / "tb"},
        "wandb": {"project": "p", "dir": str(folder)},
        "webhook": {"url": "http://127.0.0.1:9/x", "results": False},
    }
    return needed.get(name, {})


@pytest.mark.filterwarnings("default")  # What services warn of is their business.
@pytest.mark.parametrize("name", known_backends())
def test_a_backend_passes_the_suite(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes numbers, names, steps and threads of any kind, and gives them back."""
    if name == "clu":
        clu = fake_clu([])
        monkeypatch.setitem(sys.modules, "clu", clu)
        monkeypatch.setitem(sys.modules, "clu.metric_writers", clu.metric_writers)
    if name in LIBRARIES:
        pytest.importorskip(LIBRARIES[name], reason=f"the {name} extra is missing")
    if name == "tensorboard":
        pytest.importorskip("tensorboard", reason="its reader is not installed")
    read = READERS.get(name)
    check_backend(
        lambda: create_backend(name, options(name, tmp_path)),
        (lambda: read(tmp_path)) if read else None,
    )


class Good:
    """The least that is a backend."""

    def __init__(self) -> None:
        self.closed = False

    def log_scalar(self, event: str, value: Any, **kwargs: Any) -> None:
        """Takes it."""

    def close(self) -> None:
        """Nothing."""


class NoClose:
    def log_scalar(self, event: str, value: Any, **kwargs: Any) -> None:
        """Takes it."""


class StepNeeded(Good):
    def log_scalar(self, event: str, value: Any, **kwargs: Any) -> None:
        """Takes it, with a step."""
        int(kwargs["step"])


class PythonOnly(Good):
    def log_scalar(self, event: str, value: Any, **kwargs: Any) -> None:
        """Takes numbers of Python."""
        assert isinstance(value, int | float), value


class ClosedOnce(Good):
    def close(self) -> None:
        """Refuses the second time."""
        assert not self.closed, "closed twice"
        self.closed = True


class OddText(Good):
    def log_text(self, text: str) -> None:
        """Takes no name."""


def test_the_least_backend_passes() -> None:
    """Two methods are enough."""
    check_backend(Good)


@pytest.mark.parametrize("bad", [NoClose, StepNeeded, PythonOnly, ClosedOnce, OddText])
def test_what_is_no_backend_fails(bad: Any) -> None:
    """Each way to break the shape is noticed."""
    with pytest.raises((AssertionError, AttributeError, KeyError, TypeError)):
        check_backend(bad)


def test_what_arrives_changed_fails() -> None:
    """A reader that finds other values than were sent is noticed."""
    with pytest.raises(AssertionError):
        check_backend(Good, dict)


def test_each_check_states_its_fact() -> None:
    """The checks can be shown one by one, each with a sentence."""
    assert all(check.__doc__ for check in backend_checks(Good, dict))
