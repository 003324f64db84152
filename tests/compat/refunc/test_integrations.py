"""Integrations: each service gets what was logged, and none can stop a training."""

from __future__ import annotations

import glob
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perf.compat.refunc.logging import (
    Integration,
    IntegrationsManager,
    MLflowIntegration,
    MLLogger,
    PrometheusIntegration,
    SlackIntegration,
    WandBIntegration,
    auto_configure_integrations,
    integration_context,
)
from perf.loggers import ConfigError
from tests.compat import servers
from tests.compat.servers import Answer, Loopback
from tests.loggers import wandb_file
from tests.loggers.backends import scrape
from tests.loggers.sinks import Ending, Patient, Raising, Rich, Waiting
from tests.programs import printed_by

Serve = Callable[[Answer], Loopback]


@pytest.mark.row("R28")
def test_mlflow_gets_params_metrics_tags_and_artifacts(
    logger: MLLogger, serve: Serve, tmp_path: Path
) -> None:
    """The server is sent parameter lr, (loss, 0.5, 100), and the end of the run."""
    (tmp_path / "store").mkdir()
    server = serve(servers.mlflow((tmp_path / "store").as_uri()))
    Path("model.pkl").write_text("weights")
    logger.add_integration(
        MLflowIntegration(tracking_uri=server.url, experiment_name="my_experiment")
    )
    logger.log_hyperparams({"lr": 0.001})
    logger.log_metrics({"loss": 0.5}, step=100)
    logger.set_tag("model", "resnet")
    logger.log_artifact("model.pkl", artifact_type="model")
    logger.close()
    [created] = server.sent_to("/experiments/create")
    assert "my_experiment" == created["name"]
    [param] = server.sent_to("/runs/log-parameter")
    assert ("lr", "0.001") == (param["key"], param["value"])
    [batch] = server.sent_to("/runs/log-batch")
    [metric] = batch["metrics"]
    assert ("loss", 0.5, 100) == (metric["key"], metric["value"], metric["step"])
    assert {"model"} == {tag["key"] for tag in server.sent_to("/runs/set-tag")}
    kept = [each for each in (tmp_path / "store").rglob("*.pkl") if each.is_file()]
    assert ["weights"] == [each.read_text() for each in kept]
    assert "FINISHED" == server.sent_to("/runs/update")[-1]["status"]


@pytest.mark.row("R29")
def test_wandb_gets_config_and_metrics(logger: MLLogger, tmp_path: Path) -> None:
    """The offline run has project, entity, config and the value at its step."""
    logger.add_integration(
        WandBIntegration(
            project="my_project",
            entity="my_team",
            config={"lr": 0.001, "batch_size": 32},
        )
    )
    logger.log_metrics({"accuracy": 0.92}, step=100)
    logger.log_hyperparams({"optimizer": "adam"})
    logger.close()
    import wandb

    wandb.teardown()  # Its service writes a run's last rows after the run has finished.
    [path] = glob.glob(f"{tmp_path}/wandb/offline-run-*/*.wandb")
    run = wandb_file.run(Path(path))
    assert ("my_project", "my_team") == (run.project, run.entity)
    config = wandb_file.config(Path(path))
    assert (0.001, 32, "adam") == (
        config["lr"],
        config["batch_size"],
        config["optimizer"],
    )
    [row] = wandb_file.history(Path(path))
    assert (0.92, 100) == (row["accuracy"], row["_step"])


@pytest.mark.row("R30")
def test_prometheus_shows_the_latest_values(logger: MLLogger) -> None:
    """`/metrics` has `ml_training_loss 0.5`; after the end nobody answers."""
    prometheus = PrometheusIntegration(port=0, namespace="ml_training")
    logger.add_integration(prometheus)
    logger.log_metrics({"loss": 0.7, "accuracy": 0.92})
    logger.log_metrics({"loss": 0.5})
    logger.flush()
    shown = scrape(prometheus.port)
    assert (0.5, 0.92) == (shown["ml_training_loss"], shown["ml_training_accuracy"])
    logger.close()
    with pytest.raises(OSError, match="refused"):
        scrape(prometheus.port)


