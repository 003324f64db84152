"""Selects groups of spans: immutable, so that a query can be kept and built upon."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from perf._model.tree import (
    SpanGroup,
    span_group_batch_query_all,
    span_group_batch_query_first,
    span_group_batch_query_last,
    span_group_batch_query_nth,
)
from perf._read.steps import ClosedStep, StepSpans, from_records

_Selector = Callable[[Sequence[SpanGroup]], list[SpanGroup]]


class HasRoot(Protocol):
    """What a query needs of a timeline."""

    @property
    def root(self) -> SpanGroup:
        """The tree over its spans."""
        ...


class PerfSpanQuery:
    """Selects groups on a timeline: `query().main().last_group("global_step").get()`.

    Every selector returns a new query and leaves its receiver as it was.

    Args:
        timelines: by id.
        main_thread_id: the timeline of the thread that made the tracer.
    """

    def __init__(
        self,
        timelines: Mapping[str, HasRoot],
        main_thread_id: str,
        *,
        _step: ClosedStep | None = None,
    ) -> None:
        self._timelines = timelines
        self._main_thread_id = main_thread_id
        self._timeline_id: str | None = None
        self._selectors: tuple[_Selector, ...] = ()
        self._step = _step
        """The step being exported, if a tracer made this query."""

    def __call__(self) -> PerfSpanQuery:
        """A query of its own that goes on from what is selected."""
        return self._with(self._timeline_id, self._selectors)

    def main(self) -> PerfSpanQuery:
        """On the timeline of the thread that made the tracer."""
        return self.timeline(self._main_thread_id)

    def timeline(self, id: str) -> PerfSpanQuery:
        """On the timeline of that id."""
        return self._with(id, self._selectors)

    def first_group(self, name: str) -> PerfSpanQuery:
        """Of each selected group the first of that name directly inside."""
        return self._then(lambda batch: span_group_batch_query_first(batch, name))

    def last_group(self, name: str) -> PerfSpanQuery:
        """Of each selected group the last of that name directly inside."""
        return self._then(lambda batch: span_group_batch_query_last(batch, name))

    def nth_group(self, name: str, index: int) -> PerfSpanQuery:
        """Of each selected group the one of that name at a position directly inside.

        Args:
            name: of the group.
            index: counted from 0 at the run's first; what is no longer kept in
                memory is not found.
        """
        return self._then(lambda batch: span_group_batch_query_nth(batch, name, index))

    def all_groups(self, name: str) -> PerfSpanQuery:
        """Of each selected group all of that name directly inside."""
        return self._then(lambda batch: span_group_batch_query_all(batch, name))

    def get(self) -> list[SpanGroup]:
        """The selected groups; the timeline's root if no group was selected.

        Raises:
            ValueError: no timeline was selected, or there is none of that id.
        """
        if self._timeline_id is None:
            raise ValueError("no timeline selected: call main() or timeline(id) first")
        if self._timeline_id not in self._timelines:
            recorded = ", ".join(self._timelines) or "none"
            raise ValueError(
                f"timeline '{self._timeline_id}' not found; recorded: {recorded}"
            )
        groups = [self._timelines[self._timeline_id].root]
        for select in self._selectors:
            groups = select(groups)
        return groups

    def get_main_thread_id(self) -> str:
        """The timeline of the thread that made the tracer."""
        return self._main_thread_id

    def get_timeline_ids(self) -> list[str]:
        """All timelines that can be selected."""
        return list(self._timelines)

    def step(self) -> StepSpans | None:
        """The spans of the step being exported; None if no tracer made this query."""
        return None if self._step is None else from_records(self._step)

    def root(self, timeline_id: str) -> SpanGroup | None:
        """The tree of a timeline; None if there is none of that id."""
        timeline = self._timelines.get(timeline_id)
        return None if timeline is None else timeline.root

    def _then(self, selector: _Selector) -> PerfSpanQuery:
        return self._with(self._timeline_id, (*self._selectors, selector))

    def _with(
        self, timeline_id: str | None, selectors: tuple[_Selector, ...]
    ) -> PerfSpanQuery:
        query = PerfSpanQuery(self._timelines, self._main_thread_id, _step=self._step)
        query._timeline_id = timeline_id
        query._selectors = selectors
        return query
