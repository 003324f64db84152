"""What the demo trains, and how long."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from perf.demo.task import SortTask


class MicroBatch(NamedTuple):
    """A micro-batch's place in the training, counted from 0."""

    step: int
    mini_batch: int
    micro_batch: int
    groups: str
    """The first and last of its groups: one prompt and its completions are a group."""

    def tags(self) -> dict[str, Any]:
        """Returns the tags that every span of this micro-batch bears."""
        return {
            "step": self.step,
            "mini_batch_step": self.mini_batch,
            "micro_batch_step": self.micro_batch,
            "group_id": self.groups,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class DemoConfig:
    """What is trained. Equal configurations give equal curves, on any topology."""

    steps: int = 40
    """Global steps."""
    mini_batches: int = 2
    """Updates of the policy per global step."""
    micro_batches: int = 3
    """Micro-batches per mini-batch."""
    prompts: int = 32
    """Prompts per micro-batch."""
    group_size: int = 16
    """Completions per prompt."""
    learning_rate: float = 3e-3
    clip: float = 0.2
    """How far the ratio of new to old probability pays off: 1 ± clip."""
    kl_weight: float = 0.01
    """What a nat of divergence from the reference costs, in advantage."""
    task: SortTask = dataclasses.field(default_factory=SortTask)
    seed: int = 0
    texts: bool = False
    """Whether prompts and completions are collected."""

    def __post_init__(self) -> None:
        """Refuses what cannot be trained.

        Raises:
            ValueError: a count is below 1, or a group has nothing to compare.
        """
        for name in ("steps", "mini_batches", "micro_batches", "prompts"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; at least 1 is needed"
                )
        if self.group_size < 2:
            raise ValueError(
                f"group_size is {self.group_size}; a completion is compared with the"
                " others of its group: at least 2 are needed"
            )

    def mini_batch(self, step: int, mini_batch: int) -> list[MicroBatch]:
        """Returns the micro-batches of a mini-batch, in order."""
        firsts = [
            self.number(step, mini_batch, i) * self.prompts
            for i in range(self.micro_batches)
        ]
        return [
            MicroBatch(step, mini_batch, i, f"{first}-{first + self.prompts - 1}")
            for i, first in enumerate(firsts)
        ]

    def number(self, step: int, mini_batch: int, micro_batch: int) -> int:
        """Returns how many micro-batches come before one, over the whole training."""
        done = step * self.mini_batches + mini_batch
        return done * self.micro_batches + micro_batch
