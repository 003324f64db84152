"""Every example of the document, with its imports changed and nothing else.

Names that an example leaves open are defined before it, services are on this machine,
and `...` is filled in. What an example says that it does is looked at from outside.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from perf.compat.refunc import logging as refunc
from perf.compat.refunc.logging import LogEntry, MLLogger
from tests.compat import servers
from tests.compat.servers import Answer, Loopback
from tests.loggers.backends import read_wandb, scrape
from tests.loggers.sinks import Rich

Serve = Callable[[Answer], Loopback]


@pytest.fixture(autouse=True)
def _closed(monkeypatch: pytest.MonkeyPatch, serve: object) -> Iterator[None]:
    """The examples close nothing; that is done here."""
    made: list[MLLogger] = []
    init = MLLogger.__init__

    def noted(self: MLLogger, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        made.append(self)

    monkeypatch.setattr(MLLogger, "__init__", noted)
    yield
    for logger in made:
        logger.close()


def run(example: str, **names: Any) -> dict[str, Any]:
    """Runs an example as the document prints it; what it has defined."""
    code = textwrap.dedent(example).replace("from refunc.", "from perf.compat.refunc.")
    namespace = {**vars(refunc), "__name__": "__main__", **names}
    exec(compile(code, "example", "exec"), namespace)
    return namespace


def losses() -> Callable[[], float]:
    """A `train_step`: 1, 1/2, 1/3, …"""
    count = iter(range(1, 1_000_000))
    return lambda: 1 / next(count)


def levels(logger: MLLogger) -> list[str]:
    """Those of the entries, in order."""
    return [entry.level for entry in logger.get_log_entries()]


def last(logger: MLLogger) -> LogEntry:
    """The latest entry."""
    return logger.get_log_entries(last_n=1)[0]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def test_quick_start(capsys: pytest.CaptureFixture[str]) -> None:
    """Two lines, a hundred epochs with a bar each, and the result."""
    names = run(
        """
        from refunc.logging import MLLogger, experiment_context, progress_context

        # Basic logger setup
        logger = MLLogger("my_experiment")

        # Simple logging
        logger.info("Starting training process")
        logger.metric("Training started", {"lr": 0.001, "batch_size": 32})

        # Experiment tracking
        with experiment_context("image_classification", "resnet_v1") as exp:
            logger.log_hyperparams({"lr": 0.001, "epochs": 100})

            for epoch in range(100):
                with progress_context(f"Epoch {epoch}", total=1000) as progress:
                    # Training loop
                    for step in range(1000):
                        loss = train_step()
                        progress.update({"loss": loss})

                        if step % 100 == 0:
                            logger.log_metrics({"loss": loss, "step": step})

            logger.log_result("Final accuracy", 0.95)
        """,
        train_step=losses(),
    )
    logger, experiment = names["logger"], names["exp"]
    assert ["INFO", "METRIC", "EXPERIMENT"] == levels(logger)[:3]
    inside = logger.get_log_entries(experiment_id=experiment.experiment_id)
    assert 1 + 100 * 10 + 1 == len(inside)
    assert {"lr": 0.001, "epochs": 100} == experiment.parameters
    assert ("completed", 0.95) == (
        experiment.status,
        experiment.metrics["Final accuracy"],
    )
    assert "Epoch 99: 100%" in capsys.readouterr().err


def test_basic_and_advanced_setup() -> None:
    """The logs of the second are JSON, in the folder named."""
    names = run(
        """
        # Basic setup
        logger = MLLogger("training_run")

        # Advanced setup
        logger = MLLogger(
            name="experiment_001",
            level="DEBUG",
            log_dir="./experiments/logs",
            experiment_tracking=True,
            colored_output=True,
            json_logging=True,
            max_log_files=5,
            max_file_size="50MB"
        )
        """
    )
    names["logger"].debug("seen")
    line = Path("experiments/logs/experiment_001.jsonl").read_text()
    assert "seen" == json.loads(line)["message"]


def test_basic_logging_methods(logger: MLLogger) -> None:
    """An entry for each, at its level."""
    run(
        """
        # Standard log levels
        logger.trace("Detailed debugging information")
        logger.debug("Debug information")
        logger.info("General information")
        logger.warning("Warning message")
        logger.error("Error occurred")
        logger.critical("Critical error")

        # ML-specific levels
        logger.metric("Training metric", {"accuracy": 0.92})
        logger.experiment("Experiment event", {"stage": "validation"})
        logger.progress("Progress update", {"completed": 75})
        logger.result("Final result", {"test_accuracy": 0.95})
        """,
        logger=logger,
    )
    standard = ["TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
    assert [*standard, "METRIC", "EXPERIMENT", "PROGRESS", "RESULT"] == levels(logger)
    assert [
        {"accuracy": 0.92},
        {"stage": "validation"},
        {"completed": 75},
        {"test_accuracy": 0.95},
    ] == [entry.metrics for entry in logger.get_log_entries()[6:]]


def test_experiment_tracking_methods(logger: MLLogger) -> None:
    """All is in the context, and with an integration."""
    sink = Rich()
    logger.add_integration(sink)
    run(
        """
        # Hyperparameter logging
        logger.log_hyperparams({
            "learning_rate": 0.001,
            "batch_size": 32,
            "optimizer": "adam",
            "model": "resnet50"
        })

        # Metrics logging
        logger.log_metrics({
            "loss": 0.234,
            "accuracy": 0.92,
            "f1_score": 0.89
        }, step=100)

        # Artifact logging
        logger.log_artifact("model.pkl", artifact_type="model")
        logger.log_artifacts(["plot1.png", "plot2.png"], artifact_type="visualization")

        # Tag management
        logger.add_tags({"environment": "production", "version": "v1.2"})
        logger.set_tag("experiment_type", "hyperparameter_tuning")

        # Result logging
        logger.log_result("final_accuracy", 0.945, metadata={"dataset": "test"})
        """,
        logger=logger,
    )
    context = logger.get_experiment_context()
    assert 32 == context.parameters["batch_size"]
    assert {"loss", "accuracy", "f1_score", "final_accuracy"} == set(context.metrics)
    assert ["model.pkl", "plot1.png", "plot2.png"] == context.artifacts
    assert {"environment", "version", "experiment_type"} == set(context.tags)
    assert {"final_accuracy": {"dataset": "test"}} == context.metadata
    logger.flush()
    assert ("f1_score", 0.89, 100) in sink.scalars
    assert ["hparams", *["artifact"] * 3, "tags", "tags", "result"] == [
        call[0] for call in sink.calls if call[0] != "flush"
    ]


def test_context_management(
    logger: MLLogger, capsys: pytest.CaptureFixture[str]
) -> None:
    """The context is printed after the experiment has ended, with the step."""
    run(
        """
        # Start experiment
        logger.start_experiment("image_classification", "experiment_001")

        # End experiment
        logger.end_experiment(status="completed", final_metrics={"accuracy": 0.95})

        # Step tracking
        logger.step()  # Increment step counter
        logger.set_step(100)  # Set specific step

        # Epoch tracking
        logger.epoch()  # Increment epoch counter
        logger.set_epoch(10)  # Set specific epoch

        # Get current context
        context = logger.get_experiment_context()
        print(f"Experiment: {context.experiment_name}, Step: {context.step}")
        """,
        logger=logger,
    )
    printed = "Experiment: image_classification, Step: 100\n"
    assert printed == capsys.readouterr().out


def test_log_entry() -> None:
    """The fields as a dict, and as JSON of the same."""
    names = run(
        """
        entry = LogEntry(timestamp, "INFO", "Epoch completed", "training")

        # Serialization
        entry_dict = entry.to_dict()
        entry_json = entry.to_json()
        """,
        timestamp=time.time(),
    )
    assert names["entry_dict"] == json.loads(names["entry_json"])


def test_formatters(logger: MLLogger, capsys: pytest.CaptureFixture[str]) -> None:
    """All three, on a handler of `logging` that the logger is given."""
    names = run(
        """
        from refunc.logging import ColoredFormatter

        formatter = ColoredFormatter(
            show_time=True,
            show_level=True,
            show_logger=True,
            show_metrics=True,
            color_scheme="default"  # "default", "dark", "light"
        )
        colored = formatter

        from refunc.logging import JSONFormatter

        formatter = JSONFormatter(
            include_extra=True,
            timestamp_format="iso",  # "iso", "unix", "readable"
            indent=None  # For pretty-printing, use 2 or 4
        )
        as_json = formatter

        from refunc.logging import MLFormatter

        formatter = MLFormatter(
            show_step=True,
            show_epoch=True,
            show_metrics=True,
            metric_precision=4,
            compact_mode=False
        )
        """
    )
    handler = logging.StreamHandler(sys.stdout)
    logger.add_handler(handler)
    for formatter in (names["colored"], names["as_json"], names["formatter"]):
        handler.setFormatter(formatter)
        logger.log_metrics({"loss": 0.234567}, step=3)
    colored, as_json, line = capsys.readouterr().out.splitlines()
    assert "\x1b[32mMETRIC" in colored
    assert {"loss": 0.234567} == json.loads(as_json)["metrics"]
    assert line.endswith("training: [step 3] Metrics | loss=0.2346")


def test_progress_tracker(logger: MLLogger) -> None:
    """A line each hundred, and one at the end."""
    run(
        """
        from refunc.logging import ProgressTracker

        tracker = ProgressTracker(
            total=1000,
            description="Training",
            logger=logger
        )

        for i in range(1000):
            # Your processing here
            tracker.update(1, {"loss": current_loss})

            if i % 100 == 0:
                tracker.log_progress()

        tracker.finish()
        """,
        logger=logger,
        current_loss=0.5,
    )
    assert ["PROGRESS"] * 11 == levels(logger)
    assert "1000/1000 (100%)" in last(logger).message


def test_tqdm_progress_tracker(capsys: pytest.CaptureFixture[str]) -> None:
    """A bar with the metrics behind it."""
    run(
        """
        from refunc.logging import TqdmProgressTracker

        with TqdmProgressTracker(total=1000, desc="Training") as progress:
            for i in range(1000):
                # Training step
                loss = train_step()
                progress.update(1, {"loss": loss, "lr": current_lr})
        """,
        train_step=losses(),
        current_lr=0.1,
    )
    shown = capsys.readouterr().err
    assert "1000/1000" in shown
    assert "loss=0.0010, lr=0.1000" in shown


def test_epoch_tracker(logger: MLLogger) -> None:
    """A line for each epoch, with what its end was given."""
    run(
        """
        from refunc.logging import EpochTracker

        epoch_tracker = EpochTracker(
            total_epochs=100,
            steps_per_epoch=1000,
            logger=logger
        )

        for epoch in range(100):
            epoch_tracker.start_epoch(epoch)

            for step in range(1000):
                loss = train_step()
                epoch_tracker.update_step({"loss": loss})

            val_acc = validate()
            epoch_tracker.end_epoch({"val_accuracy": val_acc})
        """,
        logger=logger,
        train_step=losses(),
        validate=lambda: 0.9,
    )
    epochs = logger.get_log_entries(level="METRIC")
    assert list(range(100)) == [entry.epoch for entry in epochs]
    assert "Epoch 100/100: 1000 steps" == epochs[-1].message
    assert {"loss": 1 / 100_000, "val_accuracy": 0.9} == epochs[-1].metrics


def test_progress_context_managers(capsys: pytest.CaptureFixture[str]) -> None:
    """Bars of steps and of epochs, with the metrics."""
    run(
        """
        # Progress context
        with progress_context("Training", total=1000) as progress:
            for i in range(1000):
                progress.update(1, {"step": i})

        # Epoch context
        with epoch_context(total_epochs=10) as epochs:
            for epoch in epochs:
                # Training logic
                epochs.log({"accuracy": current_acc})
        """,
        current_acc=0.9,
    )
    shown = capsys.readouterr().err
    assert "step=999" in shown
    assert "10/10" in shown
    assert "accuracy=0.9000" in shown


def test_experiment_tracker() -> None:
    """The folder has parameters, tags, a thousand points and the artifacts."""
    Path("model.pkl").touch()
    Path("training_plot.png").touch()
    run(
        """
        from refunc.logging import ExperimentTracker

        tracker = ExperimentTracker(
            experiment_name="image_classification",
            run_name="resnet_baseline",
            log_dir="./experiments"
        )

        # Setup experiment
        tracker.start_run()
        tracker.log_params({"lr": 0.001, "batch_size": 32})
        tracker.log_tags({"model": "resnet50", "dataset": "imagenet"})

        # During training
        for step in range(1000):
            metrics = {"loss": current_loss, "accuracy": current_acc}
            tracker.log_metrics(metrics, step=step)

        # Artifacts
        tracker.log_artifact("model.pkl")
        tracker.log_artifact("training_plot.png", artifact_type="plot")

        # Finish
        tracker.end_run(status="completed")
        """,
        current_loss=0.5,
        current_acc=0.9,
    )
    folder = Path("experiments/image_classification/resnet_baseline")
    state = json.loads((folder / "run.json").read_text())
    assert ("completed", 32) == (state["status"], state["parameters"]["batch_size"])
    assert 1000 == len((folder / "metrics.jsonl").read_text().splitlines())
    assert {"model.pkl", "training_plot.png"} == {
        path.name for path in (folder / "artifacts").rglob("*.*")
    }


def test_mlflow_integration(serve: Serve) -> None:
    """All logging is sent to MLflow."""
    server = serve(servers.mlflow("file:///none"))
    names = run(
        """
        from refunc.logging import MLflowIntegration

        # Setup MLflow tracking
        mlflow_integration = MLflowIntegration(
            tracking_uri="http://localhost:5000",
            experiment_name="my_experiment"
        )

        logger = MLLogger("training")
        logger.add_integration(mlflow_integration)

        # All logging will now be sent to MLflow
        logger.log_hyperparams({"lr": 0.001})
        logger.log_metrics({"loss": 0.5}, step=100)
        """.replace("http://localhost:5000", server.url)
    )
    names["logger"].flush()
    assert "lr" == server.sent_to("/runs/log-parameter")[0]["key"]
    [metric] = server.sent_to("/runs/log-batch")[0]["metrics"]
    assert ("loss", 0.5, 100) == (metric["key"], metric["value"], metric["step"])


def test_wandb_integration(tmp_path: Path) -> None:
    """Logging goes into a run of W&B."""
    names = run(
        """
        from refunc.logging import WandBIntegration

        # Setup W&B tracking
        wandb_integration = WandBIntegration(
            project="my_project",
            entity="my_team",
            config={"lr": 0.001, "batch_size": 32}
        )

        logger = MLLogger("training")
        logger.add_integration(wandb_integration)

        # Logging automatically syncs to W&B
        logger.log_metrics({"accuracy": 0.92}, step=100)
        """
    )
    names["logger"].close()
    assert 0.92 == read_wandb(tmp_path)["accuracy", 100]


def test_prometheus_integration() -> None:
    """Metrics are exported."""
    port = free_port()
    names = run(
        """
        from refunc.logging import PrometheusIntegration

        prometheus = PrometheusIntegration(
            port=8000,
            namespace="ml_training"
        )

        logger = MLLogger("training")
        logger.add_integration(prometheus)

        # Metrics are automatically exported
        logger.log_metrics({"loss": 0.5, "accuracy": 0.92})
        """.replace("8000", str(port))
    )
    names["logger"].flush()
    shown = scrape(port)
    assert (0.5, 0.92) == (shown["ml_training_loss"], shown["ml_training_accuracy"])


def test_slack_integration(serve: Serve) -> None:
    """The error and the completion are sent."""
    server = serve(servers.slack)
    names = run(
        """
        from refunc.logging import SlackIntegration

        slack = SlackIntegration(
            webhook_url="https://hooks.slack.com/...",
            channel="#ml-alerts",
            error_notifications=True,
            completion_notifications=True
        )

        logger = MLLogger("training")
        logger.add_integration(slack)

        # Errors and completion messages sent to Slack
        logger.error("Training failed!")
        logger.log_result("Training completed", {"final_accuracy": 0.95})
        """.replace("https://hooks.slack.com/...", f"{server.url}/hook")
    )
    names["logger"].flush()
    first, second = (content["text"] for content in server.sent_to("/hook"))
    assert "Training failed!" in first
    assert "final_accuracy" in second


def test_integration_manager(serve: Serve, tmp_path: Path) -> None:
    """All integrations receive logs."""
    mlflow, slack = serve(servers.mlflow("file:///none")), serve(servers.slack)
    run(
        """
        from refunc.logging import IntegrationsManager, integration_context

        # Setup multiple integrations
        manager = IntegrationsManager()
        manager.add_integration("mlflow", MLflowIntegration(mlflow_url))
        manager.add_integration("wandb", WandBIntegration())
        manager.add_integration("slack", SlackIntegration(slack_url))

        # Use with context manager
        with integration_context(manager) as integrations:
            logger = MLLogger("training")
            logger.add_integrations(integrations)

            # All integrations receive logs
            logger.log_metrics({"accuracy": 0.95})
            logger.error("told")
        """,
        mlflow_url=mlflow.url,
        slack_url=f"{slack.url}/hook",
    )
    assert "accuracy" == mlflow.sent_to("/runs/log-batch")[0]["metrics"][0]["key"]
    assert 1 == len(slack.sent_to("/hook"))
    assert 0.95 in read_wandb(tmp_path).values()


def test_setup_functions(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    """The logger that is asked for afterwards has it all."""
    mlflow, slack = serve(servers.mlflow("file:///none")), serve(servers.slack)
    names = run(
        """
        from refunc.logging import setup_logging, get_logger

        # Quick setup with defaults
        setup_logging(level="INFO", colored=True)

        # Advanced setup
        setup_logging(
            level="DEBUG",
            log_dir="./logs",
            colored=True,
            json_logging=True,
            experiment_tracking=True,
            integrations={
                "mlflow": {"tracking_uri": "http://localhost:5000"},
                "slack": {"webhook_url": "https://hooks.slack.com/..."}
            }
        )

        # Get configured logger
        logger = get_logger("my_experiment")
        """.replace("http://localhost:5000", mlflow.url).replace(
            "https://hooks.slack.com/...", f"{slack.url}/hook"
        )
    )
    logger = names["logger"]
    logger.debug("seen", {"loss": 0.5})
    logger.error("told")
    logger.flush()
    assert "\x1b[36mDEBUG" in capsys.readouterr().err
    assert '"seen"' in Path("logs/my_experiment.jsonl").read_text()
    assert "loss" == mlflow.sent_to("/runs/log-batch")[0]["metrics"][0]["key"]
    assert 1 == len(slack.sent_to("/hook"))


def test_auto_configuration(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment names gets the logger's metrics."""
    server = serve(servers.mlflow("file:///none"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    names = run(
        """
        from refunc.logging import auto_configure_integrations

        # Automatically detect and configure available integrations
        integrations = auto_configure_integrations()
        logger = MLLogger("training")
        logger.add_integrations(integrations)
        """
    )
    names["logger"].log_metrics({"loss": 0.5})
    names["logger"].flush()
    assert 1 == len(server.sent_to("/runs/log-batch"))


def test_custom_log_levels(logger: MLLogger) -> None:
    """Each entry has the level's name."""
    run(
        """
        from refunc.logging import LogLevel

        # Using custom levels
        logger.log(LogLevel.METRIC, "Custom metric", extra={"value": 0.95})
        logger.log(LogLevel.EXPERIMENT, "Experiment milestone")
        logger.log(LogLevel.RESULT, "Final result achieved")
        """,
        logger=logger,
    )
    assert ["METRIC", "EXPERIMENT", "RESULT"] == levels(logger)


def test_structured_logging(logger: MLLogger) -> None:
    """All four parts are in the entry."""
    run(
        """
        # Complex structured data
        logger.info("Training step completed",
            metrics={"loss": 0.234, "accuracy": 0.92},
            tags={"phase": "training", "model": "resnet"},
            artifacts=["checkpoint.pkl"],
            extra={"gpu_memory": "8.2GB", "batch_time": 0.15}
        )
        """,
        logger=logger,
    )
    entry = last(logger)
    assert {"loss": 0.234, "accuracy": 0.92} == entry.metrics
    assert {"phase": "training", "model": "resnet"} == entry.tags
    assert ["checkpoint.pkl"] == entry.artifacts
    assert {"gpu_memory": "8.2GB", "batch_time": 0.15} == entry.extra


def test_log_analysis(logger: MLLogger) -> None:
    """Entries are found, and written into two files."""
    start = time.time()
    with refunc.experiment_context("one") as experiment:
        logger.error("in it", tags={"phase": "training"})
    logger.info("after it")
    names = run(
        """
        # Access log entries
        entries = logger.get_log_entries()
        recent_errors = logger.get_log_entries(level="ERROR", last_n=10)

        # Filter logs
        training_logs = logger.get_log_entries(
            experiment_id="exp_001",
            start_time=start_timestamp,
            tags={"phase": "training"}
        )

        # Export logs
        logger.export_logs("experiment_logs.json", format="json")
        logger.export_logs("experiment_logs.csv", format="csv")
        """.replace("exp_001", experiment.experiment_id),
        logger=logger,
        start_timestamp=start,
    )
    assert 2 == len(names["entries"])
    for found in ("recent_errors", "training_logs"):
        assert ["in it"] == [entry.message for entry in names[found]]
    assert 2 == len(json.loads(Path("experiment_logs.json").read_text()))
    assert 3 == len(Path("experiment_logs.csv").read_text().splitlines())


def test_performance_optimization() -> None:
    """What is logged through both is in the file at the end."""
    names = run(
        """
        # Async logging for high-performance scenarios
        from refunc.logging import AsyncHandler

        async_handler = AsyncHandler(buffer_size=1000, flush_interval=5.0)
        logger = MLLogger("high_performance")
        logger.add_handler(async_handler)

        # Buffered logging
        from refunc.logging import BufferedHandler

        buffered = BufferedHandler(buffer_size=100, auto_flush=True)
        logger.add_handler(buffered)
        """
    )
    for number in range(250):
        names["logger"].info(str(number))
    names["logger"].close()
    assert 250 == len(Path("logs/high_performance.log").read_text().splitlines())


def test_exception_logging(
    logger: MLLogger, capsys: pytest.CaptureFixture[str]
) -> None:
    """The traceback is in the output, the rest in the entry."""

    def risky_operation() -> None:
        raise RuntimeError("no such batch")

    run(
        """
        try:
            risky_operation()
        except Exception as e:
            logger.exception("Operation failed",
                extra={"operation": "model_training", "step": current_step}
            )
            # Re-raise or handle as needed
        """,
        logger=logger,
        risky_operation=risky_operation,
        current_step=7,
    )
    assert {"operation": "model_training", "step": 7} == last(logger).extra
    assert "RuntimeError: no such batch" in capsys.readouterr().err


def test_graceful_degradation(logger: MLLogger) -> None:
    """With an integration that fails, nothing is caught, for nothing is raised."""

    class Broken(Rich):
        def log_scalar(self, event: str, value: Any, **kwargs: Any) -> None:
            raise OSError("connection reset")

    logger.add_integration(Broken())
    run(
        """
        # Logger continues working even if integrations fail
        try:
            logger.log_metrics({"accuracy": 0.95})
        except Exception as e:
            logger.warning(f"Integration failed: {e}")
            # Local logging continues
        """,
        logger=logger,
    )
    logger.flush()
    assert ["METRIC"] == levels(logger)


def test_best_practices(logger: MLLogger) -> None:
    """Structured data, one experiment, the right levels."""
    run(
        """
        # Good: Structured data
        logger.info("Training completed",
            metrics={"accuracy": 0.95, "loss": 0.234},
            tags={"model": "resnet", "dataset": "imagenet"}
        )

        # Avoid: Unstructured strings
        logger.info("Training completed with accuracy 0.95 and loss 0.234")

        # Use experiment contexts for consistency
        with experiment_context("image_classification", "run_001"):
            logger.log_hyperparams(params)

            for epoch in range(epochs):
                # Training logic
                logger.log_metrics(metrics, step=global_step)

            logger.log_result("final_accuracy", final_acc)

        # Use appropriate levels
        logger.debug("Loading data batch")           # Development info
        logger.info("Starting training epoch")       # General info
        logger.metric("Epoch completed", metrics)    # ML metrics
        logger.warning("Low validation accuracy")    # Potential issues
        logger.error("Training failed")              # Errors
        logger.result("Training completed", result)  # Final results
        """,
        logger=logger,
        params={"lr": 0.1},
        epochs=2,
        metrics={"loss": 0.5},
        global_step=3,
        final_acc=0.9,
        result={"accuracy": 0.9},
    )
    assert [
        *["INFO", "INFO"],
        *["EXPERIMENT", "METRIC", "METRIC", "RESULT"],
        *["DEBUG", "INFO", "METRIC", "WARNING", "ERROR", "RESULT"],
    ] == levels(logger)
    runs = [entry.run_id for entry in logger.get_log_entries()]
    assert [None] * 2 == runs[:2]
    assert 1 == len(set(runs[2:6]))
    assert [None] * 6 == runs[6:]


def test_integration_management(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Integrations by the environment, in a function of the user's own."""
    server = serve(servers.mlflow("file:///none"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    names = run(
        """
        # Centralized integration setup
        def setup_experiment_logging(experiment_name: str) -> MLLogger:
            logger = MLLogger(experiment_name)

            # Add integrations based on environment
            if os.getenv("MLFLOW_TRACKING_URI"):
                logger.add_integration(MLflowIntegration())

            if os.getenv("WANDB_API_KEY"):
                logger.add_integration(WandBIntegration())

            return logger
        """,
        os=os,
    )
    logger = names["setup_experiment_logging"]("images")
    logger.log_metrics({"loss": 0.5})
    logger.flush()
    assert 1 == len(server.sent_to("/runs/log-batch"))


@pytest.mark.row("R44")
def test_complete_training_example(capsys: pytest.CaptureFixture[str]) -> None:
    """It ends well: steps, epochs, the best model and the result are recorded."""
    accuracies = iter([0.5, 0.6, 0.55, 0.7, 0.7, 0.8, 0.75, 0.9, 0.85, 0.95])
    seen: list[Any] = []

    @contextlib.contextmanager
    def watched(*names: str) -> Iterator[Any]:
        with refunc.experiment_context(*names) as experiment:
            seen.append(experiment)
            yield experiment

    names = run(
        """
        from refunc.logging import MLLogger, experiment_context, progress_context
        experiment_context = watched

        def train_model():
            logger = MLLogger("training")

            with experiment_context("image_classification", "resnet_v1") as exp:
                # Setup
                params = {"lr": 0.001, "batch_size": 32, "epochs": 10}
                logger.log_hyperparams(params)

                best_accuracy = 0

                for epoch in range(params["epochs"]):
                    # Training phase
                    with progress_context(f"Epoch {epoch}", total=1000) as progress:
                        train_loss = 0

                        for step in range(1000):
                            loss = train_step()
                            train_loss += loss
                            progress.update(1, {"loss": loss})

                            if step % 100 == 0:
                                logger.log_metrics({"train_loss": loss}, step=step)

                        avg_train_loss = train_loss / 1000

                    # Validation phase
                    val_accuracy = validate_model()

                    # Log epoch results
                    logger.log_metrics({
                        "epoch": epoch,
                        "train_loss": avg_train_loss,
                        "val_accuracy": val_accuracy
                    })

                    # Save best model
                    if val_accuracy > best_accuracy:
                        best_accuracy = val_accuracy
                        save_model("best_model.pkl")
                        logger.log_artifact("best_model.pkl", artifact_type="model")

                # Final results
                logger.log_result("best_accuracy", best_accuracy)
                logger.info("Training completed successfully")

        if __name__ == "__main__":
            train_model()
        """,
        watched=watched,
        train_step=losses(),
        validate_model=lambda: next(accuracies),
        save_model=lambda path: Path(path).touch(),
    )
    assert callable(names["train_model"])
    [experiment] = seen
    assert "completed" == experiment.status
    assert {"lr": 0.001, "batch_size": 32, "epochs": 10} == experiment.parameters
    assert ["best_model.pkl"] == experiment.artifacts
    assert (0.95, 9) == (
        experiment.metrics["best_accuracy"],
        experiment.metrics["epoch"],
    )
    lines = Path("logs/training.log").read_text().splitlines()
    assert 1 + 10 * 11 + 6 + 2 == len(lines)
    assert "RESULT" in lines[-2]
    assert "best_accuracy=0.9500" in lines[-2]
    assert lines[-1].endswith("Training completed successfully")
    assert "Epoch 9: 100%" in capsys.readouterr().err
