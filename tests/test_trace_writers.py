"""What both public trace writers are given beside what tracers record."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perf._model.spans import SPAN, TimelineInfo, TimelineKind
from perf._record.tracer import Tracer
from perf._record.waiting import WaitingService
from perf._trace_writers import HandedOver, TraceWriters
from perf.experimental import trace_writer
from perf.perfetto import PerfettoTraceWriter, TraceFiles

INFO = TimelineInfo("a", TimelineKind.HOST, "a")


def test_what_is_handed_over_is_taken_once() -> None:
    """With timelines that need not nest, and the time of taking."""
    source = HandedOver()
    record = ("x", 1, 2, 3, 0, SPAN, None, None)
    source.put([(INFO, [record])])
    source.put([(INFO._replace(id="b"), [])])
    batch = source.drain()
    assert [(INFO, [record]), (INFO._replace(id="b"), [])] == batch.records
    assert ([], frozenset(["a", "b"])) == (batch.open, batch.tangled)
    assert 0 < batch.clocks.monotonic_ns
    assert ([], frozenset()) == (source.drain().records, source.drain().tangled)


def test_what_is_handed_over_to_nobody_is_not_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After its writer was closed; the log says so once, if there is anything."""
    source = HandedOver()
    source.close()
    source.put([(INFO, [])])
    assert "" == caplog.text
    for _ in range(2):
        source.put([(INFO, [("x", 1, 2, 3, 0, SPAN, None, None)])])
    assert [] == source.drain().records
    (record,) = caplog.records
    assert "closed" in record.getMessage()


def test_tracers_that_are_closed_are_let_go(tmp_path: Path) -> None:
    """A writer may serve one after the other, for weeks; it stays one of tracers."""
    writer = PerfettoTraceWriter(tmp_path)
    for _ in range(3):
        tracer = Tracer(host_prefix="host-", waiting=WaitingService(list, id))
        writer.attach(tracer)
        tracer.close()
    assert 1 == len(writer._attached)
    assert writer.attached


@pytest.mark.parametrize(
    "writer",
    [
        PerfettoTraceWriter("x", files=TraceFiles(compress=True)),
        trace_writer.PerfettoTraceWriter(
            "x", {"actor": ["a0"]}, documented_names=True, keep_content=["prompt"]
        ),
    ],
    ids=["v1", "v2"],
)
@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda writer: pickle.loads(pickle.dumps(writer))],
)
def test_a_copy_has_all_that_its_writer_was_made_with(
    writer: TraceWriters, copied: Callable[[Any], Any]
) -> None:
    """Frameworks copy options deeply; a copy of a copy, too."""
    for other in (copied(writer), copied(copied(writer))):
        one, two = writer._writer, other._writer
        assert type(writer) is type(other)
        assert (Path("x"), one.files, one.tags) == (two.folder, two.files, two.tags)
        assert one.layout == two.layout
        assert one is not two
