"""The metrics logger of a training (drop-in for `tunix.sft.metrics_logger`).

options = MetricsLoggerOptions(log_dir="/tmp/logs", project_name="my-project")
with MetricsLogger(options) as logger:
    logger.log("loss", 0.5, mode="train", step=1)
"""

from __future__ import annotations

import contextlib
import enum
import importlib
import itertools
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, overload

import numpy as np

from perf._exporting import attach_export, checked_export
from perf._metrics_logger_options import OF_JAX, BackendFactory, MetricsLoggerOptions
from perf._model.log import OnceLog
from perf._record.launches import NOT_WAITED_FOR
from perf._record.waiting import Waited
from perf.adapters.jax_devices import WAITING
from perf.loggers.backends.clu import CluBackend
from perf.loggers.backends.tensorboard import TensorboardBackend
from perf.loggers.backends.wandb import WandbBackend
from perf.loggers.pipeline import Pipeline
from perf.loggers.protocol import LoggingBackend
from perf.loggers.redaction import error_line
from perf.loggers.values import as_array, kept, resolved

__all__ = [
    "BackendFactory",
    "CluBackend",
    "LoggingBackend",
    "MetricsLogger",
    "MetricsLoggerOptions",
    "Mode",
    "TensorboardBackend",
    "WandbBackend",
]

_KEPT_NAMES: Final = 10_000
_KEPT_VALUES: Final = 10_000
"""Of each metric's history."""
_AS_GIVEN: Final = 16  # mutate: ok any number of this size
"""Of these, the last: a device may still work on them. Older ones are of NumPy, for an
array of a device takes some kilobytes."""
_UNDER_WAY: Final = 1024
"""As many may be as they were given, if a device is behind."""
_TURN_S: Final = 0.25  # mutate: ok any time of this size
"""So long, once, a thread that logs thousands of values in a row lets the one that
waits for them have its turn, before a device is taken to be behind."""


class Mode(enum.StrEnum):
    """Whether a metric is of training or of evaluation."""

    TRAIN = "train"
    EVAL = "eval"

    def __str__(self) -> str:
        return self.value


