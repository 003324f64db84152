"""`perf.metrics`: buffers, options, configuration and the query."""

from __future__ import annotations

import copy
import dataclasses
import logging
import pickle
from typing import Any

import numpy as np
import pytest

from perf import metrics, trace
from perf.metrics import (
    MetricsT,
    PerfMetricsConfig,
    PerfMetricsOptions,
    PerfSpanQuery,
)
from perf.trace import PerfTracer
from tests.public.drive import V1Run

# Values


def test_a_buffer_starts_empty_and_in_training() -> None:
    """A buffer knows its step; metrics and mode have defaults (M22)."""
    buffer = metrics.MetricsBuffer(global_steps=3)
    assert (3, {}, "train") == (buffer.global_steps, buffer.metrics, buffer.mode)


def test_buffers_share_no_metrics() -> None:
    """Each buffer has a dict of its own (M22)."""
    buffer = metrics.MetricsBuffer(1)
    buffer.metrics["loss"] = ([1.0], np.mean)
    assert {} == metrics.MetricsBuffer(1).metrics


@pytest.mark.row("P6")
def test_the_defaults_of_the_options() -> None:
    """v1 is on, v2 off, traces are written, nothing is custom (P6)."""
    assert {
        "enable_perf_v1": True,
        "enable_perf_v2": False,
        "custom_export_fn_path": "",
        "custom_export_fn_path_v2": "",
        "enable_trace_writer": True,
        "trace_dir": "",
    } == dataclasses.asdict(PerfMetricsOptions())


def test_options_do_not_change() -> None:
    """Options are frozen (P6)."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        PerfMetricsOptions().trace_dir = "/elsewhere"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        pytest.param(
            {"enable_perf_v1": False, "enable_perf_v2": True}
            | {"custom_export_fn_path": "a.b"},
            "custom_export_fn_path",
            id="v1 path, v1 off",
        ),
        pytest.param(
            {"custom_export_fn_path_v2": "a.b"},
            "custom_export_fn_path_v2",
            id="v2 path, v2 off",
        ),
        pytest.param(
            {"enable_perf_v1": False}, "enable_trace_writer", id="nothing to write"
        ),
        pytest.param(
            {"enable_perf_v1": "no"}, "enable_perf_v1", id="a word for a flag"
        ),
    ],
)
def test_options_that_contradict_each_other(wrong: dict[str, Any], named: str) -> None:
    """The error names the option that cannot have an effect (P7; field 17)."""
    with pytest.raises(ValueError, match=named):
        PerfMetricsOptions(**wrong)


def test_a_folder_without_a_writer_is_mentioned(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A trace_dir that will stay empty gives a warning, not an error (P8)."""
    options = PerfMetricsOptions(enable_trace_writer=False, trace_dir="/traces")
    assert "/traces" == options.trace_dir
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert "trace_dir" in record.getMessage()


@pytest.mark.parametrize("v1", [True, False])
@pytest.mark.parametrize("v2", [True, False])
def test_versions_are_switched_independently(v1: bool, v2: bool) -> None:
    """Each of the four combinations is allowed (P7)."""
    options = PerfMetricsOptions(
        enable_perf_v1=v1, enable_perf_v2=v2, enable_trace_writer=v1 or v2
    )
    assert (v1, v2) == (options.enable_perf_v1, options.enable_perf_v2)


def export_nothing(query: PerfSpanQuery) -> metrics.MetricsT:
    """An export function that can be pickled by name."""
    return {}


@pytest.mark.row("P11")
def test_a_config_starts_without_export_functions() -> None:
    """No function means a no-op tracer; both can be set afterwards (P11)."""
    config = PerfMetricsConfig()
    assert config.custom_export_fn is None
    assert config.custom_export_fn_v2 is None
    config.custom_export_fn = export_nothing
    assert config.custom_export_fn is export_nothing


@pytest.mark.parametrize(
    "value",
    [
        PerfMetricsOptions(trace_dir="/traces"),
        PerfMetricsConfig(custom_export_fn=export_nothing),
    ],
)
def test_options_and_configs_are_copied_and_pickled(value: Any) -> None:
    """Training frameworks copy their configuration deeply and ship it (P19)."""
    assert value == copy.deepcopy(value)
    assert value == pickle.loads(pickle.dumps(value))


