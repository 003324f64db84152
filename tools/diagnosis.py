"""Puts known faults into real runs of the demo, and reads what the report says first.

    python -m tools.diagnosis                      all faults, each in its own process
    python -m tools.diagnosis slow_reward gil      some of them
    python -m tools.diagnosis --faults my.module   also those in `my.module.FAULTS`

Exit status: 0 if the first sentence named the cause of all but one fault in twelve.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from tools.demo_runs import (
    Demo,
    PutIn,
    in_a_process,
    in_turn,
    replaced,
    trace_demo,
)

STEPS: Final = 12
_MISSES: Final = 1 / 12


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with a training, put in on purpose.

    Attributes:
        name: on the command line.
        said: a regular expression that the report's first sentence has to match.
        put_in: in it the demo has the fault.
        config: what of the demo's configuration is different.
    """

    name: str
    said: str
    put_in: PutIn
    config: dict[str, Any] = dataclasses.field(default_factory=dict)


def slowly(function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    """The same function, except that it takes longer."""

    def slow(*args: Any, **kwargs: Any) -> Any:
        time.sleep(seconds)  # the fault itself
        return function(*args, **kwargs)

    return slow


def slower(owner: Any, name: str, seconds: float) -> AbstractContextManager[None]:
    """A function that takes longer meanwhile."""
    return replaced(owner, name, slowly(getattr(owner, name), seconds))


# -- the faults ------------------------------------------------------------------------


def slow_reward(_: Demo) -> AbstractContextManager[None]:
    """The checker of rewards takes long."""
    from perf.demo.task import SortTask

    return slower(SortTask, "rewards", 0.25)


def data_stall(_: Demo) -> AbstractContextManager[None]:
    """Prompts come late."""
    from perf.demo.task import SortTask

    return slower(SortTask, "prompts", 0.25)


def recompile(demo: Demo) -> AbstractContextManager[None]:
    """Every second step brings a new program."""
    import jax

    from perf.demo import experience
    from perf.demo.model import sample

    programs: dict[int, Any] = {}

    def anew(*args: Any, **kwargs: Any) -> Any:
        number = demo.step // 2
        if number not in programs:
            programs[number] = jax.jit(
                lambda *a, **k: sample(*a, **k), static_argnames="count"
            )
        return programs[number](*args, **kwargs)

    return replaced(experience, "_sample", anew)


@contextlib.contextmanager
def hogs(demo: Demo, count: int, steps: range) -> Iterator[None]:
    """For some steps, so many threads of Python hold the interpreter."""
    stop = threading.Event()

    def hog() -> None:
        while not stop.is_set():
            if demo.step in steps:
                sum(range(2_000))
            else:
                time.sleep(0.005)

    threads = [threading.Thread(target=hog, name=f"hog-{n}") for n in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def gil_hog(demo: Demo) -> AbstractContextManager[None]:
    """In the middle of the run."""
    return hogs(demo, 6, range(4, 8))


def busy_threads(demo: Demo) -> AbstractContextManager[None]:
    """All the time, so that no step is slower than the others."""
    return hogs(demo, 2, range(sys.maxsize))


def late_sync(_: Demo) -> AbstractContextManager[None]:
    """The weights arrive late."""
    from perf.demo import experience

    return slower(experience, "copy_to", 1.0)


def slow_sample(demo: Demo) -> AbstractContextManager[None]:
    """One rollout of one step takes long."""
    from perf.demo import experience

    before = experience._sample
    done: list[int] = []

    def slow(*args: Any, **kwargs: Any) -> Any:
        if demo.step == 8 and not done:
            done.append(1)
            time.sleep(5.0)
        return before(*args, **kwargs)

    return replaced(experience, "_sample", slow)


def slow_reference(_: Demo) -> AbstractContextManager[None]:
    """The reference takes long."""
    from perf.demo import experience

    before = experience._token_logps
    # The reference and the old actor take turns.
    slow = in_turn(slowly(before, 0.3), before)
    return replaced(experience, "_token_logps", slow)


def nothing(_: Demo) -> AbstractContextManager[None]:
    """The configuration is the fault."""
    return contextlib.nullcontext()


def checkpoint(demo: Demo) -> AbstractContextManager[None]:
    """Between steps the trainer saves for long."""
    from perf.demo.stages import Stages

    before = Stages.export

    def slow(self: Any) -> Any:
        found = before(self)
        with demo.tracer.span("checkpoint"):
            time.sleep(1.0)
        return found

    return replaced(Stages, "export", slow)


def evaluation(demo: Demo) -> AbstractContextManager[None]:
    """Every step ends with an evaluation on the host."""
    from perf.demo.experience import ExperienceMaker

    before = ExperienceMaker.sync_weights

    def slow(self: Any, *args: Any, **kwargs: Any) -> Any:
        before(self, *args, **kwargs)
        with demo.tracer.span("evaluation"):
            time.sleep(1.2)

    return replaced(ExperienceMaker, "sync_weights", slow)


def full_buffer(_: Demo) -> AbstractContextManager[None]:
    """Training is slow, so that rollouts wait for a place in the buffer."""
    from perf.demo import train

    return slower(train, "accumulate", 0.3)


def straggler(demo: Demo) -> AbstractContextManager[None]:
    """One of the actor's devices gets more to do than the other."""
    import jax
    import jax.numpy as jnp

    train: Any = importlib.import_module("perf.demo.train")
    before = train.accumulate

    @jax.jit
    def busy(x: Any) -> Any:
        return jax.lax.fori_loop(0, 40, lambda _, y: jnp.tanh(y @ x), x)

    calls: list[int] = []

    def uneven(*args: Any, **kwargs: Any) -> Any:
        found = before(*args, **kwargs)
        calls.append(1)
        devices = sorted(found[1].loss.devices(), key=lambda device: device.id)
        spans = []
        for number, device in enumerate(devices):
            size = 400 if number else 60
            with demo.tracer.span(
                "shard", [device], tags={"role": "actor", "shard_step": len(calls)}
            ) as span:
                work = busy(jax.device_put(jnp.ones((size, size)) * 1e-3, device))
                span.async_end(work)
                spans.append(work)
        jax.block_until_ready(spans)
        return found

    return replaced(train, "accumulate", uneven)


FAULTS: Final = [
    Fault("slow_reward", "^advantage_computation", slow_reward),
    Fault("data_stall", "^data_loading", data_stall),
    Fault("recompile", "^Recompilation", recompile),
    Fault("gil", "GIL", gil_hog),
    Fault(
        "busy_threads",
        r"interpreter's lock \(GIL\) beside the training's: hog-[01] .*hog-[01] ",
        busy_threads,
        {"steps": 30},
    ),
    Fault("late_sync", "^weight_sync", late_sync),
    Fault("slow_sample", "^(One slow rollout|rollout).*step 8", slow_sample),
    Fault("slow_reference", "^reference_inference", slow_reference),
    Fault(
        "small_micro_batch",
        "^Micro-batches are too small",
        nothing,
        {"prompts": 2, "group_size": 2, "micro_batches": 40},
    ),
    Fault("checkpoint", "between steps.*checkpoint", checkpoint),
    Fault("evaluation", "^evaluation", evaluation),
    Fault("full_buffer", "^peft_train", full_buffer),
    Fault("straggler", "^cpu3.*straggles", straggler),
]


# -- running ---------------------------------------------------------------------------


def run(fault: Fault, folder: Path) -> None:
    """Trains with a fault in this process, and leaves the trace in a folder."""
    config = {"steps": STEPS, **fault.config}
    trace_demo(folder, fault.put_in, config, "rollout-apart")


def first_sentence(folder: Path) -> str:
    """What the report on a folder's trace says first."""
    from perf._read.recording import folder_traces, read_recording
    from perf.report.analysis import analyse
    from perf.report.words import findings

    (path,) = folder_traces(folder)
    return findings(analyse(read_recording(path)))[0].text


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.diagnosis")
    parser.add_argument("names", nargs="*", metavar="FAULT")
    parser.add_argument("--faults", action="append", default=[], metavar="MODULE")
    parser.add_argument("--run-into", type=Path, help=argparse.SUPPRESS)
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep the traces there"
    )
    options = parser.parse_args(arguments)
    faults = list(FAULTS)
    for module in options.faults:
        faults += importlib.import_module(module).FAULTS
    chosen = [f for f in faults if not options.names or f.name in options.names]
    if options.run_into:
        run(chosen[0], options.run_into)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        root = options.keep or Path(scratch)
        named = sum(_diagnosed(fault, root / fault.name, options) for fault in chosen)
    print(f"{named} of {len(chosen)} causes named first")
    return 0 if named >= len(chosen) * (1 - _MISSES) else 1


def _diagnosed(fault: Fault, folder: Path, options: argparse.Namespace) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    modules = [f"--faults={module}" for module in options.faults]
    wrong = in_a_process(
        "tools.diagnosis", [fault.name, *modules, f"--run-into={folder}"]
    )
    if wrong:
        print(f"✗ {fault.name}: {wrong}", flush=True)
        return False
    said = first_sentence(folder)
    is_named = bool(re.search(fault.said, said))
    print(f"{'✓' if is_named else '✗'} {fault.name}: {said}", flush=True)
    return is_named


if __name__ == "__main__":
    sys.exit(main())
