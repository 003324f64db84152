"""What each service shows of what it was given, through its own reader."""

from __future__ import annotations

import http.server
import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perf.loggers import (
    ConfigError,
    Pipeline,
    available,
    create_backend,
    create_pipeline,
    naming,
)
from perf.loggers.rotation import parse_size
from tests.loggers import wandb_file
from tests.loggers.backends import read_tensorboard, scrape, tensorboard_events
from tests.loggers.test_conformance import fake_clu

pytestmark = pytest.mark.filterwarnings("default")  # Services warn of their own.

IMAGE = np.zeros((4, 6, 3))


@pytest.fixture
def process_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """This is not the main process."""
    monkeypatch.setenv("RANK", "1")


# TensorBoard


@pytest.fixture
def tensorboard() -> None:
    """It and its reader are installed."""
    pytest.importorskip("tensorboardX", reason="the tensorboard extra is missing")
    pytest.importorskip("tensorboard", reason="its reader is not installed")


@pytest.mark.usefixtures("tensorboard")
@pytest.mark.row("L6")
def test_tensorboard_shows_all_kinds(tmp_path: Path) -> None:
    """Scalars, texts, images, histograms and hyperparameters in one file."""
    with Pipeline() as pipeline:
        backend = create_backend("tensorboard", {"log_dir": tmp_path})
        pipeline.add(backend, texts=True)
        pipeline.log_scalar("/train/loss", np.float32(0.5), step=100)
        pipeline.log_text("prompts", "1 + 1 =", step=3)
        pipeline.log_image("one", IMAGE, step=1)
        pipeline.log_image("nchw", np.zeros((2, 3, 4, 6)), step=1)
        pipeline.log_histogram("weights", [1.0, 2.0, np.nan], step=1)
        pipeline.log_hparams({"lr": 1e-3, "name": "a", "layers": [1, 2]})
    assert 1 == len(list(tmp_path.glob("events.out.tfevents.*")))
    events = tensorboard_events(tmp_path)
    tags = events.Tags()
    assert ["train/loss"] == tags["scalars"]
    assert (100, 0.5) == (
        events.Scalars("train/loss")[0].step,
        events.Scalars("train/loss")[0].value,
    )
    assert ["one", "nchw/0", "nchw/1"] == tags["images"]
    assert (6, 4) == (events.Images("one")[0].width, events.Images("one")[0].height)
    assert ["weights"] == tags["histograms"]
    assert 2 == events.Histograms("weights")[0].histogram_value.num
    (text,) = events.Tensors("prompts/text_summary")
    assert (3, [b"1 + 1 ="]) == (text.step, list(text.tensor_proto.string_val))
    assert "_hparams_/session_start_info" in events.summary_metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    meta = events.summary_metadata["_hparams_/session_start_info"]
    data = HParamsPluginData.FromString(meta.plugin_data.content)
    hparams = data.session_start_info.hparams
    assert 1e-3 == hparams["lr"].number_value
    assert ("a", "[1, 2]") == (
        hparams["name"].string_value,
        hparams["layers"].string_value,
    )


@pytest.mark.usefixtures("tensorboard")
def test_tensorboard_groups_the_tracers_metrics(tmp_path: Path) -> None:
    """The layout is in the file once there are such metrics, and finds all of them."""
    import re

    from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

    names = [
        "global_step_time",
        "weight_sync_time",
        "rollout_idle_time",
        "first_micro_batch_rollout_time",
        *(f"{how}/rollout_time" for how in ("sum", "mean")),
        *(f"{how}/refer_gap_time" for how in ("sum", "mean")),
        *(f"{how}/between_micro_batch_gap_time" for how in ("sum", "mean")),
    ]
    backend = create_backend("tensorboard", {"log_dir": tmp_path})
    backend.log_scalar("loss", 1.0, step=1)
    for name in names:
        backend.log_scalar(f"perf/{name}", 1.0, step=1)
    backend.close()
    events = tensorboard_events(tmp_path)
    (event,) = events.Tensors("custom_scalars__config__")
    layout = Layout.FromString(event.tensor_proto.string_val[0])
    patterns = [
        tag
        for category in layout.category
        for chart in category.chart
        for tag in chart.multiline.tag
    ]
    for tag in [*(f"perf/{n}" for n in names), *(f"perf/train/{n}" for n in names)]:
        assert 1 == sum(bool(re.match(pattern, tag)) for pattern in patterns), tag


