"""Which roles of the training share devices."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Final

from perf._model.ids import device_ids

ROLLOUT: Final = "rollout"
"""Generates completions."""
ACTOR: Final = "actor"
"""The policy in training."""
REFERENCE: Final = "refer"
"""The frozen policy whose log-probabilities the penalty is measured against."""
CRITIC: Final = "critic"
"""PPO's value model, where there is one."""

_SPELLINGS: Final = {
    ROLLOUT: ROLLOUT,
    ACTOR: ACTOR,
    REFERENCE: REFERENCE,
    "reference": REFERENCE,
    CRITIC: CRITIC,
}
_REQUIRED: Final = (ROLLOUT, ACTOR)


def as_role(role: Any) -> str:
    """What a role is called here.

    Args:
        role: a name, or an enum member with such a value. Of those above capitals do
            not matter, and "reference" is "refer".
    """
    name = str(getattr(role, "value", role))
    return _SPELLINGS.get(name.lower(), name)


@dataclasses.dataclass(frozen=True, slots=True)
class Roles:
    """The devices of each role.

    Attributes:
        devices: role to ids of its device timelines, in the order given.
    """

    devices: Mapping[str, tuple[str, ...]]
    rollout_apart: bool = dataclasses.field(init=False)
    """Whether rollouts run on other devices than training."""
    trainer_apart: bool = dataclasses.field(init=False)
    """Whether actor and reference share devices that the rollouts do not."""
    all_apart: bool = dataclasses.field(init=False)
    """Whether all three have devices of their own."""

    def __post_init__(self) -> None:
        apart = not self.share(ROLLOUT, ACTOR)
        # Frozen: found once, asked at every step.
        fill = functools.partial(object.__setattr__, self)
        fill("rollout_apart", apart)
        fill("trainer_apart", apart and self.share(ACTOR, REFERENCE))
        fill(
            "all_apart",
            apart
            and bool(self.devices.get(REFERENCE))
            and not self.share(ROLLOUT, REFERENCE)
            and not self.share(ACTOR, REFERENCE),
        )

    @classmethod
    def of(cls, role_to_devices: Mapping[Any, Any], *, required: bool = True) -> Roles:
        """From a mapping of roles to devices or meshes.

        Args:
            role_to_devices: keys as `as_role` takes them; values are devices in any
                form.
            required: whether rollout, actor and reference have to be there.

        Raises:
            ValueError: a required role is missing, or a value holds no devices; the
                message says which roles there are.
        """
        devices = {
            as_role(role): tuple(device_ids(value))
            for role, value in role_to_devices.items()
        }
        missing = [role for role in _REQUIRED if role not in devices]
        if required and missing:
            raise ValueError(
                f"roles {missing} have no devices: expected 'rollout', 'actor' and, "
                f"if there is one, 'refer' (or 'reference'); found {sorted(devices)}"
            )
        return cls(devices)

    def first(self, role: str) -> str | None:
        """The device that stands for a role; None if it has none."""
        return next(iter(self.devices.get(role, ())), None)

    def share(self, a: str, b: str) -> bool:
        """Whether two roles have the same devices, in whatever order."""
        return set(self.devices.get(a, ())) == set(self.devices.get(b, ()))
