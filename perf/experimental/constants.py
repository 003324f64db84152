"""Well-known names of spans and keys of tags."""

from typing import Final

from perf._model import names

__all__ = [
    "ADVANTAGE_COMPUTATION",
    "DATA_LOADING",
    "ENVIRONMENT",
    "GLOBAL_STEP",
    "GROUP_ID",
    "MICRO_BATCH",
    "MINI_BATCH",
    "NAME",
    "OLD_ACTOR_INFERENCE",
    "PAIR_INDEX",
    "PEFT_TRAIN",
    "QUEUE",
    "REFERENCE_INFERENCE",
    "ROLE",
    "ROLLOUT",
    "STEP",
    "WEIGHT_SYNC",
]

STEP: Final = "step"
"""Tag: the global step, int."""
GLOBAL_STEP: Final = STEP
"""Tag: what earlier code calls `STEP`."""
MINI_BATCH: Final = "mini_batch_step"
"""Tag: the mini-batch within the global step, int."""
MICRO_BATCH: Final = "micro_batch_step"
"""Tag: the micro-batch within the mini-batch, int."""
ROLE: Final = names.ROLE
"""Tag: whose work it is: rollout, actor, reference, critic."""
GROUP_ID: Final = "group_id"
"""Tag: the group of samples of one prompt."""
PAIR_INDEX: Final = "pair_index"
"""Tag: the sample within its group, int."""
NAME: Final = names.NAME
"""Tag of a `queue` span: the name of the span that waits."""

DATA_LOADING: Final = "data_loading"
ROLLOUT: Final = "rollout"
WEIGHT_SYNC: Final = "weight_sync"
REFERENCE_INFERENCE: Final = "reference_inference"
OLD_ACTOR_INFERENCE: Final = "old_actor_inference"
ADVANTAGE_COMPUTATION: Final = "advantage_computation"
PEFT_TRAIN: Final = "peft_train"
ENVIRONMENT: Final = "environment"
"""Span: a step of an agent's environment, or a tool call."""
QUEUE: Final = names.QUEUE
"""Span: device work waits for the work before it on its device."""