@pytest.mark.row("R13", "R31")
def test_slack_is_told_errors_and_results(logger: MLLogger, serve: Serve) -> None:
    """And nothing else; the channel is in the message."""
    server = serve(servers.slack)
    logger.add_integration(
        SlackIntegration(
            webhook_url=f"{server.url}/services/T/B/x",
            channel="#ml-alerts",
            error_notifications=True,
            completion_notifications=True,
        )
    )
    logger.info("an epoch")
    logger.warning("slow")
    logger.log_metrics({"loss": 0.5})
    logger.error("Training failed!")
    logger.log_result("Training completed", {"final_accuracy": 0.95})
    logger.flush()
    first, second = (content["text"] for content in server.sent_to("/x"))
    assert first.startswith("#ml-alerts: ")
    assert "ERROR: Training failed!" in first
    assert "final_accuracy: 0.9500" in second


@pytest.mark.row("R31")
@pytest.mark.parametrize("switch", ["error_notifications", "completion_notifications"])
def test_each_sort_can_be_switched_off(
    switch: str, logger: MLLogger, serve: Serve
) -> None:
    """Only the other sort is sent then."""
    server = serve(servers.slack)
    settings: dict[str, Any] = {switch: False}
    logger.add_integration(SlackIntegration(f"{server.url}/hook", **settings))
    logger.error("Training failed!")
    logger.log_result("accuracy", 0.95)
    logger.flush()
    [content] = server.sent_to("/hook")
    assert ("failed" in content["text"]) == (switch == "completion_notifications")


@pytest.mark.row("R33")
def test_a_manager_is_closed_at_the_end_of_its_context(logger: MLLogger) -> None:
    """What was logged inside has arrived; later calls go nowhere."""
    kept, other = Rich(), Rich()
    manager = IntegrationsManager()
    manager.add_integration("mine", kept)
    manager.add_integration("other", Integration(other))
    with integration_context(manager) as integrations:
        logger.add_integrations(integrations)
        logger.log_metrics({"accuracy": 0.95})
    logger.log_metrics({"accuracy": 0.1})
    for each in (kept, other):
        assert [("accuracy", 0.95, None)] == each.scalars
        assert 1 == each.closed


@pytest.mark.row("R33")
def test_a_manager_is_closed_on_an_error_too() -> None:
    """The error goes on its way."""
    kept = Rich()
    manager = IntegrationsManager()
    manager.add_integration("mine", kept)
    with pytest.raises(KeyError), integration_context(manager):
        raise KeyError
    assert 1 == kept.closed


def test_what_is_no_backend_is_an_error(logger: MLLogger) -> None:
    """It is said when it is added."""
    with pytest.raises(TypeError, match="str is no backend: expected the methods"):
        logger.add_integration("mlflow")


@pytest.mark.row("R36")
def test_the_environment_says_what_there_is(
    monkeypatch: pytest.MonkeyPatch, serve: Serve
) -> None:
    """Nothing without variables; each variable brings its service."""
    assert 0 == len(auto_configure_integrations())

    class Account(Rich):
        def __init__(self, **options: Any) -> None:
            super().__init__()

    monkeypatch.setattr("perf.loggers.backends.wandb.WandbBackend", Account)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", serve(servers.mlflow("file:///x")).url)
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    found = auto_configure_integrations()
    assert {"mlflow": MLflowIntegration, "wandb": WandBIntegration} == {
        name: type(each) for name, each in found.items()
    }
    found.close()