class _History:
    """The values of a metric: the last of them, and the mean of all."""

    def __init__(self, geometric: bool) -> None:
        self._geometric = geometric
        self.lock_anew()
        self._kept: deque[Any] = deque()
        """Of NumPy."""
        self._given: deque[Any] = deque()
        """As they were given, later than those."""
        self._ready = 0
        """So many of the first of these no device works on."""
        self._waiting: threading.Event | None = None
        """Set when a thread no longer waits for them; None: none does."""
        self._is_behind = False
        """Whether that took too long."""
        self._left = 0
        self._left_sum = 0.0
        _histories.add(self)

    def lock_anew(self) -> None:
        """Also after a fork: who had the lock, or waited, is in the parent."""
        # A signal handler may log the metric that its thread is about to log.
        self._lock = threading.RLock()
        self._waiting = None

    def add(self, value: Any) -> None:
        """Remembers a value. What a device may work on is waited for elsewhere."""
        value = kept(value)
        with self._lock:
            self._given.append(value)
            if self._kept and len(self._kept) + len(self._given) > _KEPT_VALUES:
                mean = float(np.mean(self._scaled(self._kept.popleft())))
                self._left_sum += mean
                self._left += 1
        for _ in range(2):  # more than come: a device that was behind catches up
            self._settle()

    def _settle(self) -> None:
        """Has a value of NumPy in the place of the oldest one as given, or none."""
        with self._lock:
            count = len(self._given)
            if count <= _AS_GIVEN:
                return
            value = self._given[0]
            is_ready = self._ready > 0 or not hasattr(value, "block_until_ready")
        try:
            if not is_ready:
                ended = self._wait()
                if count <= _UNDER_WAY:
                    return
                if ended is None:
                    raise RuntimeError(NOT_WAITED_FOR)
                if self._has_ended(ended):
                    return
                raise RuntimeError(f"a device is {_UNDER_WAY} values behind")
            # Not what may be a view of the memory of a device; of one number, that.
            array = np.array(as_array(value))[()]
        except BaseException:
            self._replace(value)
            raise
        self._replace(value, array)

    def _has_ended(self, ended: threading.Event) -> bool:
        """Whether it was the waiting thread that was behind, and no device."""
        self._is_behind = self._is_behind or not ended.wait(_TURN_S)
        return not self._is_behind

    def _wait(self) -> threading.Event | None:
        """Has a thread wait for the values that there are, unless one does.

        Returns:
            Set when it no longer waits; None if no thread takes more.

        For all at once: being woken is what a wait costs, and where values are logged
        in a row, the thread has the interpreter's lock once for hundreds of them.
        """
        with self._lock:
            if self._waiting is not None:
                return self._waiting
            ended = self._waiting = threading.Event()
            given = list(self._given)

        def done(_: BaseException | None) -> None:
            with self._lock:
                self._waiting, self._is_behind = None, False
                known = set(map(id, given))  # some may have left meanwhile
                ready = itertools.takewhile(lambda v: id(v) in known, self._given)
                self._ready = sum(1 for _ in ready)
            ended.set()

        # JAX is not asked: `is_ready` of an array that another thread deletes, just now
        # even, ends the process. No key: no device's own thread is held up.
        if not WAITING.submit(None, Waited(self, given, done)):
            with self._lock:
                self._waiting = None
            return None
        return ended

    def _replace(self, oldest: Any, *by: Any) -> None:
        """Unless another thread was faster."""
        with self._lock:
            if self._given and self._given[0] is oldest:
                self._given.popleft()
                self._ready = max(0, self._ready - 1)
                self._kept.extend(by)

    def values(self) -> np.ndarray:
        """The last ones. Those that are under way are waited for."""
        return self._now()[0]

    def mean(self) -> Any:
        """Of all there ever were. Those that are under way are waited for."""
        values, left, left_sum = self._now()
        count = left + len(values)
        if not count:
            return np.float64(np.nan)
        total = self._scaled(values).sum() * len(values) / max(1, values.size)
        mean = (left_sum + total) / count
        return np.exp(mean) if self._geometric else mean

    def _now(self) -> tuple[np.ndarray, int, float]:
        """Those values that can be read; how many left before them, and their sum."""
        with self._lock:
            values = [*self._kept, *self._given]
            left, left_sum = self._left, self._left_sum
        arrays = []
        for value in values:
            with contextlib.suppress(Exception):  # its owner has given its memory away
                arrays.append(as_array(value))
        return np.stack(arrays) if arrays else np.empty(0), left, left_sum

    def _scaled(self, values: Any) -> Any:
        # Not in their own type: bfloat16 would stop growing at 256.
        values = np.asarray(values, np.float64)
        return np.log(values) if self._geometric else values


_histories: weakref.WeakSet[_History] = weakref.WeakSet()


def _lock_all_anew() -> None:
    for history in list(_histories):
        history.lock_anew()


os.register_at_fork(after_in_child=_lock_all_anew)


