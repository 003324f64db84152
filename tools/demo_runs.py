"""Runs of the demo with something different in them, each traced, for other tools."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

_TIMEOUT_S: Final = 400
_SMALL: Final = {"prompts": 8, "group_size": 8}


@dataclasses.dataclass
class Demo:
    """A run of the demo, as what is put into it sees it."""

    tracer: Any
    """v2's, whose trace is read."""
    step: int = 0
    """The present one."""


PutIn = Callable[[Demo], AbstractContextManager[Any]]
"""A context manager in which the demo is different; it is given the demo before the
first step."""


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute that is another one meanwhile."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def in_turn(*functions: Callable[..., Any]) -> Callable[..., Any]:
    """One of the functions after the other, a call each."""
    turns = itertools.cycle(functions)
    return lambda *args, **kwargs: next(turns)(*args, **kwargs)


def trace_demo(
    folder: Path, put_in: PutIn, config: dict[str, Any], topology: str
) -> None:
    """Trains in this process, and leaves the trace in a folder.

    Args:
        folder: gets v2's trace.
        put_in: what is different.
        config: fields of the demo's configuration; its micro-batches are small, if they
            do not say otherwise.
        topology: which roles share devices.
    """
    from perf.demo.topology import Topology, make_cluster_config, provide_devices

    provide_devices(Topology(topology))
    from perf import trace
    from perf.adapters.jax_compiles import record_compiles
    from perf.demo.config import DemoConfig
    from perf.demo.train import train
    from perf.experimental.export import PerfMetricsExport
    from perf.experimental.tracer import PerfTracer

    cluster = make_cluster_config(Topology(topology))
    built_in = PerfMetricsExport.from_cluster_config(cluster, trace_dir=str(folder))
    # All devices: with the first of each mesh alone, none could straggle.
    tracer = PerfTracer(
        export_fn=built_in.export_metrics, collect_on_first_device_per_mesh=False
    )
    record_compiles(tracer)
    demo = Demo(tracer)
    with put_in(demo):
        trained = DemoConfig(**{**_SMALL, **config})
        for result in train(trained, cluster, trace.NoopTracer(), tracer):
            demo.step = result.step + 1
    tracer.close()


def in_a_process(module: str, arguments: Sequence[str]) -> str:
    """Runs a tool in a process of its own: JAX counts its devices once.

    Returns:
        What went wrong; "" if nothing did.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"the run took more than {_TIMEOUT_S} s"
    return f"the run failed\n{done.stderr[-2000:]}" if done.returncode else ""