@pytest.mark.usefixtures("tensorboard")
def test_tensorboard_backends_of_one_folder_share_a_file(tmp_path: Path) -> None:
    """TensorBoard reads one file of a folder at a time; the last to close closes it."""
    one = create_backend("tensorboard", {"log_dir": tmp_path})
    other = create_backend("tensorboard", {"log_dir": f"{tmp_path}/."})
    one.log_scalar("a", 1.0, step=1)
    one.close()
    other.log_scalar("b", 2.0, step=1)
    other.close()
    assert 1 == len(list(tmp_path.iterdir()))
    assert {("a", 1): 1.0, ("b", 1): 2.0} == read_tensorboard(tmp_path)


@pytest.mark.usefixtures("tensorboard")
@pytest.mark.parametrize(
    ("steps", "every", "flushes"),
    [
        (range(10), 5, 2),
        (range(1, 11), 5, 2),
        ([0, 0, 0], 5, 1),
        ([7, 14, 21, 22], 10, 2),
        (range(10), 100, 1),
    ],
)
@pytest.mark.row("L6")
def test_tensorboard_is_flushed_every_n_steps(
    steps: Any, every: int, flushes: int, tmp_path: Path, monkeypatch: Any
) -> None:
    """At steps divisible by it, or at the first after one that was left out."""
    options = {"log_dir": tmp_path, "flush_every_n_steps": every}
    backend: Any = create_backend("tensorboard", options)
    count = 0

    def flush() -> None:
        nonlocal count
        count += 1

    monkeypatch.setattr(backend, "flush", flush)
    for step in steps:
        backend.log_scalar("loss", 1.0, step=step)
    assert flushes == count
    backend.close()


@pytest.mark.usefixtures("tensorboard")
def test_tensorboard_is_flushed_by_seconds(tmp_path: Path) -> None:
    """However few steps have gone by, what is overdue is on disk."""
    options = {"log_dir": tmp_path, "flush_interval_s": 0.0}
    backend = create_backend("tensorboard", options)
    backend.log_scalar("loss", 1.0, step=1)
    assert {("loss", 1): 1.0} == read_tensorboard(tmp_path)
    backend.close()


@pytest.mark.usefixtures("tensorboard")
def test_tensorboard_leaves_out_what_is_switched_off(tmp_path: Path) -> None:
    """Images and histograms each have a switch."""
    options = {"log_dir": tmp_path, "log_images": False, "log_histograms": False}
    with Pipeline([create_backend("tensorboard", options)]) as pipeline:
        pipeline.log_image("one", IMAGE)
        pipeline.log_histogram("weights", [1.0])
        pipeline.log_scalar("loss", 1.0)
    tags = tensorboard_events(tmp_path).Tags()
    assert ([], [], ["loss"]) == (tags["images"], tags["histograms"], tags["scalars"])


# W&B


