"""What the imports cost a program that has numpy already."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

from benchmarks.timing import Reading, rounds_of

_ROUNDS: Final = 10
_TIMED: Final = """
import time
import numpy
begin_ns = time.perf_counter_ns()
import {module}
print(time.perf_counter_ns() - begin_ns)
"""


def measure(subject: str) -> dict[str, Reading]:
    """Readings in milliseconds."""
    times_ns: dict[str, list[float]] = {"perf": [], "trace": []}
    for _ in range(_ROUNDS):
        times_ns["perf"].append(_import_ns("perf"))
        times_ns["trace"].append(_import_ns("perf.trace"))
    return {name: rounds_of(some).reading(1e6) for name, some in times_ns.items()}


def _import_ns(module: str) -> int:
    """Nanoseconds in a fresh interpreter."""
    code = _TIMED.format(module=module)
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    return int(child.stdout)
