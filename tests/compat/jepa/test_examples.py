"""Every example of the document, with its imports changed and nothing else.

Names that an example leaves open are defined before it, and services are on this
machine. What an example says that it does is looked at from outside.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from perf.compat.jepa.loggers import BaseLogger, LoggerRegistry, WandbLogger
from tests.compat.jepa.reading import (
    tags,
    wandb_artifacts,
    wandb_rows,
    wandb_run,
)
from tests.compat.jepa.test_loggers import YAML, Kept, Model
from tests.compat.servers import Loopback
from tests.loggers import wandb_file
from tests.loggers.backends import read_tensorboard

LOSS = {"loss": 0.5, "global_step": 100}


@pytest.fixture(autouse=True)
def _closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The examples close nothing and register loggers; that is undone here."""
    made: list[BaseLogger] = []
    init = BaseLogger.__init__

    def noted(self: BaseLogger, config: Any = None) -> None:
        made.append(self)
        init(self, config)

    monkeypatch.setattr(BaseLogger, "__init__", noted)
    monkeypatch.setattr(LoggerRegistry, "_makers", dict(LoggerRegistry._makers))
    yield
    for logger in reversed(made):
        logger.finish()


def run(example: str, **names: Any) -> SimpleNamespace:
    """Runs an example as the document prints it; what it has defined."""
    code = textwrap.dedent(example).replace("from jepa.", "from perf.compat.jepa.")
    namespace = {"__name__": "__main__", **names}
    exec(compile(code, "example", "exec"), namespace)
    return SimpleNamespace(**namespace)


CUSTOM = """
from jepa.loggers.base_logger import BaseLogger

class CustomLogger(BaseLogger):
    def __init__(self, config):
        super().__init__(config)
        # Custom initialization

    def log_metrics(self, metrics, step=None):
        # Custom logging implementation
        pass
"""


@pytest.mark.row("J1")
def test_base_logger() -> None:
    """The class can be made, and takes metrics."""
    logger = run(CUSTOM).CustomLogger({"a": 1})
    assert logger.log_metrics({"loss": 0.5}) is None
    assert {"a": 1} == logger.config


@pytest.mark.row("J2", "J3")
def test_logger_registry() -> None:
    """The custom class is known, and W&B's is made."""
    found = run(
        """
        from jepa.loggers.base_logger import LoggerRegistry

        # Register custom logger
        LoggerRegistry.register("custom", CustomLogger)

        # Create logger by name
        logger = LoggerRegistry.create("wandb", config)
        """,
        CustomLogger=run(CUSTOM).CustomLogger,
        config={"project": "p", "mode": "disabled"},
    )
    assert isinstance(found.logger, WandbLogger)
    custom = LoggerRegistry.create("custom", {"b": 2})
    assert ("CustomLogger", {"b": 2}) == (type(custom).__name__, custom.config)


@pytest.mark.row("J4")
def test_console_logger(capsys: pytest.CaptureFixture[str]) -> None:
    """Two values and a step are on the console."""
    run(
        """
        from jepa.loggers import ConsoleLogger

        logger = ConsoleLogger({
            'level': 'INFO',
            'format': '%(asctime)s - %(levelname)s - %(message)s',
            'colored': True
        })

        logger.log_metrics({'loss': 0.5, 'accuracy': 0.85}, step=100)
        """
    )
    shown = capsys.readouterr().err
    for text in ("INFO", "step", "100", "loss", "accuracy"):
        assert text in shown


@pytest.mark.row("J5", "J6")
def test_wandb_logger(tmp_path: Path) -> None:
    """Run, metrics and model are in the file of an offline run."""
    run(
        """
        from jepa.loggers import WandbLogger

        logger = WandbLogger({
            'project': 'jepa-experiments',
            'entity': 'my-team',
            'name': 'experiment-1',
            'tags': ['baseline', 'transformer'],
            'notes': 'Initial experiment with transformer encoder'
        })

        # Log metrics
        logger.log_metrics({'train/loss': 0.5, 'train/lr': 1e-4}, step=100)

        # Log model
        logger.log_model(model, 'model_checkpoint')
        """,
        model=Model(),
    ).logger.finish()
    found = wandb_file.run(wandb_run(tmp_path))
    assert ("jepa-experiments", "my-team") == (found.project, found.entity)
    assert "experiment-1" == found.display_name
    assert ["baseline", "transformer"] == sorted(found.tags)
    assert "Initial experiment with transformer encoder" == found.notes
    values = {"train/loss": 0.5, "train/lr": 1e-4, "global_step": 100}
    assert [values] == wandb_rows(tmp_path)
    assert [("model", "model_checkpoint")] == wandb_artifacts(tmp_path)


