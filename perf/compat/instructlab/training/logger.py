"""`instructlab.training.logger`: metrics through loggers of `logging`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Final

from perf.loggers import (
    ConfigError,
    IsMappingFilter,
    auto_configure_integrations,
    available,
    filters,
    flatten_metrics,
)
from perf.loggers.config import checked
from perf.loggers.delivery import close_together
from perf.loggers.levels import level_number
from perf.loggers.naming import substitute_placeholders
from perf.loggers.registry import backend_factory
from perf.loggers.services import ServiceHandler, deferred_backend
from perf.loggers.values import as_float, joined

__all__ = [
    "AsyncStructuredHandler",
    "FormatDictFilter",
    "IsMappingFilter",
    "IsRank0Filter",
    "MLflowHandler",
    "TensorBoardHandler",
    "WandbHandler",
    "propagate_package_logs",
    "setup_metric_logger",
    "setup_root_logger",
]

_PACKAGE: Final = logging.getLogger("instructlab.training")


class IsRank0Filter(filters.IsRank0Filter):
    """Lets only records of the main process pass; see `perf.loggers.IsRank0Filter`."""

    def __init__(
        self, rank_val: int | Callable[[], int] | None = None, local_rank: bool = False
    ) -> None:
        super().__init__(rank_val, local_rank=local_rank)


class FormatDictFilter(logging.Filter):
    """Makes mappings readable, "loss=0.500, lr=1.00e-04", and lets all pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Has a mapping read so. It stays one: other handlers get the values."""
        if isinstance(record.msg, Mapping):
            record.msg = _Readable(record.msg)
        return True


class _Readable(dict[str, Any]):
    def __str__(self) -> str:
        flat = flatten_metrics(self)
        return joined({name: _text(value) for name, value in flat.items()})


def _text(value: Any) -> str:
    number = None if isinstance(value, int | str) else as_float(value)
    if number is None:
        return str(value)
    is_extreme = 0 < abs(number) < 1e-3 or 1e6 <= abs(number) < float("inf")
    return f"{number:.2e}" if is_extreme else f"{number:.3f}"


class _MetricHandler(ServiceHandler):
    """Hands mappings to a backend, which is made with the first one.

    Args:
        level: the lowest that it gets.
        run_name: `{time}`, `{utc_time}`, `{rank}` and `{local_rank}` are filled in.
        log_dir: the folder.
        **options: arguments of the backend.
    """

    _backend = ""
    _options: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        level: int | str = logging.INFO,
        run_name: str | None = None,
        log_dir: str | os.PathLike[str] = "logs",
        **options: Any,
    ) -> None:
        name = substitute_placeholders(run_name or "{time}_rank{rank}")
        places = {"dir": os.fspath(log_dir), "name": name}
        own = {key: text.format(**places) for key, text in self._options.items()}
        given = {**own, **options}
        # What is wrong with them is said now, not when the first record comes.
        number = level_number(level)
        checked(self._backend, given, backend_factory(self._backend))
        backend = deferred_backend(self._backend, given)
        super().__init__(backend, self._backend, texts=True, at_once=False)
        self.setLevel(number)


class AsyncStructuredHandler(_MetricHandler):
    """Appends a line of JSON for each mapping to `<log_dir>/<run_name>.jsonl`."""

    _backend = "jsonl"
    _options: ClassVar = {"path": "{dir}/{name}.jsonl"}


class TensorBoardHandler(_MetricHandler):
    """Writes event files into `<log_dir>/<run_name>`."""

    _backend = "tensorboard"
    _options: ClassVar = {"log_dir": "{dir}/{name}"}


class WandbHandler(_MetricHandler):
    """Logs into a run of W&B, with its files in `log_dir`; offline without a key."""

    _backend = "wandb"
    _options: ClassVar = {"project": "instructlab", "name": "{name}", "dir": "{dir}"}


class MLflowHandler(_MetricHandler):
    """Logs into a run of MLflow, whose server or store `tracking_uri` names."""

    _backend = "mlflow"
    _options: ClassVar = {"experiment_name": "instructlab", "run_name": "{name}"}


_HANDLERS: Final[dict[str, type[_MetricHandler]]] = {
    "async": AsyncStructuredHandler,
    "mlflow": MLflowHandler,
    "tensorboard": TensorBoardHandler,
    "wandb": WandbHandler,
}


def propagate_package_logs(should_propagate: bool = True) -> None:
    """Whether the root logger gets what the package logs. It does not by default."""
    _PACKAGE.propagate = should_propagate


def setup_root_logger(level: int | str = logging.INFO) -> None:
    """Has the console show all from a level on, the package too, and dicts readable."""
    handler: logging.Handler = logging.StreamHandler()
    if available("console"):
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True))
    handler.addFilter(IsRank0Filter())
    handler.addFilter(FormatDictFilter())
    _replace(logging.getLogger(), [handler], level)
    propagate_package_logs()


def setup_metric_logger(
    loggers: str | Iterable[str] | None = None,
    run_name: str | None = None,
    output_dir: str | os.PathLike[str] = "logs",
    *,
    logger_type: str | Iterable[str] | None = None,
    **options: Any,
) -> None:
    """Has the metrics logger log mappings, instead of where it did before.

    Args:
        loggers: some of async, mlflow, tensorboard, wandb: a list, or a text with
            commas. By default async, those that there are options for, and those that
            the environment has keys for.
        run_name: names files and runs.
        output_dir: the folder for all.
        logger_type: `loggers` by another name.
        **options: of one handler, after its name: `wandb_project`, `wandb_run_name`,
            `tensorboard_log_dir`, `mlflow_tracking_uri`. None is no option.

    Raises:
        ConfigError: there is no such logger or option.
        MissingExtraError: the library of a logger is not installed.
    """
    given: dict[str, dict[str, Any]] = {}
    for key, value in options.items():
        name, _, option = key.partition("_")
        if value is not None:
            given.setdefault(name, {})[option] = value
    names = loggers or logger_type
    if names is None:
        names = {"async": {}, **given, **auto_configure_integrations()}
    elif isinstance(names, str):
        names = names.replace(" ", "").strip(",").split(",")
    if unknown := {*names, *given} - _HANDLERS.keys():
        raise ConfigError("loggers", f"some of {', '.join(_HANDLERS)}", min(unknown))
    handlers: list[logging.Handler] = []
    for name in names:
        common = {"run_name": run_name, "log_dir": output_dir}
        handler = _HANDLERS[name](**{**common, **given.get(name, {})})
        handler.addFilter(IsMappingFilter())
        handler.addFilter(IsRank0Filter())
        handlers.append(handler)
    _replace(_PACKAGE.getChild("metrics"), handlers, logging.INFO)


_ours: Final[dict[str, list[logging.Handler]]] = {}
"""The handlers that were set up, by the name of their logger."""


def _replace(
    logger: logging.Logger, handlers: list[logging.Handler], level: int | str
) -> None:
    before = _ours.get(logger.name, ())
    for handler in before:
        logger.removeHandler(handler)
    close_together(before)
    for handler in handlers:
        logger.addHandler(handler)
    logger.setLevel(level_number(level))
    _ours[logger.name] = handlers


# As a library it is not heard unless its user wants to.
_PACKAGE.addHandler(logging.NullHandler())
propagate_package_logs(False)
