"""Spans and groups as v1's queries return them (drop-in for `tunix.perf.span`)."""

from perf._model.tree import (
    Span,
    SpanGroup,
    clone_span_or_group,
    merge_span_group_trees,
    span_group_batch_query_all,
    span_group_batch_query_first,
    span_group_batch_query_last,
    span_group_batch_query_nth,
    span_group_print,
    span_group_stack_clone,
    span_group_tostring,
)

__all__ = [
    "Span",
    "SpanGroup",
    "clone_span_or_group",
    "merge_span_group_trees",
    "span_group_batch_query_all",
    "span_group_batch_query_first",
    "span_group_batch_query_last",
    "span_group_batch_query_nth",
    "span_group_print",
    "span_group_stack_clone",
    "span_group_tostring",
]
