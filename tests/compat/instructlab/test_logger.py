"""Rows I1–I16: handlers, filters and set-up, seen from outside."""

from __future__ import annotations

import json
import logging
import logging.config
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perf.compat.instructlab.training import logger as instructlab
from perf.compat.instructlab.training import main_ds
from perf.compat.instructlab.training.logger import (
    AsyncStructuredHandler,
    FormatDictFilter,
    IsMappingFilter,
    IsRank0Filter,
    MLflowHandler,
    TensorBoardHandler,
    WandbHandler,
    setup_metric_logger,
    setup_root_logger,
)
from perf.loggers import ConfigError, services
from perf.loggers.backends import jsonl, tensorboard
from tests.compat.jepa.reading import wandb_rows, wandb_run
from tests.loggers import wandb_file
from tests.loggers.backends import read_mlflow, read_tensorboard, tensorboard_events
from tests.loggers.sinks import Ending, Patient
from tests.programs import run_python

METRICS = logging.getLogger("instructlab.training.metrics")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """What a test sets up is taken down."""
    loggers = [logging.getLogger(name) for name in (None, "instructlab.training")]
    before = [(each, each.level, each.propagate) for each in (*loggers, METRICS)]
    yield
    for each, level, propagate in before:
        for handler in instructlab._ours.pop(each.name, ()):
            each.removeHandler(handler)
            handler.close()
        each.setLevel(level)
        each.propagate = propagate


def attached(*handlers: logging.Handler) -> logging.Logger:
    """A logger with some handlers, apart from the hierarchy."""
    logger = logging.Logger("tests.metrics")
    for handler in handlers:
        logger.addHandler(handler)
    return logger


def close(logger: logging.Logger) -> None:
    """Has all written."""
    for handler in logger.handlers:
        handler.close()


def rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of JSON lines, without their time."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    for row in found:
        assert re.match(
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00$", row["timestamp"]
        )
        del row["timestamp"]
    return found


@pytest.mark.row("I1")
def test_records_go_up_the_hierarchy_of_logging(tmp_path: Path) -> None:
    """A parent's handler gets what a child logs, unless that does not propagate."""
    parent = logging.getLogger("tests_instructlab")
    child = logging.getLogger("tests_instructlab.training.logger")
    assert parent is child.parent
    parent.setLevel(logging.INFO)
    handler = AsyncStructuredHandler(run_name="up", log_dir=tmp_path)
    parent.addHandler(handler)
    child.info({"value": 1})
    child.propagate = False
    child.info({"value": 2})
    parent.removeHandler(handler)
    handler.close()
    assert [{"value": 1}] == rows(tmp_path / "up.jsonl")


@pytest.mark.row("I2", "I3", "I4", "I5")
def test_a_mapping_is_a_line_of_json(tmp_path: Path) -> None:
    """Flat, with texts, step (0 too) and time; hyperparameters are said to be such."""
    logger = attached(AsyncStructuredHandler(run_name="run", log_dir=tmp_path / "out"))
    metrics: dict[str, Any] = {
        "loss": np.float32(0.5),
        "lr": {"adam": 1e-4},
        "phase": "a",
    }
    logger.info(metrics, extra={"step": 0})
    metrics["loss"] = 9.0  # used again by its owner
    logger.info({"value": 1})
    logger.info({"lr": 0.001, "epochs": 10}, extra={"hparams": True})
    close(logger)
    assert [
        {"loss": 0.5, "lr/adam": 1e-4, "phase": "a", "step": 0},
        {"value": 1},
        {"lr": 0.001, "epochs": 10, "kind": "hparams"},
    ] == rows(tmp_path / "out" / "run.jsonl")


@pytest.mark.row("I5")
def test_the_caller_does_not_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is another thread that calls the backend."""
    from perf.loggers.backends.jsonl import JsonlBackend

    threads = []
    write = JsonlBackend.log_metrics

    def noted(self: JsonlBackend, *args: Any, **kwargs: Any) -> None:
        threads.append(threading.current_thread())
        write(self, *args, **kwargs)

    monkeypatch.setattr(JsonlBackend, "log_metrics", noted)
    logger = attached(AsyncStructuredHandler(run_name="run", log_dir=tmp_path))
    logger.info({"loss": 0.5})
    close(logger)
    assert [False] == [each is threading.main_thread() for each in threads]


@pytest.mark.row("I5")
def test_the_caller_waits_with_the_first_mapping_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the backend is made; at exit it would be too late for that."""
    handler = AsyncStructuredHandler(run_name="run", log_dir=tmp_path)
    waits: list[Any] = []
    monkeypatch.setattr(handler, "flush", waits.append)
    logger = attached(handler)
    logger.info("a text")
    assert not waits
    for _ in range(3):
        logger.info({"loss": 0.5})
    handler.close()
    assert 1 == len(waits)


