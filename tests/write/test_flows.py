from __future__ import annotations

import pytest

from perf._model.spans import DEVICE, Batch
from tests.write.traces import (
    MAIN,
    QUEUE,
    TPU,
    WORKER,
    batch,
    packets,
    span,
    written,
)
from tools.perfetto.trace_processor import TraceProcessor, flows, slices

TPU1 = TPU._replace(id="tpu1", name="tpu1")
QUEUE1 = QUEUE._replace(id="tpu1_queue", name="tpu1_queue")


def arrows(*batches: Batch) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """Tracks and names of the slices that Perfetto draws arrows between."""
    with TraceProcessor(written(*batches)) as tp:
        tp.assert_clean()
        by_id = {row.id: (row.track[-1], row.name or "") for row in slices(tp)}
        return sorted((by_id[f.slice_out], by_id[f.slice_in]) for f in flows(tp))


def test_an_arrow_joins_spans_of_one_batch() -> None:
    """From the span whose result was consumed to the one that did."""
    assert [(("Main", "span 1"), ("Main worker", "span 2"))] == arrows(
        batch((MAIN, [span(1, 0, 10)]), (WORKER, [span(2, 20, 30, after=(1,))]))
    )


def test_an_arrow_starts_at_a_span_written_long_before() -> None:
    """Nobody knew of its successor then. What lies in it is no obstacle."""
    assert [(("Main", "span 1"), ("Main", "span 9"))] == arrows(
        batch((MAIN, [span(2, 3, 5, parent=1), span(1, 0, 10)])),
        *[batch((MAIN, [span(n, n * 10, n * 10 + 5)])) for n in (3, 4)],
        batch((MAIN, [span(9, 90, 95, after=(1,))])),
    )


def test_several_arrows_from_and_to_one_span() -> None:
    """A span may be consumed twice and consume many, now or later."""
    found = arrows(
        batch((MAIN, [span(1, 0, 1), span(2, 2, 3), span(3, 4, 5, after=(1, 2))])),
        batch((MAIN, [span(4, 6, 7, after=(1, 3))])),
        batch((MAIN, [span(5, 8, 9, after=(1, 4))])),
    )
    assert [
        ("span 1", "span 3"),
        ("span 1", "span 4"),
        ("span 1", "span 5"),
        ("span 2", "span 3"),
        ("span 3", "span 4"),
        ("span 4", "span 5"),
    ] == [(source, target) for (_, source), (_, target) in found]


def test_arrows_end_at_spans_written_while_open() -> None:
    """Drawn when they close, whatever moments lie in them."""
    moment = ("tick", 25, 25, 3, 2, 4, None, None)
    assert [(("Main", "span 1"), ("Main", "span 2"))] == arrows(
        batch((MAIN, [span(1, 0, 10)]), opened=[(MAIN, [span(2, 20, after=(1,))])]),
        batch((MAIN, [moment, span(2, 20, 30, after=(1,))])),
    )


def test_arrows_start_at_spans_written_while_open() -> None:
    """And at spans of no length, and where a child begins with its parent."""
    assert [
        (("Main", "span 2"), ("Main", "span 9")),
        (("Main", "span 3"), ("Main", "span 9")),
        (("Main worker", "span 1"), ("Main", "span 9")),
    ] == arrows(
        batch(
            (MAIN, [span(2, 5, 5), span(4, 6, 7, parent=3), span(3, 6, 8)]),
            opened=[(WORKER, [span(1, 1)])],
        ),
        batch((MAIN, [span(9, 20, 30, after=(1, 2, 3))])),
    )


def test_an_arrow_joins_the_work_on_the_devices() -> None:
    """Where both spans have some; not their host slices too."""
    assert [(("tpu0", "span 1"), ("tpu1", "span 2"))] == arrows(
        batch(
            (MAIN, [span(1, 0, 1), span(2, 2, 3, after=(1,))]),
            (TPU, [span(1, 0, 40, kind=DEVICE)]),
            (TPU1, [span(2, 2, 50, kind=DEVICE, after=(1,))]),
        )
    )


