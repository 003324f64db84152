"""`jepa.loggers.wandb_logger`."""

from __future__ import annotations

from typing import ClassVar

from perf.compat.jepa.loggers.base_logger import BaseLogger, LoggerRegistry

__all__ = ["WandbLogger"]


class WandbLogger(BaseLogger):
    """Logs into a run of W&B, offline where there is no key.

    Args:
        config: `project` ("jepa"), `entity`, `name`, `tags`, `notes` and other
            arguments of `wandb.init`.
    """

    _backend = "wandb"
    _defaults: ClassVar = {"project": "jepa"}


LoggerRegistry.register("wandb", WandbLogger)