@pytest.mark.row("J7", "J8", "J9")
def test_tensorboard_logger(tmp_path: Path) -> None:
    """Scalar, images and histogram are in the event file."""
    run(
        """
        from jepa.loggers import TensorBoardLogger

        logger = TensorBoardLogger({
            'log_dir': 'logs/tensorboard',
            'log_frequency': 10,
            'log_images': True,
            'log_histograms': True
        })

        # Log scalars
        logger.log_metrics({'loss': 0.5}, step=100)

        # Log images
        logger.log_image('input_samples', images, step=100)

        # Log histograms
        logger.log_histogram('model.encoder.weight', model.encoder.weight, step=100)
        """,
        images=np.zeros((2, 3, 8, 8)),
        model=SimpleNamespace(encoder=Model()),
    ).logger.finish()
    folder = tmp_path / "logs" / "tensorboard"
    assert {("loss", 100): 0.5} == read_tensorboard(folder)
    assert ["input_samples/0", "input_samples/1"] == tags(folder, "images")
    assert ["model.encoder.weight"] == tags(folder, "histograms")


@pytest.mark.row("J10")
def test_multi_logger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The call reaches all three of the dict form; the list form can be made."""
    found = run(
        """
        from jepa.loggers import MultiLogger

        # List-based configuration
        logger = MultiLogger([
            ('console', {'level': 'INFO'}),
            ('wandb', {'project': 'jepa'}),
            ('tensorboard', {'log_dir': 'logs'})
        ])

        # Dictionary-based configuration
        logger = MultiLogger({
            'backends': ['console', 'wandb', 'tensorboard'],
            'console': {'level': 'INFO'},
            'wandb': {'project': 'jepa'},
            'tensorboard': {'log_dir': 'logs'}
        })

        # Logs to all backends simultaneously
        logger.log_metrics({'loss': 0.5}, step=100)
        """
    )
    found.logger.finish()
    assert 1 == capsys.readouterr().err.count("step=100 loss=0.5000")
    assert {("loss", 100): 0.5} == read_tensorboard(tmp_path / "logs")


@pytest.mark.row("J12", "J13")
def test_logger_factory(tmp_path: Path) -> None:
    """From a dict and from the document's YAML."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "logging_config.yaml").write_text(YAML)
    example = """
        from jepa.loggers import create_logger

        # From dictionary config
        config = {
            'backends': ['wandb', 'tensorboard'],
            'wandb': {'project': 'jepa-experiments'},
            'tensorboard': {'log_dir': 'logs/tb'}
        }

        logger = create_logger(config)
        {}
        # From YAML config
        logger = create_logger("config/logging_config.yaml")
        """
    found = run(example.replace("{}", "logger.log_metrics({'loss': 0.5}, step=100)"))
    found.logger.log_metrics({"loss": 0.25}, step=10)
    found.logger.finish()
    assert {("loss", 10): 0.25} == read_tensorboard(tmp_path / "logs" / "tensorboard")


@pytest.mark.row("J14", "J16")
def test_metric_formatting() -> None:
    """What the comments say."""
    found = run(
        """
        from jepa.loggers.utils import format_metrics, add_prefix

        # Format metrics for display
        formatted = format_metrics({'loss': 0.123456}, precision=4)
        # Output: {'loss': '0.1235'}

        # Add prefix to metrics
        prefixed = add_prefix({'loss': 0.5, 'acc': 0.9}, 'train')
        # Output: {'train/loss': 0.5, 'train/acc': 0.9}
        """
    )
    assert {"loss": "0.1235"} == found.formatted
    assert {"train/loss": 0.5, "train/acc": 0.9} == found.prefixed


@pytest.mark.row("J17")
def test_logging_decorators() -> None:
    """Time and exception are logged."""
    logger = Kept()
    step = run(
        """
        from jepa.loggers.decorators import log_execution_time, log_exceptions

        @log_execution_time(logger)
        @log_exceptions(logger)
        def training_step(batch):
            # Function execution time and exceptions are automatically logged
            return process_batch(batch)
        """,
        logger=logger,
        process_batch=lambda batch: batch / 2,
    ).training_step
    assert 1.0 == step(2)
    with pytest.raises(TypeError):
        step("a")
    assert [
        "training_step/execution_time_s",
        "training_step/exceptions",
        "training_step/execution_time_s",
    ] == [name for metrics, _ in logger.calls for name in metrics]


