"""`jepa.loggers.base_logger`: what all loggers have in common, and loggers by name."""

from __future__ import annotations

import atexit
import logging
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from perf.loggers import Middleware, Pipeline, flatten_metrics
from perf.loggers.config import ConfigError, checked
from perf.loggers.guard import never_raises
from perf.loggers.records import NO_OPTIONS, make_record, step_of
from perf.loggers.values import kept

__all__ = ["BaseLogger", "LoggerRegistry"]


class BaseLogger(Pipeline):
    """A logger; one of your own has to write `log_metrics` and nothing else.

    It is a pipeline and a backend of `perf.loggers`. No method of the loggers here
    raises because of what it was given or what becomes of it.

    Attributes:
        config: the options. All loggers here have `level`, `log_frequency`,
            `save_frequency`, `log_model` and `log_gradients`.
        logger: of `logging`, for lines of text.
        loggers: those that it hands on to.
    """

    _backend = ""
    _defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.config: dict[str, Any] = dict(config or {})
        self.logger = logging.getLogger(f"jepa.loggers.{type(self).__name__}")
        self.loggers: list[Any] = []
        self._changes = logging.Filterer()
        self._switches: list[_Switches] = []
        self._savers: list[_Switches] = []
        self._watched: Any = None
        self._folder: str | None = None
        if self._backend:
            self._log_to(self._backend, {**self._defaults, **self.config})

    def log_metrics(
        self, metrics: Mapping[str, Any], step: int | None = None, **options: Any
    ) -> None:
        """Logs metrics of one moment; nested mappings are named "outer/inner"."""
        super().log_metrics(metrics, step, **options)
        self._log_gradients(step)

    log_hyperparameters = Pipeline.log_hparams

    @never_raises
    def log_model(self, model: Any, name: str, step: int | None = None) -> None:
        """Keeps a model as an artifact of type "model", where a service does (W&B).

        A model that is no file or folder is pickled, or what its `state_dict()` gives.
        With `save_frequency` only models of its steps are kept, and those without.
        """
        for each in self.loggers:
            each.log_model(model, name, step)
        if any(each.keeps_model(step) for each in self._savers):
            if not isinstance(model, str | os.PathLike):
                state = model.state_dict() if hasattr(model, "state_dict") else model
                self._folder = self._folder or tempfile.mkdtemp(prefix="jepa-")
                model = Path(self._folder, f"{Path(name).name}.pickle")
                # Replaced as a whole: the one before may be on its way out.
                partial = model.with_suffix(".new")
                partial.write_bytes(pickle.dumps(state))
                partial.replace(model)
            self.log_artifact(name, model, type="model")

    @property
    def saves_models(self) -> bool:
        """Whether models are to be kept without being asked for one by one."""
        asked = any(each.save_frequency for each in self._savers)
        return asked or any(each.saves_models for each in self.loggers)

    def watch_model(self, model: Any) -> None:
        """Has gradients logged with the metrics, where `log_gradients` is on.

        The model is one of PyTorch, a mapping of names to gradients, or a function that
        returns such a mapping.
        """
        self._watched = model
        for each in self.loggers:
            each.watch_model(model)

    def add_middleware(self, transform: Any) -> None:
        """Changes metrics on their way; see `perf.loggers.Middleware`."""
        if not self._changes.filters:
            log = self.log_metrics

            def through(
                metrics: Mapping[str, Any], step: int | None = None, **options: Any
            ) -> None:
                record = make_record(dict(metrics), step=step)
                if self._changes.filter(record):
                    # The message of a record of ours is a mapping, not a text.
                    log(record.msg, step_of(record), **options)  # type: ignore[arg-type]

            # On the object, so that it holds for whatever a class of one's own does.
            self.log_metrics = through  # type: ignore[method-assign]
        self._changes.addFilter(Middleware(transform))

    def finish(self) -> None:
        """Writes what is pending and closes. Harmless when repeated."""
        super().close()
        self._forget_models()

    def close(self) -> None:
        """`finish`, as a pipeline calls it."""
        self.finish()

    def _hand_on_to(
        self,
        logger: Any,
        options: Mapping[str, Any] = NO_OPTIONS,
        *filters: logging.Filter,
        **delivery: Any,
    ) -> None:
        """Adds a logger, or what one of this name logs to; see `Pipeline.add`."""
        if isinstance(logger, BaseLogger):
            self.add(logger, filters=filters, **{"delivery": "sync", **delivery})
            self.loggers.append(logger)
        elif "_backend" in vars(make := LoggerRegistry.maker(logger)):
            # Whoever has `_backend` is a class of ours, and has these too.
            given = {**make._defaults, **delivery, **options}  # type: ignore[attr-defined]
            self._log_to(logger, given, *filters)
        else:

            def made(_: object) -> BaseLogger:
                self.loggers.append(make(dict(options)))
                # What is registered makes loggers; it may be anybody's function.
                return self.loggers[-1]  # type: ignore[no-any-return]

            # What it does is done when the call returns, unless it takes long.
            given = {"patience_s": 0.25, **delivery, **options}
            self._log_to(logger, given, *filters, make=made)

    def _log_to(
        self,
        name: str,
        options: Mapping[str, Any],
        *filters: logging.Filter,
        make: Callable[[Any], BaseLogger] | None = None,
    ) -> None:
        """Adds a backend, or a logger of somebody's own, as a section says."""
        own = {key: each for key, each in options.items() if key in _Switches.KEYS}
        given = {key: each for key, each in options.items() if key not in own}
        switches = _Switches(**checked(name, own, _Switches))
        given["every_n_steps"] = switches.log_frequency
        # The hook before those of backends: they run in reverse, and read the files.
        atexit.register(self._forget_models)
        try:
            self.add_by_name(name, given, make=make, filters=[switches, *filters])
        except ConfigError as error:
            key = error.key.replace("every_n_steps", "log_frequency")
            raise ConfigError(key, error.expected, error.found) from None
        self._switches.append(switches)
        self._savers += [switches] * (name == "wandb")

    @never_raises
    def _log_gradients(self, step: int | None) -> None:
        found: Any = self._watched
        wanted = any(each.wants_gradients(step) for each in self._switches)
        if found is None or not wanted:
            return
        if hasattr(found, "named_parameters"):
            found = {name: each.grad for name, each in found.named_parameters()}
        elif callable(found):
            found = found()
        for name, gradient in flatten_metrics(found).items():
            if gradient is not None:
                values = {f"gradients/{name}": kept(gradient)}
                record = make_record(values, "histogram", step)
                record.is_gradient = True
                self._emit(record)

    def _forget_models(self) -> None:
        atexit.unregister(self._forget_models)
        shutil.rmtree(self._folder or "", ignore_errors=True)
        self._folder = None


