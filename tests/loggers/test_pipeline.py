"""One call reaches every backend, each on its own."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from perf.loggers import (
    ConfigError,
    Gate,
    LoggingBackend,
    MissingExtraError,
    Pipeline,
    create_pipeline,
    register,
    registry,
)
from perf.loggers import handler as handlers
from tests.loggers.sinks import Kept, Raising, Rich, Waiting


@pytest.mark.row("L1")
def test_one_call_reaches_all_backends() -> None:
    """Each gets every value under its name, at its step."""
    one, other = Kept(), Kept()
    with Pipeline([one, other]) as pipeline:
        pipeline.log_metrics({"loss": 0.5, "nested": {"lr": 1e-4}}, step=7)
    assert [("loss", 0.5, 7), ("nested/lr", 1e-4, 7)] == one.scalars == other.scalars
    assert (1, 1) == (one.closed, other.closed)


def test_a_backend_that_raises_is_said_once_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody but the log hears of it, however often it happens."""
    kept, raising = Kept(), Raising()
    with Pipeline() as pipeline:
        pipeline.add(raising, name="broken")
        pipeline.add(kept, name="whole")
        for step in range(10):
            pipeline.log_scalar("loss", 1.0, step=step)
        pipeline.flush()
        stats = pipeline.stats()
    assert 10 == len(kept.scalars)
    assert (3, 7) == (stats["broken"].failed, stats["broken"].dropped)
    assert handlers.FAILURES_IN_A_ROW == raising.tries
    (line,) = caplog.messages
    assert "metrics backend broken failed to log: OSError: no space left" in line


def test_a_backend_that_hangs_holds_up_nobody() -> None:
    """The caller and the other backends go on."""
    kept, waiting = Kept(), Waiting()
    pipeline = Pipeline([waiting])
    to = pipeline.add(kept)
    for step in range(10):
        pipeline.log_scalar("loss", 1.0, step=step)
    to.flush()
    assert (10, 0) == (len(kept.scalars), len(waiting.scalars))
    waiting.go_on.set()
    pipeline.close()


def test_a_backend_left_out_is_tried_again() -> None:
    """After a while; a success is forgotten failures."""
    now_s = 0.0
    raising = Raising()
    to = handlers.BackendHandler(raising, _clock=lambda: now_s)
    with Pipeline() as pipeline:
        pipeline.logger.addHandler(to)
        for _ in range(5):
            pipeline.log_scalar("loss", 1.0)
        assert 3 == raising.tries
        now_s = handlers.LEFT_OUT_S
        raising.error = None
        pipeline.log_scalar("loss", 2.0)
        pipeline.log_scalar("loss", 3.0)
    assert [2.0, 3.0] == [value for _, value, _ in raising.scalars]


