"""Holds what-if's predictions against interventions that are really made.

    python -m tools.interventions                     all of them
    python -m tools.interventions reward reference    some of them

Each trains the demo twice, every run in its own process: as it is, and with a stage
really made faster, removed or overlapped. What-if is asked about the trace of the first
run, the second one tells the truth. Of either the steps that warm up are left out, and
the median of the others counts.

Stages that stand for a service or an accelerator take a given time, for most of which
they wait and take no core. The demo's devices share the cores of this machine: stages
that compute at a time slow each other down, and what-if does not know by how much. The
one that really computes does so alone.

Exit status: 0 if the median error is at most 5 % and the worst at most 10 %.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import jax
import numpy as np

from perf import trace
from perf._read.recording import Recording, folder_traces, read_recording
from perf._read.what_if import Change, WhatIf
from perf.demo import experience, train
from perf.demo.config import DemoConfig, MicroBatch
from perf.demo.experience import Experience, ExperienceMaker
from perf.demo.model import Policy
from perf.demo.stages import Stage, Stages
from perf.demo.task import SortTask
from perf.experimental import tracer
from tools.demo_runs import (
    Demo,
    PutIn,
    in_a_process,
    in_turn,
    replaced,
    trace_demo,
)

MEDIAN_ERROR: Final = 0.05
WORST_ERROR: Final = 0.10
STEPS: Final = 30
WARM_UP: Final = 6
"""Steps that compile, load, and fill the queue."""
QUEUE_CAPACITY: Final = 4
STALENESS_LIMIT: Final = 2
RUNS: Final = ("before", "after")


@dataclasses.dataclass(frozen=True, slots=True)
class Intervention:
    """A change that is asked about and really made.

    Attributes:
        name: on the command line.
        change: what is asked.
        before: in it the demo is without the change.
        after: in it the demo is with the change.
        topology: which roles share devices.
        config: what of the demo's configuration is different, in both runs.
        limits: of an asynchronous run, see `WhatIf`.
    """

    name: str
    change: Change
    before: PutIn
    after: PutIn
    topology: str = "all-apart"
    config: dict[str, int] = dataclasses.field(default_factory=dict)
    limits: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """Medians of the steps' lengths in nanoseconds."""

    change: Change
    recorded_ns: float
    predicted_ns: float
    measured_ns: float

    @property
    def error(self) -> float:
        """Of the prediction, as a part of what was measured; negative: too short."""
        return self.predicted_ns / self.measured_ns - 1

    def __str__(self) -> str:
        times = (self.recorded_ns, self.predicted_ns, self.measured_ns)
        milliseconds = "".join([f"{ns / 1e6:10.1f}" for ns in times])
        return f"{self.change!s:<38}{milliseconds}{self.error:+10.1%}"


# -- the interventions -----------------------------------------------------------------

_SECONDS: Final = {
    "rollout": 0.04,
    "reference": 0.03,
    "reward": 0.03,
    "training": 0.04,
    "sync": 0.05,
}
"""How long a call of each stage takes, if nothing else is said."""


