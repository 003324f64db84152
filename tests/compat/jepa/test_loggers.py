"""Rows J1–J13, J19–J26, J29, J30: the loggers, and what they are made from."""

from __future__ import annotations

import functools
import importlib
import pickle
import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perf.compat.jepa.config.config import LoggingConfig
from perf.compat.jepa.loggers import (
    BaseLogger,
    ConsoleLogger,
    LoggerRegistry,
    MultiLogger,
    TensorBoardLogger,
    WandbLogger,
    create_logger,
)
from perf.compat.jepa.loggers.async_logger import AsyncLogger
from perf.compat.jepa.loggers.conditional import ConditionalLogger
from perf.compat.jepa.loggers.middleware import LoggerMiddleware
from perf.loggers import ConfigError, LoggingBackend
from tests.compat.jepa.reading import tags, wandb_artifacts, wandb_rows, wandb_run
from tests.loggers import wandb_file
from tests.loggers.backends import read_tensorboard
from tests.programs import printed_by


class Kept(BaseLogger):
    """Writes `log_metrics` and nothing else."""

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self.calls: list[tuple[Any, ...]] = []

    def log_metrics(self, metrics: Any, step: Any = None, **options: Any) -> None:
        self.calls.append((dict(metrics), step))


class Broken(BaseLogger):
    """Raises."""

    def log_metrics(self, metrics: Any, step: Any = None, **options: Any) -> None:
        raise OSError("no space left")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> type[LoggerRegistry]:
    """One that forgets what a test has registered."""
    monkeypatch.setattr(LoggerRegistry, "_makers", dict(LoggerRegistry._makers))
    LoggerRegistry.register("kept", Kept)
    LoggerRegistry.register("broken", Broken)
    return LoggerRegistry


class Model:
    """As much of a model of PyTorch as is looked at."""

    class Tensor:
        """A tensor that NumPy does not take until it is detached."""

        def __init__(self, values: Any, detached: bool = False) -> None:
            self.values, self._detached = np.asarray(values), detached

        def detach(self) -> Model.Tensor:
            return Model.Tensor(self.values, detached=True)

        def cpu(self) -> Model.Tensor:
            return self

        def clone(self) -> Model.Tensor:
            return Model.Tensor(self.values.copy(), self._detached)

        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            if not self._detached:
                raise RuntimeError("Can't call numpy() on Tensor that requires grad")
            return self.values.astype(dtype) if dtype else self.values

    class Parameter(Tensor):
        """One with a gradient."""

        def __init__(self, values: Any, grad: Any) -> None:
            super().__init__(values)
            self.grad = None if grad is None else Model.Tensor(grad)

    def __init__(self) -> None:
        self.weight = Model.Parameter(np.arange(6.0), np.ones(6))

    def named_parameters(self) -> list[tuple[str, Parameter]]:
        return [
            ("encoder.weight", self.weight),
            ("frozen", Model.Parameter(np.zeros(2), None)),
        ]

    def state_dict(self) -> dict[str, np.ndarray]:
        return {"encoder.weight": self.weight.values}


@pytest.mark.row("J1")
def test_a_subclass_has_to_write_log_metrics_only() -> None:
    """It has a configuration and a logger of `logging`, and is a backend."""
    logger = Kept({"scale": 2})
    logger.log_metrics({"loss": 0.5}, step=1)
    assert [({"loss": 0.5}, 1)] == logger.calls
    assert {"scale": 2} == logger.config
    assert "jepa.loggers.Kept" == logger.logger.name
    assert isinstance(logger, BaseLogger)
    assert isinstance(logger, LoggingBackend)
    logger.finish()


