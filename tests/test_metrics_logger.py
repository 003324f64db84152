"""`perf.metrics_logger`: Tunix's logger, as documented."""

from __future__ import annotations

import math
import re
import signal
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest

from perf import _metrics_logger_options, metrics_logger
from perf.adapters.jax_devices import WAITING
from perf.experimental.export import PerfMetricsExport as ExportV2
from perf.metrics_logger import MetricsLogger, MetricsLoggerOptions, Mode
from perf.trace import PerfTracer
from tests.loggers.sinks import Kept, Raising, Rich, Waiting, options
from tests.loggers.tensors import Tensor
from tests.programs import printed_by


class Printing:
    """The document's simple backend."""

    def log_scalar(self, event: str, value: Any, **kwargs: Any) -> None:
        """Prints."""
        print(f"Logged {event}: {value}")

    def close(self) -> None:
        """Says so."""
        print("Closing backend.")


class FileBackend:
    """The document's backend with an argument."""

    def __init__(self, filename: str) -> None:
        self.file = open(filename, "w")  # noqa: SIM115 - as the document has it

    def log_scalar(self, event: str, value: Any, **kwargs: Any) -> None:
        """Writes."""
        self.file.write(f"{event},{value}\n")

    def close(self) -> None:
        """Closes."""
        self.file.close()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# Logging


@pytest.mark.parametrize(
    ("args", "kwargs", "event"),
    [
        (("loss", 0.5), {}, "train/loss"),
        (("loss", 0.5, "eval", 1), {}, "eval/loss"),
        (("loss", 0.5), {"mode": Mode.EVAL, "step": 1}, "eval/loss"),
        (("train/loss", 0.5), {"mode": "train", "step": 1}, "train/loss"),
        (("a", "loss", 0.5, "train", 1), {}, "a/train/loss"),
        (("a", "loss", 0.5), {"mode": Mode.TRAIN, "step": 1}, "a/train/loss"),
        (("a", "loss"), {"scalar_value": 0.5, "mode": "eval"}, "a/eval/loss"),
        (("", "loss", 0.5, Mode.EVAL, 1), {}, "eval/loss"),
        (
            (),
            {"metrics_prefix": "a", "metric_name": "loss", "scalar_value": 0.5},
            "a/train/loss",
        ),
        ((), {"metric_name": "loss", "scalar_value": 0.5}, "train/loss"),
    ],
)
@pytest.mark.row("B9")
def test_both_call_forms_name_the_event(
    args: Any, kwargs: dict[str, Any], event: str
) -> None:
    """`prefix/mode/name`, or `mode/name` without doubling the mode."""
    kept = Kept()
    with MetricsLogger(options(kept)) as logger:
        logger.log(*args, **kwargs)
    ((found, value, _step),) = kept.scalars
    assert (event, 0.5) == (found, value)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        (("loss",), {}),
        (("a", "loss", 0.5, "train", 1, 2), {}),
        (("loss", 0.5), {"speed": 1}),
        (("loss", 0.5, "train"), {"mode": "train"}),
    ],
)
def test_a_call_of_the_wrong_shape_is_a_type_error(args: Any, kwargs: Any) -> None:
    """As of any function."""
    with pytest.raises(TypeError, match=r"log\(\)"):
        MetricsLogger().log(*args, **kwargs)


@pytest.mark.parametrize("args", [("loss", 0.5, 1), ("a", "loss", 0.5, 1)])
def test_a_step_in_the_place_of_the_mode_is_a_type_error(args: Any) -> None:
    """The error says how the step is passed; nothing is logged as `1/loss`."""
    kept = Kept()
    with MetricsLogger(options(kept)) as logger:
        with pytest.raises(TypeError, match=r"log\(\) got mode=1: .*step=1"):
            logger.log(*args)
        assert not logger.metric_exists("loss", "1")
    assert [] == kept.scalars


