"""What is measured, in which unit, and what it may cost: the project's goals."""

from __future__ import annotations

import dataclasses
from typing import Final

REFERENCE_FLOOR_NS: Final = 439
"""What the floor of a span cost on the machine for which goals in microseconds and
milliseconds were set. On others they are that many times the floor."""


def _floors(time_us: float) -> float:
    """A goal in microseconds as a multiple of the floor, in three digits."""
    return float(f"{time_us * 1_000 / REFERENCE_FLOOR_NS:.3g}")


@dataclasses.dataclass(frozen=True, slots=True)
class Fact:
    """One row of the table."""

    key: str
    """Room and name: `spans/empty`."""
    what: str
    unit: str
    goal: float | None = None
    """The most it may be; None: there to compare with."""
    relative: bool = False
    """Whether the goal is a multiple of the floor and not a value."""
    more_is_better: bool = False
    """Whether the goal is the least it may be."""

    @property
    def room(self) -> str:
        """The room that measures it."""
        return self.key.partition("/")[0]

    def is_met(self, value: float, floor: float | None) -> bool | None:
        """Whether a value reaches the goal; None where there is none.

        Args:
            value: in the fact's unit.
            floor: of the same run, in the same unit.
        """
        if self.goal is None:
            return None
        if self.relative:
            return floor is not None and value <= self.goal * floor
        return value >= self.goal if self.more_is_better else value <= self.goal

    @property
    def goal_text(self) -> str:
        """The goal as people write it."""
        if self.goal is None:
            return ""
        sign = "≥" if self.more_is_better else "≤"
        return f"{sign} {self.goal:,g}" + (" × floor" if self.relative else "")


_STALL: Final = _floors(100)
_TOTAL: Final = _floors(300)

FACTS: Final = (
    Fact("spans/two_clock_reads", "two clock reads, for scale", "ns"),
    Fact("spans/empty", "empty host span", "ns", 1.5, relative=True),
    Fact("spans/tag", "… with one tag", "ns", 2, relative=True),
    Fact("spans/written", "… with a writer attached", "ns", 1.5, relative=True),
    Fact("spans/tag_written", "… with both", "ns", 2, relative=True),
    Fact("spans/off", "… switched off", "ns", 0.5, relative=True),
    Fact("spans/noop", "… of the no-op tracer", "ns", 0.5, relative=True),
    Fact(
        "device_spans/1", "device span in the caller, 1 device", "µs", _floors(4), True
    ),
    Fact("device_spans/8", "… 8 devices", "µs", _floors(4), True),
    Fact("device_spans/64", "… 64 devices", "µs", _floors(6), True),
    Fact("device_spans/threads", "threads for 20 in flight on 64 devices", "", 32),
    Fact("ends/late_0", "end of device work seen late", "µs"),
    Fact("ends/error_0", "… by less than its span's `end_error_ns`", "µs"),
    Fact("ends/late_1", "… with 1 busy Python thread, late", "µs"),
    Fact("ends/error_1", "… `end_error_ns`", "µs"),
    Fact("ends/late_4", "… with 4 busy Python threads, late", "µs"),
    Fact("ends/error_4", "… `end_error_ns`", "µs"),
    Fact("ends/held", "… ends that lie within it", "%", 95, more_is_better=True),
    Fact("ends/cost", "… finding it out, for each wait", "µs", 10),
    Fact(
        "exports/stall_10", "training held up by step 10's export", "ms", _STALL, True
    ),
    Fact("exports/stall_1000", "… by step 1,000's", "ms", _STALL, True),
    Fact("exports/total_10", "export and write step 10, in all", "ms", _TOTAL, True),
    Fact("exports/total_1000", "… step 1,000", "ms", _TOTAL, True),
    Fact("exports/growth", "… step 1,000 over step 10", "×", 1.2),
    Fact("memory/growth", "memory growth over 1,000,000 spans", "MB", 4),
    Fact("memory/held", "… held by then", "MB", 40),
    Fact("memory/kept", "memory of a span kept for queries", "bytes"),
    Fact("disk/bare", "file, each further slice", "bytes", 28),
    Fact("disk/tag", "… with one tag", "bytes", 35),
    Fact("disk/compressed", "… bare, compressed", "bytes", 11),
    Fact("disk/amplification", "200 steps: bytes written over file size", "×", 1),
    Fact("threads/rate", "8 threads recording", "k spans/s", 800, more_is_better=True),
    Fact("threads/rate_exporting", "… while another one exports", "k spans/s"),
    Fact("threads/lost", "… spans lost, by the tracer's count", "", 0),
    Fact("threads/missing", "… spans missing in the file", "", 0),
    Fact("encoding/1000", "encoding a slice, 1,000 a block", "µs", 0.8),
    Fact("encoding/50", "… 50 a block", "µs", 2),
    Fact("encoding/tag", "… 1,000 a block, with one tag", "µs"),
    Fact("encoding/tags", "… with three tags", "µs"),
    Fact("encoding/lanes", "… with a lane to be found", "µs"),
    Fact("reading/load", "reading 1,000,000 slices", "s", 10),
    Fact("reading/report", "… and reporting on them, in all", "s", 25),
    Fact("reading/memory", "… memory held at the most", "MB", 2_000),
    Fact("reading/query", "… answering in SQL, once they are read", "s", 5),
    Fact("collecting/numpy", "collecting a GRPO batch of 64 × 1024", "µs"),
    Fact("collecting/jax", "… from JAX arrays on the CPU", "µs"),
    Fact("collecting/add", "… adding one metric to a step", "µs"),
    Fact("demo_share/caller", "share of the demo's steps, in the caller", "%", 0.1),
    Fact("demo_share/all", "… with the background", "%", 0.1),
    Fact("loggers/caller", "one metric, in the training's thread", "µs", 0.1, True),
    Fact("loggers/tensorboard", "… to TensorBoard, in all (floor: its library)", "µs"),
    Fact("loggers/jsonl", "… to JSON lines", "µs"),
    Fact("loggers/files", "… to rotating files", "µs"),
    Fact("loggers/console", "… to the console", "µs"),
    Fact("loggers/prometheus", "… to Prometheus", "µs"),
    Fact("loggers/opentelemetry", "… to OpenTelemetry", "µs"),
    Fact("loggers/wandb", "… to W&B, offline", "µs"),
    Fact("loggers/mlflow", "… to MLflow, a store of files", "µs"),
    Fact("imports/perf", "`import perf` after `import numpy`", "ms", 60),
    Fact("imports/trace", "`import perf.trace` after `import numpy`", "ms"),
    Fact("tunix/colocated", "google-tunix's step, both tracers on over off", "×", 1.03),
    Fact("tunix/colocated_step", "… off, tiny model, roles colocated", "ms"),
    Fact("tunix/all_apart", "… all roles apart, on over off", "×", 1.03),
    Fact("tunix/all_apart_step", "… off", "ms"),
)
"""All rows, in their order."""
