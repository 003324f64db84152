"""The options of a metrics logger: which backends it has, and how they are made."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from perf.loggers.backends.opentelemetry import OpenTelemetryBackend
from perf.loggers.config import ConfigError, MissingExtraError, section
from perf.loggers.filters import is_main_process
from perf.loggers.pipeline import Pipeline
from perf.loggers.protocol import LoggingBackend
from perf.loggers.registry import available, create_backend, known_backends, skipped

BackendFactory = Callable[[], LoggingBackend]
"""Makes a backend; a class is one too."""

OF_JAX: Final = "/jax/"
"""Begins the names of what JAX records of itself: no metric of a training."""
_CUSTOM: Final = "custom_backend"
_DEFAULTS: Final = ("clu", "tensorboard", "wandb")
"""Made by environment; all others only where they are named."""
_PATIENCE_S: Final = 0.25  # mutate: ok any time of this size
"""How long a logger waits for somebody's own backend to have a value."""


@dataclasses.dataclass
class MetricsLoggerOptions:
    """Which backends a logger has. Safe to copy and to pickle: it holds no live one.

    Attributes:
        log_dir: the folder for whatever is written to files.
        project_name: of W&B.
        run_name: of W&B; empty for the time of its start.
        flush_every_n_steps: how often TensorBoard's file is written out.
        backend_factories: classes or functions that make a backend, called once for
            each logger; they replace the defaults. An empty list: no backends.
        backend_kwargs: constructor arguments by backend. Those of "tensorboard",
            "wandb" and "clu" only add to the defaults; any other known backend
            ("jsonl", "prometheus", …) is made because it is named here.
            "custom_backend" is a list of factories, as above; if empty, it is ignored.
        text_backends: names of backends that are given texts, which may hold prompts
            and completions; "jsonl" makes a file for them. No other backend gets any.
        enable_opentelemetry: also set gauges of OpenTelemetry.
    """

    log_dir: str
    project_name: str = "tunix"
    run_name: str = ""
    flush_every_n_steps: int = 100
    backend_factories: Sequence[BackendFactory] | None = None
    # May hold webhook addresses and keys, and frameworks log their configuration.
    backend_kwargs: Mapping[str, Any] = dataclasses.field(
        default_factory=dict, repr=False
    )
    text_backends: Sequence[str] = ()
    enable_opentelemetry: bool = False

    def create_backends(self) -> list[LoggingBackend]:
        """Fresh live backends, none in a process that is not the main one.

        None of them raises from `log_scalar` or delays its caller, and a closed one
        hears nothing any more, so a foreign logger may have them as they are.

        Raises:
            ConfigError: options that cannot be.
            MissingExtraError: a backend was named, and its library is not installed.
        """
        return [*self._made_in(_pipeline_of_the_training)]

    def _made_in(
        self, pipeline_of_next: Callable[[], Pipeline], meter_provider: Any = None
    ) -> list[Pipeline]:
        """Makes all backends; if one cannot be made or added, closes all there are.

        Args:
            pipeline_of_next: gives the pipeline to which the next backend is added.
            meter_provider: for OpenTelemetry, instead of the program's global one.

        Returns:
            The pipeline of each backend.
        """
        pipelines: list[Pipeline] = []
        try:
            for name, backend, texts, patience_s in self._made(meter_provider):
                pipelines.append(pipeline_of_next())
                try:
                    pipelines[-1].add(
                        backend, name=name, texts=texts, patience_s=patience_s
                    )
                except BaseException:
                    with contextlib.suppress(Exception):
                        backend.close()
                    raise
        except BaseException:
            for pipeline in pipelines:
                pipeline.close()
            raise
        return pipelines

    def _made(
        self, meter_provider: Any
    ) -> Iterator[tuple[str, LoggingBackend, bool, float]]:
        """Live backends, with name, whether they get texts, and our patience."""
        kwargs = self._checked_kwargs()
        if not is_main_process():
            return
        factories = self.backend_factories
        if factories is None:
            factories = kwargs.get(_CUSTOM) or None
        for factory in factories or ():
            # What somebody's own backend prints is expected to be there at once.
            yield _name_of(factory), factory(), False, _PATIENCE_S
        names = [] if factories is not None else list(self._defaults(kwargs))
        names += [name for name in kwargs if name not in (_CUSTOM, *_DEFAULTS)]
        names += [name for name in self.text_backends if name not in names]
        for name in names:
            options = {**self._own_options(name), **section(name, kwargs.get(name))}
            yield name, create_backend(name, options), name in self.text_backends, 0.0
        if self.enable_opentelemetry and "opentelemetry" not in names:
            if not available("opentelemetry"):
                raise MissingExtraError("opentelemetry", "opentelemetry-sdk")
            yield "opentelemetry", OpenTelemetryBackend(meter_provider), False, 0.0

    def _checked_kwargs(self) -> dict[str, Any]:
        kwargs = section("backend_kwargs", self.backend_kwargs)
        if isinstance(self.text_backends, str):
            raise ConfigError("text_backends", "a list of names", "str")
        for option, names in (
            ("backend_kwargs", kwargs),
            ("text_backends", self.text_backends),
        ):
            for name in names:
                if name not in (_CUSTOM, *known_backends()):
                    known = ", ".join((_CUSTOM, *known_backends()))
                    raise ConfigError(
                        f"{option}.{name}", f"one of {known}", "an unknown name"
                    )
        for factory in (*(self.backend_factories or ()), *(kwargs.get(_CUSTOM) or ())):
            if not callable(factory):
                raise ConfigError(
                    "backend_factories",
                    "classes or functions that make a backend",
                    f"a live {type(factory).__name__}",
                )
        return kwargs

    def _defaults(self, kwargs: Mapping[str, Any]) -> Iterator[str]:
        if importlib.util.find_spec("google3") is not None:
            yield "clu"
            return
        for name in ("tensorboard", "wandb"):
            if available(name) or name in kwargs or name in self.text_backends:
                yield name
            else:
                skipped(name)

    def _own_options(self, name: str) -> dict[str, Any]:
        """What these options say to a backend."""
        match name:
            case "tensorboard":
                return {
                    "log_dir": self.log_dir,
                    "flush_every_n_steps": self.flush_every_n_steps,
                }
            case "clu":
                return {"logdir": self.log_dir}
            case "wandb":
                return {"project": self.project_name, "name": self.run_name or None}
            case "mlflow":
                return {
                    "experiment_name": self.project_name,
                    "run_name": self.run_name or None,
                }
            case "jsonl":
                return {"path": os.path.join(self.log_dir, "metrics.jsonl")}
            case "files":
                return {"path": os.path.join(self.log_dir, "metrics.log")}
        return {}


def _pipeline_of_the_training() -> Pipeline:
    pipeline = Pipeline()
    pipeline.logger.addFilter(_is_of_the_training)
    return pipeline


def _is_of_the_training(record: logging.LogRecord) -> bool:
    """Whether a record is no metric that JAX records of itself."""
    return not (
        isinstance(record.msg, Mapping)
        and any(name.startswith(OF_JAX) for name in record.msg)
    )


def _name_of(factory: BackendFactory) -> str:
    """What a backend is called in log lines; a lambda has no name of use."""
    name = getattr(factory, "__name__", type(factory).__name__)
    return "" if name == "<lambda>" else name
