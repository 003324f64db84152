from __future__ import annotations

import copy
import dataclasses
import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from perf import perfetto
from perf._read.load import load
from perf._write.tags import LEFT_OUT, TagRules
from perf.experimental import export as v2_export
from perf.experimental import trace_writer as v2_writer
from perf.experimental.tracer import PerfTracer
from perf.trace import PerfTracer as V1Tracer
from tools.perfetto.trace_processor import TraceProcessor, counters

SECRET = "the user's own words"


@dataclasses.dataclass
class Sample:
    """Somebody's data class."""

    prompt: str = SECRET
    reward: float = 0.5


def written(folder: Path, tags: Mapping[Any, Any], **options: Any) -> dict[str, Any]:
    """The tags of a span as its file has them."""
    export = v2_export.PerfMetricsExport(trace_dir=str(folder), **options)
    with PerfTracer(export_fn=export.export_metrics) as tracer:
        with tracer.span("rollout", tags=tags):
            pass
    (path,) = folder.iterdir()
    return dict(load(path).slices[0].tags)


# Content


@pytest.mark.parametrize(
    "tags",
    [
        {"prompt": SECRET},
        {"prompts": [SECRET]},
        {"completion": SECRET},
        {"completions": (SECRET, SECRET)},
        {"text": SECRET},
        {"messages": [{"role": "user", "content": SECRET}]},
        {"response": SECRET.encode()},
        {"system_prompt": SECRET},
        {"completionText": SECRET},
        {"PROMPT": SECRET},
        {"prompt_2": SECRET},
        {"sample": {"prompt": SECRET, "more": [{"text": SECRET}]}},
        {"samples": [Sample(), Sample()]},
    ],
    ids=str,
)
def test_content_is_not_written(tmp_path: Path, tags: dict[str, Any]) -> None:
    """Nowhere in the file, on whatever level; that it was there is said."""
    found = written(tmp_path, {"step": 3, **tags})
    (path,) = tmp_path.iterdir()
    assert SECRET.encode() not in path.read_bytes()
    assert LEFT_OUT in str(found)
    assert 3 == found["step"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("prompt_tokens", "many"),
        ("completion_length", 17),
        ("prompts", 64),
        ("text", None),
        ("context", "local"),
        ("error", "ValueError: no"),
        ("content_type", "json"),
    ],
)
def test_what_is_no_content_is_written(tmp_path: Path, key: str, value: Any) -> None:
    """Numbers never are, nor what only tells about content."""
    shown = "None" if value is None else value
    assert {key: shown} == written(tmp_path, {key: value})


def test_content_is_written_if_asked_for_by_name(tmp_path: Path) -> None:
    """That name alone."""
    tags = {"prompt": SECRET, "completion": SECRET, "nested": {"prompt": SECRET}}
    assert {
        "prompt": SECRET,
        "completion": LEFT_OUT,
        "nested": {"prompt": SECRET},
    } == written(tmp_path, tags, keep_content=["prompt"])


def test_content_that_came_late_is_not_written(tmp_path: Path) -> None:
    """A span that was written while open is told only what has changed."""
    export = v2_export.PerfMetricsExport(trace_dir=str(tmp_path))
    with PerfTracer(export_fn=export.export_metrics) as tracer:
        with tracer.span("rollout", tags={"prompts": 3, "text": [1]}) as span:
            tracer.flush()
            span.tag("prompts", [SECRET]).tag("text", [SECRET]).tag("response", SECRET)
    (path,) = tmp_path.iterdir()
    assert SECRET.encode() not in path.read_bytes()
    assert {"prompts": LEFT_OUT, "text": LEFT_OUT, "response": LEFT_OUT} == dict(
        load(path).slices[0].tags
    )


def test_instants_and_recorded_spans_likewise(tmp_path: Path) -> None:
    """Everything that has tags."""
    writer = perfetto.PerfettoTraceWriter(tmp_path)
    with V1Tracer(export_fn=writer_only(writer)) as tracer:
        tracer.instant("seen", {"prompt": SECRET})
        tracer.record("served", 1.0, 2.0, track="server", tags={"completion": SECRET})
    (path,) = tmp_path.iterdir()
    assert SECRET.encode() not in path.read_bytes()


# A hook


