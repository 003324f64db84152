"""How much longer a step of google-tunix takes with both of its tracers on.

Two trainings of `examples/tunix_grpo.py` take turns in one process, one with tracers
that write their traces and one without. Metrics are not logged to TensorBoard: that
costs more than tracing does.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter_ns as now
from typing import Any, Final

from benchmarks.timing import Case, Reading, interleaved

_EXAMPLES: Final = Path(__file__).parent.parent / "examples"
_LAYOUTS: Final = ("colocated", "all-apart")
_STEPS_A_TURN: Final = 40
"""A turn ends with a flush, which a training never asks for: a small part of many."""
_TURNS: Final = 48


def measure(subject: str) -> dict[str, Reading]:
    """Step times as ratios; one in milliseconds."""
    if subject == "ours":
        from perf.adapters import tunix

        tunix.install()
    sys.path.insert(0, str(_EXAMPLES))
    import tunix_grpo as example

    example.use_virtual_devices()
    readings = {}
    for layout in _LAYOUTS:
        with tempfile.TemporaryDirectory() as folder:
            trainings = {
                "off": _Training(layout, Path(folder), traced=False),
                "on": _Training(layout, Path(folder), traced=True),
            }
            cases = {name: each.case() for name, each in trainings.items()}
            found = interleaved(cases, rounds=_TURNS)
            for each in trainings.values():
                each.end()
        name = layout.replace("-", "_")
        readings[name] = Reading(found["on"].over(found["off"]))
        readings[f"{name}_step"] = found["off"].reading(1e6)
    return readings


class _Training:
    """A training in a thread of its own that goes on for as many steps as it is told.

    Args:
        layout: of the example.
        folder: for traces.
        traced: whether both tracers are on.
    """

    def __init__(self, layout: str, folder: Path, *, traced: bool) -> None:
        self._layout = layout
        self._folder = folder
        self._traced = traced
        self._steps = 0
        self._took_ns = 0
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._settle: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=self._train)
        self._thread.start()

    def case(self) -> Case:
        """What it does in a turn."""
        return Case(self._run, count=_STEPS_A_TURN)

    def end(self) -> None:
        """Ends the training."""
        self._run(0)
        self._thread.join()

    def _run(self, steps: int) -> int:
        self._steps = steps
        self._go.release()
        self._done.acquire()
        return self._took_ns

    def _train(self) -> None:
        import tunix_grpo as example

        meshes = example.make_meshes(self._layout)
        config = example.make_cluster_config(meshes, self._folder, 10**9, 1)
        config.training_config.metrics_logging_options = None
        traced = example.make_perf_config(config) if self._traced else None
        learner = example.make_learner(config, traced)
        tracers = [learner.rl_cluster.perf, learner.rl_cluster.perf_v2]
        if self._traced and hasattr(tracers[0], "flush"):
            self._settle = lambda: [tracer.flush() for tracer in tracers]
        try:
            learner.train(self._batches(example.PROMPTS))
        finally:
            self._done.release()

    def _batches(self, prompts: list[str]) -> Iterator[Any]:
        """A batch a step: from one to the next lies all that belongs to a step."""
        import numpy as np

        batch = {"prompts": np.array(prompts)}
        yield batch  # tunix looks at the first one before it begins
        while True:
            self._go.acquire()
            if not self._steps:
                return
            begin_ns = now()
            for _ in range(self._steps):
                yield batch
            self._settle()  # nothing is left to be written in the other one's turn
            self._took_ns = now() - begin_ns
            self._done.release()
