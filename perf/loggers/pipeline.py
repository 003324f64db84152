"""The way of a call: one record, filters, and to every backend on its own."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from perf._model.log import OnceLog
from perf.loggers.config import ConfigError, checked, read_config, section
from perf.loggers.delivery import AsyncHandler, Drop, close_together
from perf.loggers.filters import Gate, Middleware, is_main_process
from perf.loggers.handler import BackendHandler, HandlerStats
from perf.loggers.levels import level_number
from perf.loggers.protocol import LoggingBackend
from perf.loggers.records import NO_OPTIONS, make_message, make_record
from perf.loggers.redaction import error_line
from perf.loggers.registry import create_backend, known_backends
from perf.loggers.values import flatten_metrics, kept, kept_step, snapshot

__all__ = ["Pipeline", "create_pipeline"]


class Pipeline:
    """Logs to any number of backends; itself a backend.

    Each backend has a queue and a thread of its own: one that is slow, hangs or raises
    holds up neither the caller nor the others. No method raises because of a backend.

    Args:
        backends: see `add`.
        logger: through which the records go: a filter of its applies to all backends.
            One of its own otherwise, apart from the hierarchy of `logging`.
    """

    def __init__(
        self,
        backends: Sequence[LoggingBackend] = (),
        *,
        logger: logging.Logger | None = None,
    ) -> None:
        self.logger = self._front = logger or logging.Logger("perf.loggers")
        self._handlers: tuple[BackendHandler | AsyncHandler, ...] = ()
        """Replaced, never changed."""
        self._middleware: list[Middleware] = []
        self._log = OnceLog()
        self._closed = False
        for backend in backends:
            self.add(backend)

    def add(
        self,
        backend: LoggingBackend,
        *,
        name: str = "",
        texts: bool = False,
        delivery: str = "async",
        capacity: int = 100_000,
        drop: Drop = "oldest",
        flush_interval_s: float = 30.0,
        patience_s: float = 0.0,
        level: int | str = logging.NOTSET,
        filters: Sequence[logging.Filter] = (),
    ) -> BackendHandler | AsyncHandler:
        """Adds a backend.

        Args:
            backend: anything with `log_scalar` and `close`; see `OPTIONAL_METHODS`.
            name: in log lines; its class otherwise.
            texts: whether it is given texts.
            delivery: "async", or "sync" to call it in the caller's thread.
            capacity: of its queue, in records.
            drop: what gives way when that is full: "oldest" or "newest".
            flush_interval_s: at most so long it keeps what it was given.
            patience_s: see `AsyncHandler`.
            level: the lowest that it gets.
            filters: for it alone: `Gate`, `Middleware`, any `logging.Filter`.

        Returns:
            The handler, for more filters.
        """
        if delivery not in ("async", "sync"):
            raise ConfigError("delivery", "async or sync", repr(delivery))
        handler: BackendHandler | AsyncHandler
        handler = BackendHandler(backend, name=name, texts=texts, level=level)
        if delivery == "async":
            handler = AsyncHandler(
                handler,
                capacity=capacity,
                drop=drop,
                flush_interval_s=flush_interval_s,
                patience_s=patience_s,
            )
        for each in filters:
            handler.addFilter(each)
        self._handlers += (handler,)
        self._front.addHandler(handler)
        return handler

    def add_by_name(
        self,
        name: str,
        options: Mapping[str, Any] = NO_OPTIONS,
        *,
        make: Callable[[dict[str, Any]], LoggingBackend] | None = None,
        filters: Sequence[logging.Filter] = (),
    ) -> None:
        """Adds a backend as the section of a configuration says.

        Args:
            name: of a backend, or of whatever `make` makes.
            options: see `create_pipeline`.
            make: makes the backend of the options that are its own.
            filters: for it alone.

        Raises:
            ConfigError: an entry that cannot be; the message names it, never its value.
            MissingExtraError: the library of the backend is not installed.
        """
        options = dict(options)
        enabled = options.pop("enabled", True)
        if not isinstance(enabled, bool):
            raise ConfigError(f"{name}.enabled", "bool", type(enabled).__name__)
        if not enabled:
            return
        own = {key: options.pop(key) for key in list(options) if key in _COMMON_KEYS}
        settings = _checked_common(name, own)
        gate = {key: settings.pop(key) for key in _GATE_KEYS if key in settings}
        filters = [Gate(**gate), *filters] if gate else filters
        backend = create_backend(name, options) if make is None else make(options)
        self.add(backend, name=name, filters=filters, **settings)

    def add_middleware(
        self,
        transform: Callable[[dict[str, Any], int | None], Any] | Any,
    ) -> None:
        """Changes metrics on their way to all backends, in the order of adding.

        Args:
            transform: from (metrics, step) to (metrics, step), or an object with such a
                method `process_metrics`.
        """
        middleware = Middleware(transform)
        self._middleware.append(middleware)
        self._front.addFilter(middleware)

    def log_scalar(self, event: str, value: Any, **kwargs: Any) -> None:
        """Logs one value; `step` is its step, other arguments go to the backends."""
        step = kwargs.pop("step", None)
        try:
            values = {event: kept(value)}
            record = make_record(values, step=kept_step(step), options=kwargs)
        except Exception as error:  # of an array that its device cannot copy
            self._failed(error)
        else:
            self._emit(record)

    def log_metrics(
        self,
        metrics: Mapping[str, Any],
        step: int | None = None,
        *,
        level: int | str = logging.INFO,
        **options: Any,
    ) -> None:
        """Logs metrics of one moment.

        Args:
            metrics: names to numbers, arrays, or texts; nested mappings are named
                "outer/inner", and `(value, aggregation)` pairs, as in a `MetricsT`,
                are aggregated.
            step: when.
            level: of `logging`; backends and gates may ask for a higher one.
            **options: for backends that know them.
        """
        self._send("metrics", metrics, step, options, level)

    def log_text(
        self, name: str, text: str, step: int | None = None, **options: Any
    ) -> None:
        """Logs a text to the backends for which texts are switched on."""
        self._send("text", {name: text}, step, options)

    def log_image(
        self, name: str, image: Any, step: int | None = None, **options: Any
    ) -> None:
        """Logs an image: HW or HWC, or a batch of either; 0 … 1, or bytes."""
        self._send("image", {name: image}, step, options)

    def log_histogram(
        self, name: str, values: Any, step: int | None = None, **options: Any
    ) -> None:
        """Logs how values, an array of any shape, are distributed."""
        self._send("histogram", {name: values}, step, options)

    def log_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Logs what the run was started with; nested names become "outer/inner"."""
        self._send("hparams", hparams)

    def log_artifact(
        self, name: str, path: str | os.PathLike[str], **options: Any
    ) -> None:
        """Hands a file or folder to the backends that keep such; `type` says what."""
        self._send("artifact", {name: os.fspath(path)}, options=options)

    def log_result(
        self, results: Mapping[str, Any], step: int | None = None, **options: Any
    ) -> None:
        """Logs what the run arrived at: more than one metric of many."""
        self._send("result", results, step, options)

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Logs what the run is to be found by."""
        self._send("tags", tags)

    def notify(self, message: str, level: int = logging.ERROR) -> None:
        """Sends a line of text to the backends that people are told things by."""
        self._emit(make_message(message, level))

    def stats(self) -> dict[str, HandlerStats]:
        """What became of the records, by the backend's name."""
        return {str(each.name): each.stats for each in self._handlers}

    def flush(self) -> None:
        """Waits until all that was logged is delivered and written."""
        for handler in self._handlers:
            handler.flush()

    def close(self) -> None:
        """Delivers what is pending and closes all backends. Harmless when repeated."""
        self._closed = True
        close_together(self._handlers)
        for handler in self._handlers:
            self._front.removeHandler(handler)
        for middleware in self._middleware:
            self._front.removeFilter(middleware)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _send(
        self,
        kind: str,
        values: Mapping[str, Any],
        step: int | None = None,
        options: Mapping[str, Any] = NO_OPTIONS,
        level: int | str = logging.INFO,
    ) -> None:
        try:
            number = level_number(level)
            if kind == "metrics":
                flat = snapshot(values)
            else:
                flat = {name: kept(v) for name, v in flatten_metrics(values).items()}
            step = kept_step(step)
        except Exception as error:  # of an aggregation, or what was given is no mapping
            self._failed(error)
        else:
            self._emit(make_record(flat, kind, step, number, options))

    def _emit(self, record: logging.LogRecord) -> None:
        if self._closed:
            self._log.say("closed", "metrics are not logged: their logger is closed")
            return
        try:
            # Not `isEnabledFor`: `logging.disable` is about what programs say.
            if record.levelno >= self._front.getEffectiveLevel():
                self._front.handle(record)
        except Exception as error:  # of a filter; handlers keep theirs
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._log.say("failed", f"metrics are not logged: {error_line(error)}")


