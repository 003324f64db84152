"""What both public trace writers are given beside what tracers record."""

from __future__ import annotations

from perf._model.spans import SPAN, TimelineInfo, TimelineKind
from perf._trace_writers import HandedOver

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


def test_what_is_handed_over_to_nobody_is_not_kept() -> None:
    """After its writer was closed."""
    source = HandedOver()
    source.close()
    source.put([(INFO, [("x", 1, 2, 3, 0, SPAN, None, None)])])
    assert [] == source.drain().records
