"""Runs rooms, each subject in a process of its own: none disturbs another."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from benchmarks.subjects import is_importable
from benchmarks.timing import Reading

ROOMS: Final = (
    "spans", "device_spans", "exports", "memory", "disk", "threads", "encoding",
    "demo_share", "imports",
)  # fmt: skip

Results = dict[str, dict[str, Reading]]
"""By the fact's key, then by subject."""