@pytest.mark.row("I3", "I4", "I6")
def test_tensorboard_has_scalars_texts_and_hyperparameters(tmp_path: Path) -> None:
    """Each at its step; a value without one is of the latest."""
    logger = attached(TensorBoardHandler(run_name="run", log_dir=tmp_path))
    logger.info({"loss": 0.5, "note": "good"}, extra={"step": 7})
    logger.info({"best": 0.25})
    logger.info({"lr": 0.001}, extra={"hparams": True})
    close(logger)
    expected = {("loss", 7): 0.5, ("best", 7): 0.25}
    assert expected == read_tensorboard(tmp_path / "run")
    events = tensorboard_events(tmp_path / "run")
    (tag,) = [each for each in events.Tags()["tensors"] if "note" in each]
    (event,) = events.Tensors(tag)
    assert (7, [b"good"]) == (event.step, list(event.tensor_proto.string_val))
    assert "_hparams_/session_start_info" in events.PluginTagToContent("hparams")


@pytest.mark.row("I3", "I4", "I7")
def test_wandb_has_history_and_config(tmp_path: Path) -> None:
    """Under the run's name, in the folder."""
    folder = tmp_path / "out"
    logger = attached(WandbHandler(run_name="my_run", log_dir=folder, project="p"))
    logger.info({"lr": 0.001}, extra={"hparams": True})
    logger.info({"train": {"loss": 0.5}}, extra={"step": 7})
    close(logger)
    assert [{"train/loss": 0.5, "global_step": 7}] == wandb_rows(folder)
    run = wandb_file.run(wandb_run(folder))
    assert ("p", "my_run") == (run.project, run.display_name)
    assert 0.001 == wandb_file.config(wandb_run(folder))["lr"]


def test_mlflow_has_metrics(tmp_path: Path) -> None:
    """In a store of files."""
    options = {"tracking_uri": tmp_path.as_uri(), "experiment_name": "e"}
    logger = attached(MLflowHandler(run_name="my_run", **options))
    logger.info({"loss": 0.5}, extra={"step": 7})
    close(logger)
    assert {("loss", 7): 0.5} == read_mlflow(tmp_path)


@pytest.mark.row("I9")
def test_text_reaches_no_backend(tmp_path: Path) -> None:
    """No file is made for it."""
    handlers = [
        AsyncStructuredHandler(run_name="run", log_dir=tmp_path / "out"),
        TensorBoardHandler(run_name="run", log_dir=tmp_path / "out"),
        WandbHandler(run_name="run", log_dir=tmp_path / "out"),
    ]
    for handler in handlers:
        handler.addFilter(IsMappingFilter())
    logger = attached(*handlers)
    logger.info("Saving the model")
    logger.info(["a", "list"])
    close(logger)
    assert not (tmp_path / "out").exists()


@pytest.mark.row("I10")
@pytest.mark.parametrize(
    ("options", "environment", "extra", "message", "passes"),
    [
        ({}, {}, {}, {}, True),
        ({}, {"RANK": "1"}, {}, {}, False),
        ({}, {"RANK": "1"}, {"rank": 0}, {}, True),
        ({}, {}, {"rank": 1}, {}, False),
        ({}, {}, {}, {"rank": 1}, False),
        ({"rank_val": 0}, {"RANK": "1"}, {}, {}, True),
        ({"rank_val": 1}, {}, {}, {}, False),
        ({"rank_val": lambda: 1}, {}, {}, {}, False),
        ({"local_rank": True}, {"RANK": "8", "LOCAL_RANK": "0"}, {}, {}, True),
        ({"local_rank": True}, {"RANK": "0", "LOCAL_RANK": "1"}, {}, {}, False),
        ({"local_rank": True}, {}, {"local_rank": 1}, {}, False),
    ],
)
def test_only_the_main_process_passes(
    monkeypatch: pytest.MonkeyPatch,
    options: Any,
    environment: dict[str, str],
    extra: dict[str, int],
    message: dict[str, int],
    passes: bool,
) -> None:
    """By the record, its mapping, what is given, and the environment, in this order."""
    monkeypatch.delitem(sys.modules, "jax", raising=False)
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    record = logging.makeLogRecord({"msg": {"loss": 0.5, **message}, **extra})
    assert passes == IsRank0Filter(**options).filter(record)