@pytest.mark.row("J18")
def test_structured_logging(tmp_path: Path) -> None:
    """The record is a line of JSON."""
    run(
        """
        from jepa.loggers.structured import StructuredLogger

        logger = StructuredLogger({
            'schema': {
                'metrics': {'type': 'dict', 'required': True},
                'metadata': {'type': 'dict', 'required': False}
            }
        })

        logger.log_structured({
            'metrics': {'loss': 0.5, 'accuracy': 0.9},
            'metadata': {'epoch': 10, 'batch_size': 64}
        })
        """
    ).logger.finish()
    text = (tmp_path / "logs" / "structured.jsonl").read_text()
    assert '"metrics/accuracy": 0.9, "metadata/epoch": 10' in text


@pytest.mark.row("J19")
def test_async_logging(tmp_path: Path) -> None:
    """The call is in the run when that is finished."""
    run(
        """
        from jepa.loggers.async_logger import AsyncLogger

        logger = AsyncLogger({
            'backend': 'wandb',
            'buffer_size': 1000,
            'flush_interval': 30  # seconds
        })

        # Non-blocking log calls
        logger.log_metrics({'loss': 0.5}, step=100)
        """
    ).logger.finish()
    assert [LOSS] == wandb_rows(tmp_path)


@pytest.mark.row("J20")
def test_conditional_logging(tmp_path: Path) -> None:
    """One of ten calls after step 100."""
    logger = run(
        """
        from jepa.loggers.conditional import ConditionalLogger

        logger = ConditionalLogger({
            'base_logger': wandb_logger,
            'conditions': {
                'min_step': 100,  # Only log after step 100
                'max_frequency': 0.1,  # Max 10% of calls
                'level_filter': 'INFO'  # Only INFO and above
            }
        })
        """,
        wandb_logger=WandbLogger({}),
    ).logger
    for step in range(91, 111):
        logger.log_metrics({"loss": 0.5}, step=step)
    logger.finish()
    assert [LOSS | {"global_step": 109}] == wandb_rows(tmp_path)


@pytest.mark.row("J25")
def test_creating_custom_loggers(caplog: pytest.LogCaptureFixture) -> None:
    """Metrics are posted with the token; a 500 is a warning and no exception."""
    requests = pytest.importorskip("requests")
    example = """
        from jepa.loggers.base_logger import BaseLogger

        class CustomAPILogger(BaseLogger):
            def __init__(self, config):
                super().__init__(config)
                self.api_endpoint = config.get('api_endpoint')
                self.api_key = config.get('api_key')
                self.session = requests.Session()

            def log_metrics(self, metrics, step=None):
                payload = {
                    'metrics': metrics,
                    'step': step,
                    'timestamp': time.time()
                }

                response = self.session.post(
                    self.api_endpoint,
                    json=payload,
                    headers={'Authorization': f'Bearer {self.api_key}'}
                )

                if not response.ok:
                    self.logger.warning(f"Failed to log metrics: {response.status_code}")

            def finish(self):
                self.session.close()

        # Register the custom logger
        from jepa.loggers.base_logger import LoggerRegistry
        LoggerRegistry.register('custom_api', CustomAPILogger)
        """  # noqa: E501
    run(example, requests=requests, time=time)
    answers = iter([(200, "ok"), (500, "out of order")])
    server = Loopback(lambda path, content: next(answers))
    config = {"api_endpoint": f"{server.url}/metrics", "api_key": "k1"}
    logger = LoggerRegistry.create("custom_api", config)
    logger.log_metrics({"loss": 0.5}, step=7)
    logger.log_metrics({"loss": 0.25})
    logger.finish()
    server.close()
    assert ["Bearer k1", "Bearer k1"] == server.tokens
    assert [({"loss": 0.5}, 7), ({"loss": 0.25}, None)] == [
        (post["metrics"], post["step"]) for post in server.sent_to("/metrics")
    ]
    assert ["Failed to log metrics: 500"] == [
        each.getMessage() for each in caplog.records if each.levelname == "WARNING"
    ]


