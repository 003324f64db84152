"""The options of Tunix's metrics logger, as documented."""

from __future__ import annotations

import copy
import importlib.util
import json
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest

from perf.loggers import ConfigError, MissingExtraError
from perf.metrics_logger import MetricsLogger, MetricsLoggerOptions
from tests.loggers.sinks import Kept, Raising, options

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.row("L2")
def test_defaults_are_the_documented_ones() -> None:
    """Project, run name, flush frequency."""
    made = MetricsLoggerOptions("logs")
    assert ("logs", "tunix", "", 100, None, False) == (
        made.log_dir,
        made.project_name,
        made.run_name,
        made.flush_every_n_steps,
        made.backend_factories,
        made.enable_opentelemetry,
    )


@pytest.mark.row("B6", "L11")
def test_options_can_be_pickled_and_copied() -> None:
    """With a class they survive pickling, with a lambda a deep copy."""
    plain = MetricsLoggerOptions("logs", backend_factories=[Kept])
    assert plain == pickle.loads(pickle.dumps(plain))
    made: list[Kept] = []

    def factory() -> Kept:
        made.append(Kept())
        return made[-1]

    copied = (
        copy.deepcopy(options()),
        copy.deepcopy(
            MetricsLoggerOptions("logs", backend_factories=[lambda: factory()])
        ),
    )
    assert [] == made
    for _ in range(2):
        MetricsLogger(copied[1]).close()
    assert 2 == len(made)


def test_the_text_of_options_shows_no_secrets() -> None:
    """Frameworks log their configuration."""
    kwargs = {"slack": {"webhook_url": "https://hooks.slack.com/services/T/B/s3cr3t"}}
    assert "s3cr3t" not in repr(MetricsLoggerOptions("logs", backend_kwargs=kwargs))


@pytest.mark.parametrize("how", ["backend_factories", "custom_backend"])
@pytest.mark.row("B9")
def test_factories_replace_the_defaults(how: str, tmp_path: Path) -> None:
    """Both spellings; nothing is written to the log folder."""
    kept = Kept()
    factories: Any = [lambda: kept]
    if how == "backend_factories":
        made = MetricsLoggerOptions("logs", backend_factories=factories)
    else:
        made = MetricsLoggerOptions("logs", backend_kwargs={how: factories})
    with MetricsLogger(metrics_logger_options=made) as logger:
        logger.log("train/loss", 0.5, mode="train", step=1)
    assert ([("train/loss", 0.5, 1)], 1) == (kept.scalars, kept.closed)
    assert [] == list(tmp_path.iterdir())


def test_backend_factories_come_before_custom_backend() -> None:
    """One of both is used."""
    one, other = Kept(), Kept()
    made = options(one, backend_kwargs={"custom_backend": [lambda: other]})
    MetricsLogger(made).close()
    assert (1, 0) == (one.closed, other.closed)


def test_an_empty_list_of_factories_means_no_backend(tmp_path: Path) -> None:
    """As at the document's time; values are remembered all the same."""
    made = MetricsLoggerOptions("logs", backend_factories=[])
    assert [] == made.create_backends()
    with MetricsLogger(made) as logger:
        logger.log("loss", 1.0, step=1)
        assert logger.metric_exists("loss", "train")
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"backend_factories": [Kept()]}, "backend_factories"),
        ({"backend_kwargs": {"custom_backend": [Kept()]}}, "backend_factories"),
        ({"backend_kwargs": {"nobody": {}}}, "backend_kwargs.nobody"),
        ({"backend_kwargs": {"jsonl": {"file": "x"}}}, "jsonl.file"),
        ({"text_backends": ["nobody"]}, "text_backends.nobody"),
        ({"text_backends": "jsonl"}, "text_backends"),
    ],
)
def test_wrong_options_are_errors_that_name_the_key(
    wrong: dict[str, Any], key: str
) -> None:
    """At once, when the logger is made."""
    made = MetricsLoggerOptions("logs", **{"backend_factories": [], **wrong})
    with pytest.raises(ConfigError) as caught:
        MetricsLogger(made)
    assert key == caught.value.key


@pytest.mark.parametrize("wrong", ["logs", "", {"log_dir": "logs"}])
def test_what_are_no_options_is_a_type_error(wrong: Any) -> None:
    """It says what was found and how options are made."""
    found = rf"found {type(wrong).__name__}; .*MetricsLoggerOptions\(log_dir="
    with pytest.raises(TypeError, match=found):
        MetricsLogger(wrong)


def test_more_backends_are_made_because_they_are_named(tmp_path: Path) -> None:
    """Those that are no default; their files are in the log folder."""
    made = options(Kept(), backend_kwargs={"jsonl": {}, "files": {"precision": 2}})
    with MetricsLogger(made) as logger:
        logger.log("actor", "loss", 0.5, "train", 1)
    row = json.loads((tmp_path / "logs" / "metrics.jsonl").read_text())
    assert (0.5, 1) == (row["actor/train/loss"], row["step"])
    line = (tmp_path / "logs" / "metrics.log").read_text()
    assert line.endswith("step=1 actor/train/loss=0.50\n")


