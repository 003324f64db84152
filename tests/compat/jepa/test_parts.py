"""Rows J14–J18, J27, J28: utilities, decorators, schemas, callbacks."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import logging
import re
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from perf.compat.jepa.loggers import BaseLogger, TensorBoardLogger, create_logger
from perf.compat.jepa.loggers.decorators import (
    log_exceptions,
    log_execution_time,
    log_function_calls,
)
from perf.compat.jepa.loggers.structured import SchemaError, StructuredLogger
from perf.compat.jepa.loggers.utils import add_prefix, flatten_metrics, format_metrics
from perf.compat.jepa.trainer.callbacks import LoggingCallback
from perf.loggers import ConfigError
from tests.compat.jepa.reading import wandb_artifacts
from tests.compat.jepa.test_loggers import Broken, Kept, Model
from tests.loggers.backends import read_tensorboard


@pytest.mark.row("J14", "J15", "J16")
def test_utilities() -> None:
    """Metrics for display, flat, under a prefix."""
    assert {"loss": "0.1235"} == format_metrics({"loss": 0.123456}, precision=4)
    assert {"a/b": 1} == flatten_metrics({"a": {"b": 1}})
    assert {"train/loss": 0.5} == add_prefix({"loss": 0.5}, "train")


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    """Level and first words of what was logged."""
    return [
        (each.levelno, re.split(r" call | \d| division", each.getMessage())[0])
        for each in caplog.records
    ]


@pytest.mark.row("J17")
def test_decorators_log_and_stack(caplog: pytest.LogCaptureFixture) -> None:
    """Time, error and call are lines and metrics; the error is raised still."""
    caplog.set_level(logging.INFO)
    logger = Kept()

    @log_execution_time(logger)
    @log_exceptions(logger)
    @log_function_calls(logger)
    def step(batch: int) -> float:
        """Divides."""
        return 1 / batch

    assert ("step", "Divides.") == (step.__name__, step.__doc__)
    assert 0.5 == step(2)
    with pytest.raises(ZeroDivisionError):
        step(0)
    assert [
        (logging.INFO, "step was called:"),
        (logging.INFO, "step took"),
        (logging.INFO, "step was called:"),
        (logging.ERROR, "step raised ZeroDivisionError:"),
        (logging.INFO, "step took"),
    ] == lines(caplog)
    assert [
        "step/calls",
        "step/execution_time_s",
        "step/calls",
        "step/exceptions",
        "step/execution_time_s",
    ] == [name for metrics, _ in logger.calls for name in metrics]
    assert [1, 2] == [m["step/calls"] for m, _ in logger.calls if "step/calls" in m]
    (error,) = [each for each in caplog.messages if "raised" in each]
    assert error.startswith("step raised ZeroDivisionError: division by zero")


@pytest.mark.row("J17")
def test_decorators_last_as_long_as_what_they_decorate() -> None:
    """Coroutines and generators are logged when they end."""
    logger = Kept()

    @log_function_calls(logger)
    async def wait() -> int:
        assert not logger.calls
        return 3

    @log_function_calls(logger)
    def count() -> Iterator[int]:
        yield 1
        assert 1 == len(logger.calls)
        yield 2

    assert 3 == asyncio.run(wait())
    assert [1, 2] == list(count())
    assert [{"wait/calls": 1}, {"count/calls": 1}] == [m for m, _ in logger.calls]


class Callables:
    """Whose objects can be called."""

    class Double:
        """Doubles."""

        def __call__(self, value: int) -> int:
            return 2 * value

    class Wait:
        """Waits."""

        async def __call__(self) -> int:
            await asyncio.sleep(0)
            return 3


@pytest.mark.row("J17")
def test_whatever_can_be_called_is_decorated() -> None:
    """Also what has no name: parts of functions, and objects."""
    logger = Kept()
    decorate = log_execution_time(logger)
    assert 4 == decorate(Callables.Double())(2)
    assert 4 == decorate(functools.partial(Callables.Double(), 2))()
    assert "x" == decorate(functools.partial(str.format, "{}"))("x")
    waited = decorate(Callables.Wait())()
    assert 3 == len(logger.calls)
    assert 3 == asyncio.run(waited)
    assert [
        f"{name}/execution_time_s" for name in ("Double", "Double", "format", "Wait")
    ] == [name for metrics, _ in logger.calls for name in metrics]


@pytest.mark.row("J17")
def test_asynchronous_generators_are_logged_when_they_end() -> None:
    """They get what is sent and thrown into them, and are closed."""
    logger = Kept()
    closed = []

    @log_exceptions(logger)
    @log_function_calls(logger)
    async def echo() -> AsyncGenerator[Any, Any]:
        got: Any = None
        try:
            while got != "end":
                try:
                    got = yield got
                except KeyError as error:
                    got = error
        finally:
            closed.append(True)

    async def use() -> None:
        one = echo()
        assert None is await anext(one)
        assert 1 == await one.asend(1)
        error = KeyError("a")
        assert error is await one.athrow(error)
        assert not logger.calls
        with pytest.raises(StopAsyncIteration):
            await one.asend("end")
        assert [{"echo/calls": 1}] == [metrics for metrics, _ in logger.calls]
        two = echo()
        await anext(two)
        await two.aclose()
        assert 2 == len(closed)
        three = echo()
        await anext(three)
        with pytest.raises(OSError, match="full"):
            await three.athrow(OSError("full"))

    asyncio.run(use())
    assert [
        {"echo/calls": 1},
        {"echo/calls": 2},
        {"echo/calls": 3},
        {"echo/exceptions": 1.0},
    ] == [metrics for metrics, _ in logger.calls]


def test_a_logger_that_raises_is_no_matter_of_the_function(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is a warning."""
    assert 1 == log_function_calls(Broken())(lambda: 1)()
    assert ["not logged: OSError: no space left"] == [
        each.partition(" (")[0] for each in caplog.messages
    ]