@pytest.mark.row("R36")
def test_a_package_that_is_missing_is_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One line names the extra; asked for by name, it is an error."""
    caplog.set_level("INFO")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert 0 == len(auto_configure_integrations())
    assert "rlperf[mlflow]" in caplog.text
    with pytest.raises(ImportError, match=r"rlperf\[mlflow\]"):
        MLflowIntegration()


@pytest.mark.row("R43")
def test_a_broken_integration_stops_nothing(
    logger: MLLogger, caplog: pytest.LogCaptureFixture
) -> None:
    """No call raises, the failure is said once, and the others get all."""
    broken, kept = Raising(OSError("connection reset")), Rich()
    logger.add_integrations([broken, kept])
    for step in range(5):
        logger.log_metrics({"accuracy": 0.95}, step=step)
    logger.flush()
    assert broken.tries >= 1
    assert 5 == len(kept.scalars) == len(logger.get_log_entries(level="METRIC"))
    failures = [each for each in caplog.records if "connection reset" in each.message]
    assert 1 == len(failures)


@pytest.mark.row("R43")
def test_a_hanging_integration_holds_up_nobody(logger: MLLogger) -> None:
    """Calls return while it hangs; it gets everything when it goes on."""
    waiting = Waiting()
    logger.add_integration(waiting)
    for step in range(10):
        logger.log_metrics({"loss": 0.5}, step=step)
    assert waiting.entered.wait(30)
    assert 10 == len(logger.get_log_entries(level="METRIC"))
    assert [] == waiting.scalars
    waiting.go_on.set()
    logger.flush()
    assert 10 == len(waiting.scalars)


def test_integrations_are_closed_side_by_side(logger: MLLogger) -> None:
    """One that hangs is waited for while the others end."""
    waiting, other = Patient(), Ending()
    logger.add_integrations([waiting, other])
    logger.log_metrics({"loss": 0.5})
    assert waiting.entered.wait(30)
    closing = threading.Thread(target=logger.close)
    closing.start()
    assert other.ended.wait(10)
    waiting.go_on.set()
    closing.join()
    assert 1 == waiting.closed


@pytest.mark.row("R43")
def test_a_server_that_fails_stops_nothing(
    logger: MLLogger, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """Slack's address is a secret and in no line."""
    server = serve(servers.broken)
    logger.add_integration(SlackIntegration(f"{server.url}/services/T/B/secret"))
    logger.error("Training failed!")
    logger.flush()
    assert server.requests
    assert "slack failed" in caplog.text
    assert "B/secret" not in caplog.text


@pytest.mark.row("R43")
def test_a_program_does_not_wait_long_for_a_service(
    logger: MLLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is reached by a thread of its own, and gets everything when it answers."""
    answers = threading.Event()
    made = []

    class Slow(Rich):
        def __init__(self, **options: Any) -> None:
            super().__init__()
            answers.wait(60)
            made.append((threading.current_thread().name, options, self))

    monkeypatch.setattr("perf.loggers.backends.mlflow.MLflowBackend", Slow)
    monkeypatch.setattr("perf.loggers.services.PATIENCE_S", 0.0)
    logger.add_integration(MLflowIntegration("http://127.0.0.1:9", "images"))
    logger.log_metrics({"loss": 0.5}, step=1)
    assert [] == made
    answers.set()
    logger.flush()
    [(thread, options, slow)] = made
    assert "perf-metrics-mlflow" == thread
    assert "images" == options["experiment_name"]
    assert [("loss", 0.5, 1)] == slow.scalars


@pytest.mark.row("R43")
def test_a_service_that_cannot_be_reached_stops_nothing(
    logger: MLLogger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Adding it raises nothing; that it failed is said once."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    logger.add_integration(MLflowIntegration("http://127.0.0.1:9", "images"))
    logger.log_metrics({"loss": 0.5}, step=1)
    logger.flush()
    assert ["mlflow failed"] == [
        "mlflow failed" for each in caplog.records if "mlflow failed" in each.message
    ]
    assert {"loss": 0.5} == logger.get_log_entries()[-1].metrics


def test_a_wrong_set_up_is_an_error() -> None:
    """An address that is none, a port that is taken."""
    with pytest.raises(ConfigError, match=r"slack\.webhook_url"):
        SlackIntegration("hooks.slack.com")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match=r"prometheus\.port"):
            PrometheusIntegration(port=taken.getsockname()[1])


def test_nothing_is_lost_at_exit(tmp_path: Path) -> None:
    """A program that ends without closing has its W&B run complete on disk."""
    program = """
from perf.compat.refunc.logging import MLLogger, WandBIntegration
from perf.loggers import services
services.PATIENCE_S = 300.0
logger = MLLogger("training")
logger.add_integration(WandBIntegration(project="p"))
for step in range(100):
    logger.log_metrics({"loss": step / 2}, step=step)
"""
    printed_by("-c", program)
    [path] = glob.glob(f"{tmp_path}/wandb/offline-run-*/*.wandb")
    assert [step / 2 for step in range(100)] == [
        row["loss"] for row in wandb_file.history(Path(path))
    ]
