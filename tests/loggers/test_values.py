"""Values, names, records, filters and secrets, each by itself."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from perf.loggers import ConfigError, Gate, IsMappingFilter, IsRank0Filter, registry
from perf.loggers.images import as_batches
from perf.loggers.naming import substitute_placeholders
from perf.loggers.records import kind_of, make_record, step_of
from perf.loggers.redaction import HIDDEN, error_line, redact
from perf.loggers.registry import auto_configure_integrations
from perf.loggers.sharing import Shared
from perf.loggers.values import add_prefix, as_float, flatten_metrics, format_metrics
from tests.loggers.sinks import Kept


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1.0),
        (0.5, 0.5),
        (True, 1.0),
        (np.float32(0.5), 0.5),
        (np.asarray([[2]]), 2.0),
        (jnp.ones(()), 1.0),
        (math.inf, math.inf),
        ("1.5", None),
        (b"1", None),
        (np.ones(2), None),
        ([], None),
        (None, None),
        (object(), None),
    ],
)
def test_single_numbers_are_floats(value: Any, number: float | None) -> None:
    """Whatever holds one; a text that looks like one is none."""
    assert number == as_float(value)


def test_nan_stays_nan() -> None:
    """It is a value like any other."""
    found = as_float(np.float32("nan"))
    assert found is not None
    assert math.isnan(found)


def test_metrics_are_formatted_flattened_and_prefixed() -> None:
    """As the documents show it."""
    assert {"loss": "0.1235"} == format_metrics({"loss": 0.123456}, precision=4)
    assert {
        "lr": "1.00e-05",
        "zero": "0.00",
        "n": "3",
        "big": "2.00e+12",
        "nan": "nan",
        "text": "a",
    } == format_metrics(
        {"lr": 1e-5, "zero": 0.0, "n": 3, "big": 2e12, "nan": math.nan, "text": "a"}, 2
    )
    assert {"a/b": 1, "a/c/d": 2, "e": 3} == flatten_metrics(
        {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    )
    assert {"train/loss": 0.5} == add_prefix({"loss": 0.5}, "train")
    nested = {"a": {"b": {}}, "c": {}, "d": 1}
    assert {"d": 1} == flatten_metrics(nested)
    assert {"a/b": {}, "c": {}, "d": 1} == flatten_metrics(nested, keep_empty=True)


def test_a_record_is_one_of_the_standard_library() -> None:
    """It formats, and has the fields that handlers of others look at."""
    record = make_record({"lr": 1.0}, "hparams", 7, logging.WARNING)
    text = logging.Formatter(
        "%(levelname)s %(name)s %(message)s %(process)d %(threadName)s"
    ).format(record)
    assert text.startswith("WARNING perf.loggers {'lr': 1.0} ")
    fields = vars(logging.LogRecord("n", 10, "", 0, "", None, None))
    assert set(fields) < set(vars(record))
    assert ("hparams", 7, True) == (kind_of(record), step_of(record), record.hparams)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("message", "extra", "kind"),
    [
        ("text", {}, "message"),
        ({"a": 1}, {}, "metrics"),
        ({"a": 1}, {"hparams": True}, "hparams"),
        ({"a": 1}, {"hparams": False, "step": 3}, "metrics"),
    ],
)
def test_records_of_others_have_a_kind(message: Any, extra: Any, kind: str) -> None:
    """From their message and the documented extras."""
    record = logging.makeLogRecord({"msg": message, **extra})
    assert kind == kind_of(record)
    assert (message != "text") == IsMappingFilter().filter(record)


@pytest.mark.parametrize(
    ("made", "record", "message", "environment", "passes"),
    [
        ({}, {}, "x", {}, True),
        ({}, {"rank": 1}, "x", {}, False),
        ({"rank": 1}, {"rank": 0}, "x", {}, True),
        ({}, {}, {"rank": 1}, {}, False),
        ({"rank": 0}, {}, "x", {"RANK": "3"}, True),
        ({"rank": 2}, {}, "x", {}, False),
        ({"rank": lambda: 1}, {}, "x", {}, False),
        ({"local_rank": True}, {}, "x", {"RANK": "8", "LOCAL_RANK": "0"}, True),
        ({"local_rank": True}, {}, "x", {"RANK": "0", "LOCAL_RANK": "1"}, False),
        ({"local_rank": True}, {"local_rank": 0}, "x", {"LOCAL_RANK": "1"}, True),
    ],
)
def test_only_rank_0_passes(
    made: Any,
    record: Any,
    message: Any,
    environment: dict[str, str],
    passes: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rank of the record, its mapping, the filter, the environment; 0 is a rank."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = IsRank0Filter(**made).filter(
        logging.makeLogRecord({"msg": message, **record})
    )
    assert passes == found


@pytest.mark.parametrize(
    "wrong",
    [
        {"every_n_steps": 0},
        {"max_fraction": 1.5},
        {"max_fraction": -0.5},
        {"max_per_s": 0},
        {"level": "LOUD"},
    ],
)
def test_a_gate_refuses_what_cannot_be(wrong: dict[str, Any]) -> None:
    """With the key."""
    with pytest.raises(ConfigError) as caught:
        Gate(**wrong)
    assert [caught.value.key] == list(wrong)


@pytest.mark.parametrize(
    ("shape", "images", "found"),
    [
        ((4, 6), 1, (4, 6, 3)),
        ((4, 6, 3), 1, (4, 6, 3)),
        ((3, 4, 6), 1, (4, 6, 3)),
        ((5, 4, 6), 5, (4, 6, 3)),
        ((2, 4, 6, 3), 2, (4, 6, 3)),
        ((2, 3, 4, 6), 2, (4, 6, 3)),
        ((2, 4, 6, 4), 2, (4, 6, 4)),
    ],
)
def test_images_of_all_layouts_are_read(
    shape: tuple[int, ...], images: int, found: tuple[int, ...]
) -> None:
    """Grey ones get colours; numbers become bytes."""
    batch = as_batches(np.full(shape, 0.5))
    assert [(found, np.dtype(np.uint8), 128)] * images == [
        (one.shape, one.dtype, int(one[0, 0, 0])) for one in batch
    ]


@pytest.mark.parametrize("shape", [(), (3,), (2, 5, 6, 7), (1, 2, 3, 4, 5)])
def test_what_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    """With its shape."""
    with pytest.raises(ValueError, match="an image of shape"):
        as_batches(np.zeros(shape))


def test_placeholders_in_names_are_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks and times; other braces stay."""
    monkeypatch.setenv("LOCAL_RANK", "5")
    name = substitute_placeholders("{rank}-{local_rank}-{other}-{utc_time}")
    assert name.startswith("0-5-{other}-2")
    assert name.endswith("+00:00")
    assert "{" not in substitute_placeholders("{time}")


