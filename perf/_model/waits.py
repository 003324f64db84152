"""How often a thread has waited, as the system counts it."""

from __future__ import annotations

import resource
from typing import Final

_OF_THREAD: Final[int | None] = getattr(resource, "RUSAGE_THREAD", None)
ARE_COUNTED: Final = _OF_THREAD is not None
"""Linux alone counts them for each thread."""


def own_waits() -> int:
    """How often the calling thread has given up its core to wait; else 0."""
    return 0 if _OF_THREAD is None else resource.getrusage(_OF_THREAD).ru_nvcsw
