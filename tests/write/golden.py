"""The runs whose files are kept in tests/golden, to be read when they change.

    python -m tests.write.golden

writes them anew, after a change to what files hold. The difference is then to be read
like code.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from google.protobuf import text_format
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from perf._model.spans import (
    COUNTER,
    DEVICE,
    GROUP,
    INSTANT,
    OPEN,
    QUEUED,
    SPAN,
    RawRecord,
)
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

    def train(begin_ns: int, end_ns: int, kind: int) -> RawRecord:
        name, tags = "peft_train_step", {"step": 0}
        return (name, begin_ns, end_ns, 5, 2, kind, tags, (4,))

    on_main: list[RawRecord] = [
        ("tokens", 15, 128, 6, 0, COUNTER, "tokens", None),
        train(30, 35, SPAN),
        span(2, 25, 80, name="actor_training", kind=GROUP, parent=1),
        ("checkpoint", 85, 85, 7, 1, INSTANT, {"path": "/ckpt"}, None),
        span(1, 0, 90, name="global_step", kind=GROUP),
    ]
    rollout = span(4, 3, 19, name="rollout", kind=DEVICE, tags={"step": 0})
    step = batch(
        (MAIN, on_main),
        (WORKER, [span(4, 2, 20, name="rollout", tags={"step": 0})]),
        (TPU, [rollout, train(31, 78, DEVICE)]),
        at_ns=100,
    )
    return written(step, layout=V1Layout(ROLES))


def steps_of_v2() -> bytes:
    """Two batches: work in flight, spans open in between, lanes, names with tags."""

    def rollout(begin_ns: int, end_ns: int, kind: int) -> RawRecord:
        tags = {"step": 1, "group_id": 7}
        return ("rollout", begin_ns, end_ns, 1, 0, kind, tags, None)

    waited = span(1, 1, 20, name="queue", kind=QUEUED, tags={"NAME": "rollout"})
    ended = span(1, 1, 60, name="rollout", tags={"step": 1, "reward": 0.5})
    return written(
        batch(
            (SERVER, [span(3, 5, 30), span(4, 10, 40)]),
            opened=[
                (WORKER, [rollout(1, OPEN, SPAN)]),
                (QUEUE, [rollout(1, OPEN, DEVICE)]),
            ],
            at_ns=50,
        ),
        batch(
            (WORKER, [ended]),
            (TPU, [rollout(20, 90, DEVICE)]),
            (QUEUE, [waited]),
            at_ns=100,
        ),
        layout=V2Layout(ROLES, documented_names=True),
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


def main() -> None:
    """Writes all of them and says which changed."""
    FOLDER.mkdir(exist_ok=True)
    for name, make in GOLDEN.items():
        path = FOLDER / f"{name}.textproto"
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        text = as_text(make())
        path.write_text(text, encoding="utf-8")
        print(f"{'unchanged' if text == before else 'written'}: {path}")


if __name__ == "__main__":
    main()
