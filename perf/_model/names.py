"""Well-known names of spans, under both public spellings, and keys of tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

GLOBAL_STEP: Final = "global_step"
"""One update of the policy that the rollouts see: group in v1, span or window in v2."""
MINI_BATCH_STEP: Final = "mini_batch_step"
MICRO_BATCH_STEPS: Final = "micro_batch_steps"
ACTOR_TRAINING: Final = "actor_training"
"""Gradients and evaluation of the actor for one micro-batch."""
CRITIC_TRAINING: Final = "critic_training"
"""Likewise of PPO's critic."""

ROLLOUT: Final = frozenset({"rollout"})
REFERENCE_INFERENCE: Final = frozenset({"refer_inference", "reference_inference"})
TRAIN_STEP: Final = frozenset({"peft_train_step", "peft_train"})
WEIGHT_SYNC: Final = frozenset({"weight_sync"})
COMPILE: Final = "compile"
"""A thread compiles a program; the span is inside that of the stage that needs it."""
QUEUE: Final = "queue"
"""Device work waits for the work before it on its device."""

NAME: Final = "NAME"
"""Tag of a `queue` span: the name of the span that waits."""
ROLE: Final = "role"
"""Tag: whose work it is, see `roles.as_role`."""
STEP: Final = "step"
"""Tag: the number of the trainer's step that it is for."""

Stage = str | frozenset[str]
"""One of the constants above: a name, or all spellings of one."""

MEASURED: Final[Mapping[str, Stage]] = {
    **{name: name for name in (GLOBAL_STEP, ACTOR_TRAINING, CRITIC_TRAINING)},
    **{
        name: spellings
        for spellings in (ROLLOUT, REFERENCE_INFERENCE, TRAIN_STEP, WEIGHT_SYNC)
        for name in spellings
    },
}
"""What the metrics of a step are computed from, by every name that it may have."""

END_ERROR: Final = "end_error_ns"
"""Tag of a device span, int: nanoseconds by which its end may be too late. Of spans
without it: less than a million."""

HANG: Final = "hang"
"""Instant: the step under way has lasted so long that it hangs, see `Watchdog`."""
HANG_SECONDS: Final = "seconds"
"""Tag of it, float: for how long. `STEP` is the other, from 0."""
HANG_TEXT: Final = "says"
"""Tag of it: where the training stands. Not `text`: such tags are not written."""
