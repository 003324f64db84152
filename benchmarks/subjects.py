"""What is measured: our two tracers, and those they are compared with.

Peers are used through their public interfaces alone.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

ROLLOUT_DEVICE: Final = "tpu0"
TRAINER_DEVICE: Final = "tpu1"
ROLES: Final = {
    "rollout": [ROLLOUT_DEVICE],
    "actor": [TRAINER_DEVICE],
    "refer": [TRAINER_DEVICE],
}
"""Devices of the steps that are exported; none has to exist."""
DEVICES: Final = (ROLLOUT_DEVICE, TRAINER_DEVICE)
"""A tracer is told of them when it is made: v1's predecessor needs it."""

OURS: Final = ("v1", "v2")
TUNIX: Final = ("tunix v1", "tunix v2")
_MODULE: Final = {
    "tunix": "tunix",
    "metrax": "metrax",
    "tunix v1": "tunix",
    "tunix v2": "tunix",
    "jax": "jax",
    "otel": "opentelemetry.sdk",
    "viztracer": "viztracer",
    "protobuf": "perfetto",
    "perfetto": "wasmtime",
    "duckdb": "duckdb",
}


def is_importable(subject: str) -> bool:
    """Whether a subject is at hand."""
    try:
        return importlib.util.find_spec(_MODULE.get(subject, "perf")) is not None
    except ModuleNotFoundError:
        return False


@dataclasses.dataclass(frozen=True, slots=True)
class Api:
    """One of the two public APIs, ours or its predecessor's: they are used alike."""

    package: str
    version: int

    @property
    def is_ours(self) -> bool:
        """Whether it is this project's."""
        return self.package == "perf"

    def tracer(self, folder: Path | None = None, **options: Any) -> Any:
        """A tracer; with a folder it has the built-in export function and a writer."""
        if folder is None:
            return self._door("trace", "tracer").PerfTracer(**options)
        if self.version == 1:
            writer = self._door("perfetto").PerfettoTraceWriter(str(folder))
            make = self._door("export").PerfMetricsExport.from_role_to_devices
            export = make(ROLES, writer)
        else:
            make = self._door("", "export").PerfMetricsExport
            export = make(trace_dir=str(folder), role_to_devices=ROLES).export_metrics
        return self._door("trace", "tracer").PerfTracer(export_fn=export, **options)

    def noop(self) -> Any:
        """A tracer that does nothing."""
        return self._door("trace", "tracer").NoopTracer()

    def settle(self, tracer: Any) -> None:
        """Returns when what was exported is written."""
        if self.is_ours:
            tracer.flush()
            return
        # Their writer's thread can only be waited for by ending it.
        before_s = -1.0
        while time.process_time() - before_s > 0.001:
            before_s = time.process_time()
            time.sleep(0.02)

    def _door(self, v1: str, v2: str | None = None) -> Any:
        path = v1 if self.version == 1 or v2 is None else f"experimental.{v2}"
        return importlib.import_module(f"{self.package}.{path}")


def api(subject: str) -> Api:
    """The API that a subject's name means."""
    package = "tunix.perf" if subject.startswith("tunix") else "perf"
    return Api(package, int(subject[-1]))


def _nothing() -> None:
    """Nothing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Spans:
    """Something that opens host spans.

    Attributes:
        on: has `span(name)`, a context manager.
        off: likewise, switched off.
        takes_tags: whether `span` has an argument `tags`.
        start: called before something is recorded.
        stop: called after it.
    """

    on: Any
    off: Any
    takes_tags: bool = False
    start: Callable[[], object] = _nothing
    stop: Callable[[], object] = _nothing


def spans_of(subject: str) -> Spans:
    """What opens the host spans of a subject."""
    if subject in _ANNOTATORS:
        return _ANNOTATORS[subject]()
    some = api(subject)
    takes_tags = some.is_ours or some.version == 2
    return Spans(some.tracer(), some.noop(), takes_tags)


def _jax() -> Spans:
    import jax

    folder = tempfile.TemporaryDirectory()

    def stop() -> None:
        jax.profiler.stop_trace()
        shutil.rmtree(Path(folder.name, "plugins"), ignore_errors=True)

    annotate = SimpleNamespace(span=jax.profiler.TraceAnnotation)
    return Spans(
        annotate,
        annotate,
        start=lambda: jax.profiler.start_trace(folder.name),
        stop=stop,
    )


def _otel() -> Spans:
    sdk = importlib.import_module("opentelemetry.sdk.trace")
    out = importlib.import_module("opentelemetry.sdk.trace.export")
    off = importlib.import_module("opentelemetry.sdk.trace.sampling").ALWAYS_OFF

    class Nowhere:
        """An exporter that is done at once."""

        def export(self, spans: Any) -> Any:
            return out.SpanExportResult.SUCCESS

        def shutdown(self) -> None:
            """Nothing."""

    def opening(**options: Any) -> Any:
        provider = sdk.TracerProvider(**options)
        provider.add_span_processor(out.BatchSpanProcessor(Nowhere()))
        tracer = provider.get_tracer("benchmarks")
        return SimpleNamespace(span=tracer.start_as_current_span)

    return Spans(opening(), opening(sampler=off))


def _viztracer() -> Spans:
    viztracer = importlib.import_module("viztracer")
    # Events alone: no function of ours is to be traced.
    tracer = viztracer.VizTracer(log_sparse=True, ignore_c_function=True, verbose=0)

    def stop() -> None:
        tracer.stop()
        tracer.clear()

    event = SimpleNamespace(span=tracer.log_event)
    return Spans(event, event, start=tracer.start, stop=stop)


_ANNOTATORS: Final = {"jax": _jax, "otel": _otel, "viztracer": _viztracer}
ANNOTATORS: Final = tuple(_ANNOTATORS)
