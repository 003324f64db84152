"""The names under which `tunix.rl` logs what its document calls otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from perf._model.metrics import Entry, MetricsT

_PREFIXES = {
    "rewards/score": "score",
    "rewards/reward": "rewards",
    "advantages/returns": "returns",
    "advantages/old_values": "values",
}

ALIASES: Final[Mapping[str, str]] = {
    **{
        f"{logged}/{statistic}": f"{documented}/{statistic}"
        for logged, documented in _PREFIXES.items()
        for statistic in ("mean", "max", "min")
    },
    **{
        f"generation/completions/{statistic}_length": (
            f"completions/{statistic}_length"
        )
        for statistic in ("mean", "max", "min")
    },
    "rewards/reward_kl_penalty": "reward_kl_penalty",
}
"""A name as logged, to the documented one."""


def with_documented_names(metrics: Mapping[str, Entry]) -> MetricsT:
    """Returns the same metrics, under the documented names where they have another.

    One whose documented name is in use keeps its own: with a KL penalty,
    `rewards/reward/mean` is another number than the reward functions' `rewards/mean`.
    """
    renamed: MetricsT = {}
    for name, entry in metrics.items():
        documented = ALIASES.get(name, name)
        renamed[name if documented in metrics else documented] = entry
    return renamed
