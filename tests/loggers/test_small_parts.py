"""Levels, names of files, guarded methods, values as JSON."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perf.loggers import ConfigError
from perf.loggers.backends.jsonl import plain
from perf.loggers.guard import never_raises
from perf.loggers.levels import level_number
from perf.loggers.naming import file_name
from perf.loggers.values import snapshot


@pytest.mark.parametrize(
    ("level", "number"), [("INFO", 20), ("warning", 30), (7, 7), (logging.ERROR, 40)]
)
def test_a_level_is_a_number_or_a_name(level: int | str, number: int) -> None:
    """In any case."""
    assert number == level_number(level)


def test_a_level_that_there_is_none_of_is_an_error() -> None:
    """It says which there are, in order, and not what was given."""
    expected = r"^console\.level: expected a number or one of NOTSET.*INFO.*, found "
    with pytest.raises(ConfigError, match=f"{expected}another name$"):
        level_number("LOUD", "console.level")
    with pytest.raises(ConfigError, match=f"{expected}float$"):
        level_number(1.5, "console.level")  # type: ignore[arg-type]  # the mistake


@pytest.mark.parametrize(
    ("name", "file"),
    [("a.b-c_1", "a.b-c_1"), ("a/b c", "a_b_c"), ("..", "_"), ("", "_"), ("ä", "ä")],
)
def test_any_name_can_be_that_of_a_file(name: str, file: str) -> None:
    """It is one part of a path, and none that leads upwards."""
    assert file == file_name(name)


class Guarded:
    """Has a method that may raise."""

    @never_raises
    def call(self, error: Exception | None = None) -> None:
        """Does something."""
        if error is not None:
            raise error


def test_what_a_guarded_method_raises_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """For each object; wrong arguments too, and no secret is in the line."""
    first, second = Guarded(), Guarded()
    first.call(OSError("no space, token=abcdef123456"))
    first.call(OSError("no space"))
    first.call(1, 2, 3)  # type: ignore[call-arg, arg-type]
    second.call()
    assert 1 == len(caplog.records)
    assert "Guarded.call failed: OSError: no space" in caplog.text
    assert "abcdef" not in caplog.text
    second.call(OSError("again"))
    assert 2 == len(caplog.records)
    assert "Does something." == Guarded.call.__doc__


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1], [1]),
        ((1, 2.5), [1, 2.5]),
        ({"a": {1: np.float32(0.5)}}, {"a": {"1": 0.5}}),
        (np.array([[1.0, np.inf]]), [[1.0, "Infinity"]]),
        ([np.nan, None, True], ["NaN", None, True]),
        (Path("a"), "a"),
    ],
)
def test_any_value_has_a_form_in_json(value: Any, expected: Any) -> None:
    """Nested ones too; what JSON has no number for is a text."""
    assert expected == plain(value)
    assert expected == json.loads(json.dumps(plain(value)))


def test_a_snapshot_stays_as_it_is() -> None:
    """It is flat, aggregated, and no array in it is the caller's."""
    values = np.array([1.0, 3.0])
    taken = snapshot({"a": {"b": values}, "mean": (values, np.mean)})
    values[:] = 0
    assert [1.0, 3.0] == taken["a/b"].tolist()
    assert 2.0 == taken["mean"]
