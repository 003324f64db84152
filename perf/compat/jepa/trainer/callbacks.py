"""`jepa.trainer.callbacks`: logging from a training loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perf.compat.jepa.loggers.base_logger import BaseLogger
from perf.loggers import add_prefix, flatten_metrics
from perf.loggers.guard import never_raises
from perf.loggers.values import is_number

__all__ = ["LoggingCallback"]


class LoggingCallback:
    """Logs what a loop tells it: any loop that calls these methods.

    The loop's `trainer` may have `global_step`, the step of what is logged, and
    `optimizer.param_groups`, whose first learning rate is logged. Batches whose index
    is divisible by `log_frequency` are.
    """

    def __init__(self, logger: BaseLogger, log_frequency: int = 10) -> None:
        if log_frequency < 1:
            raise ValueError(f"log_frequency={log_frequency}: expected 1 or more")
        self.logger = logger
        self.log_frequency = log_frequency

    def on_train_begin(self, trainer: Any, model: Any) -> None:
        """Has the logger watch the model."""
        self.logger.watch_model(model)

    @never_raises
    def on_batch_end(
        self, trainer: Any, model: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Logs the numbers among the outputs; keeps models, with a `save_frequency`."""
        step = getattr(trainer, "global_step", None)
        if batch_idx % self.log_frequency == 0:
            given = outputs if isinstance(outputs, Mapping) else {"loss": outputs}
            groups = getattr(getattr(trainer, "optimizer", None), "param_groups", None)
            found = {**given, **({"lr": groups[0]["lr"]} if groups else {})}
            flat = add_prefix(flatten_metrics(found), "train")
            values = {name: value for name, value in flat.items() if is_number(value)}
            self.logger.log_metrics(values, step=step)
        if step is not None and self.logger.saves_models:
            self.logger.log_model(model, "model", step)

    @never_raises
    def on_validation_end(
        self, trainer: Any, model: Any, metrics: Mapping[str, Any]
    ) -> None:
        """Logs the metrics of a validation."""
        self.logger.log_metrics(metrics, step=getattr(trainer, "global_step", None))

    def on_train_end(self, trainer: Any, model: Any) -> None:
        """Waits until all is written."""
        self.logger.flush()
