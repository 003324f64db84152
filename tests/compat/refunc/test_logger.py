"""`MLLogger`: calls become entries, whatever is in them."""

from __future__ import annotations

import inspect
import io
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from perf.compat.refunc.logging import Integration, LogLevel, MLLogger
from tests.loggers.sinks import Rich


@pytest.fixture
def sink(logger: MLLogger) -> Rich:
    """What integrations of the logger get."""
    rich = Rich()
    logger.add_integration(rich)
    return rich


@pytest.mark.row("R1")
def test_the_constructor_is_the_documented_one() -> None:
    """Names, order and defaults of the parameters are those of the document."""
    assert [
        ("name", "refunc"),
        ("level", LogLevel.INFO),
        ("log_dir", None),
        ("experiment_tracking", True),
        ("colored_output", True),
        ("json_logging", False),
        ("max_log_files", 10),
        ("max_file_size", "100MB"),
    ] == [
        (each.name, each.default)
        for each in inspect.signature(MLLogger).parameters.values()
    ]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"level": "LOUD"}, "level: expected a number or one of .*METRIC"),
        ({"max_file_size": "many"}, 'expected a size such as "100MB"'),
        ({"max_log_files": 0}, "expected 1 or more, found 0"),
    ],
)
def test_a_wrong_set_up_is_an_error(wrong: dict[str, Any], says: str) -> None:
    """A level, a size or a number that is none is said at once."""
    with pytest.raises(ValueError, match=says):
        MLLogger("training", **wrong)