@pytest.mark.row("J2", "J3")
def test_loggers_by_name(registry: type[LoggerRegistry], tmp_path: Path) -> None:
    """Ours and one's own; a name that is unknown is an error that says so."""
    made = {
        "console": ConsoleLogger,
        "tensorboard": TensorBoardLogger,
        "wandb": WandbLogger,
        "kept": Kept,
    }
    for name, cls in made.items():
        config = {"mode": "disabled"} if name == "wandb" else {}
        with registry.create(name, config) as logger:
            assert cls is type(logger)
    with pytest.raises(ConfigError, match=r"^other: expected one of broken, console"):
        registry.create("other", {})
    with pytest.raises(TypeError, match="'number'"):
        registry.register("number", 3)  # type: ignore[arg-type]


@pytest.mark.row("J4")
@pytest.mark.parametrize("colored", [True, False])
def test_the_console_shows_a_line_in_the_format(
    colored: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """With each name, value and the step, in colour or without."""
    options = {
        "level": "INFO",
        "format": "%(asctime)s - %(levelname)s - %(message)s",
        "colored": colored,
    }
    with ConsoleLogger(options) as logger:
        logger.log_metrics({"loss": 0.5, "accuracy": 0.85}, step=100)
        shown = capsys.readouterr().err
    assert colored == ("\x1b[" in shown)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown).strip()
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"
    line = rf"{time} - INFO - step=100 loss=0\.5000, accuracy=0\.8500"
    assert re.fullmatch(line, plain)