@pytest.mark.row("I10")
def test_rank_1_writes_nothing(tmp_path: Path) -> None:
    """Whoever says so."""
    handler = AsyncStructuredHandler(run_name="run", log_dir=tmp_path / "out")
    handler.addFilter(IsRank0Filter())
    logger = attached(handler)
    logger.info({"loss": 0.5}, extra={"rank": 1})
    close(logger)
    assert not (tmp_path / "out").exists()


@pytest.mark.row("I2", "I11")
@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"loss": 0.5, "lr": 1e-4}, "loss=0.500, lr=1.00e-04"),
        ({"a": {"b": np.float32(2)}, "n": 3, "t": "x"}, "a/b=2.000, n=3, t=x"),
        (
            {"big": 2.5e7, "zero": 0.0, "odd": float("nan")},
            "big=2.50e+07, zero=0.000, odd=nan",
        ),
        (
            {"a": 1e-3, "b": 9e-4, "c": 1e6, "d": 9e5},
            "a=0.001, b=9.00e-04, c=1.00e+06, d=900000.000",
        ),
        ({"a": float("inf"), "b": -1e-4}, "a=inf, b=-1.00e-04"),
        ({}, ""),
        ("text", "text"),
    ],
)
def test_dicts_are_made_readable(message: Any, text: str) -> None:
    """A handler that prints shows them so; it is no filter, and texts stay."""
    record = logging.makeLogRecord({"msg": message})
    assert FormatDictFilter().filter(record)
    assert text == logging.Formatter().format(record)


@pytest.mark.row("I11")
def test_a_readable_dict_is_still_one_for_other_handlers(tmp_path: Path) -> None:
    """Whichever comes first."""
    shown = logging.StreamHandler()
    shown.addFilter(FormatDictFilter())
    written = AsyncStructuredHandler(run_name="run", log_dir=tmp_path)
    written.addFilter(IsMappingFilter())
    logger = attached(shown, written)
    logger.info({"loss": 0.5})
    close(logger)
    assert [{"loss": 0.5}] == rows(tmp_path / "run.jsonl")


@pytest.mark.row("I12")
def test_a_library_is_heard_on_request_only() -> None:
    """In a program that has its own root handler."""
    code = """
import logging, sys
logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
import perf.compat.instructlab.training.logger as logger
package = logging.getLogger("instructlab.training.data")
package.warning("silent")
logger.propagate_package_logs(True)
package.warning("heard")
logger.propagate_package_logs(False)
package.warning("silent")
"""
    done = run_python("-c", code)
    assert ("heard\n", "") == (done.stdout, done.stderr)


