"""Which of the processes of a run this is, and which devices are its own."""

from __future__ import annotations

import os
import sys
from typing import Any

from perf._model.ids import device_id


def process_index() -> int | None:
    """The number of the present process in a run of several, as far as that is known.

    What `jax.distributed` was told, else the environment's RANK. Nothing is asked of
    JAX that would have it look for its devices.
    """
    distributed = sys.modules.get("jax._src.distributed")  # where alone it stands
    run: Any = getattr(distributed, "global_state", None)
    if getattr(run, "client", None) is not None:
        return int(run.process_id)
    rank = os.environ.get("RANK", "")
    return int(rank) if rank.isdecimal() else None


def local_devices() -> dict[str, int]:
    """The devices of the present process and their numbers in it, by timeline id.

    In a run of several processes the ids are the run's: `tpu4` may be number 0 here.
    Empty until somebody had JAX look for its devices.
    """
    bridge = sys.modules.get("jax._src.xla_bridge")  # where alone they stand
    clients: Any = getattr(bridge, "_backends", {})
    found: dict[str, int] = {}
    try:
        for client in list(clients.values()):
            for position, device in enumerate(client.local_devices()):
                number = device.local_hardware_id  # not of every platform
                found[device_id(device)] = position if number is None else number
    except Exception:  # of what is private and may change: a trace goes without
        return {}
    return found