@pytest.mark.row("R6")
@pytest.mark.parametrize(
    "name", ["trace", "debug", "info", "warning", "error", "critical"]
)
def test_standard_methods_log_at_their_level(
    name: str, logger: MLLogger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Entry and line of each method have its level and the text."""
    getattr(logger, name)("what happened")
    [entry] = logger.get_log_entries()
    assert (name.upper(), "what happened") == (entry.level, entry.message)
    line = capsys.readouterr().err
    assert name.upper() in line
    assert "what happened" in line


@pytest.mark.row("R7")
@pytest.mark.parametrize("name", ["metric", "experiment", "progress", "result"])
def test_ml_methods_take_metrics(name: str, logger: MLLogger) -> None:
    """The dict after the text is the entry's metrics, at the level of the method."""
    getattr(logger, name)("what happened", {"accuracy": 0.92})
    [entry] = logger.get_log_entries()
    assert (name.upper(), {"accuracy": 0.92}) == (entry.level, entry.metrics)


@pytest.mark.row("R8")
def test_levels_are_ordered() -> None:
    """The levels of machine learning lie between INFO and WARNING."""
    assert [
        "TRACE",
        "DEBUG",
        "INFO",
        "METRIC",
        "PROGRESS",
        "EXPERIMENT",
        "RESULT",
        "WARNING",
        "ERROR",
        "CRITICAL",
    ] == [level.name for level in sorted(LogLevel)]
    assert logging.getLevelName(LogLevel.METRIC) == "METRIC"


@pytest.mark.row("R8")
def test_log_takes_a_level(
    logger: MLLogger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Output and entry have the level's name, and the entry what was given."""
    logger.log(LogLevel.METRIC, "Custom metric", extra={"value": 0.95})
    [entry] = logger.get_log_entries()
    assert ("METRIC", {"value": 0.95}) == (entry.level, entry.extra)
    assert "METRIC" in capsys.readouterr().err


def test_what_is_below_the_level_is_not_logged(
    new_logger: Callable[..., MLLogger],
) -> None:
    """Of a logger at WARNING only warnings and above are seen."""
    logger = new_logger(level="warning")
    logger.info("no")
    logger.log_metrics({"loss": 1.0})
    logger.error("yes")
    assert ["yes"] == [entry.message for entry in logger.get_log_entries()]
    assert {"loss": 1.0} == logger.get_experiment_context().metrics


@pytest.mark.row("R9")
def test_hyperparameters_are_known_everywhere(logger: MLLogger, sink: Rich) -> None:
    """They are in the context, the entry and the integrations."""
    logger.start_experiment("images")
    logger.log_hyperparams({"lr": 0.001, "optimizer": {"name": "adam"}})
    context = logger.get_experiment_context()
    assert {"lr": 0.001, "optimizer": {"name": "adam"}} == context.parameters
    flat = {"lr": 0.001, "optimizer/name": "adam"}
    entry = logger.get_log_entries()[-1]
    assert {"hyperparameters": flat} == entry.extra
    assert "Hyperparameters: lr=0.0010, optimizer/name=adam" == entry.message
    logger.flush()
    assert ("hparams", flat, {}) in sink.calls


@pytest.mark.row("R10", "R32")
def test_metrics_reach_entries_context_and_integrations(
    logger: MLLogger, sink: Rich
) -> None:
    """Each integration gets every metric with the step."""
    other = Rich()
    logger.add_integrations([other])
    logger.start_experiment("images")
    logger.log_metrics({"loss": 0.234, "val": {"accuracy": 0.92}}, step=100)
    entry = logger.get_log_entries()[-1]
    assert ("METRIC", 100) == (entry.level, entry.step)
    assert {"loss": 0.234, "val/accuracy": 0.92} == entry.metrics
    assert entry.metrics == logger.get_experiment_context().metrics
    logger.flush()
    for each in (sink, other):
        assert [("loss", 0.234, 100), ("val/accuracy", 0.92, 100)] == each.scalars


def test_metrics_stay_what_they_were(logger: MLLogger, sink: Rich) -> None:
    """An array or a dict that is used again does not change what was logged."""
    values = np.array([1.0, 2.0])
    metrics: dict[str, Any] = {"gradient": values}
    logger.log_metrics(metrics)
    values[:] = 7
    metrics["loss"] = 0
    logger.flush()
    assert [1.0, 2.0] == sink.scalars[0][1].tolist()
    assert ["gradient"] == list(logger.get_log_entries()[-1].metrics)


@pytest.mark.row("R11")
def test_artifacts_are_in_context_and_integrations(
    logger: MLLogger, sink: Rich
) -> None:
    """One and several reach both, with their type."""
    logger.start_experiment("images")
    logger.log_artifact("out/model.pkl", artifact_type="model")
    logger.log_artifacts(["a.png", "b.png"], artifact_type="visualization")
    paths = ["out/model.pkl", "a.png", "b.png"]
    assert paths == logger.get_experiment_context().artifacts
    logger.flush()
    assert [
        ("artifact", "model.pkl", "out/model.pkl", {"type": "model"}),
        ("artifact", "a.png", "a.png", {"type": "visualization"}),
        ("artifact", "b.png", "b.png", {"type": "visualization"}),
    ] == [call for call in sink.calls if call[0] == "artifact"]


@pytest.mark.row("R12")
def test_tags_are_on_the_run_and_on_later_entries(logger: MLLogger, sink: Rich) -> None:
    """Those set before an experiment are on its entries too."""
    logger.set_tag("owner", "me")
    logger.start_experiment("images")
    logger.add_tags({"environment": "production", "version": "v1.2"})
    logger.info("later", tags={"version": "v2"})
    context = logger.get_experiment_context()
    assert {"environment": "production", "version": "v1.2"} == context.tags
    assert {
        "owner": "me",
        "environment": "production",
        "version": "v2",
    } == logger.get_log_entries()[-1].tags
    logger.flush()
    assert ("tags", {"owner": "me"}, {}) in sink.calls


@pytest.mark.row("R13")
def test_a_result_is_a_number_or_several(logger: MLLogger, sink: Rich) -> None:
    """Entries are RESULT; context and integrations have values and metadata."""
    logger.start_experiment("images")
    logger.log_result("final_accuracy", 0.945, metadata={"dataset": "test"})
    logger.log_result("Training completed", {"accuracy": 0.95})
    first, second = logger.get_log_entries(level="RESULT")
    assert {"final_accuracy": 0.945} == first.metrics
    assert {"dataset": "test"} == first.extra
    assert ("Training completed", {"accuracy": 0.95}) == (
        second.message,
        second.metrics,
    )
    context = logger.get_experiment_context()
    assert {"final_accuracy": 0.945, "accuracy": 0.95} == context.metrics
    assert {"final_accuracy": {"dataset": "test"}} == context.metadata
    logger.flush()
    results = [call[1:] for call in sink.calls if call[0] == "result"]
    assert [({"final_accuracy": 0.945}, {}), ({"accuracy": 0.95}, {})] == results


@pytest.mark.row("R37")
def test_a_call_may_say_much(logger: MLLogger, sink: Rich) -> None:
    """Metrics, tags, artifacts and extra are all in the entry."""
    logger.set_step(7)
    logger.info(
        "Training step completed",
        metrics={"loss": 0.234},
        tags={"phase": "training"},
        artifacts=["checkpoint.pkl"],
        extra={"gpu_memory": "8.2GB"},
    )
    entry = logger.get_log_entries()[-1]
    assert {"loss": 0.234} == entry.metrics
    assert {"phase": "training"} == entry.tags
    assert ["checkpoint.pkl"] == entry.artifacts
    assert {"gpu_memory": "8.2GB"} == entry.extra
    logger.flush()
    assert [("loss", 0.234, 7)] == sink.scalars


def test_errors_and_progress_reach_integrations_as_text(
    logger: MLLogger, sink: Rich
) -> None:
    """How far a loop is, is no metric; an error is to be told, with its level."""
    logger.progress("half way", {"completed": 50})
    logger.error("out of memory", {"step": 3})
    logger.flush()
    assert [] == sink.scalars
    assert [
        ("notify", "half way", LogLevel.PROGRESS, {}),
        ("notify", "out of memory", LogLevel.ERROR, {}),
    ] == [call for call in sink.calls if call[0] == "notify"]


@pytest.mark.row("R42")
def test_an_exception_is_shown(
    logger: MLLogger, capsys: pytest.CaptureFixture[str]
) -> None:
    """The output has the traceback, the entry what was given."""
    try:
        raise RuntimeError("no such batch")
    except RuntimeError:
        logger.exception("Operation failed", extra={"operation": "training"})
    [entry] = logger.get_log_entries(level="ERROR")
    assert {"operation": "training"} == entry.extra
    output = capsys.readouterr().err
    assert "Traceback (most recent call last)" in output
    assert "RuntimeError: no such batch" in output


def test_an_error_may_be_given(
    logger: MLLogger, capsys: pytest.CaptureFixture[str]
) -> None:
    """`exc_info` takes an exception that is not being handled, too."""
    logger.warning("survived", exc_info=OSError("disk full"))
    assert "OSError: disk full" in capsys.readouterr().err
    logger.exception("nothing is handled")
    assert "NoneType" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda logger: logger.log_metrics(5), id="metrics"),
        pytest.param(lambda logger: logger.log_hyperparams(None), id="hyperparams"),
        pytest.param(lambda logger: logger.log("LOUD", "x"), id="level"),
        pytest.param(lambda logger: logger.info("x", nonsense=1), id="field"),
        pytest.param(lambda logger: logger.log_artifact(None), id="artifact"),
    ],
)
def test_a_wrong_call_stops_no_training(
    call: Callable[[MLLogger], None],
    logger: MLLogger,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What a call was given that cannot be logged is said once."""
    call(logger)
    call(logger)
    assert 1 == len(caplog.records)
    assert "(said once)" in caplog.text
    logger.info("on it goes")
    assert "on it goes" == logger.get_log_entries()[-1].message


def test_other_handlers_see_the_message_and_the_values(logger: MLLogger) -> None:
    """A handler of `logging` without a formatter of ours has a line to show."""
    stream = io.StringIO()
    logger.add_handler(logging.StreamHandler(stream))
    logger.log_metrics({"loss": 0.5}, step=1)
    logger.info("100% done")
    assert "Metrics: loss=0.5000\n100% done\n" == stream.getvalue()


def test_nothing_is_logged_after_close(logger: MLLogger, sink: Rich) -> None:
    """`close` may be repeated; entries can still be read."""
    logger.info("before")
    logger.close()
    logger.close()
    logger.log_metrics({"loss": 1.0})
    assert 1 == sink.closed
    assert [] == sink.scalars
    assert ["before", "Metrics"] == [each.message for each in logger.get_log_entries()]


def test_an_integration_can_be_shared(new_logger: Callable[..., MLLogger]) -> None:
    """Two loggers hand to the same one, through one queue."""
    kept = Rich()
    shared = Integration(kept)
    first, second = new_logger("a"), new_logger("b")
    first.add_integration(shared)
    second.add_integration(shared)
    first.log_metrics({"a": 1})
    second.log_metrics({"b": 2})
    first.flush()
    assert [("a", 1, None), ("b", 2, None)] == kept.scalars
