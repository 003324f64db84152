"""The runs whose files are kept in tests/golden, to be read when they change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from google.protobuf import text_format
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from perf._model.spans import COUNTER, DEVICE, GROUP, INSTANT, QUEUED, Batch
from perf._write.layout import V1Layout, V2Layout
from tests.write.traces import (
    MAIN,
    QUEUE,
    SERVER,
    TPU,
    WORKER,
    batch,
    span,
    written,
)

FOLDER: Final = Path(__file__).parents[1] / "golden"
ROLES: Final = {"rollout": ["tpu0"], "actor": ["tpu0"], "reference": ["tpu0"]}


def step_of_v1() -> bytes:
    """One step: groups, device work on the role's tracks, an arrow, a counter."""
    train = dict(name="peft_train_step", parent=2, after=(4,), tags={"step": 0})
    return written(
        batch(
            (
                MAIN,
                [
                    ("tokens", 15, 128, 6, 0, COUNTER, "tokens", None),
                    span(5, 30, 35, **train),  # type: ignore[arg-type]
                    span(2, 25, 80, name="actor_training", kind=GROUP, parent=1),
                    ("checkpoint", 85, 85, 7, 1, INSTANT, {"path": "/ckpt"}, None),
                    span(1, 0, 90, name="global_step", kind=GROUP),
                ],
            ),
            (WORKER, [span(4, 2, 20, name="rollout", tags={"step": 0})]),
            (
                TPU,
                [
                    span(4, 3, 19, name="rollout", kind=DEVICE, tags={"step": 0}),
                    span(5, 31, 78, kind=DEVICE, **train),  # type: ignore[arg-type]
                ],
            ),
            at_ns=100,
        ),
        layout=V1Layout(ROLES),
    )


def steps_of_v2() -> bytes:
    """Two batches: work in flight, spans open in between, lanes, names with tags."""
    rollout = dict(name="rollout", tags={"step": 1, "group_id": 7})
    return written(
        *_batches_of_v2(rollout), layout=V2Layout(ROLES, documented_names=True)
    )


def _batches_of_v2(rollout: dict[str, object]) -> Iterator[Batch]:
    yield batch(
        (SERVER, [span(3, 5, 30), span(4, 10, 40)]),
        opened=[
            (WORKER, [span(1, 1, **rollout)]),  # type: ignore[arg-type]
            (QUEUE, [span(1, 1, kind=DEVICE, **rollout)]),  # type: ignore[arg-type]
        ],
        at_ns=50,
    )
    yield batch(
        (WORKER, [span(1, 1, 60, name="rollout", tags={"step": 1, "reward": 0.5})]),
        (TPU, [span(1, 20, 90, kind=DEVICE, **rollout)]),  # type: ignore[arg-type]
        (QUEUE, [span(1, 1, 20, name="queue", kind=QUEUED, tags={"NAME": "rollout"})]),
        at_ns=100,
    )


GOLDEN: Final[dict[str, Callable[[], bytes]]] = {
    "step_of_v1": step_of_v1,
    "steps_of_v2": steps_of_v2,
}
"""By the name of the file in tests/golden."""


def as_text(data: bytes) -> str:
    """A trace in protobuf's text form."""
    text: str = text_format.MessageToString(pb.Trace.FromString(data))
    return text
