"""OpenTelemetry: a gauge for each metric."""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np

from perf.loggers.filters import is_main_process
from perf.loggers.naming import bounded_name
from perf.loggers.values import as_float

__all__ = ["OpenTelemetryBackend"]

_MODES: Final = ("train", "eval")
_WELL_KNOWN: Final = {
    "loss": "training.loss",
    "perplexity": "training.perplexity",
    "learning_rate": "training.learning_rate",
    "grad_norm": "training.gradient.norm",
}


class OpenTelemetryBackend:
    """Sets gauges of a meter; what becomes of them is the provider's business.

    Of `actor/train/loss`, "actor" and "train" become the attributes
    `<namespace>.metrics.prefix` and `<namespace>.training.mode` of the gauge
    `<namespace>.training.loss`. The step is `<namespace>.training.step`, set when it
    changes for these attributes.

    Args:
        meter_provider: the program's global one by default. It is never shut down.
        namespace: what the names begin with.
    """

    def __init__(self, meter_provider: Any = None, namespace: str = "rlperf") -> None:
        self._namespace = namespace
        self._gauges: dict[str, Any] = {}
        self._names: dict[str, tuple[dict[str, str], str]] = {}
        self._steps: dict[tuple[str, ...], int] = {}
        self._meter: Any = None
        if is_main_process():
            from opentelemetry import metrics

            provider = meter_provider or metrics.get_meter_provider()
            self._meter = provider.get_meter("rlperf.metrics")

    def log_scalar(self, event: str, value: float | np.ndarray, **kwargs: Any) -> None:
        """Sets the gauge of a metric; what is no single number is left out."""
        number = as_float(value)
        if self._meter is None or number is None:
            return
        event = bounded_name(event, self._names)
        if event not in self._names:
            self._names[event] = self._named(event)
        attributes, name = self._names[event]
        self._gauge(name).set(number, attributes)
        step = kwargs.get("step")
        key = tuple(attributes.values())
        if step is not None and self._steps.get(key) != int(step):
            self._steps[key] = int(step)
            self._gauge("training.step").set(int(step), attributes)

    def close(self) -> None:
        """Sets no gauge any more."""
        self._meter = None

    def _gauge(self, name: str) -> Any:
        full = f"{self._namespace}.{name}"
        if full not in self._gauges:
            self._gauges[full] = self._meter.create_gauge(full)
        return self._gauges[full]

    def _named(self, event: str) -> tuple[dict[str, str], str]:
        """The attributes and the name of a gauge."""
        parts = [part for part in event.split("/") if part]
        attributes = {}
        for index, part in enumerate(parts[:-1]):
            if part in _MODES:
                attributes[f"{self._namespace}.training.mode"] = part
                if index:
                    prefix = "/".join(parts[:index])
                    attributes[f"{self._namespace}.metrics.prefix"] = prefix
                parts = parts[index + 1 :]
                break
        name = ".".join(parts).lower()
        name = re.sub(r"[^a-z0-9_.\-]", "_", name) or "_"
        return attributes, _WELL_KNOWN.get(name, name)
