"""Waiting for JAX arrays and devices."""

from __future__ import annotations

import os
import sys
from typing import Any, Final

from perf._record.waiting import WaitingService


def _leaves(tree: Any) -> list[Any]:
    import jax

    leaves: list[Any] = jax.tree_util.tree_leaves(tree)
    return leaves


def _block(array: Any) -> None:
    # As `jax.block_until_ready` does it, which takes a tree apart for that.
    wait = getattr(array, "block_until_ready", None)
    if wait is not None:
        wait()


def _idle() -> None:
    if "jax" not in sys.modules:
        return  # nothing was launched
    import jax

    jax.block_until_ready(
        [jax.device_put(0.0, device) for device in jax.local_devices()]
    )


WAITING: Final = WaitingService(_leaves, _block, _idle)
"""The process's own: all tracers share its threads."""
os.register_at_fork(after_in_child=WAITING.forget)
