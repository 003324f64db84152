"""`MLLogger`: shapes each call into one entry and one record of `logging`."""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec

from perf.compat.refunc._entries import EntryStore, LogEntry, export
from perf.compat.refunc._experiments import (
    ExperimentContext,
    experiment_inside,
    new_run,
)
from perf.compat.refunc._handlers import AsyncHandler, BufferedHandler, Console, LogFile
from perf.compat.refunc._integrations import as_integration
from perf.compat.refunc._levels import LogLevel, level_number
from perf.loggers.fanout import FanOut
from perf.loggers.records import make_record
from perf.loggers.redaction import error_line
from perf.loggers.values import flatten_metrics, format_metrics, kept, resolved

P = ParamSpec("P")

_NOTHING: Final[Mapping[str, Any]] = {}


class _Values(dict[str, Any]):
    """The mapping of a record; as text it is the message and the values."""

    message = ""

    def __str__(self) -> str:
        shown = format_metrics(self).items()
        return f"{self.message}: " + ", ".join(f"{name}={each}" for name, each in shown)


def _never_raises(
    method: Callable[Concatenate[MLLogger, P], None],
) -> Callable[Concatenate[MLLogger, P], None]:
    @functools.wraps(method)
    def guarded(self: MLLogger, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self._failed(method.__name__, error)

    return guarded


def _at(level: LogLevel) -> Callable[..., None]:
    """The method that logs at a level."""

    def method(
        self: MLLogger,
        message: str,
        metrics: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        self.log(level, message, metrics, **fields)

    method.__name__ = level.name.lower()
    method.__doc__ = f"Logs at level {level.name}; see `log`."
    return method


class MLLogger:
    """Logs a training: lines, metrics, experiments.

    A call becomes one entry. It is kept for `get_log_entries`, written to the console
    and a file, and handed to the integrations: metrics as metrics, results as results,
    progress, warnings and errors as text. No call raises because of what becomes of it,
    or of what it was given: the first failure is logged, the training goes on.

    Args:
        name: in lines, and of the file.
        level: the lowest that is logged at all; `log_metrics` logs at METRIC.
        log_dir: the folder of `<name>.log` or, with `json_logging`, `<name>.jsonl`; by
            default `./logs`.
        experiment_tracking: whether entries belong to experiments.
        colored_output: on the console.
        json_logging: whether the file has JSON objects, one a line.
        max_log_files: how many files take turns.
        max_file_size: of one, "100MB".

    Raises:
        ValueError: a level, size or number that is none.
    """

    def __init__(
        self,
        name: str = "refunc",
        level: int | str = LogLevel.INFO,
        log_dir: str | Path | None = None,
        experiment_tracking: bool = True,
        colored_output: bool = True,
        json_logging: bool = False,
        max_log_files: int = 10,
        max_file_size: str = "100MB",
    ) -> None:
        self.name = name
        # Apart from the hierarchy of `logging`: a handler of the root would repeat all.
        self._logger = logging.Logger(name)
        self._store = EntryStore()
        self._outputs = FanOut()
        self._front: logging.Handler = self._outputs
        """What records are given for the outputs: those, or what is put before them."""
        self._own: tuple[logging.Handler, ...] = ()
        self._idle = ExperimentContext("", name, "", status="idle")
        """While there is no experiment."""
        self._started: ExperimentContext | None = None
        self._latest = self._idle
        self._failures: set[str] = set()
        self._logger.addHandler(self._store)
        self._logger.addHandler(self._front)
        self.configure(
            level=level,
            log_dir=log_dir,
            experiment_tracking=experiment_tracking,
            colored_output=colored_output,
            json_logging=json_logging,
            max_log_files=max_log_files,
            max_file_size=max_file_size,
        )

    def configure(
        self,
        *,
        level: int | str = LogLevel.INFO,
        log_dir: str | Path | None = None,
        experiment_tracking: bool = True,
        colored_output: bool = True,
        json_logging: bool = False,
        max_log_files: int = 10,
        max_file_size: str = "100MB",
    ) -> None:
        """Changes how the logger was set up; see the class."""
        number = level_number(level)
        file = LogFile(
            Path("logs" if log_dir is None else log_dir),
            self.name,
            json_lines=json_logging,
            max_file_size=max_file_size,
            max_files=max_log_files,
        )
        self._logger.setLevel(number)
        self._tracks_experiments = experiment_tracking
        for handler in self._own:
            self._outputs.remove(handler)
            handler.close()
        self._own = (Console(colored=colored_output), file)
        for handler in self._own:
            self._outputs.add(handler)

    # Lines.

    @_never_raises
    def log(
        self,
        level: int | str,
        message: str,
        metrics: Mapping[str, Any] | None = None,
        *,
        step: int | None = None,
        epoch: int | None = None,
        tags: Mapping[str, str] | None = None,
        artifacts: Iterable[str | os.PathLike[str]] = (),
        extra: Mapping[str, Any] | None = None,
        exc_info: BaseException | bool = False,
    ) -> None:
        """Logs an entry.

        Args:
            level: a `LogLevel`, another number, or a name.
            message: the text.
            metrics: names to values.
            step: of training, if not that of the counter.
            epoch: likewise.
            tags: for this entry, beside those of the experiment.
            artifacts: paths to be named; `log_artifact` hands them to integrations.
            extra: whatever else.
            exc_info: an error to be shown, or True for the one that is handled.
        """
        number = level_number(level)
        if not metrics or number >= LogLevel.WARNING or number == LogLevel.PROGRESS:
            # How far a loop has come is no metric; an error is to be told.
            kind = "message"
        else:
            kind = "result" if number == LogLevel.RESULT else "metrics"
        entry = LogEntry(
            0.0,
            logging.getLevelName(number),
            str(message),
            self.name,
            step=step,
            epoch=epoch,
            metrics=_flat(metrics or {}),
            tags=dict(tags or {}),
            artifacts=[os.fspath(each) for each in artifacts],
            extra=dict(extra or {}),
        )
        self._send(entry, number, kind, entry.metrics, exc_info=exc_info)

    trace = _at(LogLevel.TRACE)
    debug = _at(LogLevel.DEBUG)
    info = _at(LogLevel.INFO)
    metric = _at(LogLevel.METRIC)
    progress = _at(LogLevel.PROGRESS)
    experiment = _at(LogLevel.EXPERIMENT)
    result = _at(LogLevel.RESULT)
    warning = _at(LogLevel.WARNING)
    error = _at(LogLevel.ERROR)
    critical = _at(LogLevel.CRITICAL)

    def exception(
        self,
        message: str,
        metrics: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        """Logs an error with the traceback of the exception that is handled."""
        self.error(message, metrics, **{"exc_info": True, **fields})

    # What is known of a run.

    @_never_raises
    def log_hyperparams(self, hyperparams: Mapping[str, Any]) -> None:
        """Logs what the run was started with."""
        flat = _flat(hyperparams)
        self._notes.parameters.update(hyperparams)
        entry = self._entry("Hyperparameters", extra={"hyperparameters": flat})
        self._send(entry, LogLevel.EXPERIMENT, "hparams", flat)

    @_never_raises
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Logs metrics of one moment: of the step given, or of the counter."""
        entry = self._entry("Metrics", metrics=_flat(metrics), step=step)
        self._send(entry, LogLevel.METRIC, "metrics", entry.metrics)

    @_never_raises
    def log_result(
        self,
        name: str,
        value: Any,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Logs what the run arrived at.

        Args:
            name: of the result.
            value: a number, or several by name.
            metadata: what it was found on.
        """
        metrics = _flat(value if isinstance(value, Mapping) else {name: value})
        entry = self._entry(name, metrics=metrics, extra=dict(metadata or {}))
        if metadata:
            self._notes.metadata[name] = dict(metadata)
        self._send(entry, LogLevel.RESULT, "result", metrics)

    @_never_raises
    def log_artifact(
        self, path: str | os.PathLike[str], artifact_type: str | None = None
    ) -> None:
        """Hands a file or folder to the integrations that keep such."""
        text = os.fspath(path)
        if text not in self._notes.artifacts:
            self._notes.artifacts.append(text)
        kind = artifact_type or "file"
        entry = self._entry(f"Artifact ({kind})", artifacts=[text])
        values = {Path(text).name: text}
        self._send(entry, LogLevel.EXPERIMENT, "artifact", values, {"type": kind})

    def log_artifacts(
        self,
        paths: Iterable[str | os.PathLike[str]],
        artifact_type: str | None = None,
    ) -> None:
        """Hands over several; see `log_artifact`."""
        for path in paths:
            self.log_artifact(path, artifact_type)

    @_never_raises
    def add_tags(self, tags: Mapping[str, str]) -> None:
        """Tags the run, and each later entry."""
        self._notes.tags.update(tags)
        self._send(self._entry("Tags"), LogLevel.EXPERIMENT, "tags", tags)

    def set_tag(self, key: str, value: str) -> None:
        """Tags the run; see `add_tags`."""
        self.add_tags({key: value})

    # Experiments and counters.

    @_never_raises
    def start_experiment(
        self, experiment_name: str, run_name: str | None = None
    ) -> None:
        """Starts a run that later entries belong to; ends the one started before."""
        if self._started is not None:
            self._started.end("completed")
        self._started = new_run(experiment_name, run_name)
        run = f", run {run_name}" if run_name else ""
        self.experiment(f"Experiment {experiment_name}{run}: started")

    @_never_raises
    def end_experiment(
        self,
        status: str = "completed",
        final_metrics: Mapping[str, Any] | None = None,
    ) -> None:
        """Ends the run. "failed" is logged as an error, all else as a result."""
        context = self.get_experiment_context()
        if context is self._idle or not context.is_running:
            self.warning("No experiment is running that could end")
            return
        level = LogLevel.ERROR if status == "failed" else LogLevel.RESULT
        line = f"Experiment {context.experiment_name}: {status}"
        self.log(level, line, final_metrics)
        context.end(status, _flat(final_metrics or {}))

    def get_experiment_context(self) -> ExperimentContext:
        """The run that calls belong to, or after its end the latest that they did.

        Of the one from `start_experiment` and the one of `experiment_context`, that
        which began later. Without any, a context without ids.
        """
        if self._tracks_experiments:
            both = [experiment_inside(), self._started]
            running = [each for each in both if each is not None and each.is_running]
            if running:
                self._latest = max(running, key=lambda each: each.start_time)
        return self._latest

    def step(self) -> None:
        """Counts a step."""
        self.set_step((self.get_experiment_context().step or 0) + 1)

    def set_step(self, step: int) -> None:
        """Sets the step of later entries."""
        self.get_experiment_context().step = step

    def epoch(self) -> None:
        """Counts an epoch."""
        self.set_epoch((self.get_experiment_context().epoch or 0) + 1)

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of later entries."""
        self.get_experiment_context().epoch = epoch

    # Where it goes.

    def add_integration(self, integration: Any) -> None:
        """Adds a service.

        Args:
            integration: an `Integration`, or anything with `log_scalar` and `close`.
                Loggers that share one should share an `Integration`: a thread of its
                own is then the only one that calls the service.

        Raises:
            TypeError: it cannot be one.
        """
        self._logger.addHandler(as_integration(integration))

    def add_integrations(self, integrations: Iterable[Any]) -> None:
        """Adds several: a manager, or any collection."""
        for integration in integrations:
            self.add_integration(integration)

    def add_handler(self, handler: logging.Handler) -> None:
        """Adds a handler of `logging` to the console and the file.

        Args:
            handler: an `AsyncHandler` or `BufferedHandler` is put before these.

        Raises:
            ValueError: such a one has a logger already.
        """
        if not isinstance(handler, AsyncHandler | BufferedHandler):
            self._outputs.add(handler)
            return
        if handler.outputs.handlers:
            raise ValueError(f"{type(handler).__name__}: has a logger already")
        handler.outputs.add(self._front)
        self._logger.removeHandler(self._front)
        self._front = handler
        self._logger.addHandler(handler)

    def remove_handler(self, handler: logging.Handler) -> None:
        """Takes an integration or a handler away, as it is."""
        self._logger.removeHandler(handler)
        self._outputs.remove(handler)

    def flush(self) -> None:
        """Waits until all that was logged is written and delivered."""
        for handler in self._logger.handlers:
            handler.flush()
        self._outputs.flush()

    def close(self) -> None:
        """Delivers what is pending and closes all, integrations too."""
        for handler in tuple(self._logger.handlers):
            if handler is not self._store:
                self._logger.removeHandler(handler)
                handler.close()

    # What was logged.

    def get_log_entries(
        self,
        level: int | str | None = None,
        last_n: int | None = None,
        experiment_id: str | None = None,
        start_time: float | None = None,
        end_time: float | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> list[LogEntry]:
        """The latest 10,000 entries, or those among them that were asked for.

        Args:
            level: of this level, exactly.
            last_n: so many at most, the latest.
            experiment_id: of this experiment.
            start_time: at or after it, in seconds since the epoch.
            end_time: at or before it.
            tags: with all of these.

        Raises:
            ValueError: there is no such level.
        """
        return self._store.find(
            level, last_n, experiment_id, start_time, end_time, tags
        )

    def export_logs(self, path: str | os.PathLike[str], format: str = "json") -> None:
        """Writes the entries that are kept into a file.

        Args:
            path: the file; its folder is made.
            format: "json", a list of objects, or "csv", with JSON in the cells of what
                is nested.

        Raises:
            ValueError: another format.
            OSError: the file cannot be written.
        """
        export(self._store.find(), path, format)

    # How.

    @property
    def _notes(self) -> ExperimentContext:
        """What is to be kept of a run: of the one that is running."""
        context = self.get_experiment_context()
        return context if context.is_running else self._idle

    def _entry(self, message: str, **fields: Any) -> LogEntry:
        return LogEntry(0.0, "", message, self.name, **fields)

    def _send(
        self,
        entry: LogEntry,
        level: int,
        kind: str,
        values: Mapping[str, Any],
        options: Mapping[str, Any] = _NOTHING,
        *,
        exc_info: BaseException | bool = False,
    ) -> None:
        """Completes an entry by what the logger knows and hands it on as a record."""
        context, notes = self.get_experiment_context(), self._notes
        if kind in ("metrics", "result"):
            notes.metrics.update(values)
        if not self._logger.isEnabledFor(level):
            return
        entry.level = logging.getLevelName(level)
        entry.step = context.step if entry.step is None else entry.step
        entry.epoch = context.epoch if entry.epoch is None else entry.epoch
        entry.experiment_id = notes.experiment_id or None
        entry.run_id = notes.run_id or None
        entry.tags = {**self._idle.tags, **notes.tags, **entry.tags}
        step = entry.step if kind in ("metrics", "result") else None
        record = make_record(_Values(values), kind, step, level, options)
        if kind == "message":
            record.msg = entry.message
        else:
            record.msg.message = entry.message  # type: ignore[attr-defined]
        record.name = self.name
        record.entry = entry
        entry.timestamp = record.created
        if isinstance(exc_info, BaseException):
            record.exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
        elif exc_info and sys.exc_info()[0]:
            record.exc_info = sys.exc_info()
        self._logger.handle(record)

    def _failed(self, what: str, error: Exception) -> None:
        if what not in self._failures:
            self._failures.add(what)
            logging.getLogger("perf").warning(
                "%s of logger %s failed: %s (said once)",
                what,
                self.name,
                error_line(error),
            )


def _flat(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics as they are now, nested ones as "outer/inner"."""
    flat = resolved(flatten_metrics(metrics))
    return {name: kept(value) for name, value in flat.items()}
