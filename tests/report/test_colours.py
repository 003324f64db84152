"""Which colours stages and buckets have on a page."""

from __future__ import annotations

import pytest

from perf.report.analysis import analyse
from perf.report.colours import Colours
from perf.report.style import STYLE
from tests.read.drawn import device, span, work
from tests.read.simulator import MAIN
from tests.report.runs import made


@pytest.fixture
def colours() -> Colours:
    """Of a step whose stages on the path are b, a; c and d hold a device beside."""
    timelines = [
        (MAIN, [span("a", 0, 10, 1), span("b", 10, 40, 2)]),
        (device("tpu0"), [work("c", 0, 20, 3), work("d", 10, 20, 4)]),
    ]
    return Colours(analyse(made(timelines, [(0, 45)])))


def test_stages_are_coloured_by_length(colours):
    """First those of the critical path; what is none of either has the last colour."""
    assert ["c0", "c1", "c2", "c3", "c7"] == [colours.of_stage(s) for s in "bacde"]
    assert [True] * 4 + [False] == [stage in colours for stage in "bacde"]
    assert "unaccounted" == colours.of_stage("unaccounted")
    assert "unaccounted" not in colours


@pytest.mark.parametrize(
    ("bucket", "css"),
    [
        ("occupied/a", "c1"),
        ("occupied/c+b", "c2"),
        ("host/a", "host"),
        ("wait/a", "wait"),
        ("other role", "other"),
        ("sync", "sync"),
        ("compile", "compile"),
        ("unaccounted", "unaccounted"),
    ],
)
def test_buckets_are_coloured_by_kind(colours, bucket, css):
    """Work as its stage, the first of several; idle time in greys."""
    assert css == colours.of_bucket(bucket)
    assert f".{css}{{" in STYLE


def test_from_the_eighth_on_stages_share_a_colour():
    """The style sheet has eight."""
    spans = [span(f"s{n}", 100 * n, 100 * n + 50 - n, n + 1) for n in range(10)]
    colours = Colours(analyse(made([(MAIN, spans)], [(0, 1000)])))
    found = [colours.of_stage(f"s{n}") for n in range(10)]
    assert [*[f"c{n}" for n in range(8)], "c7", "c7"] == found
    assert all(f".{css}{{" in STYLE for css in found)
    assert ".c8{" not in STYLE
