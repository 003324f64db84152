"""Several handlers as one."""

from __future__ import annotations

import logging

import pytest

from perf.loggers.delivery import AsyncHandler
from perf.loggers.fanout import FanOut


class Lines(logging.Handler):
    """Keeps texts, or raises what it was given."""

    def __init__(self, error: Exception | None = None, level: int = 0) -> None:
        super().__init__(level)
        self.error = error
        self.texts: list[str] = []
        self.done: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps a text, or raises."""
        if self.error is not None:
            raise self.error
        self.texts.append(record.getMessage())

    def flush(self) -> None:
        """Notes it, or raises."""
        if self.error is not None:
            raise self.error
        self.done.append("flush")

    def close(self) -> None:
        """Notes it."""
        self.done.append("close")
        super().close()


def say(handler: logging.Handler, text: str, level: int = logging.INFO) -> None:
    """Logs a line through a handler."""
    handler.handle(logging.LogRecord("x", level, "", 0, text, None, None))


def test_each_handler_keeps_its_level_and_filters() -> None:
    """A record reaches those that want it, each handler once."""
    everything, errors, picky = Lines(), Lines(level=logging.ERROR), Lines()
    picky.addFilter(lambda record: "good" in record.getMessage())
    both = FanOut(everything, errors)
    both.add(picky)
    both.add(picky)
    say(both, "good")
    say(both, "bad", logging.ERROR)
    assert ["good", "bad"] == everything.texts
    assert ["bad"] == errors.texts
    assert ["good"] == picky.texts


def test_its_own_filters_hold_for_all() -> None:
    """What they drop reaches nobody."""
    lines = Lines()
    both = FanOut(lines)
    both.addFilter(lambda record: False)
    assert both.handle(logging.makeLogRecord({})) is False
    assert [] == lines.texts


def test_a_handler_that_raises_stops_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is counted each time and logged once."""
    broken, lines = Lines(OSError("disk full")), Lines()
    both = FanOut(broken, lines)
    say(both, "one")
    say(both, "two")
    both.flush()
    assert ["one", "two"] == lines.texts
    assert (2, 3) == (both.stats.delivered, both.stats.failed)
    [said] = caplog.records
    assert "Lines failed to log: OSError: disk full" in said.message


def test_handlers_are_flushed_closed_and_taken_away() -> None:
    """One that was taken away is left as it is."""
    stays, goes = Lines(), Lines()
    both = FanOut(stays, goes)
    both.remove(goes)
    both.flush()
    assert (stays,) == both.handlers
    both.close()
    both.close()
    say(both, "late")
    assert ["flush", "close"] == stays.done
    assert ([], []) == (goes.done, stays.texts)


def test_it_can_stand_behind_a_queue() -> None:
    """Its handlers are then called by the queue's thread."""
    broken, lines = Lines(OSError("disk full")), Lines()
    handler = AsyncHandler(FanOut(broken, lines))
    for number in range(10):
        say(handler, str(number))
    assert handler.flush()
    assert [str(number) for number in range(10)] == lines.texts
    handler.close()
    assert "close" == lines.done[-1]
