"""Formatters, on entries and on records of others."""

from __future__ import annotations

import datetime as dt
import json
import logging
from typing import Any

import pytest

from perf.compat.refunc.logging import (
    ColoredFormatter,
    JSONFormatter,
    LogEntry,
    LogLevel,
    MLFormatter,
)

RED, YELLOW, BLUE = "\x1b[31m", "\x1b[33m", "\x1b[34m"
MOMENT = dt.datetime(2024, 1, 15, 10, 30, 45, 123_000, dt.UTC).timestamp()


def record(level: int = logging.INFO, **fields: Any) -> logging.LogRecord:
    """A record as `MLLogger` makes it."""
    name = logging.getLevelName(level)
    made = logging.LogRecord("training", level, "", 0, "Epoch completed", None, None)
    made.entry = LogEntry(MOMENT, name, "Epoch completed", "training", **fields)
    return made


@pytest.mark.row("R19")
@pytest.mark.parametrize(
    ("level", "code"),
    [
        (logging.ERROR, "\x1b[31m"),
        (logging.WARNING, "\x1b[33m"),
        (logging.INFO, "\x1b[34m"),
        (LogLevel.METRIC, "\x1b[32m"),
        (logging.ERROR + 5, "\x1b[31m"),
    ],
)
def test_levels_have_colours(level: int, code: str) -> None:
    """ERROR is red, WARNING yellow, INFO blue; a level between is as the one below."""
    line = ColoredFormatter().format(record(level))
    assert f"{code}{logging.getLevelName(level)}" in line


@pytest.mark.row("R19")
@pytest.mark.parametrize(
    ("switch", "part"),
    [
        ("show_time", ":45"),
        ("show_level", "INFO"),
        ("show_logger", "training:"),
        ("show_metrics", "\x1b[1mloss=0.2340\x1b[0m"),
    ],
)
def test_switches_remove_parts(switch: str, part: str) -> None:
    """Each part is there unless it is switched off; metrics are highlighted."""
    made = record(metrics={"loss": 0.234})
    assert part in ColoredFormatter().format(made)
    settings: dict[str, Any] = {switch: False}
    without = ColoredFormatter(**settings).format(made)
    assert part not in without
    assert "Epoch completed" in without


@pytest.mark.row("R19")
def test_schemes_differ() -> None:
    """Each scheme has colours of its own; another is an error."""
    warning = record(logging.WARNING)
    lines = {
        ColoredFormatter(color_scheme=scheme).format(warning)
        for scheme in ("default", "dark", "light")
    }
    assert 3 == len(lines)
    with pytest.raises(ValueError, match="color_scheme='loud': expected one of defau"):
        ColoredFormatter(color_scheme="loud")


@pytest.mark.row("R20")
def test_json_is_the_documented_example() -> None:
    """The document's record gives the document's object, key for key."""
    made = record(
        experiment_id="exp_001",
        step=1000,
        epoch=5,
        metrics={"loss": 0.234, "accuracy": 0.92},
        tags={"model": "resnet50"},
    )
    text = JSONFormatter(
        include_extra=True, timestamp_format="iso", indent=None
    ).format(made)
    expected = """{
      "timestamp": "2024-01-15T10:30:45.123Z",
      "level": "INFO",
      "logger": "training",
      "message": "Epoch completed",
      "experiment_id": "exp_001",
      "step": 1000,
      "epoch": 5,
      "metrics": {"loss": 0.234, "accuracy": 0.92},
      "tags": {"model": "resnet50"}
    }"""
    assert list(json.loads(expected).items()) == list(json.loads(text).items())
    assert "\n" not in text


@pytest.mark.row("R20")
def test_json_options_have_effect() -> None:
    """Timestamps in three formats, extra or not, on one line or more."""
    made = record(extra={"gpu": 8}, artifacts=["a.pkl"])
    unix = json.loads(JSONFormatter(timestamp_format="unix").format(made))
    assert MOMENT == unix["timestamp"]
    assert ({"gpu": 8}, ["a.pkl"]) == (unix["extra"], unix["artifacts"])
    readable = JSONFormatter(include_extra=False, timestamp_format="readable", indent=2)
    text = readable.format(made)
    local = dt.datetime.fromtimestamp(MOMENT).strftime("%Y-%m-%d %H:%M:%S")
    assert local == json.loads(text)["timestamp"]
    assert "extra" not in text
    assert '\n  "level": "INFO"' in text
    with pytest.raises(ValueError, match="timestamp_format='roman'"):
        JSONFormatter(timestamp_format="roman")


