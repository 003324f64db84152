"""Waiting for JAX arrays and devices."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any, Final

from perf._record.launches import NOT_WAITED_FOR
from perf._record.waiting import Waited, WaitingService


def _arrays(tree: Any) -> list[Any]:
    jax = sys.modules.get("jax")
    if jax is None:
        return []  # nothing was launched
    if hasattr(tree, "block_until_ready"):
        return [tree]
    # All else, arrays of NumPy say, is ready as it is. At every launch: before Python
    # 3.12 a comprehension is a call, which takes a fifth of all this.
    arrays = []
    for leaf in jax.tree_util.tree_leaves(tree):
        if hasattr(leaf, "block_until_ready"):
            arrays.append(leaf)  # noqa: PERF401 - a comprehension is a call
    return arrays


def _block(arrays: list[Any]) -> None:
    try:
        if len(arrays) == 1:
            arrays[0].block_until_ready()
        else:
            # One call: for all of them the thread is woken once.
            sys.modules["jax"].block_until_ready(arrays)
    except BaseException:
        # One that is gone is told at once, while the work of the others goes on.
        for array in arrays:
            with contextlib.suppress(BaseException):
                array.block_until_ready()
        raise


def _idle() -> None:
    if "jax" not in sys.modules:
        return  # nothing was launched
    import jax

    jax.block_until_ready(
        [jax.device_put(0.0, device) for device in jax.local_devices()]
    )


WAITING: Final = WaitingService(_arrays, _block, _idle)
"""The process's own: all tracers share its threads."""
os.register_at_fork(after_in_child=WAITING.forget)


def when_ready(
    owner: Any,
    device_id: str,
    waitlist: Any,
    done: Callable[[BaseException | None], None],
) -> None:
    """Calls a function when the work of a device has ended; returns at once.

    Args:
        owner: whose work it is.
        device_id: of the device.
        waitlist: a pytree of arrays; an empty one has ended.
        done: called with why the work failed or is not waited for, or None.
    """
    if waitlist is None or (isinstance(waitlist, (list, tuple)) and not waitlist):
        done(None)
    # By the key of the tracers: a device has one thread.
    elif not WAITING.submit(device_id, Waited(owner, waitlist, done)):
        done(RuntimeError(NOT_WAITED_FOR))
