"""Experiments: which run a call belongs to, and what is known of it."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable

import pytest

from perf.compat.refunc.logging import (
    ExperimentContext,
    MLLogger,
    experiment_context,
)

NewLogger = Callable[..., MLLogger]


@pytest.mark.row("R18")
def test_a_context_has_the_documented_fields() -> None:
    """Names, order and defaults are those of the document."""
    context = ExperimentContext("e", "images", "r", start_time=1.0)
    assert {
        "experiment_id": "e",
        "experiment_name": "images",
        "run_id": "r",
        "run_name": None,
        "start_time": 1.0,
        "end_time": None,
        "status": "running",
        "parameters": {},
        "metrics": {},
        "tags": {},
        "artifacts": [],
        "metadata": {},
    } == dataclasses.asdict(context)
    assert ExperimentContext("e", "images", "r").start_time > 1.6e9


@pytest.mark.row("R14")
def test_an_experiment_starts_and_ends(logger: MLLogger) -> None:
    """Afterwards the context has status, time of the end, and final metrics."""
    logger.start_experiment("image_classification", "experiment_001")
    context = logger.get_experiment_context()
    assert ("image_classification", "experiment_001", "running", None) == (
        context.experiment_name,
        context.run_name,
        context.status,
        context.end_time,
    )
    logger.end_experiment(status="completed", final_metrics={"accuracy": 0.95})
    assert "completed" == context.status
    assert context.end_time is not None
    assert context.end_time >= context.start_time
    assert {"accuracy": 0.95} == context.metrics
    started, ended = logger.get_log_entries()
    assert ("EXPERIMENT", "RESULT") == (started.level, ended.level)
    assert {context.run_id} == {started.run_id, ended.run_id}


@pytest.mark.row("R14")
def test_a_failed_experiment_is_an_error(logger: MLLogger) -> None:
    """So that those are told who are told of errors."""
    logger.start_experiment("images")
    logger.end_experiment(status="failed")
    assert "Experiment images: failed" == logger.get_log_entries("ERROR")[0].message


def test_what_has_ended_stays_as_it_is(logger: MLLogger) -> None:
    """Later metrics are not those of the run, nor are later entries."""
    logger.start_experiment("images")
    logger.end_experiment(final_metrics={"accuracy": 0.95})
    logger.log_metrics({"accuracy": 0.1})
    logger.end_experiment(status="failed")
    context = logger.get_experiment_context()
    assert ("completed", {"accuracy": 0.95}) == (context.status, context.metrics)
    assert logger.get_log_entries(level="METRIC")[0].experiment_id is None
    assert "No experiment is running" in logger.get_log_entries("WARNING")[0].message


def test_a_second_start_ends_the_first(logger: MLLogger) -> None:
    """Runs of one experiment share its id, not their own."""
    logger.start_experiment("images", "a")
    first = logger.get_experiment_context()
    logger.start_experiment("images", "b")
    second = logger.get_experiment_context()
    assert ("completed", "running") == (first.status, second.status)
    assert first.experiment_id == second.experiment_id
    assert first.run_id != second.run_id


@pytest.mark.row("R15")
def test_counters_are_on_later_entries(logger: MLLogger) -> None:
    """They count from 0, and begin anew with each experiment."""

    def counters() -> tuple[int | None, int | None]:
        logger.info("now")
        entry = logger.get_log_entries()[-1]
        return entry.step, entry.epoch

    assert (None, None) == counters()
    logger.step()
    assert (1, None) == counters()
    logger.set_step(100)
    logger.step()
    logger.epoch()
    assert (101, 1) == counters()
    logger.set_epoch(10)
    logger.epoch()
    assert (101, 11) == counters()
    logger.start_experiment("images")
    assert (None, None) == counters()


@pytest.mark.row("R16")
def test_a_context_is_readable_after_its_end(logger: MLLogger) -> None:
    """It has `step`, as the document prints it, and counting goes on."""
    logger.start_experiment("image_classification", "experiment_001")
    logger.end_experiment()
    logger.step()
    logger.set_step(100)
    context = logger.get_experiment_context()
    assert "Experiment: image_classification, Step: 100" == (
        f"Experiment: {context.experiment_name}, Step: {context.step}"
    )
    with experiment_context("other") as inside:
        logger.info("x")
    assert inside is logger.get_experiment_context()


@pytest.mark.row("R26")
def test_a_block_is_one_experiment_for_all_loggers(new_logger: NewLogger) -> None:
    """Entries inside share its id, whichever logger they are of; others have none."""
    first, second = new_logger("a"), new_logger("b")
    first.info("outside")
    with experiment_context("image_classification", "resnet_v1") as experiment:
        first.info("inside")
        second.log_hyperparams({"lr": 0.001})
        assert "running" == experiment.status
    second.info("outside")
    assert ("image_classification", "resnet_v1") == (
        experiment.experiment_name,
        experiment.run_name,
    )
    assert [None, experiment.experiment_id] == [
        entry.experiment_id for entry in first.get_log_entries()
    ]
    assert [experiment.run_id, None] == [
        entry.run_id for entry in second.get_log_entries()
    ]
    assert {"lr": 0.001} == experiment.parameters
    assert "completed" == experiment.status


@pytest.mark.row("R26")
def test_an_exception_fails_the_experiment() -> None:
    """And goes on its way."""
    with pytest.raises(KeyError), experiment_context("images") as experiment:
        raise KeyError
    assert "failed" == experiment.status
    assert experiment.end_time is not None


def test_the_innermost_experiment_counts(logger: MLLogger) -> None:
    """Of a block and a start, the one that began later, until it ends."""
    logger.start_experiment("outer")
    with experiment_context("block"):
        assert "block" == logger.get_experiment_context().experiment_name
        logger.start_experiment("inner")
        assert "inner" == logger.get_experiment_context().experiment_name
        logger.end_experiment()
        assert "block" == logger.get_experiment_context().experiment_name


def test_tasks_and_threads_have_the_experiment_they_began_in(
    logger: MLLogger,
) -> None:
    """Tasks each their own; threads too, while only one is open."""

    async def run(name: str) -> str:
        with experiment_context(name):
            await asyncio.sleep(0)
            return logger.get_experiment_context().experiment_name

    async def both() -> tuple[str, str]:
        return await asyncio.gather(run("a"), run("b"))

    assert ["a", "b"] == [*asyncio.run(both())]

    seen: list[str] = []

    def look() -> None:
        seen.append(logger.get_experiment_context().experiment_name)

    with experiment_context("c"):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert ["c"] == seen


def test_tracking_can_be_switched_off(new_logger: NewLogger) -> None:
    """No entry then belongs to an experiment."""
    logger = new_logger(experiment_tracking=False)
    with experiment_context("images") as experiment:
        logger.log_metrics({"loss": 1.0})
        logger.start_experiment("another")
    assert {None} == {entry.experiment_id for entry in logger.get_log_entries()}
    assert {} == experiment.metrics