@pytest.mark.row("J4", "J22")
def test_a_console_of_a_higher_level_shows_no_metrics(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Metrics are of level INFO."""
    with ConsoleLogger({"level": "WARNING"}) as logger:
        logger.log_metrics({"loss": 0.5})
    assert "" == capsys.readouterr().err


@pytest.mark.row("J7", "J23")
def test_event_files_hold_the_steps_of_the_frequency(tmp_path: Path) -> None:
    """Step 100 is there at frequency 10, step 101 is not."""
    options = {"log_dir": "logs", "log_frequency": 10}
    with TensorBoardLogger(options) as logger:
        logger.log_metrics({"loss": 0.5}, step=100)
        logger.log_metrics({"loss": 0.25}, step=101)
    assert {("loss", 100): 0.5} == read_tensorboard(tmp_path / "logs")


@pytest.mark.row("J7", "J8", "J9")
@pytest.mark.parametrize("on", [True, False])
def test_images_and_histograms_can_be_switched_off(tmp_path: Path, on: bool) -> None:
    """Batches with colors first or last, one image alone, weights of a model."""
    options = {"log_dir": "logs", "log_images": on, "log_histograms": on}
    with TensorBoardLogger(options) as logger:
        logger.log_image("first", np.zeros((2, 3, 8, 9)), step=100)
        logger.log_image("last", np.zeros((2, 8, 9, 3)), step=100)
        logger.log_image("single", np.zeros((8, 9)), step=100)
        logger.log_histogram("encoder.weight", Model().weight, step=100)
    images = ["first/0", "first/1", "last/0", "last/1", "single"]
    assert (images if on else []) == tags(tmp_path / "logs", "images")
    assert (["encoder.weight"] if on else []) == tags(tmp_path / "logs", "histograms")


@pytest.mark.row("J10", "J12", "J29")
@pytest.mark.parametrize("form", ["list", "dict", "factory"])
def test_one_call_reaches_all(
    registry: type[LoggerRegistry],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    form: str,
) -> None:
    """However they are listed; a value without a step is of the latest."""
    sections = {"console": {"level": "INFO"}, "tensorboard": {"log_dir": "logs"}}
    config = {"backends": ["console", "tensorboard", "kept"], **sections}
    logger = {
        "list": lambda: MultiLogger([*sections.items(), ("kept", {})]),
        "dict": lambda: MultiLogger(config),
        "factory": lambda: create_logger(config),
    }[form]()
    logger.log_metrics({"loss": 0.5}, step=100)
    logger.log_metrics({"best": 0.25})
    logger.log_metrics({"loss": 0.125}, step=101)
    logger.finish()
    shown = capsys.readouterr().err
    assert "step=100 loss=0.5000" in shown
    assert "INFO     best=0.2500" in shown
    assert {
        ("loss", 100): 0.5,
        ("best", 100): 0.25,
        ("loss", 101): 0.125,
    } == read_tensorboard(tmp_path / "logs")
    expected = [({"loss": 0.5}, 100), ({"best": 0.25}, None), ({"loss": 0.125}, 101)]
    assert expected == logger.loggers[0].calls


@pytest.mark.row("J11")
def test_one_that_raises_is_one_warning(
    registry: type[LoggerRegistry], caplog: pytest.LogCaptureFixture
) -> None:
    """The others go on."""
    with MultiLogger({"backends": ["broken", "kept"]}) as logger:
        for step in range(5):
            logger.log_metrics({"loss": 0.5}, step=step)
    assert 5 == len(logger.loggers[1].calls)
    (line,) = caplog.messages
    assert "metrics backend broken failed to log: OSError: no space left" in line


YAML = """
logging:
  level: "INFO"
  backends: ["wandb", "tensorboard", "console"]

  # Backend-specific settings
  wandb:
    project: "jepa-experiments"
    entity: "my-team"
    tags: ["baseline", "transformer"]
    log_frequency: 10
    log_gradients: false
    log_model: true

  tensorboard:
    log_dir: "logs/tensorboard"
    log_frequency: 10
    log_images: true
    log_histograms: true

  console:
    level: "INFO"
    format: "%(asctime)s - %(levelname)s - %(message)s"
    colored: true

  # Global settings
  log_frequency: 10
  save_frequency: 50
"""


@pytest.mark.row("J5", "J6", "J13", "J22", "J23", "J24")
def test_every_key_of_the_documents_yaml_has_its_effect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Read from the files of W&B and TensorBoard, and from the console."""
    path = tmp_path / "logging_config.yaml"
    path.write_text(YAML.replace("log_gradients: false", "log_gradients: true"))
    logger = create_logger(str(path))
    logger.watch_model(Model())
    for step in range(1, 101):
        logger.log_metrics({"train/loss": 1 / step}, step=step)
        logger.log_model(Model(), "model_checkpoint", step=step)
    logger.log_image("input", np.zeros((8, 8)), step=100)
    logger.finish()

    every_tenth = list(range(10, 101, 10))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().err)
    assert every_tenth == [
        int(each) for each in re.findall(r"INFO - step=(\d+)", shown)
    ]
    scalars = read_tensorboard(tmp_path / "logs" / "tensorboard")
    assert every_tenth == sorted(step for _, step in scalars)
    assert ["input"] == tags(tmp_path / "logs" / "tensorboard", "images")
    # W&B's section asks for gradients, that of TensorBoard does not.
    assert [] == tags(tmp_path / "logs" / "tensorboard", "histograms")
    rows = wandb_rows(tmp_path)
    assert every_tenth == sorted({row["global_step"] for row in rows})
    losses = {
        row["global_step"]: row["train/loss"] for row in rows if "train/loss" in row
    }
    assert pytest.approx({step: 1 / step for step in every_tenth}) == losses
    assert any("gradients/encoder.weight" in name for row in rows for name in row)
    run = wandb_file.run(wandb_run(tmp_path))
    assert ("jepa-experiments", "my-team") == (run.project, run.entity)
    assert ["baseline", "transformer"] == sorted(run.tags)
    assert [("model", "model_checkpoint")] * 2 == wandb_artifacts(tmp_path)


@pytest.mark.row("J6", "J22")
def test_log_model_can_be_switched_off(tmp_path: Path) -> None:
    """A file is kept as it is; without the switch nothing is."""
    (tmp_path / "weights.bin").write_bytes(b"1")
    options = {"mode": "offline", "name": "run", "notes": "first"}
    for switch in (True, False):
        folder = tmp_path / str(switch)
        config = {**options, "log_model": switch, "dir": str(folder)}
        with WandbLogger(config) as logger:
            logger.log_model(tmp_path / "weights.bin", "weights")
        found = [("model", "weights")] if switch else []
        assert found == wandb_artifacts(folder)
        run = wandb_file.run(wandb_run(folder))
        assert ("run", "first") == (run.display_name, run.notes)


