"""The faces can be deleted: nothing else needs them."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.layers import ROOT, layer_of, sources

PROGRAM = """
import importlib, sys
sys.modules["perf.compat"] = None  # as if it were not there
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_all_else_works_without_the_faces() -> None:
    """Every other module can be imported where `perf.compat` is missing."""
    others = [
        module
        for module in sources()
        if layer_of(module) != "compat" and module != "perf.__main__"
    ]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *others],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert len(others) > 50
    assert 0 == done.returncode, done.stderr
