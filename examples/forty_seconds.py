"""Writes the trace of a training whose steps take 40 s: try `rlperf report` on it.

    python examples/forty_seconds.py forty_seconds.pb
    rlperf report forty_seconds.pb

Time and devices are moved by hand, so that the trace is the same everywhere. Rollout,
reference and actor have devices of their own, and yet one waits for the other: the
trainer makes each micro-batch from start to end before it begins the next one.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perf.experimental.export import PerfMetricsExport
from perf.experimental.tracer import PerfTracer
from perf.testing import FakeClock, ManualWait

STEPS = 12
MICRO_BATCHES = 4
MESHES = {
    "rollout": [f"tpu{n}" for n in range(4)],
    "reference": ["tpu4", "tpu5"],
    "actor": ["tpu6", "tpu7"],
}


class Training:
    """A training that does nothing but let the time pass."""

    def __init__(self, folder: str) -> None:
        self._clock, self._wait = FakeClock(), ManualWait()
        self._draw = random.Random(1)
        export = PerfMetricsExport(trace_dir=folder, role_to_devices=MESHES)
        self.tracer = PerfTracer(
            export_fn=export.export_metrics, _clock=self._clock, _wait=self._wait
        )

    def stage(
        self, name: str, role: str, seconds: float, after: Sequence[Any] = ()
    ) -> Any:
        """Launches work on a role's devices and waits for it."""
        work = self._wait.arrays(name)
        tags = {"role": role}
        devices = MESHES[role]
        with self.tracer.span(name, devices=devices, tags=tags, after=after) as span:
            span.async_end([work])
            self._clock.advance_s(seconds * self._draw.uniform(0.95, 1.05))
            self._wait.finish(work)
            self._clock.advance_s(0.002)
        return span

    def step(self, number: int) -> None:
        """One global step."""
        trained: Any = None
        with self.tracer.span("global_step", tags={"step": number}):
            for _ in range(MICRO_BATCHES):
                with self.tracer.span("data_loading"):
                    self._clock.advance_s(0.05)
                rollout = self.stage("rollout", "rollout", 7.4)
                refer = self.stage("reference_inference", "reference", 1.2, [rollout])
                trained = self.stage("peft_train", "actor", 1.0, [refer])
            self.stage("weight_sync", "rollout", 1.4, [trained])
        self.tracer.export()


def main(path: Path) -> None:
    """Writes the trace."""
    with tempfile.TemporaryDirectory() as folder:
        training = Training(folder)
        for number in range(STEPS):
            training.step(number)
        training.tracer.close()
        (written,) = Path(folder).glob("*.pb")
        path.write_bytes(written.read_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "forty_seconds.pb"))