@pytest.mark.row("B2")
def test_a_value_arrives_as_it_was_given() -> None:
    """An array stays one, a number of JAX too."""
    kept = Kept()
    values = [np.float32(0.5), np.asarray([1.0, 2.0]), jnp.ones(())]
    with MetricsLogger(options(kept)) as logger:
        for step, value in enumerate(values):
            logger.log("loss", value, step=step)
    found = [value for _, value, _ in kept.scalars]
    assert list(map(type, values)) == list(map(type, found))


@pytest.mark.row("B7", "L10")
def test_a_backend_of_ones_own_is_there_when_log_returns(
    capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it prints is in order with what the program prints."""
    monkeypatch.setattr(_metrics_logger_options, "_PATIENCE_S", 60)
    logger = MetricsLogger(MetricsLoggerOptions("logs", backend_factories=[Printing]))
    logger.log("train/loss", 0.5, mode="train", step=1)
    assert "Logged train/loss: 0.5\n" == capsys.readouterr().out
    logger.close()
    assert "Closing backend.\n" == capsys.readouterr().out


@pytest.mark.row("B8", "L10")
def test_the_documents_file_backend_works(tmp_path: Path) -> None:
    """Through a lambda; the lines are there after `close`."""
    path = tmp_path / "metrics.csv"
    made = MetricsLoggerOptions(
        "logs", backend_factories=[lambda: FileBackend(filename=str(path))]
    )
    with MetricsLogger(made) as logger:
        logger.log("train/loss", 0.5, mode="train", step=1)
    assert "train/loss,0.5\n" == path.read_text()


def test_a_backend_that_hangs_or_raises_does_not_reach_the_training() -> None:
    """Nor the other backends."""
    kept, waiting = Kept(), Waiting()
    logger = MetricsLogger(options(Raising(), waiting, kept))
    for step in range(5):
        logger.log("loss", 1.0, step=step)
    waiting.go_on.set()
    logger.close()
    assert 5 == len(kept.scalars)


def test_metrics_with_aggregations_are_logged_aggregated() -> None:
    """As a tracer's export returns them."""
    kept = Kept()
    with MetricsLogger(options(kept)) as logger:
        logger.log_metrics({"a": ([1.0, 3.0], np.mean), "b": 2.0}, step=1, mode="eval")
    assert [("eval/a", 2.0, 1), ("eval/b", 2.0, 1)] == kept.scalars


@pytest.mark.parametrize(
    ("metrics", "error"), [({"a": ([], np.linalg.inv)}, "LinAlgError"), (3, "int")]
)
def test_metrics_that_cannot_be_aggregated_are_said_once(
    metrics: Any, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    """They raise nothing into the training, and later ones are logged."""
    kept = Kept()
    with MetricsLogger(options(kept)) as logger:
        for step in range(2):
            logger.log_metrics(metrics, step)
        logger.log_metrics({"b": 2.0}, 2)
    assert [("train/b", 2.0, 2)] == kept.scalars
    (message,) = caplog.messages
    assert "metrics are not logged" in message
    assert error in message


# History


def test_history_is_kept_by_prefix_mode_and_name() -> None:
    """Its mean, and its values in order; both call forms find their own."""
    logger = MetricsLogger()
    for value in (1.0, 3.0):
        logger.log("actor", "loss", value, Mode.TRAIN, 1)
        logger.log("train/loss", 10 * value, mode="train", step=1)
    assert 2.0 == logger.get_metric("actor", "loss", "train")
    assert 20.0 == logger.get_metric("loss", "train")
    assert 20.0 == logger.get_metric("train/loss", Mode.TRAIN)
    assert [1.0, 3.0] == logger.get_metric_history("actor", "loss", "train").tolist()
    assert logger.metric_exists("actor", "loss", Mode.TRAIN)
    assert not logger.metric_exists("actor", "loss", Mode.EVAL)


def test_perplexity_is_averaged_geometrically() -> None:
    """10 and 100 average to 31.62."""
    logger = MetricsLogger()
    for value in (10.0, 100.0):
        logger.log("actor", "perplexity", value, "eval", 1)
    assert pytest.approx(1000**0.5) == logger.get_metric("actor", "perplexity", "eval")


@pytest.mark.parametrize("name", ["loss", "perplexity"])
def test_history_is_bounded_and_its_mean_is_not(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean is over all values ever logged."""
    monkeypatch.setattr(metrics_logger, "_KEPT_VALUES", 2)
    monkeypatch.setattr(metrics_logger, "_AS_GIVEN", 1)
    logger = MetricsLogger()
    values = np.asarray([1.0, 2.0, 4.0, 8.0, 16.0])
    for value in values:
        logger.log(name, value)
    assert [8.0, 16.0] == logger.get_metric_history(name, "train").tolist()
    mean = 4.0 if name == "perplexity" else values.mean()
    assert pytest.approx(mean) == logger.get_metric(name, "train")


@pytest.mark.parametrize("count", [1, 100])
def test_history_is_of_the_values_as_they_were(count: int) -> None:
    """Whatever becomes of an array that its owner uses again."""
    logger = MetricsLogger()
    buffer, tensor = np.zeros(()), Tensor(0.0)
    for number in range(count):
        buffer[...] = tensor.values[...] = number
        logger.log("array", buffer)
        logger.log("tensor", tensor)
    buffer[...] = tensor.values[...] = -1.0
    for name in ("array", "tensor"):
        found = logger.get_metric_history(name, "train")
        assert [float(number) for number in range(count)] == found.tolist()
        assert pytest.approx((count - 1) / 2) == logger.get_metric(name, "train")


def test_history_holds_few_arrays_of_devices() -> None:
    """The last alone, since they may be under way; older ones are numbers."""
    logger = MetricsLogger()
    arrays = [jnp.asarray(number, jnp.float32) for number in range(100)]
    held = [weakref.ref(array) for array in arrays]
    while arrays:
        logger.log("loss", arrays.pop(0))
        settled(logger)
    assert sum(each() is not None for each in held) <= 18
    found = logger.get_metric_history("loss", "train")
    assert found.dtype == np.float32
    assert list(range(100)) == found.tolist()


def settled(logger: MetricsLogger) -> None:
    """Waits until no thread waits for a value any more."""
    for history in logger._histories.values():
        WAITING.settle(history)


class Late:
    """An array on which a device works until it is told to be done."""

    def __init__(self, number: float, meanwhile: Callable[[], object] = int) -> None:
        self.number, self.meanwhile = number, meanwhile
        self.done = threading.Event()

    def block_until_ready(self) -> None:
        """Returns when the device is done."""
        self.done.wait()

    def is_ready(self) -> bool:
        """Never asked: of an array that is deleted meanwhile, that ends the process."""
        raise AssertionError("it was asked")

    is_deleted = is_ready

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        assert self.done.is_set(), "it was waited for"
        meanwhile, self.meanwhile = self.meanwhile, int  # once
        meanwhile()
        return np.asarray(self.number)


def test_a_device_that_is_behind_is_not_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its values stay as they are until it is done, and then become numbers."""
    logger = MetricsLogger()
    arrays = [Late(number) for number in range(40)]
    for array in arrays:
        logger.log("loss", array)
    for array in arrays:
        array.done.set()
    held = [weakref.ref(array) for array in arrays]
    del arrays, array
    assert all(each() is not None for each in held)
    for number in range(40, 80):
        settled(logger)
        logger.log("loss", number)
    assert not any(each() is not None for each in held)
    assert list(range(80)) == logger.get_metric_history("loss", "train").tolist()
    assert [] == caplog.messages


def test_a_device_that_is_far_behind_costs_the_oldest_values(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """So it is with one that hangs. It is said once."""
    monkeypatch.setattr(metrics_logger, "_UNDER_WAY", 20)
    monkeypatch.setattr(metrics_logger, "_TURN_S", 0.0)
    logger = MetricsLogger()
    arrays = [Late(number) for number in range(30)]
    for array in arrays:
        logger.log("loss", array)
    for array in arrays:
        array.done.set()
    found = logger.get_metric_history("loss", "train")
    assert list(range(10, 30)) == found.tolist()
    (message,) = caplog.messages
    assert "a device is 20 values behind" in message


def test_many_values_in_a_row_are_no_device_that_is_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The thread that waits for them gets its turn; none is lost."""
    monkeypatch.setattr(metrics_logger, "_UNDER_WAY", 20)
    monkeypatch.setattr(metrics_logger, "_TURN_S", 60.0)
    logger = MetricsLogger()
    for number in range(500):
        logger.log("loss", jnp.float32(number))
    assert list(range(500)) == logger.get_metric_history("loss", "train").tolist()
    assert [] == caplog.messages


class Refusing:
    """Waiting threads that take nothing: too much is pending."""

    def submit(self, key: Any, work: Any) -> bool:
        """It does not."""
        return False


def test_values_that_no_thread_waits_for_go_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log is not held up, and no device is said to be behind."""
    monkeypatch.setattr(metrics_logger, "WAITING", Refusing())
    monkeypatch.setattr(metrics_logger, "_UNDER_WAY", 20)
    monkeypatch.setattr(metrics_logger, "_TURN_S", 3600.0)
    logger = MetricsLogger()
    for number in range(30):
        logger.log("loss", Late(number))
    (message,) = caplog.messages
    assert "not waited for" in message


FORKED = """
import os, signal, threading
from perf.metrics_logger import MetricsLogger
logger = MetricsLogger()
logger.log("loss", 1.0)
(history,) = logger._histories.values()
held, forked = threading.Event(), threading.Event()

def hold():
    with history._lock:
        held.set()
        forked.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
if (child := os.fork()) == 0:
    signal.alarm(60)
    logger.log("loss", 3.0)
    os._exit(int(logger.get_metric("loss", "train")))
forked.set()
thread.join()
assert 2 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


def test_a_fork_while_a_value_is_remembered() -> None:
    """The thread that has the history then is not in the child."""
    assert "" == printed_by("-c", FORKED)


class Forgetful(Refusing):
    """Waiting threads of the parent, which never tell a forked child."""

    taken = 0

    def submit(self, key: Any, work: Any) -> bool:
        """It takes everything, and that is all."""
        self.taken += 1
        return True


def test_a_forked_child_has_its_own_threads_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the parent's wait for they never tell it."""
    waiting = Forgetful()
    monkeypatch.setattr(metrics_logger, "WAITING", waiting)
    logger = MetricsLogger()
    for number in range(20):
        logger.log("loss", Late(number))
    assert 1 == waiting.taken
    metrics_logger._lock_all_anew()  # as in a child
    logger.log("loss", Late(20))
    assert 2 == waiting.taken


def test_a_signal_handler_may_log_what_is_being_logged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also while an older value is made a number."""
    monkeypatch.setattr(metrics_logger, "_AS_GIVEN", 1)
    logger = MetricsLogger()
    previous = signal.signal(signal.SIGUSR1, lambda *_: logger.log("loss", 3.0))
    try:
        first = Late(1.0, lambda: signal.raise_signal(signal.SIGUSR1))
        first.done.set()
        logger.log("loss", first)
        logger.log("loss", 2.0)
        settled(logger)
        logger.log("loss", 2.0)
        assert first.meanwhile is int, "it did not become a number"
    finally:
        signal.signal(signal.SIGUSR1, previous)
    found = logger.get_metric_history("loss", "train")
    assert {1.0, 2.0, 3.0} == set(found.tolist())


def test_a_mean_is_of_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is logged, and leaves the history, while arrays are waited for."""
    monkeypatch.setattr(metrics_logger, "_KEPT_VALUES", 2)
    monkeypatch.setattr(metrics_logger, "_AS_GIVEN", 1)
    logger = MetricsLogger()
    last = Late(3.0, lambda: [logger.log("loss", 100.0) for _ in range(10)])
    last.done.set()
    for value in (1.0, 2.0, last):
        logger.log("loss", value)
    assert 2.0 == logger.get_metric("loss", "train")


def test_a_value_that_is_gone_leaves_the_history(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A buffer may have been donated meanwhile; the others are there."""
    logger = MetricsLogger()
    array = jnp.ones(())
    logger.log("loss", array)
    array.delete()
    assert math.isnan(logger.get_metric("loss", "train"))
    assert [] == logger.get_metric_history("loss", "train").tolist()
    logger.log("loss", 7.0)
    assert 7.0 == logger.get_metric("loss", "train")
    assert [7.0] == logger.get_metric_history("loss", "train").tolist()
    for number in range(100):
        logger.log("loss", number)
        settled(logger)
    history = logger.get_metric_history("loss", "train").tolist()
    assert [7.0, *range(100)] == history
    (message,) = caplog.messages
    assert "not kept" in message


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_means_are_not_made_in_half_precision(dtype: Any) -> None:
    """Which would stop growing, or overflow."""
    logger = MetricsLogger()
    for _ in range(3000):
        logger.log("loss", np.asarray(100.0, dtype))
        logger.log("perplexity", np.asarray(100.0, dtype))
    assert 100.0 == logger.get_metric("loss", "train")
    assert abs(logger.get_metric("perplexity", "train") - 100.0) < 1e-9


def test_a_mean_is_of_all_numbers_of_arrays() -> None:
    """Each array has the same weight, as all have one shape."""
    logger = MetricsLogger()
    for value in ([1.0, 2.0], [3.0, 6.0]):
        logger.log("loss", np.array(value))
    assert 3.0 == logger.get_metric("loss", "train")


def test_history_has_a_bounded_number_of_names(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is beyond is logged and not remembered; that is said once."""
    monkeypatch.setattr(metrics_logger, "_KEPT_NAMES", 2)
    kept = Kept()
    with MetricsLogger(options(kept)) as logger:
        for name in "abcd":
            logger.log(name, 1.0, step=1)
        assert [True, True, False, False] == [
            logger.metric_exists(name, "train") for name in "abcd"
        ]
    assert 4 == len(kept.scalars)
    assert 1 == len(caplog.messages)


@pytest.mark.parametrize("method", ["get_metric", "get_metric_history"])
def test_an_unknown_metric_is_an_error_that_names_the_known(method: str) -> None:
    """Those of the same mode."""
    logger = MetricsLogger()
    logger.log("actor", "loss", 1.0, "train", 1)
    with pytest.raises(ValueError, match=re.escape("'train': ['actor/loss']")):
        getattr(logger, method)("actor", "kl", "train")


def test_several_threads_may_log() -> None:
    """No value of the history is lost."""
    logger = MetricsLogger()
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        for value in range(1000):
            logger.log(f"loss{value % 10}", 1.0)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lengths = [len(logger.get_metric_history(f"loss{n}", "train")) for n in range(10)]
    assert [800] * 10 == lengths


# jax.monitoring


def test_scalars_recorded_with_jax_reach_the_backends_until_close() -> None:
    """A closed logger hears nothing, and leaves other listeners alone."""
    before = len(jax._src.monitoring.get_scalar_listeners())
    kept = Kept()
    logger = MetricsLogger(options(kept))
    jax.monitoring.record_scalar("other/loss", 0.5, step=3)
    jax.monitoring.record_scalar("/jax/of_its_own", 0.5)
    logger.close()
    jax.monitoring.record_scalar("other/loss", 0.5, step=4)
    logger.close()
    assert [("other/loss", 0.5, 3)] == kept.scalars
    assert before == len(jax._src.monitoring.get_scalar_listeners())


def test_two_loggers_do_not_hear_each_other() -> None:
    """Nor does one hear itself twice."""
    one, other = Kept(), Kept()
    with MetricsLogger(options(one)) as first, MetricsLogger(options(other)) as second:
        first.log("a", 1.0, step=1)
        second.log("b", 2.0, step=1)
    assert (["train/a"], ["train/b"]) == (
        [name for name, _, _ in one.scalars],
        [name for name, _, _ in other.scalars],
    )


# The tracer


@pytest.mark.row("P28")
def test_what_a_tracer_exports_is_logged_at_each_step() -> None:
    """One line of set-up; names stay, aggregations are applied, steps are counted."""
    rich = Rich()
    logger = MetricsLogger(options(rich))

    def export(query: Any) -> Any:
        (group,) = query().main().last_group("global_step").get()
        assert group.end >= group.begin
        return {"perf/custom": (2.0, None), "perf/times": ([1.0, 3.0], np.sum)}

    tracer = PerfTracer(export_fn=logger.log_exports(export, first_step=7))
    for _ in range(2):
        with tracer.span_group("global_step"):
            pass
        assert (2.0, None) == tracer.export()["perf/custom"]
    tracer.close()
    logger.close()
    assert [
        ("perf/custom", 2.0, 7),
        ("perf/times", 4.0, 7),
        ("perf/custom", 2.0, 8),
        ("perf/times", 4.0, 8),
    ] == rich.scalars


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.row("P16")
def test_the_built_in_exports_are_logged_and_write_their_trace(
    version: int, tmp_path: Path
) -> None:
    """The wrapped function still has its writer attached."""
    from perf.experimental.tracer import PerfTracer as TracerV2
    from perf.export import PerfMetricsExport
    from perf.perfetto import PerfettoTraceWriter

    kept = Kept()
    logger = MetricsLogger(options(kept))
    roles = {"rollout": ["cpu:0"], "actor": ["cpu:0"], "refer": ["cpu:0"]}
    traces = tmp_path / "traces"
    tracer: Any
    if version == 1:
        writer = PerfettoTraceWriter(str(traces))
        export = PerfMetricsExport.from_role_to_devices(roles, writer)
        tracer = PerfTracer(export_fn=logger.log_exports(export))
    else:
        made = ExportV2(trace_dir=str(traces), role_to_devices=roles)
        tracer = TracerV2(export_fn=logger.log_exports(made.export_metrics))
    with getattr(tracer, "span_group", tracer.span)("global_step"):
        pass
    tracer.export()
    tracer.close()
    logger.close()
    assert "perf/global_step_time" in {name for name, _, _ in kept.scalars}
    assert 1 == len(list(traces.iterdir()))


@pytest.mark.parametrize(
    ("export", "error"),
    [
        (object(), "expected a function"),
        (ExportV2(enable_trace_writer=False), "pass its export_metrics"),
    ],
)
def test_an_export_function_that_is_none_is_refused(export: Any, error: str) -> None:
    """At once, and as the tracer refuses it."""
    with pytest.raises(ValueError, match=error):
        MetricsLogger().log_exports(export)


# Another library


@pytest.mark.filterwarnings("default")
@pytest.mark.tunix
@pytest.mark.row("L9")
def test_metrax_backends_plug_in(tmp_path: Path) -> None:
    """Unchanged: its classes are factories."""
    metrax = pytest.importorskip("metrax.logging", reason="metrax is not installed")
    from tests.loggers.backends import read_tensorboard

    made = MetricsLoggerOptions(
        "logs", backend_factories=[lambda: metrax.TensorboardBackend(str(tmp_path))]
    )
    with MetricsLogger(made) as logger:
        logger.log("actor", "loss", 0.5, "train", 1)
    assert {("actor/train/loss", 1): 0.5} == read_tensorboard(tmp_path)


@pytest.mark.filterwarnings("default")
@pytest.mark.tunix
@pytest.mark.row("L9")
def test_ours_plug_in_where_those_of_metrax_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In google-tunix's logger, which knows backends by metrax's protocol."""
    theirs = pytest.importorskip("tunix.sft.metrics_logger", reason="needs tunix")
    from tests.loggers.backends import read_tensorboard

    backend = metrics_logger.TensorboardBackend(tmp_path)
    # Closing removes all listeners of the process; those of other tests are to stay.
    monkeypatch.setattr(
        jax.monitoring,
        "clear_event_listeners",
        lambda: jax.monitoring.unregister_scalar_listener(backend.log_scalar),
    )
    backends = {"custom_backend": [lambda: backend]}
    logger = theirs.MetricsLogger(
        theirs.MetricsLoggerOptions("logs", backend_kwargs=backends)
    )
    logger.log("actor", "loss", 0.5, "train", 1)
    logger.close()
    assert {("actor/train/loss", 1): 0.5} == read_tensorboard(tmp_path)