class MetricsLogger:
    """Logs metrics to all backends of its options, and remembers them.

    No backend delays or breaks the training. Scalars that others record through
    `jax.monitoring.record_scalar` reach the backends too, until `close`.

    Args:
        metrics_logger_options: None for a logger without backends.
        otel_meter_provider: for OpenTelemetry, instead of the program's global one.

    Raises:
        TypeError: what was given are no options.
        ConfigError: options that cannot be.
        MissingExtraError: a backend was named, and its library is not installed.
    """

    def __init__(
        self,
        metrics_logger_options: MetricsLoggerOptions | None = None,
        *,
        otel_meter_provider: Any = None,
    ) -> None:
        if not isinstance(metrics_logger_options, MetricsLoggerOptions | None):
            raise TypeError(
                "metrics_logger_options: expected MetricsLoggerOptions or None, found "
                f"{type(metrics_logger_options).__name__}; options are made by "
                "MetricsLoggerOptions(log_dir=…)"
            )
        self._histories: dict[tuple[str, str, str], _History] = {}
        self._log = OnceLog()
        self._pipeline = Pipeline()
        self._monitoring: Any = None
        if metrics_logger_options is not None and metrics_logger_options._made_in(
            lambda: self._pipeline, otel_meter_provider
        ):
            self._monitoring = importlib.import_module("jax.monitoring")
            self._monitoring.register_scalar_listener(self._heard)

    @property
    def pipeline(self) -> Pipeline:
        """Where the metrics go: for texts, images, more backends, middleware."""
        return self._pipeline

    @overload
    def log(
        self,
        metrics_prefix: str,
        metric_name: str,
        scalar_value: Any,
        mode: Mode | str,
        step: int | None = None,
    ) -> None: ...

    @overload
    def log(
        self,
        metric_name: str,
        scalar_value: Any,
        /,
        mode: Mode | str = Mode.TRAIN,
        step: int | None = None,
    ) -> None: ...

    def log(self, *args: Any, **kwargs: Any) -> None:
        """Logs one value, as `prefix/mode/name` or, without a prefix, `mode/name`.

        A name that begins with its mode already is left as it is. Texts go to text
        backends only, and have no history.

        Args:
            *args: metrics_prefix, metric_name, scalar_value, mode, step; or
                metric_name, scalar_value, mode ("train"), step.
            **kwargs: the same by name.

        Raises:
            TypeError: arguments that are none of these; a mode that is no text, as it
                is where the step stands in its place.
        """
        call = _bound(args, kwargs)
        prefix, name = str(call.get("metrics_prefix", "")), str(call["metric_name"])
        mode = call.get("mode", Mode.TRAIN)
        if not isinstance(mode, str):
            raise TypeError(
                f"log() got mode={mode!r}: expected a text such as 'train' or 'eval'; "
                f"a step is passed as step={mode!r}"
            )
        mode = str(mode)
        name = name.removeprefix(f"{mode}/") if not prefix else name
        value, step = call["scalar_value"], call.get("step")
        if not isinstance(value, str):
            self._remember((prefix, mode, name), value)
        event = f"{prefix}/{mode}/{name}" if prefix else f"{mode}/{name}"
        self._pipeline.log_scalar(event, value, step=step)

    def log_metrics(
        self,
        metrics: Mapping[str, Any],
        step: int | None = None,
        mode: Mode | str = Mode.TRAIN,
        metrics_prefix: str = "",
    ) -> None:
        """Logs metrics of one step; a `MetricsT` is aggregated with its functions.

        If one of these fails, none of the metrics is logged, which is said once.
        """
        try:
            values = resolved(metrics)
        except Exception as error:  # of an aggregation, or what was given is no mapping
            self._log.say("metrics", f"metrics are not logged: {error_line(error)}")
            return
        for name, value in values.items():
            self.log(metrics_prefix, name, value, mode, step)

    def metric_exists(
        self, metrics_prefix: str, metric_name: str, mode: Mode | str | None = None
    ) -> bool:
        """Whether such a metric was logged.

        All three methods on history also take (metric_name, mode) alone.
        """
        return self._key(metrics_prefix, metric_name, mode) in self._histories

    def get_metric(
        self, metrics_prefix: str, metric_name: str, mode: Mode | str | None = None
    ) -> Any:
        """The mean of all values of a metric; the geometric one for perplexity.

        Raises:
            ValueError: there is no such metric; the message names those of the mode.
        """
        return self._history(metrics_prefix, metric_name, mode).mean()

    def get_metric_history(
        self, metrics_prefix: str, metric_name: str, mode: Mode | str | None = None
    ) -> np.ndarray:
        """The values of a metric in order, the last ten thousand at most.

        Raises:
            ValueError: there is no such metric; the message names those of the mode.
        """
        return self._history(metrics_prefix, metric_name, mode).values()

    def log_exports(
        self, export_fn: Callable[[Any], Mapping[str, Any]], first_step: int = 0
    ) -> _LoggedExport:
        """An export function for a tracer whose metrics are logged at each export.

            tracer = PerfTracer(devices, logger.log_exports(export_fn))

        The metrics keep their names (`perf/…`), and steps are counted by exports. For
        frameworks that do not log what `export` returns: Tunix's cluster does.

        Args:
            export_fn: of v1, of v2, or one's own.
            first_step: the step of the first export.
        """
        return _LoggedExport(self._pipeline, export_fn, first_step)

    def flush(self) -> None:
        """Waits until all that was logged is delivered and written."""
        self._pipeline.flush()

    def close(self) -> None:
        """Delivers what is pending and closes all backends; harmless when repeated."""
        if self._monitoring is not None:
            self._monitoring.unregister_scalar_listener(self._heard)
            self._monitoring = None
        self._pipeline.close()

    def __enter__(self) -> MetricsLogger:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _remember(self, key: tuple[str, str, str], value: Any) -> None:
        history = self._histories.get(key)
        if history is None:
            if len(self._histories) >= _KEPT_NAMES:
                self._log.say(
                    "names",
                    f"{_KEPT_NAMES} metrics have a history; those with other names "
                    "are logged and not remembered",
                )
                return
            made = _History(geometric=key[2] == "perplexity")
            history = self._histories.setdefault(key, made)
        try:
            history.add(value)
        except Exception as error:  # it was no number, or its array is gone
            self._log.say("history", f"metrics are not kept: {error_line(error)}")

    def _heard(self, event: str, value: Any, **kwargs: Any) -> None:
        """Called by JAX. What it records of itself is no metric of the training."""
        if not event.startswith(OF_JAX):
            self._pipeline.log_scalar(event, value, **kwargs)

    def _key(
        self, prefix: str, name: str, mode: Mode | str | None
    ) -> tuple[str, str, str]:
        if mode is None:
            prefix, name, mode = "", prefix, name
        mode = str(mode)
        return prefix, mode, name.removeprefix(f"{mode}/") if not prefix else name

    def _history(self, prefix: str, name: str, mode: Mode | str | None) -> _History:
        key = self._key(prefix, name, mode)
        if key not in self._histories:
            found = sorted(
                "/".join(filter(None, (prefix, name)))
                for prefix, of_mode, name in self._histories
                if of_mode == key[1]
            )
            raise ValueError(
                f"Metric '{'/'.join(filter(None, key))}' not found. Available metrics "
                f"for mode '{key[1]}': {found}"
            )
        return self._histories[key]


