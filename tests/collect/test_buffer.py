"""The buffer: one point per metric, step and mode, whoever adds when."""

from __future__ import annotations

import enum
import logging
import math
import threading
from collections import defaultdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf.collect import StepBuffer, StepMetrics, split_name
from perf.collect._buffer import _ADDITIONS, _OPEN_STEPS, _WAITING_STEPS
from tests.programs import printed_by


def buffered(**options: Any) -> tuple[StepBuffer, list[StepMetrics]]:
    """A buffer and the steps it has handed over."""
    steps: list[StepMetrics] = []
    return StepBuffer(steps.append, **options), steps


def keys(steps: list[StepMetrics]) -> list[tuple[int, str]]:
    """Steps and modes, in order."""
    return [(each.step, each.mode) for each in steps]


@pytest.mark.row("M22")
def test_micro_batches_make_one_point_of_a_step() -> None:
    """Each metric by its own function, when the next step begins (M22)."""
    buffer, steps = buffered()
    buffer.add({"loss": (1.0, np.mean), "score/max": (4.0, np.max)}, step=7)
    buffer.add({"loss": (3.0, np.mean), "score/max": (2.0, np.max)}, step=7)
    assert [] == steps
    buffer.add({"loss": (5.0, np.mean)}, step=8)
    (step,) = steps
    assert (7, "train") == (step.step, step.mode)
    assert {"loss": 2.0, "score/max": 4.0} == dict(step.scalars)
    buffer.close()
    assert {"loss": 5.0} == dict(steps[1].scalars)


class Mode(enum.Enum):
    """As frameworks name them."""

    EVAL = "eval"

    def __str__(self) -> str:
        return self.value


@pytest.mark.row("M22")
def test_an_evaluation_before_any_training_is_a_step_of_its_own() -> None:
    """It is logged under "eval" when training goes on (M22)."""
    buffer, steps = buffered()
    buffer.add({"loss": (9.0, np.mean)}, step=0, mode=Mode.EVAL)
    buffer.add({"loss": (1.0, np.mean)}, step=0)
    assert [] == steps
    buffer.add({"loss": (2.0, np.mean)}, step=1)
    assert [(0, "eval"), (0, "train")] == keys(steps)
    assert {"loss": 9.0} == dict(steps[0].scalars)


def test_an_evaluation_does_not_end_a_step_of_training() -> None:
    """One of step 5 amid step 4 ends earlier evaluations only."""
    buffer, steps = buffered()
    buffer.add({"loss": (1.0, np.mean)}, step=4)
    buffer.add({"loss": (1.0, np.mean)}, step=3, mode="eval")
    buffer.add({"loss": (1.0, np.mean)}, step=5, mode="eval")
    assert [(3, "eval")] == keys(steps)
    buffer.add({"loss": (3.0, np.mean)}, step=4)
    buffer.finish(4)
    assert {"loss": 2.0} == dict(steps[1].scalars)


def test_asynchronous_steps_end_when_they_are_finished() -> None:
    """Metrics of several steps come in any order; `finish` ends them in order."""
    buffer, steps = buffered(in_order=False)
    for step, value in [(3, 1.0), (2, 5.0), (3, 3.0), (4, 7.0), (2, 7.0)]:
        buffer.add({"reward": (value, np.mean)}, step)
    assert [] == steps
    buffer.finish(3)
    assert [(2, "train"), (3, "train")] == keys(steps)
    assert [6.0, 2.0] == [dict(each.scalars)["reward"] for each in steps]
    buffer.close()
    assert [(4, "train")] == keys(steps[2:])


def test_a_straggler_makes_a_second_point() -> None:
    """What comes for a step that was handed over is not lost, nor mixed with others."""
    buffer, steps = buffered(in_order=False)
    buffer.add({"reward": (1.0, np.mean)}, 1)
    buffer.finish(1)
    buffer.add({"reward": (2.0, np.mean)}, 1)
    buffer.add({"reward": (3.0, np.mean)}, 2)
    buffer.finish(2)
    assert [(1, 1.0), (1, 2.0), (2, 3.0)] == [
        (each.step, dict(each.scalars)["reward"]) for each in steps
    ]