@pytest.mark.row("I13")
def test_the_root_logger_shows_readable_dicts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the package too, once, however often it is set up; rank 1 shows nothing."""
    setup_root_logger("debug")
    setup_root_logger()
    logging.getLogger("anything").info({"loss": 0.5})
    METRICS.warning({"lr": 1e-4})
    logging.getLogger().debug("too low")
    logging.getLogger("anything").info({"hidden": 1}, extra={"rank": 1})
    shown = capsys.readouterr().err
    assert 1 == shown.count("loss=0.500")
    assert 1 == shown.count("lr=1.00e-04")
    assert "INFO" in shown
    assert "too low" not in shown
    assert "hidden" not in shown


@pytest.mark.row("I8", "I14")
@pytest.mark.parametrize("how", ["old", "script", "list"])
def test_one_call_sets_up_metrics(tmp_path: Path, how: str) -> None:
    """Three outputs of one call; texts and other ranks reach none of them."""
    if how == "old":
        setup_metric_logger("async, tensorboard,wandb", "my_run", "out")
    elif how == "script":
        setup_metric_logger(
            run_name="my_run", logger_type="async,tensorboard,wandb", output_dir="out"
        )
    else:
        setup_metric_logger(
            ["async", "tensorboard", "wandb"],
            run_name="my_run",
            output_dir=tmp_path / "out",
            wandb_project="p",
            mlflow_tracking_uri=None,
        )
    METRICS.info("a text")
    METRICS.info({"loss": 9.0}, extra={"rank": 1})
    METRICS.info({"loss": 0.5}, extra={"step": 7})
    close(METRICS)
    out = tmp_path / "out"
    assert [{"loss": 0.5, "step": 7}] == rows(out / "my_run.jsonl")
    assert {("loss", 7): 0.5} == read_tensorboard(out / "my_run")
    assert [{"loss": 0.5, "global_step": 7}] == wandb_rows(out)
    project = wandb_file.run(wandb_run(out)).project
    assert ("p" if how == "list" else "instructlab") == project


@pytest.mark.row("I14")
def test_without_loggers_options_and_environment_say_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON lines always; set up again, the handlers before are closed and gone."""
    setup_metric_logger()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "ml").as_uri())
    setup_metric_logger(output_dir="out", tensorboard_log_dir="tb")
    assert [AsyncStructuredHandler, TensorBoardHandler, MLflowHandler] == [
        type(each) for each in METRICS.handlers
    ]
    METRICS.info({"loss": 0.5}, extra={"step": 7})
    close(METRICS)
    (path,) = (tmp_path / "out").iterdir()
    assert [{"loss": 0.5, "step": 7}] == rows(path)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d.*_rank0\.jsonl", path.name)
    (folder,) = (tmp_path / "tb").iterdir()
    assert {("loss", 7): 0.5} == read_tensorboard(folder)
    assert {("loss", 7): 0.5} == read_mlflow(tmp_path / "ml")
    assert not (tmp_path / "logs").exists()


