"""Names of spans that the metrics know."""

from __future__ import annotations

from perf._model import names
from perf.experimental import constants


def test_both_spellings_are_known() -> None:
    """v2's constants are among them, and so are v1's names."""
    assert constants.ROLLOUT in names.ROLLOUT
    assert {
        constants.REFERENCE_INFERENCE,
        "refer_inference",
    } == names.REFERENCE_INFERENCE
    assert {constants.PEFT_TRAIN, "peft_train_step"} == names.TRAIN_STEP
    assert constants.WEIGHT_SYNC in names.WEIGHT_SYNC


def test_what_is_measured_is_all_of_these() -> None:
    """And the groups of v1 that metrics are computed from."""
    assert {
        "global_step", "actor_training", "critic_training", "rollout",
        "refer_inference", "reference_inference", "peft_train_step", "peft_train",
        "weight_sync",
    } == set(names.MEASURED)  # fmt: skip
