"""`AsyncHandler` and `BufferedHandler`: a logger's lines, later."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from perf.compat.refunc.logging import AsyncHandler, BufferedHandler, MLLogger
from tests.programs import printed_by

NewLogger = Callable[..., MLLogger]


class Lines(logging.Handler):
    """Keeps texts; waits for each to be let through, if asked to."""

    def __init__(self, gate: threading.Event | None = None) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.gate = gate

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps a text."""
        if self.gate is not None:
            self.gate.wait(60)
        self.texts.append(record.getMessage())


@pytest.mark.row("R40")
def test_calls_do_not_wait_for_the_outputs(new_logger: NewLogger) -> None:
    """While an output hangs, calls return; then it gets all, in order."""
    logger = new_logger("high_performance")
    gate = threading.Event()
    lines = Lines(gate)
    logger.add_handler(AsyncHandler(buffer_size=1000, flush_interval=5.0))
    logger.add_handler(lines)
    for number in range(2000):
        logger.info(str(number))
    assert [] == lines.texts
    gate.set()
    logger.close()
    everything = [str(number) for number in range(2000)]
    assert everything == lines.texts
    assert 2000 == len(Path("logs/high_performance.log").read_text().splitlines())


@pytest.mark.row("R40")
def test_memory_is_bounded(
    new_logger: NewLogger, caplog: pytest.LogCaptureFixture
) -> None:
    """A hundred buffers wait at most; the oldest give way, counted, and said once."""
    logger = new_logger()
    gate = threading.Event()
    lines = Lines(gate)
    handler = AsyncHandler(buffer_size=1)
    logger.add_handler(handler)
    logger.add_handler(lines)
    for number in range(500):
        logger.info(str(number))
    dropped = handler.stats.dropped
    gate.set()
    logger.close()
    assert 500 == len(lines.texts) + dropped
    assert "499" == lines.texts[-1]
    assert dropped >= 100
    assert 1 == sum("does not keep up" in each.message for each in caplog.records)


@pytest.mark.row("R41")
def test_lines_are_written_many_at_a_time(new_logger: NewLogger) -> None:
    """At a hundred, at an error, and at the end."""
    logger = new_logger()
    lines = Lines()
    logger.add_handler(lines)
    logger.add_handler(BufferedHandler(buffer_size=100, auto_flush=True))
    for number in range(99):
        logger.info(str(number))
    assert [] == lines.texts
    logger.info("99")
    assert 100 == len(lines.texts)
    logger.info("100")
    logger.error("101")
    assert 102 == len(lines.texts)
    logger.info("102")
    logger.close()
    assert "102" == lines.texts[-1]


@pytest.mark.row("R41")
def test_errors_may_wait_too(new_logger: NewLogger) -> None:
    """Without `auto_flush` they are written with the others, or on request."""
    logger = new_logger()
    lines = Lines()
    logger.add_handler(lines)
    logger.add_handler(BufferedHandler(buffer_size=3, auto_flush=False))
    logger.error("1")
    assert [] == lines.texts
    logger.flush()
    assert ["1"] == lines.texts
    for number in "234":
        logger.error(number)
    assert ["1", "2", "3", "4"] == lines.texts


@pytest.mark.row("R40", "R41")
def test_both_can_be_used_together(new_logger: NewLogger) -> None:
    """As in the document: first the one, then the other; entries are there at once."""
    logger = new_logger()
    lines = Lines()
    logger.add_handler(lines)
    logger.add_handler(AsyncHandler(buffer_size=1000, flush_interval=5.0))
    logger.add_handler(BufferedHandler(buffer_size=100, auto_flush=True))
    for number in range(250):
        logger.info(str(number))
    assert 250 == len(logger.get_log_entries())
    logger.flush()
    assert [str(number) for number in range(250)] == lines.texts


def test_a_handler_has_one_logger(new_logger: NewLogger) -> None:
    """Before those of two it would write the lines of each to both."""
    handler = AsyncHandler()
    new_logger("a").add_handler(handler)
    with pytest.raises(ValueError, match="has a logger already"):
        new_logger("b").add_handler(handler)


@pytest.mark.row("R40", "R41")
@pytest.mark.parametrize("handler", ["AsyncHandler", "BufferedHandler"])
def test_nothing_is_lost_at_exit(handler: str, tmp_path: Path) -> None:
    """A program that ends without closing has all its lines in the file."""
    program = f"""
from perf.compat.refunc.logging import MLLogger, {handler}
logger = MLLogger("training")
logger.add_handler({handler}())
for number in range(777):
    logger.info(str(number))
"""
    printed_by("-c", program, folder=tmp_path)
    lines = (tmp_path / "logs" / "training.log").read_text().splitlines()
    assert 777 == len(lines)
    assert lines[-1].endswith("training: 776")
