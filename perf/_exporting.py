"""What both public tracers do with their export function."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import numpy as np

from perf._model.log import OnceLog
from perf._record.feed import Feed, Sink
from perf._record.span import error_text
from perf._record.tracer import Tracer

DEFAULT_TRACE_DIR: Final = "/tmp/perf_traces"
"""Where traces go if nobody says where to."""
TRACE_DIR_VARIABLE: Final = "RLPERF_DIR"
"""Environment variable: a folder to which every tracer writes its trace."""


class Writer(Sink, Protocol):
    """A sink that takes what a tracer records."""

    def attach(self, feed: Feed, /) -> None:
        """Takes what comes to the feed from now on."""


def attach(
    tracer: Tracer, export_fn: Any, make_writer: Callable[[str], Writer]
) -> None:
    """Attaches the writer of an export function, or that of the environment."""
    if export_fn is not None:
        checked_export(export_fn)
    attached = attach_export(export_fn, tracer)
    folder = os.environ.get(TRACE_DIR_VARIABLE)
    if folder and not attached:
        attach_writer(tracer, make_writer(folder))


def checked_export(export_fn: Any) -> Any:
    """The export function.

    Raises:
        ValueError: it is none.
    """
    if callable(export_fn):
        return export_fn
    hint = "; pass its export_metrics" if hasattr(export_fn, "export_metrics") else ""
    raise ValueError(
        f"export_fn={export_fn!r}: expected a function, found "
        f"{type(export_fn).__name__}{hint}"
    )


def attach_export(export_fn: Any, tracer: Tracer) -> bool:
    """Tells an export function of everything a tracer records, not of exports alone.

    One that has `attach(tracer)` wants that, or the owner of a bound method.

    Returns:
        Whether it writes a trace.
    """
    for candidate in (export_fn, getattr(export_fn, "__self__", None)):
        method = getattr(candidate, "attach", None)
        if callable(method):
            return bool(method(tracer))
    return False


def make_folder_path(folder: str | os.PathLike[str] | None) -> str:
    """The folder itself, or the default one for None and the empty string."""
    return os.fspath(folder or DEFAULT_TRACE_DIR)


def attach_writer(tracer: Tracer, writer: Writer, *, with_kept: bool = False) -> None:
    """Has a writer take everything that the tracer records from now on.

    Args:
        tracer: whose records.
        writer: of a trace.
        with_kept: it also takes what the tracer keeps for queries.

    Raises:
        RuntimeError: the writer was attached before.
    """
    feed = tracer._collector.subscribe(writer, with_kept=with_kept)
    try:
        writer.attach(feed)
    except BaseException:
        tracer._collector.unsubscribe(feed)
        raise


def called(
    export_fn: Callable[[Any], Any], argument: Any, log: OnceLog
) -> dict[str, Any]:
    """What an export function returns; if it fails, no metrics and one log line."""
    try:
        metrics = export_fn(argument)
    except Exception as error:
        log.say(
            f"export-failed-{type(error).__name__}",
            "the export function failed, this step has no metrics: "
            f"{error_text(error)}",
            exc=error,
        )
        return {}
    if type(metrics) is dict:
        return metrics
    if metrics is None:
        return {}
    if not isinstance(metrics, Mapping):
        log.say(
            "export-type",
            f"the export function returned {type(metrics).__name__}: expected a "
            "mapping of names to (value, aggregation function)",
        )
        return {}
    return dict(metrics)


def as_metrics(values: Mapping[str, float]) -> dict[str, Any]:
    """Values as `MetricsT`.

    All are averaged if several are logged under one name: with v1 and v2 both on, a
    framework buffers two values of each.
    """
    return {name: (value, np.mean) for name, value in values.items()}
