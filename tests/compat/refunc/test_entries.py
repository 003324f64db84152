"""Entries: their fields, the search, the export."""

from __future__ import annotations

import csv
import dataclasses
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perf.compat.refunc import _entries
from perf.compat.refunc.logging import LogEntry, LogLevel, MLLogger


@pytest.mark.row("R17")
def test_an_entry_has_the_documented_fields() -> None:
    """Names, order and defaults are those of the document."""
    entry = LogEntry(1.5, "INFO", "text", "training")
    assert {
        "timestamp": 1.5,
        "level": "INFO",
        "message": "text",
        "logger_name": "training",
        "experiment_id": None,
        "run_id": None,
        "step": None,
        "epoch": None,
        "metrics": {},
        "tags": {},
        "artifacts": [],
        "extra": {},
    } == dataclasses.asdict(entry)
    assert list(dataclasses.asdict(entry)) == list(entry.to_dict())


@pytest.mark.row("R17")
def test_an_entry_serializes_numpy_values() -> None:
    """`to_dict` has plain values, nested or not; `to_json` is what JSON reads."""
    entry = LogEntry(
        1.5,
        "METRIC",
        "text",
        "training",
        step=np.int64(3),  # type: ignore[arg-type]
        metrics={"loss": np.float32(0.5), "all": np.array([1.0, np.nan])},
        extra={"shape": (2, 3), "where": {"path": Path("a")}, "one": [7]},
    )
    plain = entry.to_dict()
    assert {"loss": 0.5, "all": [1.0, "NaN"]} == plain["metrics"]
    assert {"shape": [2, 3], "where": {"path": "a"}, "one": [7]} == plain["extra"]
    assert plain == json.loads(entry.to_json())


@pytest.mark.row("R17")
@pytest.mark.parametrize("value", [np.int64(3), np.array([3]), 3])
def test_whole_numbers_stay_whole(value: Any) -> None:
    """Of whatever type they are."""
    found = LogEntry(1.5, "METRIC", "text", "a", metrics={"n": value}).to_dict()
    assert ("3", int) == (str(found["metrics"]["n"]), type(found["metrics"]["n"]))


@pytest.fixture
def filled(logger: MLLogger) -> MLLogger:
    """A logger with entries of two experiments."""
    logger.info("before", tags={"phase": "setup"})
    logger.start_experiment("one")
    logger.error("first", tags={"phase": "training", "model": "resnet"})
    logger.start_experiment("two")
    logger.error("second", tags={"phase": "training"})
    logger.critical("third")
    return logger


def messages(entries: list[LogEntry]) -> list[str]:
    """The texts of entries."""
    return [entry.message for entry in entries]


@pytest.mark.row("R38")
def test_entries_are_found_by_level(filled: MLLogger) -> None:
    """The level is that and no other, however written; the last n are the last."""
    assert ["first", "second"] == messages(filled.get_log_entries(level="ERROR"))
    assert ["second"] == messages(filled.get_log_entries(level="error", last_n=1))
    assert ["third"] == messages(filled.get_log_entries(level=LogLevel.CRITICAL))
    assert [] == filled.get_log_entries(last_n=0)
    assert 6 == len(filled.get_log_entries(last_n=100))
    with pytest.raises(ValueError, match="expected a number or one of"):
        filled.get_log_entries(level="LOUD")


@pytest.mark.row("R38")
def test_entries_are_found_by_experiment_and_tags(filled: MLLogger) -> None:
    """All that is asked for has to hold."""
    experiment_id = filled.get_experiment_context().experiment_id
    found = filled.get_log_entries(experiment_id=experiment_id)
    assert ["Experiment two: started", "second", "third"] == messages(found)
    training = {"phase": "training"}
    assert ["first", "second"] == messages(filled.get_log_entries(tags=training))
    assert ["second"] == messages(
        filled.get_log_entries(experiment_id=experiment_id, tags=training)
    )


@pytest.mark.row("R38")
def test_entries_are_found_by_time(filled: MLLogger) -> None:
    """From the time given on."""
    entries = filled.get_log_entries()
    assert entries[3:] == filled.get_log_entries(start_time=entries[3].timestamp)


def test_only_the_latest_entries_are_kept(
    monkeypatch: pytest.MonkeyPatch, new_logger: Callable[..., MLLogger]
) -> None:
    """The store is bounded."""
    monkeypatch.setattr(_entries, "ENTRIES_KEPT", 3)
    logger = new_logger()
    for number in range(5):
        logger.info(str(number))
    assert ["2", "3", "4"] == messages(logger.get_log_entries())


def test_entries_can_be_read_while_others_log(
    new_logger: Callable[..., MLLogger],
) -> None:
    """None is lost, and reading raises nothing."""
    logger = new_logger(colored_output=False)
    threads = [
        threading.Thread(target=lambda: [logger.info("x") for _ in range(300)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        logger.get_log_entries()
    assert 1200 == len(logger.get_log_entries())


@pytest.mark.row("R39")
def test_exports_have_the_same_rows(filled: MLLogger, tmp_path: Path) -> None:
    """JSON and CSV parse, and hold all entries with all fields."""
    filled.log_metrics({"loss": np.float32(0.5)}, step=3)
    filled.export_logs("out/logs.json", format="json")
    filled.export_logs(tmp_path / "out" / "logs.csv", format="csv")
    rows = json.loads(Path("out/logs.json").read_text())
    assert [entry.to_dict() for entry in filled.get_log_entries()] == rows
    with open("out/logs.csv", newline="") as file:
        cells = list(csv.DictReader(file))
    for row, line in zip(rows, cells, strict=True):
        for name, value in row.items():
            if isinstance(value, dict | list):
                assert value == json.loads(line[name])
            else:
                assert ("" if value is None else str(value)) == line[name]


@pytest.mark.row("R39")
def test_another_format_is_an_error(filled: MLLogger) -> None:
    """No file is made."""
    with pytest.raises(ValueError, match="format='xml': expected 'json' or 'csv'"):
        filled.export_logs("logs.xml", format="xml")
    assert not Path("logs.xml").exists()