@given(
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["train", "eval"]))),
    st.booleans(),
)
def test_nothing_is_lost_or_counted_twice(
    additions: list[tuple[int, str]], in_order: bool
) -> None:
    """Whatever the order, each addition is in one point of its own step and mode."""
    buffer, steps = buffered(in_order=in_order)
    expected: defaultdict[tuple[int, str], list[float]] = defaultdict(list)
    for i, (step, mode) in enumerate(additions):
        buffer.add({"x": (float(i), None)}, step, mode)
        expected[step, mode].append(float(i))
    buffer.close()
    found: defaultdict[tuple[int, str], list[float]] = defaultdict(list)
    for each in steps:
        found[each.step, each.mode] += [value for _, value in each.scalars]
    assert expected == found


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("loss", ("global", "loss")),
        ("loss/entropy", ("loss", "entropy")),
        ("perf/sum/rollout_time", ("perf", "sum/rollout_time")),
    ],
)
def test_a_name_is_split_at_its_first_slash(name: str, parts: tuple[str, str]) -> None:
    """Into what a logger calls prefix and name (M22)."""
    assert parts == split_name(name)
    buffer, steps = buffered()
    buffer.add({name: (2.0, None)}, 1)
    buffer.close()
    assert [(*parts, 2.0)] == list(steps[0].points())


def test_texts_are_no_scalars() -> None:
    """Prompts and ids of all micro-batches, in order, apart from numbers (M18)."""
    buffer, steps = buffered()
    buffer.add({"prompts": (["a", "b"], None), "note": ("x", None)}, 1)
    buffer.add({"prompts": (np.array(["c"]), None), "loss": (1.0, None)}, 1)
    buffer.close()
    (step,) = steps
    assert {"prompts": ["a", "b", "c"], "note": ["x"]} == step.texts
    assert (("loss", 1.0),) == step.scalars


def test_without_a_function_each_value_is_a_point() -> None:
    """A custom export function may give none."""
    buffer, steps = buffered()
    buffer.add({"perf/custom": (1.0, None)}, 1)
    buffer.add({"perf/custom": (2.0, None)}, 1)
    buffer.close()
    assert (("perf/custom", 1.0), ("perf/custom", 2.0)) == steps[0].scalars


def test_arrays_of_one_shape_are_stacked_and_others_joined() -> None:
    """The mean over a ragged step is that of all its values."""
    buffer, steps = buffered()
    for rows in ([1.0, 2.0], [3.0, 6.0]):
        buffer.add({"even": (rows, lambda x: x.max(axis=0))}, 1)
    for rows in ([1.0, 2.0, 3.0], [6.0]):
        buffer.add({"ragged": (rows, np.mean)}, 1)
    buffer.close()
    scalars = dict(steps[0].scalars)
    assert [3.0, 6.0] == scalars["even"].tolist()
    assert 3.0 == scalars["ragged"]


def test_values_on_devices_are_numbers_when_handed_over() -> None:
    """JAX arrays, and results of jitted functions, averaged in more digits than theirs.

    Between the two values no bfloat16 lies.
    """
    buffer, steps = buffered()
    buffer.add({"loss": (jnp.bfloat16(1), np.mean)}, 1)
    buffer.add({"loss": (jax.jit(lambda: jnp.bfloat16(1 + 1 / 128))(), np.mean)}, 1)
    buffer.close()
    ((_, value),) = steps[0].scalars
    assert 1 + 1 / 256 == value
    assert isinstance(value, np.float64)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_handed_over_and_counted(
    value: float, caplog: pytest.LogCaptureFixture
) -> None:
    """As it is, and said once a name."""
    buffer, steps = buffered()
    for step in range(3):
        buffer.add({"loss": (value, np.mean), "fine": (1.0, np.mean)}, step)
    buffer.close()
    assert [value] * 3 == pytest.approx(
        [dict(each.scalars)["loss"] for each in steps], nan_ok=True
    )
    assert {"loss": 3} == buffer.stats().not_finite
    assert [f"metric 'loss' is {value} at train step 0 (said once)"] == caplog.messages