@pytest.mark.row("R21")
def test_a_line_shows_step_epoch_and_metrics() -> None:
    """Numbers have four digits after the point unless told otherwise."""
    made = record(step=7, epoch=2, metrics={"loss": 0.234567, "n": 3})
    assert (
        MLFormatter()
        .format(made)
        .endswith(
            "INFO       training: [epoch 2, step 7] Epoch completed | loss=0.2346, n=3"
        )
    )
    assert MLFormatter(metric_precision=2).format(made).endswith("loss=0.23, n=3")


@pytest.mark.row("R21")
@pytest.mark.parametrize(
    ("switch", "part"),
    [("show_step", "step 7"), ("show_epoch", "epoch 2"), ("show_metrics", "loss")],
)
def test_parts_of_a_line_can_be_left_out(switch: str, part: str) -> None:
    """Each switch removes its part alone."""
    made = record(step=7, epoch=2, metrics={"loss": 0.5})
    whole, without = (
        MLFormatter(**{switch: show}).format(made) for show in (True, False)
    )
    assert part in whole
    assert part not in without
    assert len(without) < len(whole)


@pytest.mark.row("R21")
def test_compact_lines_are_shorter() -> None:
    """They have no date and no padding."""
    made = record(step=7, metrics={"loss": 0.5})
    line = MLFormatter(compact_mode=True).format(made)
    assert line.endswith(":45 INFO training: [step 7] Epoch completed loss=0.5000")
    assert len(line) < len(MLFormatter().format(made))


@pytest.mark.parametrize("formatter", [MLFormatter(), JSONFormatter()])
def test_records_of_others_can_be_formatted(formatter: logging.Formatter) -> None:
    """Text with arguments, a mapping, an exception: whatever `logging` has."""
    text = logging.LogRecord("lib", logging.INFO, "", 0, "%d of %d", (1, 2), None)
    assert "1 of 2" in formatter.format(text)
    mapping = logging.makeLogRecord({"msg": {"loss": 0.5}, "step": 3, "levelno": 20})
    line = formatter.format(mapping)
    assert "loss" in line
    assert "3" in line
    error = ValueError("no such thing")
    text.exc_info = (ValueError, error, None)
    assert "ValueError: no such thing" in formatter.format(text)


@pytest.mark.row("R20", "R21")
def test_what_another_logger_gives_as_extra_is_shown() -> None:
    """Fields of an entry in their places, all else under `extra`."""
    fields = {
        "step": 1000,
        "epoch": 5,
        "experiment_id": "exp_001",
        "run_id": "run_1",
        "metrics": {"loss": 0.25},
        "tags": {"model": "resnet50"},
        "artifacts": ["model.pkl"],
    }
    text = logging.LogRecord("lib", logging.INFO, "", 0, "done", None, None)
    made = logging.makeLogRecord({**vars(text), **fields, "foo": 1})
    MLFormatter().format(made)
    logging.Formatter("%(asctime)s").format(made)  # leaves what is no extra
    shown = json.loads(JSONFormatter().format(made))
    own = {"level": "INFO", "logger": "lib", "message": "done", "extra": {"foo": 1}}
    assert {**fields, **own, "timestamp": shown["timestamp"]} == shown
    line = MLFormatter().format(made)
    assert line.endswith("lib: [epoch 5, step 1000] done | loss=0.2500")
    assert "extra" not in JSONFormatter(include_extra=False).format(made)


def test_a_field_of_another_type_is_an_extra() -> None:
    """What another program calls `tags` may be anything."""
    made = logging.makeLogRecord({"msg": "done", "tags": "a, b", "metrics": None})
    shown = json.loads(JSONFormatter().format(made))
    assert {"tags": "a, b", "metrics": None} == shown["extra"]
    assert "tags" not in shown