@pytest.mark.usefixtures("_wandb")
class TestWandb:
    """Offline: no key, no network."""

    @pytest.fixture
    def _wandb(self) -> None:
        pytest.importorskip("wandb", reason="the wandb extra is missing")

    def made(self, folder: Path, **options: Any) -> Any:
        """A backend with its files in a folder."""
        return create_backend("wandb", {"project": "p", "dir": str(folder), **options})

    def runs(self, folder: Path) -> list[Path]:
        """The files of the runs so far."""
        import wandb

        wandb.teardown()  # Its service writes the last rows after a run has finished.
        return sorted(folder.glob("wandb/offline-run-*/*.wandb"))

    def test_a_run_holds_what_was_logged(self, tmp_path: Path) -> None:
        """Name, project, tags, notes, config, values at their step, files."""
        model = tmp_path / "model.bin"
        model.write_bytes(b"weights")
        options = {
            "dir": str(tmp_path),
            "project": "jepa",
            "name": "first",
            "tags": ["baseline"],
            "notes": "a note",
        }
        with Pipeline([create_backend("wandb", options)]) as pipeline:
            pipeline.log_metrics({"train/loss": 0.5, "train/lr": 1e-4}, step=100)
            pipeline.log_metrics({"best": 0.25})
            pipeline.log_scalar("late", 1.5, step=7)
            pipeline.log_hparams({"optimizer": {"lr": 1e-3}})
            pipeline.log_tags({"team": "rl"})
            pipeline.log_histogram("weights", [1.0, 2.0], step=101)
            pipeline.log_image("input", IMAGE, step=101)
            pipeline.log_artifact("model", model, type="model")
        (path,) = self.runs(tmp_path)
        run = wandb_file.run(path)
        assert ("jepa", "first", "a note") == (
            run.project,
            run.display_name,
            run.notes,
        )
        assert {"baseline", "team:rl"} == set(run.tags)
        assert 1e-3 == wandb_file.config(path)["optimizer/lr"]
        rows = list(wandb_file.history(path))
        (row,) = (row for row in rows if "train/loss" in row)
        assert (0.5, 1e-4, 100, 100) == (
            row["train/loss"],
            row["train/lr"],
            row["_step"],
            row["global_step"],
        )
        assert [7] == [row["global_step"] for row in rows if "late" in row]
        assert 1 == sum("best" in row for row in rows)
        artifacts = [
            record.artifact
            for record in wandb_file.records(path)
            if record.WhichOneof("record_type") == "artifact"
        ]
        assert ("model", "model") == (artifacts[-1].name, artifacts[-1].type)

    @pytest.mark.row("L4")
    def test_runs_of_one_name_have_two_ids(self, tmp_path: Path) -> None:
        """A name is for people."""
        for _ in range(2):
            self.made(tmp_path, name="same").close()
        first, second = map(wandb_file.run, self.runs(tmp_path))
        assert ("same", "same") == (first.display_name, second.display_name)
        assert first.run_id != second.run_id

    @pytest.mark.row("L4")
    def test_a_nameless_run_is_named_by_its_time(self, tmp_path: Path) -> None:
        """As `2025-01-14_08-40-01`."""
        import re

        self.made(tmp_path).close()
        (path,) = self.runs(tmp_path)
        name = wandb_file.run(path).display_name
        assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", name)

    def test_backends_with_the_same_arguments_share_a_run(self, tmp_path: Path) -> None:
        """As the loggers of one training have them; the last to close finishes it."""
        one, other = (self.made(tmp_path) for _ in range(2))
        one.log_scalar("a", 1.5, step=1)
        one.close()
        other.log_scalar("b", 2.5, step=1)
        other.close()
        (path,) = self.runs(tmp_path)
        assert {1.5, 2.5} <= {
            v for row in wandb_file.history(path) for v in row.values()
        }


# MLflow


def test_mlflow_keeps_parameters_tags_texts_and_files(tmp_path: Path) -> None:
    """Its own client finds them in the run, which has ended."""
    mlflow = pytest.importorskip("mlflow", reason="the mlflow extra is missing")
    artifact = tmp_path / "model.bin"
    artifact.write_bytes(b"weights")
    uri = (tmp_path / "store").as_uri()
    backend: Any = create_backend(
        "mlflow", {"tracking_uri": uri, "experiment_name": "e", "run_name": "r"}
    )
    with Pipeline() as pipeline:
        pipeline.add(backend, texts=True)
        pipeline.log_hparams({"lr": 1e-3})
        pipeline.log_hparams({"lr": 2e-3, "batch": 8})
        pipeline.log_scalar("loss", 0.5, step=100)
        pipeline.log_scalar("loss/entropy", 0.25, step=100)
        pipeline.log_tags({"team": "rl"})
        pipeline.log_text("prompts", "1 + 1 =", step=3)
        pipeline.log_artifact("model", artifact)
    client = mlflow.MlflowClient(uri)
    run = client.get_run(backend.run_id)
    assert ("r", "FINISHED") == (run.info.run_name, run.info.status)
    assert {"lr": "0.001", "batch": "8"} == run.data.params
    assert {"loss": 0.5, "loss.entropy": 0.25} == run.data.metrics
    assert 100 == client.get_metric_history(backend.run_id, "loss")[0].step
    assert "rl" == run.data.tags["team"]
    assert {"model", "prompts"} == {
        f.path for f in client.list_artifacts(backend.run_id)
    }


