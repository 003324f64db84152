"""What the demo's configuration refuses, and how it numbers micro-batches."""

from __future__ import annotations

import pytest

from perf.demo.config import DemoConfig


@pytest.mark.parametrize(
    ("message", "wrong"),
    [
        ("steps is 0; at least 1 is needed", {"steps": 0}),
        ("mini_batches is -1; at least 1 is needed", {"mini_batches": -1}),
        ("micro_batches is 0; at least 1 is needed", {"micro_batches": 0}),
        ("prompts is 0; at least 1 is needed", {"prompts": 0}),
        ("group_size is 1; a completion is compared", {"group_size": 1}),
    ],
)
def test_what_cannot_be_trained_is_refused(message: str, wrong: dict[str, int]) -> None:
    """The message names the field and what it holds."""
    with pytest.raises(ValueError, match=message):
        DemoConfig(**wrong)  # type: ignore[arg-type]


def test_the_least_that_can_be_trained_is_accepted() -> None:
    """One of everything, and a group of two to compare."""
    least = DemoConfig(
        steps=1, mini_batches=1, micro_batches=1, prompts=1, group_size=2
    )
    assert ["0-0"] == [micro_batch.groups for micro_batch in least.mini_batch(0, 0)]


def test_micro_batches_are_numbered_within_their_mini_batch() -> None:
    """Groups are numbered through the whole run: each prompt has its own number."""
    config = DemoConfig(mini_batches=2, micro_batches=3, prompts=4)
    tags = [micro_batch.tags() for micro_batch in config.mini_batch(1, 0)]
    assert [
        {"step": 1, "mini_batch_step": 0, "micro_batch_step": 0, "group_id": "24-27"},
        {"step": 1, "mini_batch_step": 0, "micro_batch_step": 1, "group_id": "28-31"},
        {"step": 1, "mini_batch_step": 0, "micro_batch_step": 2, "group_id": "32-35"},
    ] == tags
    assert "36-39" == config.mini_batch(1, 1)[0].groups
