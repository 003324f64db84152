"""One log line per cause."""

from __future__ import annotations

import logging

import pytest

from perf._model.log import OnceLog


def test_a_cause_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """Its first message, as a warning of the package; other causes are said too."""
    log = OnceLog()
    for cause, message in [("a", "first"), ("a", "second"), ("b", "third")]:
        log.say(cause, message)
    found = [(r.name, r.levelno, r.getMessage()) for r in caplog.records]
    assert [
        ("perf", logging.WARNING, "first (said once)"),
        ("perf", logging.WARNING, "third (said once)"),
    ] == found


def test_logs_do_not_know_of_each_other(caplog: pytest.LogCaptureFixture) -> None:
    """What one tracer said another says too."""
    OnceLog().say("a", "first")
    OnceLog().say("a", "first")
    assert 2 == len(caplog.records)


def test_a_message_is_not_a_format(caplog: pytest.LogCaptureFixture) -> None:
    """Names of spans may hold anything."""
    OnceLog().say("a", "100 %s %d")
    assert "100 %s %d" in caplog.text


def test_an_exception_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    """With its traceback."""
    try:
        raise ValueError("no such key")
    except ValueError as error:
        OnceLog().say("a", "failed", exc=error)
    assert "ValueError: no such key" in caplog.text
    assert "Traceback" in caplog.text


def test_a_handler_that_raises_does_not_reach_the_caller() -> None:
    """What it fails at is the program's own; the training goes on."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError(record.getMessage())

    handler = Broken()
    logging.getLogger("perf").addHandler(handler)
    try:
        OnceLog().say("cause", "what happened")
    finally:
        logging.getLogger("perf").removeHandler(handler)
