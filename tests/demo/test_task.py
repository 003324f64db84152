"""Sorting digits, and what a checker gives for it."""

from __future__ import annotations

import numpy as np
import pytest

from perf.demo.task import SortTask


@pytest.mark.parametrize(
    ("reward", "completion"),
    [
        pytest.param(1.0, [1, 1, 2, 5], id="sorted"),
        pytest.param(0.75, [1, 1, 2, 4], id="one place wrong"),
        pytest.param(0.5, [1, 1, 5, 2], id="two places swapped"),
        pytest.param(0.25, [5, 1, 1, 2], id="all there, shifted by one"),
        pytest.param(0.0, [2, 5, 1, 1], id="the prompt itself"),
    ],
)
def test_the_reward_is_the_share_of_right_places(
    reward: float, completion: list[int]
) -> None:
    """A place counts when it holds the symbol that belongs there."""
    prompts = np.array([[2, 5, 1, 1]])
    assert [reward] == SortTask(4).rewards(prompts, np.array([completion])).tolist()


def test_each_completion_is_checked_against_its_own_prompt() -> None:
    """Row i of the completions answers row i of the prompts."""
    prompts = np.array([[3, 1], [0, 2]])
    completions = np.array([[1, 3], [1, 3]])
    assert [1.0, 0.0] == SortTask(2).rewards(prompts, completions).tolist()


def test_prompts_come_from_the_alphabet() -> None:
    """All symbols are drawn and no others; equal generators draw equal prompts."""
    task = SortTask(length=3, symbols=4)
    prompts = task.prompts(np.random.default_rng(0), 100)
    assert (100, 3) == prompts.shape
    assert {0, 1, 2, 3} == set(prompts.flat)
    assert np.array_equal(prompts, task.prompts(np.random.default_rng(0), 100))


def test_sequences_are_spelled_out() -> None:
    """Symbols with spaces between, a text per row."""
    assert ["3 1 4", "1 5 9"] == SortTask().texts(np.array([[3, 1, 4], [1, 5, 9]]))