def test_the_handlers_before_are_closed_side_by_side(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that hangs is waited for while the others end."""
    waiting, other = Patient(), Ending()

    class Hanging(Patient):
        def __init__(self, path: str) -> None:
            self.__dict__ = waiting.__dict__

    class Other(Ending):
        def __init__(self, log_dir: str) -> None:
            self.__dict__ = other.__dict__

    monkeypatch.setattr(services, "PATIENCE_S", 0.0)
    monkeypatch.setattr(jsonl, "JsonlBackend", Hanging)
    monkeypatch.setattr(tensorboard, "TensorboardBackend", Other)
    setup_metric_logger("async,tensorboard", "my_run", "out")
    METRICS.info({"loss": 0.5})
    assert waiting.entered.wait(30)
    again = threading.Thread(target=setup_metric_logger, args=["tensorboard"])
    again.start()
    assert other.ended.wait(10)
    waiting.go_on.set()
    again.join()
    assert 1 == waiting.closed


@pytest.mark.row("I14")
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"loggers": "async,other"}, "loggers: expected some of async"),
        ({"other_key": 1}, "loggers: expected some of async"),
        ({"tensorboard_flush_interval_s": "x"}, "tensorboard.flush_interval_s: "),
        ({"mlflow_colour": "x"}, "mlflow.colour: "),
        ({"async_level": "LOUD"}, "level: "),
    ],
)
def test_a_wrong_set_up_raises_at_once(options: Any, error: str) -> None:
    """And names what is wrong."""
    with pytest.raises(ConfigError, match=f"^{error}"):
        setup_metric_logger(**options)


@pytest.mark.row("I15")
def test_the_command_line(tmp_path: Path) -> None:
    """The document's command leaves three outputs; the console shows the metrics."""
    arguments = ["--run_name", "my_run", "--logger_type", "async,tensorboard,wandb"]
    arguments += ["--output_dir", "out/", "--epochs", "3"]
    done = run_python(main_ds.__file__, *arguments, folder=tmp_path)
    assert 0 == done.returncode, done.stderr
    out = tmp_path / "out"
    lines = rows(out / "my_run.jsonl")
    losses = [row["loss"] for row in lines if "loss" in row]
    assert losses == sorted(losses, reverse=True)
    expected = {("loss", step): loss for step, loss in enumerate(losses)}
    assert pytest.approx(expected) == read_tensorboard(out / "my_run")
    assert losses == [row["loss"] for row in wandb_rows(out)]
    assert "lr=0.100" in done.stderr
    assert "loss=4.000" in done.stderr


@pytest.mark.row("I15")
def test_the_command_line_runs_a_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the arguments that are left."""
    (tmp_path / "train.py").write_text(
        "import logging, sys\n"
        "metrics = logging.getLogger('instructlab.training.metrics')\n"
        "metrics.info({'epochs': int(sys.argv[2])}, extra={'step': 1})\n"
    )
    monkeypatch.setattr(sys, "argv", ["main_ds"])
    main_ds.main(["--script", "train.py", "--epochs", "3", "--run_name", "r"])
    close(METRICS)
    assert [{"epochs": 3, "step": 1}] == rows(tmp_path / "logs" / "r.jsonl")


@pytest.mark.row("I16")
def test_handlers_keep_to_the_contract_of_logging(tmp_path: Path) -> None:
    """Level, filters and formatter of a `dictConfig` hold."""
    module = "perf.compat.instructlab.training.logger"
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"short": {"format": "%(levelname)s: %(message)s"}},
            "filters": {
                "mapping": {"()": f"{module}.IsMappingFilter"},
                "rank": {"()": f"{module}.IsRank0Filter", "rank_val": 0},
            },
            "handlers": {
                "all": {
                    "class": f"{module}.AsyncStructuredHandler",
                    "log_dir": "out",
                    "run_name": "all",
                    "formatter": "short",
                },
                "some": {
                    "class": f"{module}.AsyncStructuredHandler",
                    "log_dir": "out",
                    "run_name": "some",
                    "level": "WARNING",
                    "filters": ["mapping", "rank"],
                },
            },
            "loggers": {
                "tests_dict_config": {"level": "INFO", "handlers": ["all", "some"]}
            },
        }
    )
    logger = logging.getLogger("tests_dict_config")
    logger.info({"loss": 0.5})
    logger.warning({"loss": 0.25}, extra={"step": 3})
    logger.warning("a text")
    close(logger)
    logger.handlers.clear()
    loss = {"loss": 0.25, "step": 3}
    text = {"message": "WARNING: a text", "level": 30, "kind": "message"}
    assert [{"loss": 0.5}, loss, text] == rows(tmp_path / "out" / "all.jsonl")
    assert [loss] == rows(tmp_path / "out" / "some.jsonl")


@pytest.mark.row("I16")
def test_a_later_configuration_of_logging_ends_no_metrics(tmp_path: Path) -> None:
    """As of a library that configures its own log when it is imported."""
    setup_metric_logger("async", run_name="r", output_dir=tmp_path)
    METRICS.info({"loss": 0.5})
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
    METRICS.info({"loss": 0.25})
    close(METRICS)
    assert [{"loss": 0.5}, {"loss": 0.25}] == rows(tmp_path / "r.jsonl")


@pytest.mark.row("I1", "I2", "I3", "I4")
def test_the_example_of_the_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Handlers that do not know mappings show their text; ours write the values."""
    shown = logging.StreamHandler(sys.stdout)
    written = AsyncStructuredHandler(run_name="run", log_dir=tmp_path)
    for handler in (shown, written):
        logging.getLogger("logger_name").addHandler(handler)
    logging.getLogger("logger_name").setLevel(logging.DEBUG)
    exec(
        """
import logging

logger = logging.getLogger("logger_name")

logger.debug("This is a debug message")
# We can also pass arbitrary objects to the logger and they will be set as the `LogRecord.msg` attribute.
logger.info({"value": 1})
logger.info({"lr": 0.001, "epochs": 10}, extra={"hparams": True})
""",  # noqa: E501
        {},
    )
    for handler in (shown, written):
        logging.getLogger("logger_name").removeHandler(handler)
    written.close()
    assert [
        "This is a debug message",
        "{'value': 1}",
        "{'lr': 0.001, 'epochs': 10}",
    ] == capsys.readouterr().out.splitlines()
    assert [
        {"value": 1},
        {"lr": 0.001, "epochs": 10, "kind": "hparams"},
    ] == rows(tmp_path / "run.jsonl")