_GATE_KEYS = ("min_step", "every_n_steps", "max_fraction", "max_per_s")
_COMMON_KEYS = (
    *_GATE_KEYS,
    "capacity",
    "delivery",
    "drop",
    "flush_interval_s",
    "level",
    "patience_s",
    "texts",
)


def create_pipeline(
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    logger: logging.Logger | None = None,
) -> Pipeline:
    """A pipeline from a configuration.

    Args:
        source: a YAML file or its content: `backends`, a list of names, and a section
            of options for each that needs some. A section holds the arguments of the
            backend, of `Pipeline.add` and of `Gate`; those that stand beside
            `backends` hold for all. `enabled: false` leaves a backend out. Only in the
            main process is any made.
        logger: see `Pipeline`.

    Raises:
        ConfigError: an entry that cannot be; the message names it, never its value.
        MissingExtraError: a backend's library is not installed.
        OSError: the file cannot be read.
    """
    config = read_config(source)
    names = config.pop("backends", [])
    if not isinstance(names, list | tuple):
        raise ConfigError("backends", "a list of names", type(names).__name__)
    sections = {
        name: section(name, config.pop(name))
        for name in list(config)
        if name in known_backends()
    }
    common = _checked_common("configuration", config)
    pipeline = Pipeline(logger=logger)
    if not is_main_process():
        return pipeline
    try:
        for name in names:
            if not isinstance(name, str):
                raise ConfigError("backends", "a list of names", type(name).__name__)
            pipeline.add_by_name(name, {**common, **sections.get(name, {})})
    except BaseException:
        pipeline.close()
        raise
    return pipeline


def _checked_common(where: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Entries that are arguments of `Pipeline.add` or `Gate`."""
    for key, value in content.items():
        if key not in _COMMON_KEYS:
            names = ", ".join((*known_backends(), *sorted(_COMMON_KEYS)))
            raise ConfigError(f"{where}.{key}", f"one of {names}", "an unknown key")
        target = Gate if key in _GATE_KEYS else Pipeline.add
        checked(where, {key: value}, target, complete=False)
    level_number(content.get("level", logging.NOTSET), f"{where}.level")
    return dict(content)
