from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from perf._read.load import load
from perf._record.names import MAX_LENGTH, MAX_NAMES, OTHER
from perf._write.values import MAX_TEXT
from perf.experimental.export import PerfMetricsExport
from perf.experimental.tracer import PerfTracer
from tools.perfetto.trace_processor import TraceProcessor

MEGABYTE = 1 << 20


class Hostile:
    """Nothing about it works."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __hash__ = __repr__  # type: ignore[assignment]
    __eq__ = __bool__ = __len__ = __iter__ = __repr__  # type: ignore[assignment]


CYCLE: dict[str, Any] = {"list": []}
CYCLE["list"].append(CYCLE)

NAMES: list[Any] = [
    None,
    b"bytes \xff",
    "lone \ud800 surrogate",
    "x" * MEGABYTE,
    "",
    "nul \0 inside",
    17,
    ["a", "list"],
    Hostile(),
]
TAGS: list[Any] = [
    {"value": np.arange(1_000_000)},
    {"value": jnp.ones((3, 3))},
    {"value": float("nan"), "more": float("inf")},
    {"value": CYCLE},
    {"value": "x" * MEGABYTE, "key" * MEGABYTE: 1},
    {"value": {str(n): n for n in range(100_000)}},
    {"lone \ud800": "lone \udfff"},
    {None: 1, 2: 2, b"x": 3, ("a", "b"): 4},
    {"value": Hostile(), "type": Hostile},
    {"value": 1 << 100_000},
    {"value": lambda: None},
    Hostile(),
    "no mapping",
]


def test_hostile_names_and_tags_cost_nobody_anything(tmp_path: Path) -> None:
    """All in one run: each is a slice, and so is what comes after; files stay small."""
    with traced(tmp_path) as tracer:
        for name in NAMES:
            record(tracer, name, {"n": 1})
        for tags in TAGS:
            record(tracer, "tagged", tags)
        tracer.export()
        with tracer.span("after"):
            pass
    (path,) = tmp_path.iterdir()
    pieces = load(path).slices
    assert 2 * (len(NAMES) + len(TAGS)) + 1 == len(pieces)
    assert "after" == max(pieces, key=lambda piece: piece.begin_ns).name
    assert all(len(piece.name) <= MAX_LENGTH + 30 for piece in pieces)
    assert path.stat().st_size < 20 * MAX_TEXT
    with TraceProcessor(path) as tp:
        tp.assert_clean()


def record(tracer: PerfTracer, name: Any, tags: Any) -> None:
    """In every way there is."""
    with tracer.span(name, tags=tags) as span:
        tracer.flush()  # it is written while it is open
        span.tag(name, tags)
    tracer.instant(name, tags)
    tracer.record(name, 1.0, 2.0, track=name, tags=tags)
    tracer.counter("counter", name)


def test_names_beyond_the_limit_are_called_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Counted, said once; and the spans are all there."""
    more = 500
    with caplog.at_level(logging.WARNING, logger="perf"), traced(tmp_path) as tracer:
        for number in range(MAX_NAMES + more):
            with tracer.span(f"name {number}"):
                pass
        stats = tracer.stats()
    assert MAX_NAMES == stats.names
    assert 1 == len(caplog.records)
    (path,) = tmp_path.iterdir()
    found = [piece.name for piece in load(path).slices]
    assert (MAX_NAMES + more, more) == (len(found), found.count(OTHER))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda tags: tags.clear(), id="cleared"),
        pytest.param(lambda tags: tags.update(step=99, more=1), id="used again"),
    ],
)
def test_tags_that_the_caller_changes_afterwards(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    """They are those at the time of the call."""
    with traced(tmp_path) as tracer:
        tags = {"step": 1}
        with tracer.span("span", tags=tags):
            change(tags)
        tags = {"step": 1}
        tracer.instant("instant", tags)
        change(tags)
        tags = {"step": 1}
        tracer.record("record", 1.0, 2.0, tags=tags)
        change(tags)
    (path,) = tmp_path.iterdir()
    trace = load(path)
    assert [{"step": 1}] * 2 == [piece.tags for piece in trace.slices]
    assert [{"step": 1}] == [moment.tags for moment in trace.instants]


def traced(folder: Path) -> PerfTracer:
    """A tracer that writes to a folder."""
    export = PerfMetricsExport(trace_dir=str(folder))
    return PerfTracer(export_fn=export.export_metrics)