class _Switches(logging.Filter):
    """What a section says of models and gradients."""

    KEYS = ("log_frequency", "log_gradients", "log_model", "save_frequency")

    def __init__(
        self,
        log_frequency: int = 1,
        log_gradients: bool = False,
        log_model: bool = True,
        save_frequency: int | None = None,
    ) -> None:
        super().__init__()
        self.log_frequency = log_frequency
        self.log_gradients = log_gradients
        self.save_frequency = save_frequency if log_model else None
        self._log_model = log_model
        if save_frequency is not None and save_frequency < 1:
            raise ConfigError("save_frequency", "1 or more", str(save_frequency))

    def keeps_model(self, step: int | None) -> bool:
        return self._log_model and (step or 0) % (self.save_frequency or 1) == 0

    def wants_gradients(self, step: int | None) -> bool:
        return self.log_gradients and (step or 0) % self.log_frequency == 0

    def filter(self, record: logging.LogRecord) -> bool:
        return self.log_gradients or not hasattr(record, "is_gradient")


class LoggerRegistry:
    """Loggers by name: console, tensorboard, wandb, and your own."""

    _makers: ClassVar[dict[str, Callable[[Any], BaseLogger]]] = {}

    @classmethod
    def register(cls, name: str, logger: Callable[[Any], BaseLogger]) -> None:
        """Makes a class, or a function of its configuration, known by name."""
        if not callable(logger):
            raise TypeError(f"logger {name!r}: expected a class, found {logger!r}")
        cls._makers[name] = logger

    @classmethod
    def maker(cls, name: str) -> Callable[[Any], BaseLogger]:
        """What has been registered; ConfigError if nothing has."""
        if name not in cls._makers:
            known = ", ".join(cls.list_available())
            raise ConfigError(str(name), f"one of {known}", "no such logger")
        return cls._makers[name]

    @classmethod
    def create(cls, name: str, config: Mapping[str, Any] | None = None) -> BaseLogger:
        """Makes a logger; ConfigError for a name or an option that cannot be."""
        return cls.maker(name)(dict(config or {}))

    @classmethod
    def list_available(cls) -> list[str]:
        """The names."""
        return sorted(cls._makers)
