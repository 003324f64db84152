"""Programs that run in a process of their own, on the package of this tree."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.layers import ROOT

_TIMEOUT_S: Final = 300
"""It only ends what would never end."""


def run_python(
    *arguments: str, folder: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs Python to its end; the result holds all that it printed.

    Args:
        arguments: of the interpreter, as `-c` and a program.
        folder: where it runs; None for the current one.
        environment: variables beside those of this process.
    """
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )


def printed_by(*arguments: str, folder: Path | None = None, **environment: str) -> str:
    """What Python prints to its standard output, if it comes to a good end."""
    done = run_python(*arguments, folder=folder, **environment)
    assert 0 == done.returncode, done.stderr
    return done.stdout