# The query


def timelines() -> dict[str, trace.Timeline]:
    """Two threads' and one device's timelines of two global steps."""
    main = trace.ThreadTimeline("thread-1", 0.0)
    other = trace.ThreadTimeline("thread-2", 0.0)
    device = trace.DeviceTimeline("tpu0", 0.0)
    for begin in (1.0, 11.0):
        for timeline in (main, device):
            timeline.span_group_begin("global_step", begin)
            for inner in (0.0, 4.0):
                timeline.span_group_begin("micro_batch_steps", begin + inner)
                timeline.span_group_end(begin + inner + 3.0)
            timeline.span_group_end(begin + 9.0)
    other.span_begin("rollout", 2.0)
    other.span_end(3.0)
    return {"thread-1": main, "thread-2": other, "tpu0": device}


@pytest.fixture
def query() -> PerfSpanQuery:
    """A query over `timelines()`."""
    return PerfSpanQuery(timelines(), "thread-1")


def test_a_query_knows_its_timelines(query: PerfSpanQuery) -> None:
    """The ids of all timelines, and which is the main thread's (P25)."""
    assert "thread-1" == query.get_main_thread_id()
    assert ["thread-1", "thread-2", "tpu0"] == sorted(query.get_timeline_ids())


def test_a_timeline_without_a_selector_gives_its_root(query: PerfSpanQuery) -> None:
    """`get` always gives a list, here of the root alone (P25)."""
    (root,) = query().timeline("thread-2").get()
    assert ["rollout"] == [child.name for child in root.inner]


@pytest.mark.row("P25")
def test_the_documented_query(query: PerfSpanQuery) -> None:
    """The duration of the main thread's last global step (P25)."""
    steps = query().main().last_group("global_step").get()
    assert [9.0] == [step.duration for step in steps]
    assert 11.0 == steps[0].begin


def begins(chosen: PerfSpanQuery) -> list[float]:
    """When the chosen groups began."""
    return [group.begin for group in chosen.get()]


def test_selectors_choose_groups_by_name(query: PerfSpanQuery) -> None:
    """First, last, nth and all groups of a name (P25)."""
    main = query().main()
    assert [1.0] == begins(main.first_group("global_step"))
    assert [11.0] == begins(main.last_group("global_step"))
    assert [11.0] == begins(main.nth_group("global_step", 1))
    assert [1.0, 11.0] == begins(main.all_groups("global_step"))


def test_selectors_go_one_level_down_each(query: PerfSpanQuery) -> None:
    """A second selector works inside each group of the first (P25)."""
    every_step = query().timeline("tpu0").all_groups("global_step")
    assert [1.0, 11.0] == begins(every_step.first_group("micro_batch_steps"))
    assert [5.0, 15.0] == begins(every_step.last_group("micro_batch_steps"))
    assert [5.0, 15.0] == begins(every_step.nth_group("micro_batch_steps", 1))
    assert [1.0, 5.0, 11.0, 15.0] == begins(every_step.all_groups("micro_batch_steps"))


@pytest.mark.row("P25")
def test_what_is_not_there_gives_an_empty_list(query: PerfSpanQuery) -> None:
    """An unknown name or a position past the end finds nothing (P25)."""
    main = query().main()
    assert [] == main.first_group("x").get()
    assert [] == main.last_group("x").get()
    assert [] == main.all_groups("x").get()
    assert [] == main.nth_group("global_step", 2).get()
    assert [] == main.last_group("x").all_groups("y").get()


def test_an_unknown_timeline_is_an_error_that_names_it(query: PerfSpanQuery) -> None:
    """The message says what was asked and what there is (P25)."""
    with pytest.raises(ValueError, match=r"tpu9.*tpu0"):
        query().timeline("tpu9").get()


def test_a_query_that_chose_no_timeline_has_no_answer(query: PerfSpanQuery) -> None:
    """There is no default timeline (P25)."""
    with pytest.raises(ValueError, match="timeline"):
        query().first_group("global_step").get()