SCHEMA = {
    "metrics": {
        "type": "dict",
        "required": True,
        "schema": {"loss": {"type": "float"}, "note": {"type": "string"}},
    },
    "metadata": {"type": "dict", "required": False},
}


@pytest.mark.row("J18")
def test_records_as_the_schema_says_are_lines_of_json(tmp_path: Path) -> None:
    """With their texts, and the step if there is one."""
    with StructuredLogger({"schema": SCHEMA}) as logger:
        logger.log_structured({"metrics": {"loss": 1, "note": "a"}}, step=3)
        logger.log_structured({"metrics": {"loss": 0.5}, "metadata": {"epoch": 10}})
    text = (tmp_path / "logs" / "structured.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    for row in rows:
        del row["timestamp"]
    assert [
        {"metrics/loss": 1, "metrics/note": "a", "step": 3},
        {"metrics/loss": 0.5, "metadata/epoch": 10},
    ] == rows


@pytest.mark.row("J18")
def test_an_empty_dict_of_a_record_is_written(tmp_path: Path) -> None:
    """What is as the schema says has a line; middleware may still change it."""
    fields: dict[str, Any] = {"metrics": {"type": "dict"}, "metadata": {"type": "dict"}}
    path = tmp_path / "a.jsonl"
    with StructuredLogger({"schema": fields, "path": str(path)}) as logger:
        logger.log_structured({"metrics": {}})
        logger.log_structured({"metrics": {"a": {"b": 1, "c": {}}}, "metadata": {}}, 3)
        logger.add_middleware(lambda metrics, step: ({**metrics, "more": 1}, step))
        logger.log_structured({"metadata": {}})
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        del row["timestamp"]
    assert [
        {"metrics": {}},
        {"metrics/a/b": 1, "metrics/a/c": {}, "metadata": {}, "step": 3},
        {"metadata": {}, "more": 1},
    ] == rows


@pytest.mark.row("J18")
@pytest.mark.parametrize(
    ("record", "error"),
    [
        ({}, "metrics: expected dict, found nothing"),
        ({"metrics": None}, "metrics: expected dict, found nothing"),
        ({"metrics": 3}, "metrics: expected dict, found int"),
        ({"metrics": {}, "metadata": []}, "metadata: expected dict, found list"),
        ({"metrics": {"loss": "a"}}, "metrics.loss: expected float, found str"),
        ({"metrics": {"loss": True}}, "metrics.loss: expected float, found bool"),
        (
            {"metrics": {}, "other": 1},
            "other: expected no field of this name, found one",
        ),
    ],
)
def test_other_records_are_rejected(
    tmp_path: Path, record: dict[str, Any], error: str
) -> None:
    """With the field named; nothing is written."""
    with StructuredLogger({"schema": SCHEMA, "path": "a.jsonl"}) as logger:
        with pytest.raises(SchemaError) as caught:
            logger.log_structured(record)
    assert error == str(caught.value)
    assert "" == (tmp_path / "a.jsonl").read_text()


@pytest.mark.row("J18")
@pytest.mark.parametrize(
    ("schema", "key"),
    [
        ({"a": {"type": "text"}}, "schema.a.type"),
        ({"a": {"kind": "dict"}}, "schema.a.kind"),
        ({"a": {"schema": {"b": {"required": 3}}}}, "schema.a.b.required"),
        ([], "schema"),
    ],
)
def test_a_wrong_schema_names_its_field(schema: Any, key: str) -> None:
    """When the logger is made."""
    with pytest.raises(ConfigError, match=f"^{key}: "):
        StructuredLogger({"schema": schema})


@dataclasses.dataclass
class Trainer:
    """A loop that calls whatever hooks its callbacks have."""

    callbacks: list[LoggingCallback]
    global_step: int = 0
    optimizer: Any = dataclasses.field(
        default_factory=lambda: SimpleNamespace(param_groups=[{"lr": 1e-3}])
    )

    def fit(self, model: Any, batches: int) -> None:
        """Trains on nothing, and validates once."""
        for callback in self.callbacks:
            callback.on_train_begin(self, model)
        for index in range(batches):
            self.global_step += 1
            for callback in self.callbacks:
                callback.on_batch_end(self, model, {"loss": 1 / 2**index}, None, index)
        for callback in self.callbacks:
            callback.on_validation_end(self, model, {"val_loss": 0.25})
            callback.on_train_end(self, model)


@pytest.mark.row("J27", "J28")
def test_a_callback_logs_by_itself_in_any_loop(tmp_path: Path) -> None:
    """Loss and learning rate of every tenth batch, and what a validation gives."""
    logger = TensorBoardLogger({"log_dir": "logs"})
    Trainer([LoggingCallback(logger)]).fit(Model(), 20)
    found = read_tensorboard(tmp_path / "logs")  # `on_train_end` has it written
    logger.finish()
    assert (
        pytest.approx(
            {
                ("train/loss", 1): 1.0,
                ("train/lr", 1): 1e-3,
                ("train/loss", 11): 1 / 2**10,
                ("train/lr", 11): 1e-3,
                ("val_loss", 20): 0.25,
            }
        )
        == found
    )


@pytest.mark.row("J23", "J27")
def test_a_callback_keeps_models_at_the_save_frequency(tmp_path: Path) -> None:
    """Fifty steps apart, though metrics are logged at others."""
    config = {"backends": ["wandb"], "save_frequency": 50}
    with create_logger(config) as logger:
        Trainer([LoggingCallback(logger, log_frequency=30)]).fit(Model(), 120)
    assert [("model", "model")] * 2 == wandb_artifacts(tmp_path)


class OnDevice:
    """An array of one number that nobody may wait for."""

    shape = (1,)

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise AssertionError("it was waited for")


def test_a_callback_logs_the_numbers_among_the_outputs() -> None:
    """Nested ones too; no matrices, texts or objects, and it waits for no device."""
    logger, loss = Kept(), OnDevice()
    outputs = {
        "loss": loss,
        "parts": {"kl": np.float32(0.5), "count": np.ones(())},
        "done": True,
        "logits": np.zeros((2, 3)),
        "none": np.zeros(0),
        "text": "a text",
        "state": object(),
        "names": ["a"],
    }
    LoggingCallback(logger).on_batch_end(object(), None, outputs, None, 0)
    [(metrics, _)] = logger.calls
    assert {
        "train/loss": loss,
        "train/parts/kl": 0.5,
        "train/parts/count": 1.0,
        "train/done": True,
    } == metrics


def test_a_callback_takes_whatever_a_loop_has() -> None:
    """A loss alone, no step, no optimizer; a logger that raises is no error."""
    logger = Kept()
    callback = LoggingCallback(logger)
    callback.on_batch_end(object(), None, np.float32(0.5), None, 0)
    assert [({"train/loss": 0.5}, None)] == logger.calls
    LoggingCallback(Broken()).on_batch_end(object(), None, 0.5, None, 0)
    with pytest.raises(ValueError, match="log_frequency=0"):
        LoggingCallback(BaseLogger(), 0)