class _LoggedExport:
    """An export function whose metrics also go to a pipeline."""

    def __init__(
        self,
        pipeline: Pipeline,
        export_fn: Callable[[Any], Mapping[str, Any]],
        first_step: int,
    ) -> None:
        self._pipeline = pipeline
        self._export_fn = checked_export(export_fn)
        self._step = first_step

    def __call__(self, spans: Any) -> Any:
        step, self._step = self._step, self._step + 1
        metrics = self._export_fn(spans)
        if isinstance(metrics, Mapping):
            self._pipeline.log_metrics(metrics, step)
        return metrics

    def attach(self, tracer: Any) -> bool:
        """Has the writer of the export function take what a tracer records."""
        return attach_export(self._export_fn, tracer)


_LONG: Final = ("metrics_prefix", "metric_name", "scalar_value", "mode", "step")
_SHORT: Final = _LONG[1:]


def _bound(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `log` by name."""
    names: tuple[str, ...] = _SHORT
    if "metric_name" in kwargs or "metrics_prefix" in kwargs or len(args) > 4:
        names = _LONG if args and "metrics_prefix" not in kwargs else _SHORT
    elif len(args) > 1 and isinstance(args[1], str):
        # ("actor", "loss", 0.5, …) or ("prompts", "a text", …)
        is_mode = len(args) > 2 and args[2] in (Mode.TRAIN, Mode.EVAL)
        if (len(args) > 2 or "scalar_value" in kwargs) and not is_mode:
            names = _LONG
    if len(args) > len(names):
        raise TypeError(f"log() takes at most {len(names)} arguments, got {len(args)}")
    call = dict(zip(names, args, strict=False))
    for name, value in kwargs.items():
        if name not in _LONG or name in call:
            raise TypeError(f"log() got an unexpected or repeated argument {name!r}")
        call[name] = value
    for name in ("metric_name", "scalar_value"):
        if name not in call:
            raise TypeError(f"log() is missing the argument {name!r}")
    return call