@pytest.mark.parametrize(
    "text",
    [
        "POST https://hooks.slack.com/services/T00/B00/s3cr3t-key failed",
        "https://discord.com/api/webhooks/123/s3cr3t-key",
        "https://user:s3cr3t-key@mlflow.example.com/api",
        "Authorization: Bearer s3cr3t-key",
        "api_key=s3cr3t-key&x=1",
        "{'token': 's3cr3t-key'}",
        "password: s3cr3t-key",
        "with given secret s3cr3t-given",
        "from the environment: s3cr3t-environment",
    ],
)
def test_secrets_are_hidden(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those given, those of the environment, and what looks like one."""
    monkeypatch.setenv("SOME_API_KEY", "s3cr3t-environment")
    found = redact(text, ["s3cr3t-given"])
    assert "s3cr3t" not in found
    assert HIDDEN in found


@pytest.mark.parametrize(
    "text", ["no space left on device", "https://example.com/a/b", "step=3, loss=0.5"]
)
def test_what_is_no_secret_is_shown(text: str) -> None:
    """Or nobody could mend anything."""
    assert text == redact(text)


def test_an_error_is_one_line_with_its_place() -> None:
    """And without the errors that it came from."""
    try:
        try:
            raise ValueError("s3cr3t")
        except ValueError as cause:
            raise OSError("full\n disk") from cause
    except OSError as error:
        line = error_line(error)
    assert line.startswith("OSError: full disk (")
    assert "test_values.py:" in line
    assert "s3cr3t" not in line


def test_the_environment_configures_services(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that it names and that are installed, no others."""
    assert {} == auto_configure_integrations()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setattr(
        "perf.loggers.registry.available", lambda name: name == "mlflow"
    )
    assert {"mlflow": {}} == auto_configure_integrations()


def test_what_is_shared_is_made_once_and_ended_by_the_last() -> None:
    """Then it is made anew."""
    made: list[str] = []
    ended: list[str] = []
    shared: Shared[str] = Shared()

    def make() -> str:
        made.append(f"thing {len(made)}")
        return made[-1]

    assert "thing 0" == shared.take("key", make) == shared.take("key", make)
    shared.release("key", ended.append)
    assert [] == ended
    shared.release("key", ended.append)
    assert ["thing 0"] == ended
    assert "thing 1" == shared.take("key", make)


def test_a_folder_of_the_same_name_is_no_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W&B leaves a folder `wandb` where a program ran, which Python could import."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "left_behind").mkdir()
    entry = registry._Entry(Kept, "left_behind")
    monkeypatch.setitem(registry._entries, "left", entry)
    assert not registry.available("left")