@pytest.mark.row("J26")
def test_logger_middleware(tmp_path: Path) -> None:
    """What neither pattern is in never reaches the run."""
    logger = run(
        """
        from jepa.loggers.middleware import LoggerMiddleware

        class MetricFilterMiddleware(LoggerMiddleware):
            def __init__(self, filter_patterns):
                self.filter_patterns = filter_patterns

            def process_metrics(self, metrics, step=None):
                filtered_metrics = {}
                for key, value in metrics.items():
                    if any(pattern in key for pattern in self.filter_patterns):
                        filtered_metrics[key] = value
                return filtered_metrics, step

        # Apply middleware
        logger = WandbLogger(config)
        logger.add_middleware(MetricFilterMiddleware(['train', 'val']))
        """,
        WandbLogger=WandbLogger,
        config={},
    ).logger
    logger.log_metrics({"train/loss": 0.5, "debug": 1.0, "val": 2.0}, step=1)
    logger.finish()
    row = {"train/loss": 0.5, "val": 2.0, "global_step": 1}
    assert [row] == wandb_rows(tmp_path)


@pytest.mark.row("J10", "J12")
def test_basic_logging_setup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every second batch of two epochs reaches W&B, TensorBoard and the console."""
    run(
        """
        from jepa.loggers import create_logger

        # Simple console logging
        logger = create_logger({'backends': ['console']})

        # Multi-backend logging
        logger = create_logger({
            'backends': ['wandb', 'tensorboard', 'console'],
            'wandb': {'project': 'my-project'},
            'tensorboard': {'log_dir': 'logs'},
            'console': {'level': 'INFO'}
        })

        # Use in training
        for epoch in range(epochs):
            for batch_idx, batch in enumerate(dataloader):
                loss = training_step(batch)

                if batch_idx % log_frequency == 0:
                    logger.log_metrics({
                        'train/loss': loss,
                        'train/epoch': epoch,
                        'train/step': global_step
                    }, step=global_step)
        """,
        epochs=2,
        dataloader=range(4),
        log_frequency=2,
        global_step=5,
        training_step=lambda batch: batch / 4,
    ).logger.finish()
    losses = {("train/loss", 5): 0.5, ("train/epoch", 5): 1.0, ("train/step", 5): 5.0}
    assert losses == read_tensorboard(tmp_path / "logs")
    assert 4 == capsys.readouterr().err.count("step=5 train/loss=")
    assert {"train/loss": 0.5, "train/epoch": 1, "train/step": 5, "global_step": 5} == (
        wandb_rows(tmp_path)[-1]
    )


@pytest.mark.row("J27", "J28", "J29")
def test_advanced_logging_with_callbacks(tmp_path: Path) -> None:
    """A trainer of anybody's drives it; the best loss has no step of its own."""

    class JEPATrainer:
        """Three batches and a validation."""

        def __init__(self, config: Any, callbacks: list[Any]) -> None:
            self.optimizer = SimpleNamespace(param_groups=[{"lr": 1e-3}])
            self.global_step = 0
            for batch in range(11):
                self.global_step += 1
                for callback in callbacks:
                    outputs = {"loss": 1 / (1 + batch)}
                    callback.on_batch_end(self, None, outputs, batch, batch)
            for loss in (0.5, 0.75):
                for callback in callbacks:
                    callback.on_validation_end(self, None, {"val_loss": loss})

    logger = LoggerRegistry.create("tensorboard", {"log_dir": "logs"})
    run(
        """
        from jepa.trainer.callbacks import LoggingCallback

        class CustomLoggingCallback(LoggingCallback):
            def __init__(self, logger, log_frequency=10):
                super().__init__(logger, log_frequency)
                self.best_loss = float('inf')

            def on_batch_end(self, trainer, model, outputs, batch, batch_idx):
                if batch_idx % self.log_frequency == 0:
                    self.logger.log_metrics({
                        'train/loss': outputs['loss'],
                        'train/lr': trainer.optimizer.param_groups[0]['lr']
                    }, step=trainer.global_step)

            def on_validation_end(self, trainer, model, metrics):
                self.logger.log_metrics(metrics, step=trainer.global_step)

                if metrics['val_loss'] < self.best_loss:
                    self.best_loss = metrics['val_loss']
                    self.logger.log_metrics({'best_val_loss': self.best_loss})

        # Use with trainer
        trainer = JEPATrainer(
            config,
            callbacks=[CustomLoggingCallback(logger)]
        )
        """,
        JEPATrainer=JEPATrainer,
        config={},
        logger=logger,
    )
    logger.finish()
    assert pytest.approx(
        {
            ("train/loss", 1): 1.0,
            ("train/lr", 1): 1e-3,
            ("train/loss", 11): 1 / 11,
            ("train/lr", 11): 1e-3,
            ("val_loss", 11): 0.75,
            ("best_val_loss", 11): 0.5,
        }
    ) == read_tensorboard(tmp_path / "logs")
