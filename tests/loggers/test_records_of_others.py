"""What programs log themselves, tensors of PyTorch, and sections by name."""

from __future__ import annotations

import copy
import io
import json
import logging
import logging.config
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perf.loggers import (
    AsyncHandler,
    BackendHandler,
    ConfigError,
    Gate,
    Middleware,
    Pipeline,
    create_backend,
)
from perf.loggers.delivery import BufferedHandler
from perf.loggers.fanout import FanOut
from perf.loggers.records import make_record
from perf.loggers.rotation import RotatingFile
from perf.loggers.values import as_array, as_float, kept
from tests.loggers.backends import read_tensorboard
from tests.loggers.sinks import Kept, Rich
from tests.loggers.tensors import Tensor


@pytest.mark.parametrize("is_bfloat16", [True, False])
def test_tensors_of_pytorch_are_values(is_bfloat16: bool) -> None:
    """On a device, with gradients, in a type that NumPy has not."""
    assert 0.5 == as_float(Tensor(0.5, is_bfloat16=is_bfloat16))
    tensor = Tensor([1.0, 2.0], is_bfloat16=is_bfloat16)
    assert [1.0, 2.0] == as_array(tensor).tolist()
    now = kept(tensor)
    tensor.values[0] = 9.0
    assert ([1.0, 2.0], False) == (now.values.tolist(), now.requires_grad)


@pytest.mark.parametrize("delivery", ["async", "sync"])
def test_a_mapping_of_somebody_elses_is_taken_as_it_is_now(delivery: str) -> None:
    """Flat, before any filter of the handler; others get the record as it was."""
    one, other = Kept(), Kept()
    seen: list[Any] = []
    handlers: list[Any] = [BackendHandler(one), BackendHandler(other)]
    if delivery == "async":
        handlers = [AsyncHandler(each) for each in handlers]
    handlers[0].addFilter(Gate(every_n_steps=2))
    handlers[0].addFilter(
        Middleware(lambda metrics, step: ({"x": metrics["a/b"]}, step))
    )
    last = logging.Handler()
    last.emit = lambda record: seen.append(record.msg)  # type: ignore[method-assign]
    logger = logging.Logger("program")
    for handler in (*handlers, last):
        logger.addHandler(handler)
    metrics = {"a": {"b": np.ones(())}}
    logger.info(metrics, extra={"step": 2})
    logger.info(metrics, extra={"step": 3})
    metrics["a"]["b"][...] = 9.0
    for handler in handlers:
        handler.close()
    assert [("x", 1.0, 2)] == one.scalars
    assert [("a/b", 1.0, 2), ("a/b", 1.0, 3)] == other.scalars
    assert [metrics, metrics] == seen


