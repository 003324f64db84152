"""What `tests/public` does not reach of the query: steps, roots, going on."""

from __future__ import annotations

from typing import Any

import pytest

from perf._model.tree import SpanGroup
from perf._read.query import PerfSpanQuery
from perf._read.steps import StepSpans
from tests.public.drive import V1Run


class Timeline:
    """A timeline with two groups of one name, and groups in these."""

    def __init__(self) -> None:
        self.root = SpanGroup("root")
        for begin in (1.0, 2.0):
            group = SpanGroup("step", self.root)
            group.begin = begin
            for inner in (0.25, 0.5):
                SpanGroup("mini", group).begin = begin + inner


@pytest.fixture
def query() -> PerfSpanQuery:
    """Over two timelines."""
    return PerfSpanQuery({"main": Timeline(), "tpu0": Timeline()}, "main")


def begins(query: PerfSpanQuery) -> list[float]:
    """When the selected groups began."""
    return [group.begin for group in query.get()]


def test_selectors_follow_each_other(query: PerfSpanQuery) -> None:
    """Each one chooses inside what the one before chose."""
    main = query.main()
    assert [1.25, 2.25] == begins(main.all_groups("step").first_group("mini"))
    assert [1.5, 2.5] == begins(main.all_groups("step").last_group("mini"))
    assert [2.25, 2.5] == begins(main.last_group("step").all_groups("mini"))
    assert [2.5] == begins(main.nth_group("step", 1).nth_group("mini", 1))
    assert [] == main.nth_group("step", 2).all_groups("mini").get()


def test_the_timeline_may_be_chosen_last(query: PerfSpanQuery) -> None:
    """The selectors are kept, whatever they are asked of."""
    chosen = query.last_group("step")
    assert [2.0] == begins(chosen.timeline("tpu0")) == begins(chosen.main())


def test_calling_a_query_goes_on_from_it(query: PerfSpanQuery) -> None:
    """The new one selects further; the old one stays."""
    old = query.main().last_group("step")
    new = old()
    assert [2.25] == begins(new.first_group("mini"))
    assert [2.0] == begins(old) == begins(new)
    assert new is not old


def test_what_is_asked_for_is_named(query: PerfSpanQuery) -> None:
    """Errors say what was asked and what there is."""
    with pytest.raises(ValueError, match="'tpu9' not found; recorded: main, tpu0"):
        query.timeline("tpu9").get()
    with pytest.raises(ValueError, match="recorded: none"):
        PerfSpanQuery({}, "main").main().get()
    with pytest.raises(ValueError, match=r"no timeline selected: call main\(\)"):
        query.get()


def test_the_root_of_a_timeline(query: PerfSpanQuery) -> None:
    """None where there is no such timeline."""
    root = query.root("tpu0")
    assert root is not None
    assert "root" == root.name
    assert query.root("tpu9") is None


def test_a_query_made_by_hand_has_no_step(query: PerfSpanQuery) -> None:
    """Only a tracer knows what closed between two exports."""
    assert query.step() is None
    assert query.main().last_group("step").step() is None


def test_a_query_of_a_tracer_has_the_step_that_was_exported() -> None:
    """However much was selected since."""
    found: list[StepSpans | None] = []

    def export_fn(query: Any) -> dict[str, Any]:
        found.append(query.main().last_group("global_step")().step())
        return {}

    run = V1Run(None, export_fn)
    for second in (0.0, 2.0):
        run.at(second)
        with run.tracer.span_group("global_step"):
            run.at(second + 1)
        run.tracer.export()
    windows = [
        tuple(run.timer.since(time / s.per_second) for time in (s.begin, s.end))
        for s in found
        if s
    ]
    assert [(0.0, 1.0), (2.0, 3.0)] == windows


@pytest.mark.parametrize("bounds", [{"keep_steps": 0}, {"keep_spans": 1}])
def test_a_step_that_is_not_kept_is_exported_all_the_same(bounds: Any) -> None:
    """What is kept for queries is a question of its own."""
    found: list[Any] = []

    def export_fn(query: Any) -> dict[str, Any]:
        found.append(query.step())
        return {}

    run = V1Run(["a0"], export_fn, **bounds)
    with run.tracer.span_group("global_step"):
        run.at(1.0)
    run.tracer.export()
    assert ["global_step"] == [i[0] for i in found[0].main["global_step"]]
