"""Whether the compiled halves of some modules are taken."""

from __future__ import annotations

from typing import Final

PURE_PYTHON_VARIABLE: Final = "RLPERF_PURE_PYTHON"
"""Environment variable: if it is set, the compiled halves are left alone."""
