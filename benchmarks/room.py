"""One room and one subject, in a process of its own: `python -m benchmarks.room`.

Usage: python -m benchmarks.room ROOM SUBJECT FILE, where FILE gets the readings.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from pathlib import Path

if __name__ == "__main__":
    room, subject, file = sys.argv[1:]
    readings = importlib.import_module(f"benchmarks.{room}").measure(subject)
    found = {name: dataclasses.asdict(each) for name, each in readings.items()}
    Path(file).write_text(json.dumps(found), encoding="utf-8")