# Prometheus


@pytest.fixture
def prometheus() -> None:
    """It is installed."""
    pytest.importorskip("prometheus_client", reason="the prometheus extra is missing")


@pytest.mark.usefixtures("prometheus")
def test_prometheus_shows_the_latest_values() -> None:
    """Under names that it takes, two that would be one told apart; then no more."""
    options = {"port": 0, "namespace": "ml_training"}
    backend: Any = create_backend("prometheus", options)
    backend.log_scalar("loss", 1.0, step=99)
    backend.log_scalar("loss", 0.5, step=100)
    backend.log_scalar("actor/kl", 2.0, step=100)
    backend.log_scalar("actor_kl", 3.0, step=100)
    assert {
        "ml_training_loss": 0.5,
        "ml_training_step": 100,
        "ml_training_actor_kl": 2.0,
        "ml_training_actor_kl_2": 3.0,
    } == scrape(backend.port)
    backend.close()
    with pytest.raises(OSError, match="refused"):
        scrape(backend.port)


@pytest.mark.usefixtures("prometheus")
def test_prometheus_shows_a_bounded_number_of_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond that all further ones are one gauge; those before go on."""
    monkeypatch.setattr(naming, "MOST_NAMES", 2)
    backend: Any = create_backend("prometheus", {"port": 0})
    for value, name in enumerate("abcda"):
        backend.log_scalar(name, value)
    assert {"training_a": 4.0, "training_b": 1.0, "_other_": 3.0} == (
        scrape(backend.port)
    )
    backend.close()


@pytest.mark.usefixtures("prometheus")
def test_prometheus_backends_of_one_port_share_it() -> None:
    """As the loggers of one training have it; the last to close gives it back."""
    first: Any = create_backend("prometheus", {"port": 0})
    port = first.port
    first.close()
    one, other = (create_backend("prometheus", {"port": port}) for _ in range(2))
    one.log_scalar("a", 1.0)
    other.log_scalar("b", 2.0)
    one.close()
    assert {"training_a": 1.0, "training_b": 2.0} == scrape(port)
    other.close()


@pytest.mark.usefixtures("prometheus")
def test_prometheus_on_a_taken_port_is_an_error() -> None:
    """That names the key."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=r"prometheus\.port"):
            create_backend("prometheus", {"port": port})


# OpenTelemetry


def test_opentelemetry_sets_gauges() -> None:
    """Names, attributes, and the step once for each change."""
    metrics = pytest.importorskip(
        "opentelemetry.sdk.metrics", reason="the opentelemetry extra is missing"
    )
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    provider = metrics.MeterProvider([reader])
    backend = create_backend(
        "opentelemetry", {"meter_provider": provider, "namespace": "tunix"}
    )
    for step in (1, 1, 2):
        backend.log_scalar("actor/train/loss", 0.5 / step, step=step)
    backend.log_scalar("global/eval/rewards/mean", 3.0)
    backend.log_scalar("train/grad_norm", 2.0)
    backend.log_scalar("odd", np.ones(3))
    backend.close()
    found = {
        metric.name: [(p.value, dict(p.attributes)) for p in metric.data.data_points]
        for scope in reader.get_metrics_data().resource_metrics
        for each in scope.scope_metrics
        for metric in each.metrics
    }
    actor = {"tunix.metrics.prefix": "actor", "tunix.training.mode": "train"}
    assert {
        "tunix.training.loss": [(0.25, actor)],
        "tunix.training.step": [(2, actor)],
        "tunix.rewards.mean": [
            (3.0, {"tunix.metrics.prefix": "global", "tunix.training.mode": "eval"})
        ],
        "tunix.training.gradient.norm": [(2.0, {"tunix.training.mode": "train"})],
    } == found
    assert provider.force_flush()  # it is still there
    provider.shutdown()