@pytest.mark.row("P25")
def test_calling_a_query_gives_a_new_one(query: PerfSpanQuery) -> None:
    """`query()` goes on from what was chosen, and is another object (P25)."""
    step = query().main().last_group("global_step")
    branch = step()
    assert branch is not step
    assert [11.0] == begins(branch)
    assert [15.0] == begins(branch.last_group("micro_batch_steps"))


def test_a_selector_leaves_its_receiver_as_it_was(query: PerfSpanQuery) -> None:
    """Several questions can start from one query (mended: immutable selectors)."""
    step = query().main().last_group("global_step")
    first = step.first_group("micro_batch_steps")
    last = step.last_group("micro_batch_steps")
    assert [11.0] == begins(step)
    assert [11.0] == begins(first)
    assert [15.0] == begins(last)
    query.main()
    with pytest.raises(ValueError, match="timeline"):
        query.get()


def test_the_answer_is_a_plain_list(query: PerfSpanQuery) -> None:
    """What `get` returns can be indexed and tested for emptiness (P25)."""
    assert isinstance(query().main().all_groups("global_step").get(), list)


# The query of a tracer


def test_a_tracer_asks_about_all_its_steps() -> None:
    """Positions count from the run's first group (P25)."""
    run = V1Run()
    for step in range(3):
        run.at(10.0 * step)
        with run.tracer.span_group("global_step"):
            run.at(10.0 * step + step + 1)
        run.tracer.export()
    main = run.seen().main()
    durations = [group.duration for group in main.all_groups("global_step").get()]
    assert pytest.approx([1.0, 2.0, 3.0]) == durations
    (first,) = main.nth_group("global_step", 0).get()
    assert pytest.approx(1.0) == first.duration
    (last,) = main.last_group("global_step").get()
    assert pytest.approx(3.0) == last.duration


def test_a_tracer_names_its_main_thread() -> None:
    """The main thread is the one that made the tracer (P25)."""
    run = V1Run(["tpu0"])
    run.tracer.export()
    assert trace.create_thread_timeline_id() == run.seen.get_main_thread_id()
    assert {trace.create_thread_timeline_id(), "tpu0"} == set(
        run.seen.get_timeline_ids()
    )


def test_a_query_that_was_kept_shows_each_group_once() -> None:
    """Also one that was open when the query was made and has closed since."""
    queries: list[PerfSpanQuery] = []

    def export_fn(query: PerfSpanQuery) -> MetricsT:
        queries.append(query)
        return {}

    tracer = PerfTracer(export_fn=export_fn)
    with tracer.span_group("outer"), tracer.span_group("inner"):
        tracer.export()
    tracer.export()
    for query in queries:
        groups = query().main().all_groups("outer")
        assert ["outer"] == [group.name for group in groups.get()]
        assert 1 == len(groups.all_groups("inner").get())


def test_a_query_keeps_its_answers() -> None:
    """What an export function keeps does not change under it later (P24)."""
    run = V1Run()
    with run.tracer.span_group("global_step"):
        run.at(1.0)
    run.tracer.export()
    kept = run.seen().main().last_group("global_step").get()[0]
    with run.tracer.span_group("global_step"), run.tracer.span("rollout"):
        run.at(5.0)
    run.tracer.export()
    assert pytest.approx(1.0) == kept.duration
    assert [] == kept.inner


@pytest.mark.row("P24")
def test_the_documented_custom_export_function() -> None:
    """A user's own function of the query gives the metrics of the step (P24, P28)."""

    def my_custom_export_fn(query: PerfSpanQuery) -> metrics.MetricsT:
        global_steps = query().main().last_group("global_step").get()
        if global_steps:
            return {"perf/custom_step_time": (global_steps[0].duration, None)}
        return {}

    run = V1Run(None, my_custom_export_fn)
    assert {} == run.tracer.export()
    with run.tracer.span_group("global_step"):
        run.at(2.5)
    ((value, aggregation),) = run.tracer.export().values()
    assert (pytest.approx(2.5), None) == (value, aggregation)