def test_a_mapping_that_cannot_be_flattened_breaks_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is a failure of the delivery, and the next one arrives."""
    kept_one = Kept()
    logger = logging.Logger("program")
    logger.addHandler(BackendHandler(kept_one))
    endless: dict[str, Any] = {}
    endless["self"] = endless
    logger.info(endless)
    logger.info({"a": 1.0})
    assert ("a", 1.0, None) == kept_one.scalars[-1]


@pytest.mark.parametrize("texts", [True, False])
def test_texts_stay_among_metrics_where_a_line_is_a_call(
    tmp_path: Path, texts: bool
) -> None:
    """If they are switched on."""
    with Pipeline() as pipeline:
        pipeline.add(create_backend("jsonl", {"path": tmp_path / "a"}), texts=texts)
        pipeline.log_metrics({"loss": 0.5, "phase": "warm-up"}, step=1)
    (line,) = (tmp_path / "a").read_text().splitlines()
    row = json.loads(line)
    assert ("warm-up" if texts else None, 0.5) == (row.get("phase"), row["loss"])


def test_a_formatter_of_an_async_handler_is_used() -> None:
    """For lines of text, where they are written."""
    rich = Rich()
    handler = AsyncHandler(BackendHandler(rich))
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    handler.handle(
        logging.makeLogRecord({"msg": "a text", "levelname": "INFO", "levelno": 20})
    )
    handler.close()
    assert ("notify", "INFO: a text", 20, {}) in rich.calls


def test_a_call_has_a_level() -> None:
    """As a number or by name; one that is none is a line in the log."""
    kept_one = Kept()
    with Pipeline() as pipeline:
        pipeline.add(kept_one, filters=[Gate(level="INFO")])
        pipeline.log_metrics({"low": 1.0}, level="debug")
        pipeline.log_metrics({"high": 1.0}, level=logging.WARNING)
        pipeline.log_metrics({"none": 1.0}, level="LOUD")
    assert [("high", 1.0, None)] == kept_one.scalars


def test_a_section_may_be_for_a_backend_of_ones_own() -> None:
    """What is left of its options makes the backend."""
    made: list[dict[str, Any]] = []
    kept_one = Kept()

    def make(options: dict[str, Any]) -> Kept:
        made.append(options)
        return kept_one

    with Pipeline() as pipeline:
        pipeline.add_by_name("own", {"url": "x", "every_n_steps": 2}, make=make)
        pipeline.add_by_name("own", {"enabled": False}, make=make)
        for step in range(4):
            pipeline.log_scalar("loss", 0.5, step=step)
        with pytest.raises(ConfigError, match=r"^own\.level: "):
            pipeline.add_by_name("own", {"level": "LOUD"}, make=make)
    assert [{"url": "x"}] == made
    assert [0, 2] == [step for _, _, step in kept_one.scalars]


def test_tensorboard_puts_what_has_no_step_at_the_latest(tmp_path: Path) -> None:
    """Before there is one, at 0."""
    backend = create_backend("tensorboard", {"log_dir": tmp_path})
    backend.log_scalar("first", 1.0)
    backend.log_scalar("loss", 0.5, step=7)
    backend.log_scalar("best", 0.25)
    backend.close()
    assert {
        ("first", 0): 1.0,
        ("loss", 7): 0.5,
        ("best", 7): 0.25,
    } == read_tensorboard(tmp_path)


@pytest.mark.parametrize("colored", [True, False])
def test_a_line_of_the_console_in_a_format_of_ones_own_is_whole(colored: bool) -> None:
    """It is neither broken nor filled up to the width of a terminal."""
    pytest.importorskip("rich")
    file = io.StringIO()
    options = {
        "format": "%(levelname)s - %(message)s",
        "colored": colored,
        "file": file,
    }
    backend: Any = create_backend("console", options)
    backend.log_metrics({f"metric_{index}": 0.5 for index in range(30)}, step=1)
    backend.close()
    values = ", ".join(f"metric_{index}=0.5000" for index in range(30))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())
    assert f"INFO - step=1 {values}\n" == shown


@pytest.mark.parametrize("delivery", ["async", "sync"])
def test_a_configuration_of_logging_closes_no_backend(delivery: str) -> None:
    """`dictConfig` closes the handlers that there are; ours go on without a stop."""
    backend = Kept()
    pipeline = Pipeline()
    pipeline.add(backend, delivery=delivery)
    pipeline.log_scalar("loss", 0.5, step=1)
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
    assert 0 == backend.closed
    pipeline.log_scalar("loss", 0.25, step=2)
    pipeline.close()
    assert [("loss", 0.5, 1), ("loss", 0.25, 2)] == backend.scalars
    assert 1 == backend.closed


def test_a_configuration_of_logging_closes_no_handler_around_others() -> None:
    """Neither one that fans out, nor a buffer, nor files that take turns."""
    backend = Kept()
    buffer = BufferedHandler(FanOut(BackendHandler(backend)))
    buffer.handle(make_record({"loss": 0.5}))
    # No regular file: the next look at its size does not open it again.
    file = RotatingFile("/dev/null")
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
    assert [] == backend.scalars
    buffer.close()
    assert [("loss", 0.5, None)] == backend.scalars
    assert file.handle(make_record({"loss": 0.5}))
    file.close()


class Replacing(logging.Filter):
    """Has a handler get another record than others."""

    def filter(self, record: logging.LogRecord) -> Any:
        """A copy, changed."""
        record = copy.copy(record)
        vars(record)["msg"] = {"loss": 0.25}
        return record


@pytest.mark.skipif(sys.version_info < (3, 12), reason="filters only say yes or no")
@pytest.mark.parametrize("delivery", ["async", "sync"])
def test_a_filter_may_return_another_record(delivery: str) -> None:
    """The backend gets that one, others the one that was logged."""
    changed, others = Kept(), Kept()
    pipeline = Pipeline()
    pipeline.add(changed, delivery=delivery, filters=[Replacing()])
    pipeline.add(others, delivery=delivery)
    pipeline.log_scalar("loss", 0.5)
    pipeline.close()
    assert [("loss", 0.25, None)] == changed.scalars
    assert [("loss", 0.5, None)] == others.scalars


@pytest.mark.skipif(sys.version_info < (3, 12), reason="filters only say yes or no")
def test_a_filter_of_a_file_or_of_several_may_return_another_record(
    tmp_path: Path,
) -> None:
    """It is what is written, and what is handed on."""
    record = make_record({"loss": 0.5})
    backend = Kept()
    file, several = RotatingFile(tmp_path / "a.log"), FanOut(BackendHandler(backend))
    for handler in (file, several):
        handler.addFilter(Replacing())
        assert handler.handle(record)
        handler.close()
    assert "{'loss': 0.25}\n" == (tmp_path / "a.log").read_text()
    assert [("loss", 0.25, None)] == backend.scalars
