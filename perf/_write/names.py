"""The slice names of the v2 documents: `rollout (step=3, group_id=5)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from perf._model import names
from perf._model.spans import RawRecord

_STEP: Final = (("step", "step"),)
_GROUP: Final = (*_STEP, ("group_id", "group_id"))
_PAIR: Final = (*_GROUP, ("pair_index", "pair_index"))

_SHOWN: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "peft_train": (
        *_STEP,
        ("role", names.ROLE),
        ("mini_batch", "mini_batch_step"),
        ("micro_batch", "micro_batch_step"),
    ),
    "rollout": _PAIR,
    "environment": _PAIR,
    "reference_inference": _GROUP,
    "old_actor_inference": _GROUP,
    "advantage_computation": _GROUP,
    names.QUEUE: (*_STEP, ("name", names.NAME)),
}
"""By span name: what a suffix calls a tag, and the tag. Other spans show their step."""


def documented_name(record: RawRecord) -> str | None:
    """A span's name with the tags that tell it from its like; None without any."""
    name, tags = record[0], record[6]
    if not tags:
        return None
    shown = _SHOWN.get(name, _STEP)
    # Other values are not asked for their text: an array would wait for its device.
    parts = [
        f"{label}={tags[tag]}"
        for label, tag in shown
        if type(tags.get(tag)) in (str, int, float, bool)
    ]
    return f"{name} ({', '.join(parts)})" if parts else None