def test_opposite_infinities_average_to_nan() -> None:
    """Without a warning from numpy."""
    buffer, steps = buffered()
    buffer.add({"loss": (math.inf, np.mean)}, 1)
    buffer.add({"loss": (-math.inf, np.mean)}, 1)
    buffer.close()
    assert math.isnan(dict(steps[0].scalars)["loss"])


def raising(values: Any) -> float:
    """An aggregation function that fails."""
    raise ArithmeticError("no mean of these")


def deleted() -> jax.Array:
    """An array whose memory was given away."""
    array = jnp.ones(3)
    array.delete()
    return array


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param((1.0, raising), id="function raises"),
        pytest.param((1.0, "mean"), id="no function"),
        pytest.param((object(), np.mean), id="no number"),
        pytest.param((None, None), id="None"),
        pytest.param(1.0, id="no pair"),
        pytest.param((1.0, np.mean, 3), id="no pair, but three"),
        pytest.param((["a", 1.0], None), id="half a text"),
        pytest.param((deleted(), np.mean), id="deleted array"),
    ],
)
def test_what_cannot_be_aggregated_is_left_out(
    entry: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Said once with its name, counted; the step's other metrics are handed over."""
    buffer, steps = buffered()
    for step in (1, 2):
        buffer.add({"bad": entry, "good": (1.0, np.mean)}, step)
    buffer.close()
    assert [{"good": 1.0}] * 2 == [dict(each.scalars) for each in steps]
    assert {"bad": 2} == buffer.stats().failed
    (message,) = caplog.messages
    assert "metric 'bad' of step 1 cannot be aggregated" in message


def test_empty_arrays_have_no_point() -> None:
    """No value of no values, and no failure."""
    buffer, steps = buffered()
    buffer.add({"x": (np.zeros(0), np.mean), "y": (1.0, np.mean)}, 1)
    buffer.add({"y": (3.0, np.mean)}, 1)
    buffer.close()
    assert {"y": 2.0} == dict(steps[0].scalars)
    assert {} == buffer.stats().failed


def test_a_sink_that_raises_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Later steps reach it; said once and counted."""
    reached = []

    def sink(step: StepMetrics) -> None:
        reached.append(step.step)
        raise OSError("disk full")

    buffer = StepBuffer(sink)
    for step in range(3):
        buffer.add({"loss": (1.0, np.mean)}, step)
    buffer.close()
    assert [0, 1, 2] == reached
    assert 3 == buffer.stats().sink_errors
    assert ["a sink of metrics raised (said once)"] == caplog.messages


def test_an_interrupt_within_the_sink_passes_and_breaks_nothing() -> None:
    """Ctrl-C is the user's; steps that end later are handed over."""
    reached = []

    def sink(step: StepMetrics) -> None:
        reached.append(step.step)
        if step.step == 0:
            raise KeyboardInterrupt

    buffer = StepBuffer(sink)
    buffer.add({"loss": (1.0, np.mean)}, 0)
    with pytest.raises(KeyboardInterrupt):
        buffer.add({"loss": (1.0, np.mean)}, 1)
    buffer.close()
    assert [0, 1] == reached


def test_open_steps_are_bounded() -> None:
    """Asynchronous steps that nobody finishes are handed over, the oldest first."""
    buffer, steps = buffered(in_order=False)
    for step in range(_OPEN_STEPS + 2):
        buffer.add({"x": (1.0, np.mean)}, step)
    assert [(0, "train"), (1, "train")] == keys(steps)
    assert 2 == buffer.stats().early


def test_a_step_that_never_ends_is_bounded() -> None:
    """It is handed over in parts, of which none is lost."""
    buffer, steps = buffered()
    for _ in range(_ADDITIONS + 1):
        buffer.add({"x": (1.0, np.sum)}, 0)
    assert [_ADDITIONS] == [dict(each.scalars)["x"] for each in steps]
    assert 1 == buffer.stats().early
    buffer.close()
    assert {"x": 1.0} == dict(steps[1].scalars)


def test_steps_that_wait_for_the_sink_are_bounded() -> None:
    """While it hangs the oldest are dropped and counted, and no other thread waits."""
    entered, go_on = threading.Event(), threading.Event()
    reached = []

    def sink(step: StepMetrics) -> None:
        reached.append(step.step)
        entered.set()
        assert go_on.wait(60)

    buffer = StepBuffer(sink)
    buffer.add({"x": (1.0, np.sum)}, 0)
    other = threading.Thread(target=buffer.finish, args=(0,))
    other.start()
    assert entered.wait(60)
    for step in range(1, _WAITING_STEPS + 4):
        buffer.add({"x": (1.0, np.sum)}, step)
        buffer.finish(step)
    go_on.set()
    other.join()
    assert [0, *range(4, _WAITING_STEPS + 4)] == reached
    assert 3 == buffer.stats().dropped


def test_an_array_may_be_reused_by_its_owner() -> None:
    """What counts is what it held when it was added."""
    buffer, steps = buffered()
    array = np.array([1.0, 2.0])
    buffer.add({"x": (array, np.sum)}, 1)
    array[:] = 0
    buffer.close()
    assert {"x": 3.0} == dict(steps[0].scalars)


def test_threads_add_to_one_buffer() -> None:
    """Eight of them lose nothing, and steps are handed over one at a time."""
    busy = threading.Lock()
    sums: defaultdict[int, float] = defaultdict(float)

    def sink(step: StepMetrics) -> None:
        assert busy.acquire(blocking=False)
        sums[step.step] += dict(step.scalars)["x"]
        busy.release()

    buffer = StepBuffer(sink, in_order=False)
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        for i in range(400):
            buffer.add({"x": (1.0, np.sum)}, i % 4)
            if i % 50 == 0:
                buffer.finish(3)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    buffer.close()
    assert {0: 800.0, 1: 800.0, 2: 800.0, 3: 800.0} == sums
    assert 0 == buffer.stats().sink_errors


def test_close_waits_for_the_thread_that_hands_over() -> None:
    """What another thread is at is with the sink when `close` returns."""
    entered, go_on = threading.Event(), threading.Event()
    reached = []

    def sink(step: StepMetrics) -> None:
        entered.set()
        assert go_on.wait(60)
        reached.append(step.step)

    buffer = StepBuffer(sink)
    buffer.add({"x": (1.0, np.sum)}, 0)
    other = threading.Thread(target=buffer.finish, args=(0,))
    other.start()
    assert entered.wait(60)
    buffer.add({"x": (1.0, np.sum)}, 1)  # Returns: the sink is the other's business.
    closer = threading.Thread(target=buffer.close)
    closer.start()
    assert [] == reached
    assert closer.is_alive()
    go_on.set()
    closer.join(60)
    assert [0, 1] == reached
    other.join()


FORKED = """
import os, signal, threading
from perf.collect import StepBuffer
steps = []
buffer = StepBuffer(steps.append)
buffer.add({"loss": (1.0, None)}, 1)
held, forked = threading.Event(), threading.Event()

def hold():
    with buffer._changed:
        held.set()
        forked.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
if (child := os.fork()) == 0:
    signal.alarm(60)
    buffer.add({"loss": (2.0, None)}, 2)
    buffer.close()
    os._exit([2] == [each.step for each in steps])
forked.set()
thread.join()
assert 1 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
buffer.close()
assert [1] == [each.step for each in steps]
"""


def test_a_fork_amid_an_addition() -> None:
    """The child begins anew; the thread that adds is in the parent, as is its step."""
    assert "" == printed_by("-c", FORKED)


def test_a_sink_may_close_the_buffer() -> None:
    """It does not wait for itself."""
    steps: list[StepMetrics] = []

    def sink(step: StepMetrics) -> None:
        steps.append(step)
        buffer.close()

    buffer = StepBuffer(sink)
    buffer.add({"x": (1.0, np.sum)}, 0)
    buffer.close()
    assert [(0, "train")] == keys(steps)


def test_warnings_name_the_packages_logger(caplog: pytest.LogCaptureFixture) -> None:
    """One logger for all that is said."""
    buffer, _ = buffered()
    buffer.add({"x": (math.nan, None)}, 0)
    buffer.close()
    assert [("perf", logging.WARNING)] == [
        (record.name, record.levelno) for record in caplog.records
    ]