@pytest.mark.row("J6")
def test_a_model_is_its_state() -> None:
    """What has no state is kept as it is; the files are gone when it is finished."""
    found: list[Any] = []

    class Reading(WandbLogger):
        """Reads what it is handed."""

        def log_artifact(self, name: str, path: Any, **options: Any) -> None:
            found.append((name, pickle.loads(path.read_bytes()), options))
            folders.add(path.parent)

    folders: set[Path] = set()
    with Reading({"mode": "disabled", "save_frequency": 2}) as logger:
        for step in range(1, 5):
            logger.log_model(Model(), "a", step)
        logger.log_model({"w": [1.0]}, "b")
    assert ["a", "a", "b"] == [name for name, _, _ in found]
    assert np.arange(6.0).tolist() == found[1][1]["encoder.weight"].tolist()
    assert ({"w": [1.0]}, {"type": "model"}) == found[2][1:]
    (folder,) = folders
    assert not folder.exists()


@pytest.mark.row("J24")
@pytest.mark.parametrize("on", [True, False])
def test_gradients_are_logged_where_they_are_switched_on(
    tmp_path: Path, on: bool
) -> None:
    """Of a watched model, or what a function gives, at the steps of the frequency."""
    options = {"log_dir": "logs", "log_gradients": on, "log_frequency": 10}
    with TensorBoardLogger(options) as logger:
        logger.watch_model(Model())
        logger.log_metrics({"loss": 0.5}, step=10)
        logger.watch_model(lambda: {"decoder": {"bias": np.ones(3)}})
        logger.log_metrics({"loss": 0.5}, step=11)
        logger.log_metrics({"loss": 0.5}, step=20)
    expected = ["gradients/decoder/bias", "gradients/encoder.weight"]
    assert (expected if on else []) == tags(tmp_path / "logs", "histograms")


@pytest.mark.parametrize("on", [True, False])
def test_a_histogram_of_ones_own_is_logged_whatever_its_name(
    tmp_path: Path, on: bool
) -> None:
    """The switch is for the gradients of a watched model."""
    names = ["gradients/mine", "policy_gradients/norms"]
    with TensorBoardLogger({"log_dir": "logs", "log_gradients": on}) as logger:
        for name in names:
            logger.log_histogram(name, np.ones(3), step=1)
    assert names == tags(tmp_path / "logs", "histograms")


@pytest.mark.parametrize("on", [True, False])
def test_gradients_are_looked_at_only_where_they_are_logged(on: bool) -> None:
    """At the steps of the frequency, and without a step."""
    looked: list[int | None] = []

    def look(step: int | None) -> dict[str, Any]:
        looked.append(step)
        return {}

    options = {"log_dir": "logs", "log_gradients": on, "log_frequency": 10}
    with TensorBoardLogger(options) as logger:
        for step in (9, 10, 11, None):
            logger.watch_model(functools.partial(look, step))
            logger.log_metrics({"loss": 0.5}, step=step)
    assert ([10, None] if on else []) == looked


@pytest.mark.row("J19")
def test_calls_of_an_async_logger_do_not_wait(tmp_path: Path) -> None:
    """All are there after `finish`."""
    logger = AsyncLogger(
        {
            "backend": "tensorboard",
            "tensorboard": {"log_dir": "logs"},
            "buffer_size": 1000,
            "flush_interval": 30,
        }
    )
    for step in range(500):
        logger.log_metrics({"loss": 0.5}, step=step)
    logger.finish()
    assert 500 == len(read_tensorboard(tmp_path / "logs"))