def test_opentelemetry_sets_a_bounded_number_of_gauges(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond that all further names are one; those before go on."""
    metrics = pytest.importorskip(
        "opentelemetry.sdk.metrics", reason="the opentelemetry extra is missing"
    )
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    monkeypatch.setattr(naming, "MOST_NAMES", 2)
    reader = InMemoryMetricReader()
    provider = metrics.MeterProvider([reader])
    backend = create_backend("opentelemetry", {"meter_provider": provider})
    for value, name in enumerate("abcda"):
        backend.log_scalar(f"{name}/train/loss", value, step=value)
    found = sorted(
        (metric.name, point.attributes.get("rlperf.metrics.prefix", ""), point.value)
        for scope in reader.get_metrics_data().resource_metrics
        for each in scope.scope_metrics
        for metric in each.metrics
        for point in metric.data.data_points
    )
    assert [
        ("rlperf._other_", "", 3),
        ("rlperf.training.loss", "a", 4),
        ("rlperf.training.loss", "b", 1),
    ] == [each for each in found if "step" not in each[0]]
    backend.close()
    provider.shutdown()


# CLU


@pytest.mark.row("B4")
def test_clu_writes_scalars(monkeypatch: pytest.MonkeyPatch) -> None:
    """(step, {name: value}), step 0 where there is none, closed at the end."""
    written: list[Any] = []
    clu = fake_clu(written)
    monkeypatch.setitem(sys.modules, "clu", clu)
    monkeypatch.setitem(sys.modules, "clu.metric_writers", clu.metric_writers)
    backend = create_backend("clu", {"logdir": "logs"})
    backend.log_scalar("loss", np.asarray(0.5), step=1)
    backend.log_scalar("loss", 0.25)
    backend.log_scalar("loss", 0.125, step=None)
    backend.close()
    backend.close()
    assert [
        ("scalars", 1, {"loss": 0.5}),
        ("scalars", 0, {"loss": 0.25}),
        ("scalars", 0, {"loss": 0.125}),
        ("close", 0, {}),
    ] == written


# Lines


def test_json_lines_hold_each_call(tmp_path: Path) -> None:
    """One object a call: values, step 0 too, time, and NaN as JSON can have it."""
    path = tmp_path / "logs" / "metrics-{rank}.jsonl"
    with Pipeline() as pipeline:
        pipeline.add(create_backend("jsonl", {"path": path}), texts=True)
        pipeline.log_metrics({"a": {"b": np.float32(0.5)}, "n": 3}, step=0)
        pipeline.log_metrics({"x": np.nan, "y": -np.inf, "z": np.arange(2)})
        pipeline.log_text("prompts", "größer", step=1)
        pipeline.log_hparams({"lr": 1e-3})
        pipeline.notify("bad")
    text = (tmp_path / "logs" / "metrics-0.jsonl").read_text("utf-8")
    rows = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    assert all(row.pop("timestamp").endswith("+00:00") for row in rows)
    assert [
        {"a/b": 0.5, "n": 3, "step": 0},
        {"x": "NaN", "y": "-Infinity", "z": [0, 1]},
        {"prompts": "größer", "step": 1, "kind": "text"},
        {"lr": 1e-3, "kind": "hparams"},
        {"message": "bad", "level": 40, "kind": "message"},
    ] == rows


def test_json_lines_lose_no_metric_to_their_own_keys(tmp_path: Path) -> None:
    """One of the same name is on the line too, with signs behind its name."""
    with Pipeline([create_backend("jsonl", {"path": tmp_path / "m.jsonl"})]) as to:
        to.log_metrics({"step": 99, "step_": 98, "timestamp": 7.5, "kind": 6}, step=1)
        to.log_metrics({"step": 99})
        to.log_hparams({"kind": "adam"})
    lines = (tmp_path / "m.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert all(row.pop("timestamp").endswith("+00:00") for row in rows)
    assert [
        {"step__": 99, "step_": 98, "timestamp_": 7.5, "kind": 6, "step": 1},
        {"step": 99},
        {"kind_": "adam", "kind": "hparams"},
    ] == rows


@pytest.mark.parametrize("colored", [True, False])
def test_the_console_shows_a_line_for_each_call(colored: bool) -> None:
    """In the format that was asked for; escape sequences only with colour."""
    pytest.importorskip("rich", reason="the console extra is missing")
    shown = io.StringIO()
    options = {
        "file": shown,
        "colored": colored,
        "format": "%(levelname)s - %(message)s",
    }
    with Pipeline([create_backend("console", options)]) as pipeline:
        pipeline.log_metrics({"loss": 0.5, "lr": 1e-5}, step=100)
    assert colored == ("\x1b[" in shown.getvalue())
    if not colored:
        line = "INFO - step=100 loss=0.5000, lr=1.0000e-05"
        assert line == shown.getvalue().strip()


def test_files_take_turns(tmp_path: Path) -> None:
    """None is larger than told, there are no more than told, the newest lines stay."""
    path = tmp_path / "metrics.log"
    options = {"path": path, "max_file_size": "1KB", "max_files": 3}
    with Pipeline([create_backend("files", options)]) as pipeline:
        for step in range(200):
            pipeline.log_metrics({"loss": 0.5}, step=step)
    assert 3 == len(list(tmp_path.iterdir()))
    assert all(each.stat().st_size <= 1024 for each in tmp_path.iterdir())
    assert path.read_text().endswith("INFO step=199 loss=0.5000\n")


@pytest.mark.parametrize(
    ("text", "size"),
    [("100MB", 100 * 2**20), ("50 KiB", 51_200), ("7", 7), (12, 12), ("1.5k", 1536)],
)
def test_sizes_are_read(text: Any, size: int) -> None:
    """In powers of 1024, with and without the B."""
    assert size == parse_size(text)


@pytest.mark.parametrize("text", ["", "MB", "-3MB", "3XB", "0"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """The error names the key."""
    with pytest.raises(ConfigError, match="max_file_size"):
        parse_size(text)


# HTTP


class Server(http.server.BaseHTTPRequestHandler):
    """Answers as its server is told to."""

    server: Any

    def do_POST(self) -> None:
        """Keeps the body."""
        length = int(self.headers["Content-Length"])
        self.server.bodies.append(json.loads(self.rfile.read(length)))
        self.server.headers.append(dict(self.headers))
        if self.server.how == "hang":
            self.server.go_on.wait(60)
            return
        if self.server.how == "cut":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhal")
            return
        self.send_response(self.server.how)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[Any]:
    """A server on the loopback interface."""
    made: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    made.daemon_threads = True
    made.handle_error = lambda *args: None  # Who hung up need not be said.
    made.bodies, made.headers, made.how = [], [], 200
    made.go_on = threading.Event()
    made.url = f"http://127.0.0.1:{made.server_port}/services/T0000/B0000/s3cr3tp4th"
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.go_on.set()
    made.shutdown()
    made.server_close()
    thread.join()


def hook(name: str, url: str, **options: Any) -> Any:
    """A backend that posts to a URL."""
    if name == "slack":
        pytest.importorskip("slack_sdk", reason="the slack extra is missing")
        return create_backend("slack", {"webhook_url": url, **options})
    return create_backend("webhook", {"url": url, **options})


@pytest.mark.parametrize("name", ["slack", "webhook"])
def test_webhooks_get_errors_and_results_only(name: str, server: Any) -> None:
    """Neither metrics nor lines below ERROR are sent."""
    with Pipeline([hook(name, server.url)]) as pipeline:
        pipeline.log_metrics({"loss": 0.5}, step=1)
        pipeline.notify("all is well", logging.WARNING)
        pipeline.notify("out of memory", logging.ERROR)
        pipeline.log_result({"accuracy": 0.5}, step=9)
    error, result = (body["text"] for body in server.bodies)
    assert "out of memory" in error
    assert "accuracy: 0.5" in result


@pytest.mark.parametrize("name", ["slack", "webhook"])
def test_the_level_of_a_webhook_is_that_of_any_backend(name: str, server: Any) -> None:
    """What is below it is not sent."""
    if name == "slack":
        pytest.importorskip("slack_sdk", reason="the slack extra is missing")
    address = {"slack": "webhook_url", "webhook": "url"}[name]
    section = {address: server.url, "level": "critical"}
    with create_pipeline({"backends": [name], name: section}) as pipeline:
        pipeline.notify("out of memory", logging.ERROR)
        pipeline.notify("out of everything", logging.CRITICAL)
    (body,) = server.bodies
    assert "out of everything" in body["text"]
    with pytest.raises(ConfigError, match=rf"^{name}\.min_level: .*unknown key"):
        create_backend(name, {address: server.url, "min_level": logging.CRITICAL})


def test_webhooks_send_headers_and_values(server: Any) -> None:
    """Results as numbers, with their step; headers as given."""
    headers = {"Authorization": "Bearer t0ps3cr3t"}
    with Pipeline([hook("webhook", server.url, headers=headers)]) as pipeline:
        pipeline.log_result({"accuracy": np.float32(0.5)}, step=9)
    assert [{"text": "accuracy: 0.5", "results": {"accuracy": 0.5}, "step": 9}] == (
        server.bodies
    )
    assert "Bearer t0ps3cr3t" == server.headers[0]["Authorization"]


@pytest.mark.parametrize("version", [2, 1.5])
def test_a_header_may_be_a_number(version: float, server: Any) -> None:
    """As YAML reads `X-Api-Version: 2`."""
    headers = {"X-Api-Version": version}
    with Pipeline([hook("webhook", server.url, headers=headers)]) as pipeline:
        pipeline.notify("out of memory")
        pipeline.flush()
        assert 0 == pipeline.stats()["WebhookBackend"].failed
    assert str(version) == server.headers[0]["X-Api-Version"]


def test_slack_notifications_have_a_switch_each(server: Any) -> None:
    """Errors off, results off: nothing is sent."""
    backend = hook(
        "slack", server.url, error_notifications=False, completion_notifications=False
    )
    with Pipeline([backend]) as pipeline:
        pipeline.notify("out of memory")
        pipeline.log_result({"accuracy": 0.5})
    assert [] == server.bodies


@pytest.mark.parametrize("how", [500, 404, "hang", "cut"])
@pytest.mark.parametrize("name", ["slack", "webhook"])
def test_a_failing_server_is_one_line_without_its_address(
    name: str, how: Any, server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it does; the address of a webhook is a secret."""
    server.how = how
    caplog.set_level(logging.DEBUG)
    with Pipeline([hook(name, server.url, timeout_s=1)]) as pipeline:
        pipeline.notify("out of memory")
    said = [r.getMessage() for r in caplog.records if r.name == "perf"]
    assert 1 == len(said)
    assert "s3cr3tp4th" not in caplog.text
    assert "T0000" not in caplog.text


@pytest.mark.parametrize("name", ["slack", "webhook"])
def test_a_webhook_needs_an_http_address(name: str) -> None:
    """The error does not show what was given instead."""
    with pytest.raises(ConfigError) as caught:
        hook(name, "file:///s3cr3tp4th")
    assert "s3cr3tp4th" not in str(caught.value)


# All


@pytest.mark.usefixtures("process_1")
@pytest.mark.row("B5")
def test_other_processes_write_nothing(tmp_path: Path) -> None:
    """No file, no run, no server, no request: not even a library is loaded."""
    backends = [
        create_backend(name, options)
        for name, options in (
            ("console", {}),
            ("files", {"path": tmp_path / "a" / "m.log"}),
            ("jsonl", {"path": tmp_path / "b" / "m.jsonl"}),
            ("mlflow", {"tracking_uri": (tmp_path / "c").as_uri()}),
            ("opentelemetry", {}),
            ("prometheus", {"port": 1}),
            ("slack", {"webhook_url": "http://127.0.0.1:9/x"}),
            ("tensorboard", {"log_dir": tmp_path / "d"}),
            ("wandb", {"project": "p"}),
            ("webhook", {"url": "http://127.0.0.1:9/x"}),
        )
        if available(name)
    ]
    with Pipeline(backends) as pipeline:
        pipeline.log_scalar("loss", 1.0, step=1)
        pipeline.log_hparams({"lr": 1.0})
        pipeline.log_result({"accuracy": 1.0})
        pipeline.notify("bad")
        pipeline.flush()
        assert all(stats.failed == 0 for stats in pipeline.stats().values())
    assert [] == list(tmp_path.iterdir())