@pytest.mark.row("M18")
def test_texts_go_to_text_backends_only(tmp_path: Path) -> None:
    """By step, readable; no scalar backend sees one, and they have no history."""
    kept = Kept()
    with MetricsLogger(options(kept, text_backends=["jsonl"])) as logger:
        logger.log("global", "prompts", "1 + 1 =", "train", 3)
        logger.log("completions", "2", mode="train", step=3)
        assert not logger.metric_exists("global", "prompts", "train")
    assert [] == kept.scalars
    lines = (tmp_path / "logs" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [("1 + 1 =", 3), ("2", 3)] == [
        (row.get("global/train/prompts", row.get("train/completions")), row["step"])
        for row in rows
    ]


@pytest.mark.row("L5")
def test_without_wandb_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The rest works; asked for by name, it is an error that names the extra."""
    pytest.importorskip("tensorboardX", reason="the tensorboard extra is missing")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == "wandb" else find(name),
    )
    caplog.set_level(logging.INFO)
    MetricsLogger(MetricsLoggerOptions("logs")).close()
    assert ["wandb metrics are skipped"] == [
        m.partition(":")[0] for m in caplog.messages
    ]
    named = MetricsLoggerOptions("logs", backend_kwargs={"wandb": {"mode": "offline"}})
    with pytest.raises(MissingExtraError, match=r"pip install 'rlperf\[wandb\]'"):
        MetricsLogger(named)


DEFAULTS = """
from perf.metrics_logger import MetricsLogger, MetricsLoggerOptions
options = MetricsLoggerOptions(log_dir="logs", run_name="first")
logger, other = MetricsLogger(options), MetricsLogger(options)
for step in range(3):
    logger.log("train/loss", 0.5 ** step, mode="train", step=step)
    other.log("critic", "loss", 2.0, "train", step)
logger.close()
other.close()
"""


@pytest.mark.row("L3")
def test_by_default_an_event_file_and_an_offline_run_appear(tmp_path: Path) -> None:
    """With no configuration and no key; two loggers of a training share both."""
    for library in ("tensorboardX", "tensorboard", "wandb"):
        pytest.importorskip(library, reason=f"{library} is not installed")
    from tests.loggers import wandb_file
    from tests.loggers.backends import read_tensorboard

    environment = {
        name: value for name, value in os.environ.items() if "WANDB" not in name
    }
    environment |= {"PYTHONPATH": str(ROOT), "NETRC": str(tmp_path / "none")}
    subprocess.run(
        [sys.executable, "-c", DEFAULTS],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
    )
    assert 1 == len(list((tmp_path / "logs").iterdir()))
    found = read_tensorboard(tmp_path / "logs")
    assert {("train/loss", s): 0.5**s for s in range(3)} | {
        ("critic/train/loss", s): 2.0 for s in range(3)
    } == found
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    run = wandb_file.run(path)
    assert ("tunix", "first") == (run.project, run.display_name)
    rows = list(wandb_file.history(path))
    assert {1, 0.5, 0.25} == {row["train/loss"] for row in rows if "train/loss" in row}


@pytest.mark.row("B5")
def test_only_the_main_process_makes_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere the logger remembers values and writes none."""
    monkeypatch.setenv("RANK", "1")
    kept = Kept()
    made = options(kept)
    assert [] == made.create_backends()
    with MetricsLogger(made) as logger:
        logger.log("loss", 1.0, step=1)
        assert 1.0 == logger.get_metric("loss", "train")
    assert ([], 0) == (kept.scalars, kept.closed)


@pytest.mark.parametrize("make", [MetricsLogger, MetricsLoggerOptions.create_backends])
def test_if_one_backend_cannot_be_made_those_before_it_are_closed(make: Any) -> None:
    """Its error comes through."""
    kept = Kept()

    def broken() -> Any:
        raise OSError("no space left")

    made = MetricsLoggerOptions("logs", backend_factories=[lambda: kept, broken])
    with pytest.raises(OSError, match="no space left"):
        make(made)
    assert 1 == kept.closed


@pytest.mark.parametrize("fails_to_close", [False, True])
def test_a_backend_that_cannot_be_added_is_closed(fails_to_close: bool) -> None:
    """Its error comes through, also if it cannot be closed either."""

    class Odd(Kept):
        @property
        def secrets(self) -> Any:
            raise OSError("no key")

        def close(self) -> None:
            super().close()
            if fails_to_close:
                raise ValueError

    kept = [Kept(), Odd()]
    made = options(*kept)
    with pytest.raises(OSError, match="no key"):
        made.create_backends()
    assert [1, 1] == [each.closed for each in kept]


def test_live_backends_may_be_handed_to_another_logger() -> None:
    """They never raise, and a closed one that is still called hears nothing."""
    kept, raising = Kept(), Raising()
    backends = options(kept, raising).create_backends()
    for backend in backends:
        jax.monitoring.register_scalar_listener(backend.log_scalar)
    try:
        jax.monitoring.record_scalar("actor/train/loss", 0.5, step=1)
        jax.monitoring.record_scalar("/jax/of_its_own", 0.5)
        for backend in backends:
            backend.close()
        jax.monitoring.record_scalar("actor/train/loss", 0.25, step=2)
    finally:
        for backend in backends:
            jax.monitoring.unregister_scalar_listener(backend.log_scalar)
    assert [("actor/train/loss", 0.5, 1)] == kept.scalars


def test_opentelemetry_is_an_option() -> None:
    """With the provider that is given; it stays alive."""
    metrics = pytest.importorskip(
        "opentelemetry.sdk.metrics", reason="the opentelemetry extra is missing"
    )
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    provider = metrics.MeterProvider([reader])
    logger = MetricsLogger(
        options(enable_opentelemetry=True), otel_meter_provider=provider
    )
    logger.log("actor", "loss", 0.5, "train", 1)
    logger.close()
    found = {
        metric.name
        for resource in reader.get_metrics_data().resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert {"rlperf.training.loss", "rlperf.training.step"} == found
    provider.shutdown()
