"""Prometheus: the latest value of each metric, to be fetched over HTTP."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Final

import numpy as np

from perf.loggers.config import ConfigError
from perf.loggers.filters import is_main_process
from perf.loggers.naming import bounded_name
from perf.loggers.sharing import Shared
from perf.loggers.values import as_float

__all__ = ["PrometheusBackend"]


@dataclasses.dataclass
class _Exposition:
    """A registry and the server that shows it."""

    registry: Any
    server: Any
    thread: Any
    gauges: dict[str, Any] = dataclasses.field(default_factory=dict)
    """By the metric's own name."""

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


_expositions: Final[Shared[_Exposition]] = Shared()


class PrometheusBackend:
    """Serves `/metrics` with a gauge for each metric, and one for the step.

    The registry is its own: metrics of the program are not shown, nor ours with them.

    Args:
        port: 0 for one that is free; see `port`.
        namespace: what the names begin with: `loss` is `<namespace>_loss`.
        address: to listen on. Whoever reaches it may read the metrics.
    """

    def __init__(
        self,
        port: int = 9464,
        namespace: str = "training",
        address: str = "127.0.0.1",
    ) -> None:
        self._shown: _Exposition | None = None
        self._namespace = namespace
        self.port = port
        """The port in use."""
        if is_main_process():
            self._key: Any = (address, port) if port else object()
            self._shown = _expositions.take(self._key, lambda: _serve(address, port))
            self.port = self._shown.server.server_port

    def log_scalar(self, event: str, value: float | np.ndarray, **kwargs: Any) -> None:
        """Shows a value from now on; what is no single number is left out."""
        number = as_float(value)
        if self._shown is None or number is None:
            return
        self._gauge(self._shown, event).set(number)
        if (step := kwargs.get("step")) is not None:
            self._gauge(self._shown, "step").set(int(step))

    def close(self) -> None:
        """The last to close stops the server."""
        if self._shown is not None:
            self._shown = None
            _expositions.release(self._key, lambda shown: shown.stop())

    def _gauge(self, shown: _Exposition, event: str) -> Any:
        name = f"{self._namespace}_{event.strip('/')}" if self._namespace else event
        name = bounded_name(name, shown.gauges)
        gauge = shown.gauges.get(name)
        if gauge is None:
            from prometheus_client import Gauge

            legal = re.sub(r"\W", "_", name, flags=re.ASCII)
            legal = f"_{legal}" if legal[:1].isdigit() else legal
            taken = {gauge._name for gauge in shown.gauges.values()}
            number = 2
            spelled = legal
            while spelled in taken:  # `a/b` after `a_b`
                spelled, number = f"{legal}_{number}", number + 1
            gauge = Gauge(spelled, name, registry=shown.registry)
            shown.gauges[name] = gauge
        return gauge


def _serve(address: str, port: int) -> _Exposition:
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    try:
        server, thread = start_http_server(port, addr=address, registry=registry)
    except OSError as error:
        raise ConfigError(
            "prometheus.port",
            "one that is free",
            f"{address}:{port} ({error.strerror})",
        ) from error
    return _Exposition(registry, server, thread)
