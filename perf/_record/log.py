"""One log line per cause: tracing must not flood the log of a run of weeks."""

from __future__ import annotations

import logging
from collections import Counter

_log = logging.getLogger("perf")
_counts: Counter[str] = Counter()


def say_once(cause: str, message: str, *, exc: BaseException | None = None) -> None:
    """Logs the first message of a cause as a warning and counts the others.

    Args:
        cause: what they have in common, e.g. "export-failed".
        message: what happened and what to do about it.
        exc: shown with its traceback.
    """
    _counts[cause] += 1
    if _counts[cause] == 1:
        _log.warning("%s (said once)", message, exc_info=exc)
