from __future__ import annotations

from typing import Any

import pytest

from perf._write.names import documented_name
from tests.write.traces import span

ALL: dict[str, Any] = {
    "step": 3,
    "role": "actor",
    "mini_batch_step": 1,
    "micro_batch_step": 2,
    "group_id": 5,
    "pair_index": 7,
    "NAME": "rollout",
    "other": 9,
}


@pytest.mark.parametrize(
    ("expected", "name"),
    [
        ("peft_train (step=3, role=actor, mini_batch=1, micro_batch=2)", "peft_train"),
        ("rollout (step=3, group_id=5, pair_index=7)", "rollout"),
        ("environment (step=3, group_id=5, pair_index=7)", "environment"),
        ("reference_inference (step=3, group_id=5)", "reference_inference"),
        ("old_actor_inference (step=3, group_id=5)", "old_actor_inference"),
        ("advantage_computation (step=3, group_id=5)", "advantage_computation"),
        ("queue (step=3, name=rollout)", "queue"),
        ("weight_sync (step=3)", "weight_sync"),
        ("anything (step=3)", "anything"),
    ],
)
def test_each_span_shows_its_tags(expected: str, name: str) -> None:
    """As the documents of v2 say."""
    assert expected == documented_name(span(1, 0, 1, name=name, tags=ALL))


@pytest.mark.parametrize("tags", [None, {}, {"other": 1}, {"step": [1]}])
def test_without_such_tags_the_name_is_the_spans_own(tags: Any) -> None:
    """Values that are no plain number or text are not asked for one."""
    assert documented_name(span(1, 0, 1, name="rollout", tags=tags)) is None


def test_only_tags_that_are_there_are_shown() -> None:
    """A falsy value is a value."""
    record = span(1, 0, 1, name="rollout", tags={"group_id": 0, "step": object()})
    assert "rollout (group_id=0)" == documented_name(record)