def test_of_several_devices_the_first_counts() -> None:
    """One arrow for each pair of spans."""
    assert [(("tpu0", "span 1"), ("tpu0", "span 2"))] == arrows(
        batch(
            (MAIN, [span(1, 0, 1)]),
            (TPU, [span(1, 0, 40, kind=DEVICE)]),
            (TPU1, [span(1, 0, 40, kind=DEVICE)]),
        ),
        batch(
            (MAIN, [span(2, 2, 3, after=(1,))]),
            (TPU, [span(2, 40, 50, kind=DEVICE, after=(1,))]),
            (TPU1, [span(2, 40, 50, kind=DEVICE, after=(1,))]),
        ),
    )


def test_without_devices_on_both_sides_it_joins_the_host_slices() -> None:
    """Data loading has no device."""
    assert [(("Main", "span 1"), ("Main", "span 2"))] == arrows(
        batch(
            (MAIN, [span(1, 0, 1), span(2, 2, 3, after=(1,))]),
            (TPU, [span(2, 2, 50, kind=DEVICE, after=(1,))]),
        )
    )


def test_an_arrow_waits_for_work_in_flight() -> None:
    """The host slices are there first; the arrow joins the devices' all the same."""
    assert [(("tpu0", "span 1"), ("tpu0", "span 2"))] == arrows(
        batch(
            (MAIN, [span(1, 0, 1), span(2, 2, 3, after=(1,))]),
            opened=[
                (QUEUE, [span(1, 0, kind=DEVICE), span(2, 2, kind=DEVICE, after=(1,))])
            ],
        ),
        batch((TPU, [span(1, 0, 40, kind=DEVICE)])),
        batch((TPU, [span(2, 40, 60, kind=DEVICE, after=(1,))])),
    )


def test_an_arrow_whose_source_is_still_in_flight_starts_at_its_host_slice() -> None:
    """Its end is noticed later than that of the work that waited for it."""
    assert [(("Main", "span 1"), ("tpu1", "span 2"))] == arrows(
        batch(
            (MAIN, [span(1, 0, 1), span(2, 2, 3, after=(1,))]),
            opened=[
                (QUEUE, [span(1, 0, kind=DEVICE)]),
                (QUEUE1, [span(2, 2, kind=DEVICE, after=(1,))]),
            ],
        ),
        batch((TPU1, [span(2, 40, 60, kind=DEVICE, after=(1,))])),
        batch((TPU, [span(1, 0, 40, kind=DEVICE)])),
    )


def test_an_arrow_from_an_unknown_span_is_left_out() -> None:
    """Another process's, or one of too long ago."""
    assert [] == arrows(batch((MAIN, [span(2, 2, 3, after=(77,))])))


def test_places_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrows start at the last spans; memory does not grow with the run."""
    monkeypatch.setattr("perf._write.flows._REMEMBERED", 10)
    many = [batch((MAIN, [span(n, n, n + 1)])) for n in range(2, 40)]
    late = batch((MAIN, [span(99, 99, 100, after=(1, 39))]))
    assert [(("Main", "span 39"), ("Main", "span 99"))] == arrows(
        batch((MAIN, [span(1, 0, 1)])), *many, late
    )


def test_a_further_device_may_be_heard_of_later() -> None:
    """The arrow ends at the slice that was first; there is no second one."""
    assert [(("tpu0", "span 1"), ("tpu0", "span 2"))] == arrows(
        batch(
            (
                TPU,
                [span(1, 0, 40, kind=DEVICE), span(2, 40, 50, kind=DEVICE, after=(1,))],
            )
        ),
        batch((TPU1, [span(2, 40, 55, kind=DEVICE, after=(1,))])),
    )


def test_spans_that_no_arrow_touches_cost_nothing() -> None:
    """Beside their begins and ends there are the two ends of the one arrow."""
    many = [span(n, n * 10, n * 10 + 5) for n in range(1, 9)]
    data = written(batch((MAIN, [*many, span(9, 90, 95, after=(3,))])))
    events = [p.track_event for p in packets(data) if p.HasField("track_event")]
    plain = [event for event in events if not event.HasField("legacy_event")]
    assert 2 * 9 + 1 == len(plain)  # and the event that tells of the run
    # One of them is the start of arrows from the successor, in case it has any.
    assert 3 == len(events) - len(plain)
