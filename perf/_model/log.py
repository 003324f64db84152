"""One log line per cause: tracing must not flood the log of a run of weeks."""

from __future__ import annotations

import contextlib
import logging

logger = logging.getLogger("perf")


class OnceLog:
    """Says each cause once. What is owned by one tracer or writer has its own."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def say(
        self, cause: str, message: str, *, exc: BaseException | None = None
    ) -> None:
        """Logs the first message of a cause as a warning; keeps silent afterwards.

        Args:
            cause: what the messages have in common, e.g. "export-failed".
            message: what happened and what to do about it.
            exc: shown with its traceback.
        """
        if cause not in self._said:
            self._said.add(cause)
            # A handler of the program's may raise; the training has not asked for us.
            with contextlib.suppress(Exception):
                logger.warning("%s (said once)", message, exc_info=exc)