def _lasting(function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    """The same function on other hardware: it takes so long, whatever it takes here."""

    def last(*args: Any, **kwargs: Any) -> Any:
        until = time.perf_counter() + seconds
        found = jax.block_until_ready(function(*args, **kwargs))
        time.sleep(max(0.0, until - time.perf_counter()))  # as a service or device does
        return found

    return last


@contextlib.contextmanager
def _timed(**seconds: float) -> Iterator[None]:
    """The demo, with stages that take as long as said."""
    seconds = _SECONDS | seconds
    logps = experience._token_logps
    # The reference and the old actor take turns.
    in_turns = in_turn(_lasting(logps, seconds["reference"]), logps)
    places: list[tuple[Any, str, str]] = [
        (experience, "_sample", "rollout"),
        (SortTask, "rewards", "reward"),
        (train, "accumulate", "training"),
        (experience, "copy_to", "sync"),
    ]
    with contextlib.ExitStack() as stack:
        stack.enter_context(replaced(experience, "_token_logps", in_turns))
        for owner, name, stage in places:
            lasting = _lasting(getattr(owner, name), seconds[stage])
            stack.enter_context(replaced(owner, name, lasting))
        yield


def taking(**seconds: float) -> PutIn:
    """Stages that take so long."""
    return lambda _: _timed(**seconds)


@contextlib.contextmanager
def _without_reference(_: Demo) -> Iterator[None]:
    """Nobody asks a reference, and there is no such stage."""
    span, logps = ExperienceMaker._span, experience._token_logps
    untraced = Stages(trace.NoopTracer(), tracer.NoopTracer())

    def traced(
        self: Any, micro_batch: MicroBatch, name: str, *args: Any, **kw: Any
    ) -> Any:
        if name == "reference_inference":
            return untraced.span(name, tags={})
        return span(self, micro_batch, name, *args, **kw)

    def zeros(_policy: Policy, _prompts: Any, completions: jax.Array) -> np.ndarray:
        return np.zeros(completions.shape, np.float32)

    with (
        _timed(),
        replaced(ExperienceMaker, "_span", traced),
        replaced(experience, "_token_logps", in_turn(zeros, logps)),
    ):
        yield


@contextlib.contextmanager
def _sync_overlapped(_: Demo) -> Iterator[None]:
    """A thread of its own sends the weights, and nobody waits for them."""
    sync = ExperienceMaker.sync_weights
    with _timed(), ThreadPoolExecutor(1, thread_name_prefix="sync") as sender:

        def send(*args: Any, **kwargs: Any) -> None:
            sender.submit(sync, *args, **kwargs)

        with replaced(ExperienceMaker, "sync_weights", send):
            yield


def _sampling(times: int) -> PutIn:
    """The rollout takes as long as this machine does, so many times over."""

    @contextlib.contextmanager
    def put_in(_: Demo) -> Iterator[None]:
        sample = experience._sample

        def again(*args: Any, **kwargs: Any) -> Any:
            for _ in range(times):
                found = jax.block_until_ready(sample(*args, **kwargs))
            return found

        with _timed(), replaced(experience, "_sample", again):
            yield

    return put_in


class _RunsAhead(ExperienceMaker):
    """Makes experience across steps, as far ahead as the limits allow."""

    def __init__(self, config: DemoConfig, *args: Any) -> None:
        super().__init__(config, *args)
        self._left = deque(
            micro_batch
            for step in range(config.steps)
            for number in range(config.mini_batches)
            for micro_batch in config.mini_batch(step, number)
        )
        self._queue: deque[Future[Experience]] = deque()
        self._synced = 0

    def make(
        self, micro_batches: list[MicroBatch], behaviour: Policy
    ) -> Iterator[Experience]:
        """Hands out what was made ahead, and has more made."""
        self._fill(behaviour)
        for _ in micro_batches:
            made = self._queue.popleft().result()
            self._fill(behaviour)
            yield made

    def sync_weights(self, policy: Policy, step: int, after: list[Stage]) -> None:
        """Likewise; what is made from here on may be of a later step."""
        super().sync_weights(policy, step, after)
        self._synced = step + 1
        self._fill(policy)

    def _fill(self, behaviour: Policy) -> None:
        while (
            self._left
            and len(self._queue) < QUEUE_CAPACITY
            and self._left[0].step - self._synced <= STALENESS_LIMIT
        ):
            made = self._ahead.submit(self._make_one, self._left.popleft(), behaviour)
            self._queue.append(made)


def asynchronous(**seconds: float) -> PutIn:
    """Stages that take so long, and rollouts that go on across steps."""

    @contextlib.contextmanager
    def put_in(_: Demo) -> Iterator[None]:
        with _timed(**seconds), replaced(train, "ExperienceMaker", _RunsAhead):
            yield

    return put_in


INTERVENTIONS: Final = [
    Intervention(
        "reward",
        Change("advantage_computation", 4.0),
        taking(reward=0.1),
        taking(reward=0.025),
    ),
    Intervention(
        "reference",
        Change("reference_inference", float("inf")),
        taking(),
        _without_reference,
    ),
    Intervention(
        "sync", Change("weight_sync", overlapped=True), taking(), _sync_overlapped
    ),
    Intervention(
        "rollout",
        Change("rollout", 10.0),
        _sampling(10),
        _sampling(1),
        "colocated",
    ),
    Intervention(
        "asynchronous",
        Change("rollout", 6.0),
        asynchronous(rollout=0.12, training=0.08),
        asynchronous(rollout=0.02, training=0.08),
        config={"mini_batches": 1},
        limits={"queue_capacity": QUEUE_CAPACITY, "staleness_limit": STALENESS_LIMIT},
    ),
]


# -- running ---------------------------------------------------------------------------


def run(intervention: Intervention, which: str, folder: Path) -> None:
    """Trains in this process, and leaves the trace in a folder.

    Args:
        intervention: what is compared.
        which: one of `RUNS`.
        folder: gets the trace.
    """
    config = {"steps": STEPS, "micro_batches": 2, **intervention.config}
    put_in = {"before": intervention.before, "after": intervention.after}[which]
    trace_demo(folder, put_in, config, intervention.topology)


def compare(intervention: Intervention, folder: Path) -> Outcome:
    """Asks about the run before, and measures in the run after.

    Args:
        intervention: what was done.
        folder: has a folder with a trace for each of `RUNS`.
    """
    before, after = [
        read_recording(path) for which in RUNS for path in folder_traces(folder / which)
    ]
    run = WhatIf(before.schedule(), _steps(before), **intervention.limits)
    answer = run.answer(intervention.change)
    steps = _steps(after)
    # As what-if has it: a step lasts from where the one before ended.
    moments = [steps[0][0], *[end for _, end in steps]]
    measured = [later - earlier for earlier, later in pairwise(moments)]
    return Outcome(
        intervention.change,
        statistics.median(answer.recorded_ns),
        statistics.median(answer.steps_ns),
        statistics.median(measured),
    )


def _steps(recording: Recording) -> list[tuple[int, int]]:
    return [(step.begin_ns, step.end_ns) for step in recording.steps[WARM_UP:]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.interventions")
    parser.add_argument("names", nargs="*", metavar="INTERVENTION")
    parser.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep the traces there"
    )
    options = parser.parse_args(arguments)
    known = {intervention.name: intervention for intervention in INTERVENTIONS}
    names = options.names or list(known)
    if unknown := [name for name in names if name not in known]:
        parser.error(f"{unknown[0]}: expected some of {', '.join(known)}")
    chosen = [known[name] for name in names]
    if options.run:
        run(chosen[0], options.run, options.keep)
        return 0
    print(
        f"{'step time in ms':<38}{'recorded':>10}{'what if':>10}{'measured':>10}",
        end="",
    )
    print(f"{'error':>10}")
    with tempfile.TemporaryDirectory() as scratch:
        root = options.keep or Path(scratch)
        outcomes = [_outcome(each, root / each.name) for each in chosen]
    errors = [abs(outcome.error) for outcome in outcomes if outcome]
    if len(errors) < len(chosen):
        return 1
    median, worst = statistics.median(errors), max(errors)
    print(f"median error {median:.1%}, worst {worst:.1%}")
    return 0 if median <= MEDIAN_ERROR and worst <= WORST_ERROR else 1


def _outcome(intervention: Intervention, folder: Path) -> Outcome | None:
    for which in RUNS:
        (folder / which).mkdir(parents=True, exist_ok=True)
        wrong = in_a_process(
            "tools.interventions",
            [intervention.name, f"--run={which}", f"--keep={folder / which}"],
        )
        if wrong:
            print(f"{intervention.name}, {which}: {wrong}", flush=True)
            return None
    outcome = compare(intervention, folder)
    print(outcome, flush=True)
    return outcome


if __name__ == "__main__":
    sys.exit(main())