def redact(name: str, tags: Mapping[str, Any]) -> Mapping[str, Any]:
    """Somebody's hook."""
    return {key: value for key, value in tags.items() if key != f"{name}_key"}


def test_a_hook_says_which_tags_are_written(tmp_path: Path) -> None:
    """It is given the span's name and tags; what it returns is written."""
    tags = {"rollout_key": SECRET, "host": 1}
    assert {"host": 1} == written(tmp_path, tags, redact_tags=redact)


def test_a_hook_is_asked_for_tags_alone(tmp_path: Path) -> None:
    """Neither for a counter's unit nor for a span that has none."""
    asked: list[str] = []

    def hook(name: str, tags: Mapping[str, Any]) -> Mapping[str, Any]:
        asked.append(name)
        return tags

    export = v2_export.PerfMetricsExport(trace_dir=str(tmp_path), redact_tags=hook)
    with PerfTracer(export_fn=export.export_metrics) as tracer:
        tracer.counter("queue_length", 3, unit="samples")
        with tracer.span("bare"), tracer.span("rollout", tags={"step": 1}):
            pass
    (path,) = tmp_path.iterdir()
    with TraceProcessor(path) as tp:
        (sample,) = counters(tp)
    assert ("queue_length", "samples") == (sample.track[-1], sample.unit)
    assert {"bare", "rollout"} == {piece.name for piece in load(path).slices}
    assert ["rollout"] == asked


def test_a_hook_does_not_change_what_queries_see(tmp_path: Path) -> None:
    """It works on a copy, for the file alone."""

    def clear(name: str, tags: Mapping[str, Any]) -> Mapping[str, Any]:
        tags.clear()  # type: ignore[attr-defined]
        return tags

    export = v2_export.PerfMetricsExport(trace_dir=str(tmp_path), redact_tags=clear)
    with PerfTracer(export_fn=export.export_metrics) as tracer:
        with tracer.span("rollout", tags={"step": 1}) as span:
            tracer.flush()
        assert {"step": 1} == span.tags


@pytest.mark.parametrize(
    "hook",
    [
        pytest.param(lambda name, tags: 1 / 0, id="raises"),
        pytest.param(lambda name, tags: None, id="returns nothing"),
        pytest.param(lambda name: {}, id="takes no tags"),
        pytest.param(lambda name, tags: str(tags), id="returns no mapping"),
    ],
)
def test_a_hook_that_fails_lets_no_tags_through(
    tmp_path: Path, hook: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The span is there without; one log line, which does not quote them."""
    with caplog.at_level(logging.WARNING, logger="perf"):
        assert {} == written(tmp_path, {"key": SECRET}, redact_tags=hook)
    (path,) = tmp_path.iterdir()
    assert SECRET.encode() not in path.read_bytes()
    assert ["redact_tags"] == [r.getMessage().split()[0] for r in caplog.records]
    assert SECRET not in caplog.text


def test_the_rules_go_with_a_copy() -> None:
    """Frameworks copy options deeply, and pickle them."""
    options: Any = {"redact_tags": redact, "keep_content": ["prompt"]}
    for writer in (
        perfetto.PerfettoTraceWriter("x", **options),
        v2_writer.PerfettoTraceWriter("x", **options),
    ):
        for other in (copy.deepcopy(writer), pickle.loads(pickle.dumps(writer))):
            assert TagRules(redact, frozenset({"prompt"})) == other._writer.tags
            assert other._writer.tags == copy.deepcopy(other)._writer.tags


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"redact_tags": "module.function"}, "expected a function"),
        ({"keep_content": "prompt"}, r"\['prompt'\]"),
        ({"keep_content": [1]}, "expected names of tags"),
    ],
)
def test_wrong_rules_are_refused(options: Any, said: str) -> None:
    """At once: it would be too late when content is in a file."""
    for make in (
        perfetto.PerfettoTraceWriter,
        v2_writer.PerfettoTraceWriter,
        v2_export.PerfMetricsExport,
    ):
        with pytest.raises(ValueError, match=said):
            make(**options)


def writer_only(writer: perfetto.PerfettoTraceWriter) -> Any:
    """An export function whose tracer is written, without metrics."""

    class Export:
        def attach(self, tracer: V1Tracer) -> bool:
            writer.attach(tracer)
            return True

        def __call__(self, query: Any) -> dict[str, Any]:
            return {}

    return Export()