@pytest.mark.row("J19")
@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({}, "async.backend"),
        ({"backend": "other"}, "other"),
        ({"backend": "console", "size": 3}, "async.size"),
        ({"backend": "console", "buffer_size": "3"}, "async.buffer_size"),
    ],
)
def test_a_wrong_async_configuration_names_its_key(config: Any, key: str) -> None:
    """At once."""
    with pytest.raises(ConfigError, match=f"^{re.escape(key)}: "):
        AsyncLogger(config)


@pytest.mark.row("J20")
def test_conditions(registry: type[LoggerRegistry]) -> None:
    """Nothing before the step, every tenth call after it, nothing below the level."""
    kept = Kept()
    conditions = {"min_step": 100, "max_frequency": 0.1, "level_filter": "INFO"}
    logger = ConditionalLogger({"base_logger": kept, "conditions": conditions})
    for step in range(200):
        logger.log_metrics({"loss": 0.5}, step=step)
        logger.log_metrics({"debug": 0.5}, step=step, level="DEBUG")
    logger.finish()
    assert [*range(109, 200, 10)] == [step for _, step in kept.calls]
    assert [{"loss": 0.5}] * 10 == [metrics for metrics, _ in kept.calls]


@pytest.mark.row("J20")
@pytest.mark.parametrize(
    ("conditions", "key"),
    [
        ({"max_frequency": 2}, "conditions.max_frequency"),
        ({"level_filter": "LOUD"}, "conditions.level_filter"),
        ({"min_step": "soon"}, "conditions.min_step"),
        ({"odd": 1}, "conditions.odd"),
    ],
)
def test_a_wrong_condition_names_its_key(conditions: Any, key: str) -> None:
    """At once."""
    with pytest.raises(ConfigError, match=f"^{re.escape(key)}: "):
        ConditionalLogger({"base_logger": Kept(), "conditions": conditions})


@pytest.mark.row("J21")
@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("logging: {backends: wandb}", "logging.backends"),
        ("logging: {log_frequency: often}", "logging.log_frequency"),
        ("logging: {log_frequency: 0}", "console.log_frequency|log_frequency"),
        ("logging: {save_frequency: 0}", "console.save_frequency|save_frequency"),
        ("logging: {level: LOUD}", "console.level"),
        ("logging: {console: 3}", "logging.console"),
        ("logging: {consoles: {}}", "consoles"),
        ("logging: {backends: [other]}", "other"),
        ("{backends: [tensorboard], tensorboard: {name: 1}}", "tensorboard.name"),
        ("logging: {console: {colored: 'yes'}}", "console.colored"),
        ("logging: {console: {log_frequency: '10'}}", "console.log_frequency"),
        ("logging: {console: {enabled: maybe}}", "console.enabled"),
        (
            "logging: {backends: [tensorboard], tensorboard: {log_images: 3}}",
            "tensorboard.log_images",
        ),
    ],
)
def test_a_wrong_entry_is_an_error_that_names_its_key(
    tmp_path: Path, text: str, key: str
) -> None:
    """At once, whether it is of all loggers or of one."""
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"^({key}): "):
        create_logger(path)


@pytest.mark.row("J21")
def test_a_configuration_is_typed() -> None:
    """Constructed from the content of the document's YAML."""
    import yaml

    config = LoggingConfig(**yaml.safe_load(YAML)["logging"])
    assert ("INFO", 10, 50) == (
        config.level,
        config.log_frequency,
        config.save_frequency,
    )
    assert ["wandb", "tensorboard", "console"] == config.backends
    assert 10 == config.of("wandb")["log_frequency"]
    assert ["console"] == LoggingConfig().backends


def test_a_section_holds_for_its_logger_alone(registry: type[LoggerRegistry]) -> None:
    """One of somebody's own gets what is its own, and is gated like the others."""
    config = {
        "backends": ["kept", "console"],
        "kept": {"url": "x", "log_frequency": 2},
        "console": {"enabled": False},
    }
    with create_logger(config) as logger:
        for step in range(4):
            logger.log_metrics({"loss": 0.5}, step=step)
    (kept,) = logger.loggers
    assert [0, 2] == [step for _, step in kept.calls]
    assert ("x", 2) == (kept.config["url"], kept.config["log_frequency"])


