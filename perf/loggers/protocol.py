"""What a backend is: anything with `log_scalar` and `close`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

__all__ = ["LoggingBackend"]


@runtime_checkable
class LoggingBackend(Protocol):
    """Where metrics go. No inheritance: a class with these two methods is one.

    It may have more: see `OPTIONAL_METHODS` and `OPTIONAL_ATTRIBUTES`. In a
    pipeline one thread at a time calls it, and what it raises never reaches the
    training.
    """

    def log_scalar(self, event: str, value: float | np.ndarray, **kwargs: Any) -> None:
        """Takes one value.

        Args:
            event: the name of the metric, e.g. "train/loss".
            value: as it was given: a number, or an array (of NumPy or JAX).
            **kwargs: `step`, where there is one.
        """

    def close(self) -> None:
        """Takes in what is pending and lets go of files and connections."""


OPTIONAL_METHODS: Final = {
    "log_metrics": "(metrics, **kwargs): all scalars of a call; replaces log_scalar",
    "log_text": "(name, text, **kwargs): only if texts are switched on for it",
    "log_image": "(name, image, **kwargs): HWC, HW, or a batch of either",
    "log_histogram": "(name, values, **kwargs): an array of any shape",
    "log_hparams": "(hparams): names to numbers, texts, booleans",
    "log_artifact": "(name, path, **kwargs): a file or folder; kwargs: type",
    "log_result": "(results, **kwargs): what a run arrived at; else as metrics",
    "log_tags": "(tags): names to texts",
    "notify": "(message, level): a line of text, with its level of `logging`",
    "flush": "(): what is pending is written",
}
"""Methods that a backend may have, with their arguments. `kwargs` hold `step`, if there
is one, and what the caller added. What a backend has no method for, it does not get."""

OPTIONAL_ATTRIBUTES: Final = {
    "texts_with_metrics": "true: texts among metrics, if switched on, stay there",
    "takes_wall_time": "true: `kwargs` hold `wall_time`, seconds since 1970",
    "stall_timeout_s": "the longest that one of its calls may take, if over 5 seconds",
    "secrets": "texts that must not appear in a log line",
}
"""Attributes that a backend may have."""
