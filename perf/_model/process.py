"""Which of the processes of a run this is."""

from __future__ import annotations

import os
import sys
from typing import Any


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
