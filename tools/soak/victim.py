"""A process that records until it is killed, and tells what it has flushed.

    python -m tools.soak.victim FOLDER SEED

Every span bears a number as the tag `n`. After each flush it prints a line: how many of
the numbers are closed (all below), and which are open.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from typing import Any

from perf.experimental.export import PerfMetricsExport
from perf.experimental.tracer import PerfTracer
from perf.perfetto import TraceFiles
from perf.testing import ManualWait

MAX_OPEN = 8
"""Spans that it has open at once."""


def main(folder: str, seed: int) -> None:
    """Records for ever."""
    draw = random.Random(seed)
    files = TraceFiles(
        segment_mb=draw.choice([0.02, 256]), compress=draw.random() < 0.5
    )
    export = PerfMetricsExport(trace_dir=folder, trace_files=files)
    devices = ManualWait()  # its work never ends
    tracer = PerfTracer(export_fn=export.export_metrics, _wait=devices)
    tracer.span("run").__enter__()
    with tracer.span("rollout", ["tpu0"]) as span:
        span.device_end([devices.arrays("never")])

    def make_noise() -> None:
        while True:
            with tracer.span("noise", tags={"text": "x" * draw.randrange(200)}):
                time.sleep(0.0005)

    threading.Thread(target=make_noise, daemon=True).start()
    number = 0
    opened: list[tuple[int, Any]] = []
    while True:
        for _ in range(draw.randrange(200)):
            if opened and (len(opened) == MAX_OPEN or draw.random() < 0.5):
                opened.pop()[1].__exit__(None, None, None)
            else:
                opened.append((number, tracer.span("work", tags={"n": number})))
                opened[-1][1].__enter__()
                number += 1
        if draw.random() < 0.1:
            tracer.export()
        if tracer.flush():
            still_open = [n for n, _ in opened]
            print(json.dumps({"made": number, "open": still_open}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
