"""`MLLogger`: shapes each call into one entry and one record of `logging`."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from perf.compat.refunc import _experiments as experiments
from perf.compat.refunc._entries import EntryStore, LogEntry, LogLevel, export
from perf.compat.refunc._formatters import ColoredFormatter, JSONFormatter, MLFormatter
from perf.compat.refunc._handlers import AsyncHandler, BufferedHandler
from perf.compat.refunc._integrations import as_integration
from perf.loggers.delivery import close_together
from perf.loggers.fanout import FanOut
from perf.loggers.guard import never_raises
from perf.loggers.levels import level_number
from perf.loggers.naming import file_name
from perf.loggers.progress import ConsoleHandler
from perf.loggers.records import make_record
from perf.loggers.rotation import open_or_say
from perf.loggers.values import format_metrics, joined, snapshot


class _Values(dict[str, Any]):
    """The mapping of a record; as text it is the message and the values."""

    def __init__(self, message: str, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._message = message

    def __str__(self) -> str:
        return f"{self._message}: {joined(format_metrics(self))}"


def _at(level: LogLevel) -> Callable[..., None]:
    """The method that logs at a level."""

    def method(
        self: MLLogger, message: str, metrics: Any = None, **fields: Any
    ) -> None:
        self.log(level, message, metrics, **fields)

    method.__name__ = level.name.lower()
    method.__doc__ = f"Logs at level {level.name}; see `log`."
    return never_raises(method)


class MLLogger:
    """Logs a training: lines, metrics, experiments.

    A call becomes one entry. It is kept for `get_log_entries`, written to the console
    and a file, and handed to the integrations: metrics as metrics, results as results,
    progress, warnings and errors as text. No call raises because of what it was given
    or of what becomes of it: the first failure is logged, the training goes on.

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
        self._fronts: list[logging.Handler] = [self._outputs]
        """The outputs and what was put before them; the last is given the records."""
        self._own: Sequence[logging.Handler] = ()
        """The outputs that are not the user's."""
        self._idle = experiments.ExperimentContext("", name, "", status="idle")
        """While there is no experiment."""
        self._started: experiments.ExperimentContext | None = None
        self._latest = self._idle
        self._logger.addHandler(self._store)
        self._logger.addHandler(self._outputs)
        files = log_dir, json_logging, max_file_size, max_log_files
        self._configure(level, experiment_tracking, colored_output, *files)

    def _configure(
        self,
        level: int | str,
        experiment_tracking: bool,
        colored_output: bool,
        log_dir: str | Path | None,
        json_logging: bool,
        max_file_size: str = "100MB",
        max_log_files: int = 10,
    ) -> None:
        number = level_number(level)
        name = file_name(self.name) + (".jsonl" if json_logging else ".log")
        path = Path("logs" if log_dir is None else log_dir) / name
        lines = JSONFormatter() if json_logging else MLFormatter()
        file = open_or_say(path, max_file_size, max_log_files, lines)
        shown = ColoredFormatter() if colored_output else MLFormatter()
        own = [ConsoleHandler(shown), *([file] if file else [])]
        self._logger.setLevel(number)
        self._tracks_experiments = experiment_tracking
        self._own, before = own, self._own
        for handler in before:
            self._outputs.remove(handler)
            handler.close()
        for handler in own:
            self._outputs.add(handler)

    @never_raises
    def log(
        self,
        level: int | str,
        message: str,
        metrics: Mapping[str, Any] | None = None,
        *,
        step: int | None = None,
        epoch: int | None = None,
        tags: Mapping[str, str] | None = None,
        artifacts: Iterable[str | os.PathLike[str]] | None = None,
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
        if not metrics and not self._takes(number):
            return
        if not metrics or number >= LogLevel.WARNING or number == LogLevel.PROGRESS:
            # How far a loop has come is no metric; an error is to be told.
            kind = "message"
        else:
            kind = "result" if number == LogLevel.RESULT else "metrics"
        self._send(
            number,
            str(message),
            kind,
            values := snapshot(metrics or {}),
            exc_info=exc_info,
            metrics=values,
            step=step,
            epoch=epoch,
            tags=dict(tags or {}),
            artifacts=[os.fspath(each) for each in artifacts or ()],
            extra=dict(extra or {}),
        )

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

    def exception(self, message: str, *args: Any, **fields: Any) -> None:
        """Logs an error with the traceback of the exception that is handled."""
        self.error(message, *args, **{"exc_info": True, **fields})

    @never_raises
    def log_hyperparams(self, hyperparams: Mapping[str, Any]) -> None:
        """Logs what the run was started with."""
        flat = snapshot(hyperparams)
        self._notes.parameters.update(hyperparams)
        extra = {"hyperparameters": flat}
        self._send(LogLevel.EXPERIMENT, "Hyperparameters", "hparams", flat, extra=extra)

    @never_raises
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Logs metrics of one moment: of the step given, or of the counter."""
        flat = snapshot(metrics)
        text, kind = "Metrics", "metrics"
        self._send(LogLevel.METRIC, text, kind, flat, metrics=flat, step=step)

    @never_raises
    def log_result(
        self, name: str, value: Any, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Logs what the run arrived at: a number, or several by name."""
        flat = snapshot(value if isinstance(value, Mapping) else {name: value})
        extra = dict(metadata or {})
        if extra:
            self._notes.metadata[name] = extra
        self._send(LogLevel.RESULT, name, "result", flat, metrics=flat, extra=extra)

    @never_raises
    def log_artifact(
        self, path: str | os.PathLike[str], artifact_type: str | None = None
    ) -> None:
        """Hands a file or folder to the integrations that keep such."""
        text, kind = os.fspath(path), artifact_type or "file"
        if text not in self._notes.artifacts:
            self._notes.artifacts.append(text)
        values, message = {Path(text).name: text}, f"Artifact ({kind}): {text}"
        level, options = LogLevel.EXPERIMENT, {"type": kind}
        self._send(level, message, "artifact", values, options, artifacts=[text])

    def log_artifacts(
        self, paths: Iterable[str | os.PathLike[str]], artifact_type: str | None = None
    ) -> None:
        """Hands over several; see `log_artifact`."""
        for path in paths:
            self.log_artifact(path, artifact_type)

    @never_raises
    def add_tags(self, tags: Mapping[str, str]) -> None:
        """Tags the run, and each later entry."""
        self._notes.tags.update(tags)
        self._send(LogLevel.EXPERIMENT, "Tags", "tags", tags)

    def set_tag(self, key: str, value: str) -> None:
        """Tags the run; see `add_tags`."""
        self.add_tags({key: value})

    @never_raises
    def start_experiment(
        self, experiment_name: str, run_name: str | None = None
    ) -> None:
        """Starts a run that later entries belong to; ends the one started before."""
        if self._started is not None:
            self._started.end("completed")
        self._started = experiments.new_run(experiment_name, run_name)
        self.experiment(f"Experiment {experiment_name}: started")

    @never_raises
    def end_experiment(
        self, status: str = "completed", final_metrics: Mapping[str, Any] | None = None
    ) -> None:
        """Ends the run. "failed" is logged as an error, all else as a result."""
        context = self.get_experiment_context()
        if context is self._idle or not context.is_running:
            self.warning("No experiment is running that could end")
            return
        level = LogLevel.ERROR if status == "failed" else LogLevel.RESULT
        line = f"Experiment {context.experiment_name}: {status}"
        self.log(level, line, final_metrics)
        context.end(status, snapshot(final_metrics or {}))

    def get_experiment_context(self) -> experiments.ExperimentContext:
        """The run that calls belong to, or after its end the latest that they did.

        Of the one from `start_experiment` and the one of `experiment_context`, that
        which began later. Without any, a context without ids.
        """
        if self._tracks_experiments:
            both = (experiments.experiment_inside(), self._started)
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

    def add_integration(self, integration: Any) -> None:
        """Adds a service: an `Integration`, or anything with `log_scalar` and `close`.

        Loggers should share an `Integration` rather than the other: one thread is then
        the only one that calls the service. TypeError for anything else.
        """
        self._logger.addHandler(as_integration(integration))

    def add_integrations(self, integrations: Iterable[Any]) -> None:
        """Adds several: a manager, or any collection."""
        if isinstance(integrations, Mapping):
            integrations = integrations.values()
        for each in integrations:
            self.add_integration(each)

    def add_handler(self, handler: logging.Handler) -> None:
        """Adds a handler of `logging` beside the console and the file.

        An `AsyncHandler` or `BufferedHandler` is put before these; ValueError if it
        stands before those of another logger.
        """
        if not isinstance(handler, AsyncHandler | BufferedHandler):
            self._outputs.add(handler)
            return
        if handler.outputs.handlers:
            raise ValueError(f"{type(handler).__name__}: has a logger already")
        handler.outputs.add(self._fronts[-1])
        self._logger.removeHandler(self._fronts[-1])
        self._fronts.append(handler)
        self._logger.addHandler(handler)

    def remove_handler(self, handler: logging.Handler) -> None:
        """Takes an integration or a handler away, as it is."""
        self._logger.removeHandler(handler)
        self._outputs.remove(handler)

    def flush(self) -> None:
        """Waits until all that was logged is written and delivered."""
        for handler in (*self._logger.handlers, *reversed(self._fronts)):
            handler.flush()

    def close(self) -> None:
        """Delivers what is pending and closes all, integrations too."""
        closing = [each for each in self._logger.handlers if each is not self._store]
        for handler in closing:
            self._logger.removeHandler(handler)
        close_together(closing)

    def get_log_entries(
        self,
        level: int | str | None = None,
        last_n: int | None = None,
        experiment_id: str | None = None,
        start_time: float | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> list[LogEntry]:
        """The latest 10,000 entries, or those among them that were asked for.

        Of a level, exactly (ValueError if there is none such); of an experiment; from a
        time on, in seconds since the epoch; with all of some tags; the last n of those.
        """
        wanted = None if level is None else logging.getLevelName(level_number(level))
        found = [
            entry
            for entry in self._store.entries()
            if (wanted is None or entry.level == wanted)
            and (experiment_id is None or entry.experiment_id == experiment_id)
            and (start_time is None or entry.timestamp >= start_time)
            and all(entry.tags.get(key) == each for key, each in (tags or {}).items())
        ]
        return found if last_n is None else found[max(len(found) - last_n, 0) :]

    def export_logs(self, path: str | os.PathLike[str], format: str = "json") -> None:
        """Writes the entries that are kept into a file; OSError if that cannot be.

        The format is "json", a list of objects, or "csv", with JSON in the cells of
        what is nested; ValueError for another.
        """
        export(self._store.entries(), path, format)

    @property
    def _notes(self) -> experiments.ExperimentContext:
        """Where to keep what is known of a run: the one that is running."""
        context = self.get_experiment_context()
        return context if context.is_running else self._idle

    def _takes(self, level: int) -> bool:
        # Not `isEnabledFor`: outside the hierarchy of `logging` a logger keeps what it
        # found before the level changed.
        return level >= self._logger.level and level > self._logger.manager.disable

    def _send(
        self,
        level: int,
        message: str,
        kind: str,
        values: Mapping[str, Any],
        options: Mapping[str, Any] | None = None,
        *,
        exc_info: BaseException | bool = False,
        **fields: Any,
    ) -> None:
        """Makes a record with an entry of what was given and what is known."""
        notes, counters = self._notes, self.get_experiment_context()
        is_numbers = kind in ("metrics", "result")
        if is_numbers:
            notes.metrics.update(values)
        if not self._takes(level):
            return
        entry = LogEntry(0.0, logging.getLevelName(level), message, self.name, **fields)
        entry.step = counters.step if entry.step is None else entry.step
        entry.epoch = counters.epoch if entry.epoch is None else entry.epoch
        entry.experiment_id = notes.experiment_id or None
        entry.run_id = notes.run_id or None
        entry.tags = {**self._idle.tags, **notes.tags, **entry.tags}
        step = entry.step if is_numbers else None
        record = make_record(_Values(message, values), kind, step, level, options or {})
        if kind == "message":
            record.msg = message
        elif kind in ("hparams", "tags"):
            entry.message = str(record.msg)
        record.name = self.name
        record.entry = entry
        entry.timestamp = record.created
        if isinstance(exc_info, BaseException):
            record.exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
        elif exc_info and sys.exc_info()[0]:
            record.exc_info = sys.exc_info()
        self._logger.handle(record)
