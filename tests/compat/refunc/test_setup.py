"""`setup_logging` and `get_logger`."""

from __future__ import annotations

import json
import logging
import logging.config
from collections.abc import Callable
from pathlib import Path

import pytest

from perf.compat.refunc.logging import get_logger, setup_logging
from perf.loggers import ConfigError
from tests.compat import servers
from tests.compat.servers import Answer, Loopback
from tests.loggers.sinks import Rich


@pytest.mark.row("R35")
def test_a_name_has_one_logger() -> None:
    """The same object each time, another for another name."""
    assert get_logger("a") is get_logger("a")
    assert get_logger("a") is not get_logger("b")
    assert "refunc" == get_logger().name


@pytest.mark.row("R34")
def test_later_loggers_have_it_all(
    serve: Callable[[Answer], Loopback], capsys: pytest.CaptureFixture[str]
) -> None:
    """Level, folder, colour, JSON, tracking and integrations."""
    server = serve(servers.slack)
    setup_logging(
        level="DEBUG",
        log_dir="./experiments",
        colored=False,
        json_logging=True,
        experiment_tracking=False,
        integrations={"slack": {"webhook_url": f"{server.url}/hook"}},
    )
    logger = get_logger("my_experiment")
    logger.debug("seen")
    logger.start_experiment("images")
    logger.error("told")
    logger.flush()
    output = capsys.readouterr().err
    assert "seen" in output
    assert "\x1b" not in output
    lines = Path("experiments/my_experiment.jsonl").read_text().splitlines()
    assert ["seen", "Experiment images: started", "told"] == [
        json.loads(line)["message"] for line in lines
    ]
    assert {None} == {entry.experiment_id for entry in logger.get_log_entries()}
    [content] = server.sent_to("/hook")
    assert "told" in content["text"]


@pytest.mark.row("R34")
def test_loggers_that_there_are_follow(capsys: pytest.CaptureFixture[str]) -> None:
    """A module may have asked for its logger before the program sets up logging."""
    logger = get_logger("early")
    logger.debug("not seen")
    first, second = Rich(), Rich()
    setup_logging(level="DEBUG", integrations={"mine": first})
    logger.debug("seen")
    logger.log_metrics({"loss": 1.0})
    setup_logging(log_dir="elsewhere", integrations={"mine": second})
    logger.log_metrics({"loss": 2.0})
    logger.flush()
    assert "not seen" not in capsys.readouterr().err
    assert [("loss", 1.0, None)] == first.scalars
    assert [("loss", 2.0, None)] == second.scalars
    assert (1, 0) == (first.closed, second.closed)
    assert "loss=2.0000" in Path("elsewhere/early.log").read_text()
    assert "loss=2.0000" not in Path("logs/early.log").read_text()


@pytest.mark.row("R34")
def test_another_level_holds_for_what_was_logged_before() -> None:
    """A level that a logger has let pass, or has not, is asked about again."""
    logger = get_logger("a")
    logger.debug("1")
    logger.info("2")
    setup_logging(level="DEBUG")
    logger.debug("3")
    setup_logging(level="WARNING")
    logger.info("4")
    assert ["2", "3"] == [each.message for each in logger.get_log_entries()]


def test_lines_are_switched_off_as_those_of_other_loggers() -> None:
    """`logging.disable` holds from call to call."""
    logger = get_logger("a")
    logger.info("1")
    logging.disable(logging.INFO)
    try:
        logger.info("2")
    finally:
        logging.disable(logging.NOTSET)
    logger.info("3")
    assert ["1", "3"] == [each.message for each in logger.get_log_entries()]


@pytest.mark.row("R34")
def test_a_configuration_of_logging_leaves_the_loggers_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Console and file go on."""
    logger = get_logger("a")
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
    logger.info("seen")
    assert "seen" in capsys.readouterr().err
    assert "seen" in Path("logs/a.log").read_text()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"level": "LOUD"}, "level: expected a number or one of"),
        ({"integrations": {"fax": {}}}, "fax: expected one of mlflow, prometheus"),
        ({"integrations": {"slack": {"url": "x"}}}, r"slack\.url: expected one of"),
        ({"integrations": {"slack": {}}}, r"slack\.webhook_url: expected a value"),
        (
            {"integrations": {"prometheus": {"port": "high"}}},
            r"prometheus\.port: expected int, found str",
        ),
    ],
)
def test_a_wrong_set_up_is_an_error(settings: dict, says: str) -> None:
    """It names the key; what was set up before stays."""
    kept = Rich()
    setup_logging(integrations={"mine": kept})
    with pytest.raises(ValueError, match=says) as caught:
        setup_logging(**settings)
    assert isinstance(caught.value, ConfigError) or "level" in settings
    logger = get_logger("a")
    logger.log_metrics({"loss": 1.0})
    logger.flush()
    assert [("loss", 1.0, None)] == kept.scalars