def test_a_backend_that_cannot_close_is_no_trouble(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`close` does not raise, and closes the others."""

    class Stuck(Kept):
        def close(self) -> None:
            raise RuntimeError("held")

    kept = Kept()
    Pipeline([Stuck(), kept]).close()
    assert 1 == kept.closed
    assert ["failed to close: RuntimeError: held"] == [
        line.partition("Stuck ")[2].partition(" (")[0] for line in caplog.messages
    ]


@pytest.mark.parametrize("texts", [False, True])
def test_texts_go_where_they_are_switched_on(texts: bool) -> None:
    """Never to a scalar method, whichever call they came in."""
    rich = Rich()
    with Pipeline() as pipeline:
        pipeline.add(rich, texts=texts)
        pipeline.log_metrics({"loss": 1.0, "prompts": "secret"}, step=3)
        pipeline.log_scalar("completions", "secret", step=3)
        pipeline.log_text("note", "secret", step=3)
    assert [("loss", 1.0, 3)] == rich.scalars
    got = [call[1] for call in rich.calls if call[0] == "text"]
    assert (["prompts", "completions", "note"] if texts else []) == got


def test_a_backend_gets_what_it_has_a_method_for() -> None:
    """One with further methods gets all, one with two gets metrics and results."""
    rich, kept = Rich(), Kept()
    image = np.zeros((2, 2))
    with Pipeline([rich, kept]) as pipeline:
        pipeline.log_image("input", image, step=1)
        pipeline.log_histogram("weights", [1.0, 2.0], step=1)
        pipeline.log_hparams({"optimizer": {"lr": 1e-3}})
        pipeline.log_artifact("model", Path("m.bin"), type="model")
        pipeline.log_result({"accuracy": 0.9})
        pipeline.log_tags({"team": "rl"})
        pipeline.notify("gone wrong")
    assert [("accuracy", 0.9, None)] == kept.scalars
    assert [] == rich.scalars
    assert [
        ("histogram", "weights", [1.0, 2.0], {"step": 1}),
        ("hparams", {"optimizer/lr": 1e-3}, {}),
        ("artifact", "model", "m.bin", {"type": "model"}),
        ("result", {"accuracy": 0.9}, {}),
        ("tags", {"team": "rl"}, {}),
        ("notify", "gone wrong", logging.ERROR, {}),
    ] == rich.calls[1:7]
    assert ("image", "input", {"step": 1}) == (*rich.calls[0][:2], rich.calls[0][3])


def test_what_comes_after_close_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """It reaches no backend."""
    kept = Kept()
    pipeline = Pipeline([kept])
    pipeline.close()
    for _ in range(2):
        pipeline.log_scalar("loss", 0.5)
    assert [] == kept.scalars
    said = "metrics are not logged: their logger is closed (said once)"
    assert [said] == caplog.messages


def test_values_are_those_of_the_call() -> None:
    """An array that its owner changes afterwards is logged as it was."""
    waiting = Waiting()
    values = np.ones(())
    with Pipeline([waiting]) as pipeline:
        pipeline.log_scalar("loss", values)
        values += 1
        waiting.go_on.set()
    assert [1.0] == [float(value) for _, value, _ in waiting.scalars]


@pytest.mark.parametrize("log", ["log_scalar", "log_metrics"])
def test_a_step_may_be_given_away(log: str) -> None:
    """It is often an array of a state, whose memory the next step of JAX takes."""
    kept = Kept()
    with Pipeline() as pipeline:
        pipeline.add(kept, name="kept")
        for number in range(5):
            step: Any = jnp.asarray(number)
            if log == "log_scalar":
                pipeline.log_scalar("loss", 1.0, step=step)
            else:
                pipeline.log_metrics({"loss": 1.0}, step=step)
            step.delete()
        pipeline.flush()
        stats = pipeline.stats()["kept"]
    assert [("loss", 1.0, number) for number in range(5)] == kept.scalars
    assert (5, 0, 0) == (stats.delivered, stats.failed, stats.dropped)


def test_a_value_that_is_given_away_costs_itself_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not its neighbours, and not the backend, which has not failed."""
    kept, gone = Kept(), jnp.ones(())
    gone.delete()
    with Pipeline() as pipeline:
        pipeline.add(kept, name="kept")
        for step in range(5):
            pipeline.log_metrics({"lr": gone, "loss": 1.0}, step=step)
            pipeline.log_scalar("lr", gone, step=step)
        pipeline.flush()
        stats = pipeline.stats()["kept"]
    assert [("loss", 1.0, step) for step in range(5)] == kept.scalars
    assert (5, 5, 0) == (stats.delivered, stats.failed, stats.dropped)
    (line,) = caplog.messages
    assert "metrics are left out, 'lr' first: their memory was given away" in line


def test_a_step_that_is_no_number_is_no_fault_of_the_backend(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What comes with a right one is written."""
    kept = Kept()
    with Pipeline() as pipeline:
        pipeline.add(kept, name="kept")
        for _ in range(5):
            wrong: Any = "epoch1"
            pipeline.log_scalar("loss", 1.0, step=wrong)
        pipeline.log_scalar("loss", 2.0, step=6)
        pipeline.flush()
        stats = pipeline.stats()["kept"]
    assert [("loss", 2.0, 6)] == kept.scalars
    assert (1, 5, 0) == (stats.delivered, stats.failed, stats.dropped)
    (line,) = caplog.messages
    assert "metrics without a step: ValueError" in line


def test_a_value_that_cannot_be_kept_does_not_reach_the_training(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A device without memory for a copy, say."""

    class Full:
        def detach(self) -> None:
            raise RuntimeError("out of memory")

    kept = Kept()
    with Pipeline([kept]) as pipeline:
        pipeline.log_scalar("loss", Full())
        pipeline.log_metrics({"loss": Full()})
    assert [] == kept.scalars
    assert "metrics are not logged: RuntimeError: out of memory" in caplog.text


def test_values_with_an_aggregation_are_aggregated() -> None:
    """As a `MetricsT` has them; without a function the value is taken as it is."""
    kept = Kept()
    metrics = {
        "a": ([1.0, 3.0], np.mean),
        "b": (5.0, None),
        "c": ([1.0, 3.0], np.max),
        "d": (1.0, 3.0),
        "e": ("text", np.max),
    }
    with Pipeline([kept]) as pipeline:
        pipeline.log_metrics(metrics, step=2)
    assert [("a", 2.0, 2), ("b", 5.0, 2), ("c", 3.0, 2), ("d", (1.0, 3.0), 2)] == (
        kept.scalars
    )


def test_an_aggregation_that_fails_does_not_reach_the_caller(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is said once."""
    with Pipeline([Kept()]) as pipeline:
        for _ in range(3):
            pipeline.log_metrics({"a": ("text", None), "b": (None, np.linalg.inv)})
    assert 1 == len(caplog.messages)


@pytest.mark.parametrize("method", ["log_metrics", "log_hparams", "log_result"])
def test_what_is_no_mapping_does_not_reach_the_training(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said, like any other failure."""
    with Pipeline([Kept()]) as pipeline:
        getattr(pipeline, method)(3.0)
    assert 1 == len(caplog.messages)


def test_middleware_changes_what_all_get_in_order() -> None:
    """It may rename, drop and move; empty metrics are not logged."""

    class OnlyTrain:
        def process_metrics(self, metrics: Any, step: Any = None) -> Any:
            return {k: v for k, v in metrics.items() if "train" in k}, step

    kept = Kept()
    with Pipeline([kept]) as pipeline:
        pipeline.add_middleware(OnlyTrain())
        pipeline.add_middleware(
            lambda metrics, step: ({k.upper(): v for k, v in metrics.items()}, 2)
        )
        pipeline.log_metrics({"train/loss": 1.0, "debug": 2.0}, step=1)
        pipeline.log_metrics({"debug": 2.0}, step=2)
    assert [("TRAIN/LOSS", 1.0, 2)] == kept.scalars


@pytest.mark.parametrize("delivery", ["async", "sync"])
def test_middleware_of_one_backend_is_its_own(delivery: str) -> None:
    """The others get the metrics unchanged."""
    from perf.loggers import Middleware

    one, other = Kept(), Kept()
    with Pipeline() as pipeline:
        renames = Middleware(lambda metrics, step: ({"renamed": 1.0}, step))
        pipeline.add(one, filters=[renames], delivery=delivery)
        pipeline.add(other, delivery=delivery)
        pipeline.log_scalar("loss", 1.0)
    assert ["renamed"] == [name for name, _, _ in one.scalars]
    assert ["loss"] == [name for name, _, _ in other.scalars]


def test_middleware_that_fails_drops_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What it failed to take out is not passed on."""
    kept = Kept()
    with Pipeline([kept]) as pipeline:
        pipeline.add_middleware(lambda metrics, step: 1 / 0)
        pipeline.log_scalar("loss", 1.0)
    assert [] == kept.scalars
    assert "metrics middleware failed, dropped: ZeroDivisionError" in caplog.text


def test_a_filter_that_fails_does_not_reach_the_caller(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever somebody hangs into the logger."""
    with Pipeline([Kept()]) as pipeline:
        pipeline.logger.addFilter(lambda record: bool(1 / 0))
        pipeline.log_scalar("loss", 1.0)
    assert "metrics are not logged: ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("delivery", ["async", "sync"])
def test_a_filter_of_one_backend_that_fails_is_its_own(
    delivery: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The others get the record, and it all that the filter does not fail on."""

    def fails_on_some(record: logging.LogRecord) -> bool:
        values: Any = record.msg
        return bool(1 / values["loss"])

    one, other = Kept(), Kept()
    with Pipeline() as pipeline:
        picky = pipeline.add(one, name="picky", delivery=delivery)
        picky.addFilter(fails_on_some)
        pipeline.add(other, delivery=delivery)
        for value in (0.0, 0.0, 0.0, 0.0, 0.5):
            pipeline.log_scalar("loss", value)
        pipeline.flush()
        stats = pipeline.stats()["picky"]
    assert [0.5] == [value for _, value, _ in one.scalars]
    assert [0.0, 0.0, 0.0, 0.0, 0.5] == [value for _, value, _ in other.scalars]
    assert (1, 4, 0) == (stats.delivered, stats.failed, stats.dropped)
    (line,) = caplog.messages
    assert "a filter of metrics backend picky failed: ZeroDivisionError" in line


def test_a_pipeline_is_a_backend() -> None:
    """It can stand in another one."""
    kept = Kept()
    inner = Pipeline([kept])
    assert isinstance(inner, LoggingBackend)
    with Pipeline([inner]) as outer:
        outer.log_scalar("loss", 1.0, step=1)
    assert ([("loss", 1.0, 1)], 1) == (kept.scalars, kept.closed)


def test_records_of_the_standard_library_are_understood() -> None:
    """A dict is a message, with `step` and `hparams` in `extra`; text is no metric."""
    rich = Rich()
    logger = logging.getLogger("tests.loggers.metrics")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    with Pipeline([rich], logger=logger):
        logger.info({"loss": 0.5}, extra={"step": 7})
        logger.info({"lr": 1e-3}, extra={"hparams": True})
        logger.info("plain text")
        logger.debug({"loss": 0.1})
    assert [("loss", 0.5, 7)] == rich.scalars
    assert ["hparams", "notify"] == [call[0] for call in rich.calls[:2]]
    assert [] == logger.handlers


def test_switching_off_log_lines_leaves_metrics_alone() -> None:
    """`logging.disable` is about what programs say."""
    kept = Kept()
    logging.disable(logging.CRITICAL)
    try:
        with Pipeline([kept]) as pipeline:
            pipeline.log_scalar("loss", 1.0, step=1)
    finally:
        logging.disable(logging.NOTSET)
    assert [("loss", 1.0, 1)] == kept.scalars


def test_a_logger_of_others_is_left_as_it_was() -> None:
    """Handlers and middleware go with the pipeline."""
    logger = logging.getLogger("tests.loggers.left")
    own = logging.Filter()
    logger.addFilter(own)
    with Pipeline([Kept()], logger=logger) as pipeline:
        pipeline.add_middleware(lambda metrics, step: (metrics, step))
    assert ([], [own]) == (logger.handlers, logger.filters)


@pytest.mark.parametrize(
    ("gate", "passed"),
    [
        ({}, list(range(20))),
        ({"min_step": 15}, [15, 16, 17, 18, 19]),
        ({"every_n_steps": 10}, [0, 10]),
        ({"max_fraction": 0.1}, [9, 19]),
        ({"max_fraction": 0.0}, []),
        ({"level": "WARNING"}, []),
        ({"level": "info"}, list(range(20))),
    ],
)
def test_a_gate_lets_a_part_pass(gate: dict[str, Any], passed: list[int]) -> None:
    """By step, by share, by level."""
    kept = Kept()
    with Pipeline() as pipeline:
        pipeline.add(kept, filters=[Gate(**gate)])
        for step in range(20):
            pipeline.log_scalar("loss", 1.0, step=step)
    assert passed == [step for _, _, step in kept.scalars]


def test_a_gate_limits_the_rate() -> None:
    """At two a second, one each half second passes."""
    now_s = 0.0
    kept = Kept()
    with Pipeline() as pipeline:
        pipeline.add(kept, filters=[Gate(max_per_s=2, _clock=lambda: now_s)])
        for step in range(10):
            now_s = step * 0.125
            pipeline.log_scalar("loss", 1.0, step=step)
    assert [0, 4, 8] == [step for _, _, step in kept.scalars]


def test_a_gate_lets_results_and_settings_pass() -> None:
    """Only what comes every step is gated."""
    rich = Rich()
    with Pipeline() as pipeline:
        pipeline.add(rich, filters=[Gate(min_step=100)])
        pipeline.log_hparams({"lr": 1.0})
        pipeline.log_result({"accuracy": 1.0}, step=1)
    assert ["hparams", "result"] == [call[0] for call in rich.calls[:2]]


@pytest.fixture
def own_backend(monkeypatch: pytest.MonkeyPatch) -> list[Rich]:
    """A backend known by name for the length of a test; those that were made."""
    made: list[Rich] = []

    def own(scale: float = 1.0, names: list[str] | None = None) -> Rich:
        made.append(Rich())
        return made[-1]

    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    register("own", own)
    return made


@pytest.mark.parametrize("root", [False, True])
def test_a_yaml_file_makes_a_pipeline(
    root: bool, tmp_path: Path, own_backend: list[Rich]
) -> None:
    """Options of a backend, of its delivery and its gate stand in its section."""
    lines = [
        "backends: [own, jsonl]",
        "every_n_steps: 2",
        "own: {scale: 2, texts: true, every_n_steps: 5, capacity: 50}",
        f"jsonl: {{path: {tmp_path / 'm.jsonl'}}}",
    ]
    if root:
        lines = ["logging:", *(f"  {line}" for line in lines)]
    path = tmp_path / "logging.yaml"
    path.write_text("\n".join(lines))
    with create_pipeline(path) as pipeline:
        for step in range(10):
            pipeline.log_scalar("loss", 1.0, step=step)
        pipeline.log_text("note", "hi", step=1)
    assert [0, 5] == [step for _, _, step in own_backend[0].scalars]
    assert 5 == len((tmp_path / "m.jsonl").read_text().splitlines())
    assert "text" == own_backend[0].calls[0][0]


@pytest.mark.parametrize("level", ["warning", "WARNING", logging.WARNING])
def test_a_level_may_be_written_in_any_way(level: Any, own_backend: list[Rich]) -> None:
    """In a configuration, for a backend that is added, and in a call."""
    added = Rich()
    config = {"backends": ["own"], "own": {"level": level}}
    with create_pipeline(config) as pipeline:
        pipeline.add(added, level=level)
        pipeline.log_metrics({"loss": 1.0}, step=1)
        pipeline.log_metrics({"loss": 2.0}, step=2, level=level)
    assert [("loss", 2.0, 2)] == own_backend[0].scalars == added.scalars


def test_an_added_backend_with_no_level_of_logging_is_an_error() -> None:
    """Like one in a configuration."""
    with pytest.raises(ConfigError, match=r"^level: expected a number or one of"):
        Pipeline().add(Kept(), level="LOUD")


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"backends": "own"}, "backends"),
        ({"backends": ["nobody"]}, "nobody"),
        ({"backends": [3]}, "backends"),
        ({"backends": ["own"], "own": {"scale": "hunter22"}}, "own.scale"),
        ({"backends": ["own"], "own": {"names": "hunter22"}}, "own.names"),
        ({"backends": ["own"], "own": {"names": ["a", 3]}}, "own.names"),
        ({"backends": ["own"], "own": {"speed": "hunter22"}}, "own.speed"),
        ({"backends": ["own"], "own": ["hunter22"]}, "own"),
        ({"backends": ["own"], "own": {"enabled": "hunter22"}}, "own.enabled"),
        ({"backends": ["own"], "own": {"capacity": True}}, "own.capacity"),
        ({"backends": ["own"], "own": {"drop": "hunter22"}}, "own.drop"),
        ({"backends": ["own"], "own": {"level": "hunter22"}}, "own.level"),
        ({"backends": ["own"], "own": {"every_n_steps": 0}}, "every_n_steps"),
        ({"backends": [], "sinks": "hunter22"}, "configuration.sinks"),
        ({"backends": ["slack"]}, "slack.webhook_url"),
        ({3: "hunter22"}, "configuration.3"),
    ],
)
def test_a_wrong_configuration_names_its_key(
    config: Any, key: str, own_backend: list[Rich]
) -> None:
    """The error says which entry, what was expected and found, but not its value."""
    if "slack" in config.get("backends", ()):
        pytest.importorskip("slack_sdk", reason="the slack extra is missing")
    with pytest.raises(ConfigError, match="expected") as caught:
        create_pipeline(config)
    assert key == caught.value.key
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize("text", ["a: [", "- a", "just text"])
def test_a_file_that_is_no_mapping_is_refused(text: str, tmp_path: Path) -> None:
    """With the file's name."""
    path = tmp_path / "logging.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"logging\.yaml"):
        create_pipeline(path)


def test_a_backend_switched_off_is_not_made(own_backend: list[Rich]) -> None:
    """`enabled: false` keeps its section in the file."""
    create_pipeline({"backends": ["own"], "own": {"enabled": False}}).close()
    assert [] == own_backend


def test_only_the_main_process_writes(
    monkeypatch: pytest.MonkeyPatch, own_backend: list[Rich]
) -> None:
    """Elsewhere no backend is even made, nor can a configuration ask for it."""
    monkeypatch.setenv("RANK", "1")
    create_pipeline({"backends": ["own"]}).close()
    assert [] == own_backend
    with pytest.raises(ConfigError, match=r"main_process_only.*an unknown key"):
        create_pipeline({"backends": ["own"], "main_process_only": False})
    assert [] == own_backend


def test_what_was_made_is_closed_when_the_rest_cannot_be(
    own_backend: list[Rich],
) -> None:
    """A configuration error leaves nothing open."""
    with pytest.raises(ConfigError):
        create_pipeline({"backends": ["own", "nobody"]})
    assert 1 == own_backend[0].closed


def test_a_missing_library_is_an_error_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For a backend that was asked for by name."""
    monkeypatch.setattr(registry, "available", lambda name: False)
    with pytest.raises(MissingExtraError, match=r"pip install 'rlperf\[mlflow\]'"):
        create_pipeline({"backends": ["mlflow"]})


@pytest.mark.row("B1")
def test_what_has_not_both_methods_is_no_backend() -> None:
    """The error says what is expected."""
    with pytest.raises(TypeError, match="log_scalar"):
        Pipeline([object()])  # type: ignore[list-item]