@pytest.mark.row("J26")
@pytest.mark.parametrize("name", ["kept", "multi", "conditional"])
def test_middleware_changes_what_is_logged(
    registry: type[LoggerRegistry], name: str
) -> None:
    """One after the other, on any logger; what it takes out never arrives."""

    class Filter(LoggerMiddleware):
        def __init__(self, pattern: str) -> None:  # without super().__init__()
            self.pattern = pattern

        def process_metrics(self, metrics: Any, step: Any = None) -> Any:
            return {key: metrics[key] for key in metrics if self.pattern in key}, step

    class Rename(LoggerMiddleware):
        def process_metrics(self, metrics: Any, step: Any = None) -> Any:
            return {f"x/{key}": value for key, value in metrics.items()}, step + 1

    kept = Kept()
    logger = {
        "kept": lambda: kept,
        "multi": lambda: MultiLogger({"backends": ["kept"]}),
        "conditional": lambda: ConditionalLogger(
            {"base_logger": kept, "conditions": {}}
        ),
    }[name]()
    logger.add_middleware(LoggerMiddleware())
    logger.add_middleware(Filter("train"))
    logger.add_middleware(Rename())
    logger.log_metrics({"train/loss": 0.5, "secret": 1.0}, step=1)
    logger.log_metrics({"secret": 1.0}, step=2)
    logger.finish()
    kept = logger.loggers[0] if logger.loggers else kept
    assert [({"x/train/loss": 0.5}, 2)] == kept.calls


def test_wrong_calls_do_not_raise(caplog: pytest.LogCaptureFixture) -> None:
    """They are a line in the log: the training goes on."""
    with TensorBoardLogger({"log_dir": "logs"}) as logger:
        logger.log_metrics(3)  # type: ignore[arg-type]
        logger.watch_model(3)
        logger.log_image("image", object())
    assert 2 == len(caplog.messages)


@pytest.mark.row("J30")
@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("loggers.base_logger", "BaseLogger LoggerRegistry"),
        ("loggers.console_logger", "ConsoleLogger"),
        ("loggers.wandb_logger", "WandbLogger"),
        ("loggers.tensorboard_logger", "TensorBoardLogger"),
        ("loggers.multi_logger", "MultiLogger create_logger"),
        ("loggers.utils", "add_prefix flatten_metrics format_metrics"),
        (
            "loggers.decorators",
            "log_exceptions log_execution_time log_function_calls",
        ),
        ("loggers.structured", "StructuredLogger"),
        ("loggers.async_logger", "AsyncLogger"),
        ("loggers.conditional", "ConditionalLogger"),
        ("loggers.middleware", "LoggerMiddleware"),
        ("config.config", "LoggingConfig"),
        ("trainer.callbacks", "LoggingCallback"),
    ],
)
def test_documented_names_are_where_they_are_documented(
    module: str, names: str
) -> None:
    """Under the document's own module paths."""
    loaded = importlib.import_module(f"perf.compat.jepa.{module}")
    assert [] == [name for name in names.split() if not hasattr(loaded, name)]


def test_what_was_logged_is_there_though_nobody_finished(tmp_path: Path) -> None:
    """An interpreter that ends delivers it, models too."""
    code = """
    from perf.compat.jepa.loggers.async_logger import AsyncLogger
    logger = AsyncLogger({"backend": "tensorboard", "tensorboard": {"log_dir": "logs"}})
    for step in range(500):
        logger.log_metrics({"loss": 0.5}, step=step)
    """
    printed_by("-c", textwrap.dedent(code), folder=tmp_path)
    assert 500 == len(read_tensorboard(tmp_path / "logs"))
