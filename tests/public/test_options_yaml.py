"""`perf.metrics.load_config`: options from YAML or a mapping to a configuration."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from perf import trace
from perf._read.load import load as load_trace
from perf.experimental import tracer as tracer_v2
from perf.metrics import (
    MetricsT,
    PerfMetricsConfig,
    PerfMetricsOptions,
    load_config,
    load_section,
)
from perf.perfetto import TraceFiles

Options = dict[str, Any]


def custom_v1(query: Any) -> MetricsT:
    """An export function that a path can lead to."""
    return {"perf/v1": (1.0, None)}


def custom_v2(timelines: Any) -> MetricsT:
    """Another one, for v2."""
    return {"perf/v2": (2.0, None)}


NOT_CALLABLE = 3


def cluster() -> Any:
    """A cluster configuration by shape alone; all roles on one device."""

    def role(value: str) -> Any:
        return type("Role", (), {"value": value})()

    mesh = SimpleNamespace(devices=np.array(["a0"]))
    return SimpleNamespace(
        role_to_mesh={role(name): mesh for name in ("rollout", "actor", "reference")},
        training_config=SimpleNamespace(perf_metrics_options=None),
    )


def load(options: Options, key: str = "rl_training_config") -> PerfMetricsConfig:
    """The configuration that a mapping with these options gives."""
    return load_config({key: {"perf_metrics_options": options}}, cluster())


def run_step(config: PerfMetricsConfig) -> dict[str, MetricsT]:
    """One step with the tracers that a configuration asks for."""
    results = {}
    if config.custom_export_fn:
        with trace.PerfTracer(["a0"], config.custom_export_fn) as v1:
            with v1.span_group("global_step"), v1.span("rollout", devices=["a0"]):
                pass
            v1.synchronize()
            results["v1"] = v1.export()
    if config.custom_export_fn_v2:
        with tracer_v2.PerfTracer(["a0"], config.custom_export_fn_v2) as v2:
            with v2.span("rollout", devices=["a0"]):
                pass
            v2.synchronize()
            results["v2"] = v2.export()
    return results


YAML = """
model: tiny  # What is not ours is left alone.
rl_training_config:
  mini_batch_size: 8
  perf_metrics_options:
    enable_perf_v1: true
    enable_perf_v2: true
    enable_trace_writer: true
    trace_dir: {folder}
"""


@pytest.mark.parametrize("as_text", [True, False], ids=["str", "Path"])
@pytest.mark.row("P5")
def test_a_file_configures_the_run(tmp_path: Path, as_text: bool) -> None:
    """The document's YAML gives metrics and a trace of each version (P5, P10)."""
    folder = tmp_path / "traces"
    file = tmp_path / "run.yaml"
    file.write_text(YAML.format(folder=folder))
    config = load_config(str(file) if as_text else file, cluster())
    results = run_step(config)
    assert {"v1", "v2"} == set(results)
    assert all("perf/sum/rollout_time" in metrics for metrics in results.values())
    names = sorted(path.name for path in folder.iterdir())
    assert 2 == len(names)
    assert names[0].startswith("perfetto_trace_1")
    assert names[1].startswith("perfetto_trace_v2_")


@pytest.mark.parametrize("key", ["rl_training_config", "training_config"])
@pytest.mark.row("P5")
def test_both_names_of_the_section(tmp_path: Path, key: str) -> None:
    """The document's key and the former one mean the same (P5, H22)."""
    config = load({"trace_dir": str(tmp_path)}, key)
    assert config.custom_export_fn is not None
    assert config.custom_export_fn_v2 is None


@pytest.mark.parametrize("v1", [True, False])
@pytest.mark.parametrize("v2", [True, False])
@pytest.mark.row("P7")
def test_only_the_enabled_versions_export(tmp_path: Path, v1: bool, v2: bool) -> None:
    """Each version is switched on by itself (P7)."""
    config = load(
        {
            "enable_perf_v1": v1,
            "enable_perf_v2": v2,
            "enable_trace_writer": v1 or v2,
            "trace_dir": str(tmp_path) if v1 or v2 else "",
        }
    )
    assert v1 is (config.custom_export_fn is not None)
    assert v2 is (config.custom_export_fn_v2 is not None)


@pytest.mark.row("P8")
def test_no_trace_when_the_writer_is_off(tmp_path: Path) -> None:
    """`enable_trace_writer: false` leaves the folder empty (P8)."""
    config = load(
        {
            "enable_perf_v2": True,
            "enable_trace_writer": False,
            "trace_dir": str(tmp_path),
        }
    )
    assert {"v1", "v2"} == set(run_step(config))
    assert [] == list(tmp_path.iterdir())


@pytest.mark.row("P9")
def test_dotted_paths_are_imported(tmp_path: Path) -> None:
    """A custom function takes the place of the built-in one (P9)."""
    config = load(
        {
            "enable_perf_v2": True,
            "custom_export_fn_path": f"{__name__}.custom_v1",
            "custom_export_fn_path_v2": f"{__name__}.custom_v2",
            "trace_dir": str(tmp_path),
        }
    )
    assert {"v1": custom_v1(None), "v2": custom_v2(None)} == run_step(config)


def test_a_mixture_of_built_in_and_custom(tmp_path: Path) -> None:
    """One version may be custom while the other is not (P9)."""
    config = load(
        {
            "enable_perf_v2": True,
            "custom_export_fn_path_v2": f"{__name__}.custom_v2",
            "trace_dir": str(tmp_path),
        }
    )
    results = run_step(config)
    assert custom_v2(None) == results["v2"]
    assert "perf/global_step_time" in results["v1"]


@pytest.mark.parametrize(
    "source",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"rl_training_config": {}}, id="no options"),
        pytest.param(
            {"rl_training_config": {"perf_metrics_options": None}}, id="empty options"
        ),
    ],
)
def test_without_options_the_defaults_hold(
    source: Options, caplog: pytest.LogCaptureFixture
) -> None:
    """v1 is on by default, v2 is not (P6)."""
    config = load_config(source, cluster())
    assert config.custom_export_fn is not None
    assert config.custom_export_fn_v2 is None
    assert "" == caplog.text


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ({"trainer": {"trace_dir": "x"}, "seed": 1}, "trainer, seed"),
        ({"rl_training_config": {"eval_every_n_steps": 10}}, "eval_every_n_steps"),
        ({"run": {"perf": {"perf_metrics_options": {"trace_dir": "x"}}}}, "run"),
    ],
)
def test_a_configuration_without_options_is_said(
    source: Options, found: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The defaults hold, and maybe others were meant: once, with what is looked for."""
    assert load_config(source, cluster()).custom_export_fn_v2 is None
    (record,) = caplog.records
    assert "no perf_metrics_options" in record.getMessage()
    assert "under rl_training_config and training_config" in record.getMessage()
    assert record.getMessage().endswith(f"found there: {found}")


def test_custom_functions_need_no_cluster() -> None:
    """A cluster configuration is asked for by built-in functions only (P9)."""
    path = f"{__name__}.custom_v1"
    options = {"custom_export_fn_path": path, "enable_trace_writer": False}
    config = load_config({"rl_training_config": {"perf_metrics_options": options}})
    assert custom_v1(None) == run_step(config)["v1"]


def test_built_in_functions_need_a_cluster() -> None:
    """Without one the error says what is missing (P10)."""
    with pytest.raises(ValueError, match="cluster_config"):
        load_config({"rl_training_config": {"perf_metrics_options": {}}})


@pytest.mark.parametrize(
    ("options", "named"),
    [
        pytest.param({"enable_perf_v3": True}, "enable_perf_v3", id="unknown key"),
        pytest.param({"enable_perf_v1": "no"}, "enable_perf_v1", id="a word"),
        pytest.param({"enable_perf_v2": 1}, "enable_perf_v2", id="a number"),
        pytest.param({"trace_dir": 7}, "trace_dir", id="no folder"),
        pytest.param({"trace_dir": None}, "trace_dir", id="null folder"),
        pytest.param(
            {"custom_export_fn_path": "no.such.module"}, "no.such.module", id="module"
        ),
        pytest.param(
            {"custom_export_fn_path": f"{__name__}.missing"}, "missing", id="attribute"
        ),
        pytest.param(
            {"custom_export_fn_path": f"{__name__}.NOT_CALLABLE"},
            "NOT_CALLABLE",
            id="not callable",
        ),
        pytest.param({"custom_export_fn_path": "plain"}, "plain", id="no dot"),
        pytest.param(
            {"custom_export_fn_path_v2": f"{__name__}.custom_v2"},
            "custom_export_fn_path_v2",
            id="v2 path, v2 off",
        ),
    ],
)
@pytest.mark.row("P9")
def test_wrong_options_are_named(options: Options, named: str) -> None:
    """What cannot be meant is refused at once, by name (P9; field 17)."""
    with pytest.raises(ValueError, match=named):
        load(options)


@pytest.mark.parametrize(
    "options", [pytest.param([], id="a list"), pytest.param("yes", id="a word")]
)
def test_options_that_are_no_mapping(options: Any) -> None:
    """The section has to be keys and values (P5)."""
    with pytest.raises(ValueError, match="perf_metrics_options"):
        load(options)


def test_a_file_that_is_no_yaml(tmp_path: Path) -> None:
    """The error names the file (P5)."""
    file = tmp_path / "broken.yaml"
    file.write_text("a: [1, 2")
    with pytest.raises(ValueError, match=r"broken\.yaml"):
        load_config(file, cluster())


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The error names the file (P5)."""
    with pytest.raises((ValueError, OSError), match=r"missing\.yaml"):
        load_config(tmp_path / "missing.yaml", cluster())


def writing(folder: Path, beside: str) -> Path:
    """A file of options for both versions, with a line beside them."""
    config = folder / "run.yaml"
    config.write_text(
        "rl_training_config:\n"
        "  perf_metrics_options:\n"
        "    enable_perf_v2: true\n"
        f"    trace_dir: {folder}/traces\n"
        f"  {beside}\n"
    )
    return config


def test_how_a_trace_is_spread_over_files(tmp_path: Path) -> None:
    """`trace_files` beside the options goes to the writers of both versions."""
    files = "trace_files: {segment_mb: 0.0005, compress: true}"
    loaded = load_config(writing(tmp_path, files), cluster())
    tracers = [
        trace.PerfTracer(export_fn=loaded.custom_export_fn),
        tracer_v2.PerfTracer(export_fn=loaded.custom_export_fn_v2),
    ]
    for tracer in tracers:
        for _ in range(2):
            with tracer.span("rollout", tags={"prompt": "x"}):
                pass
            tracer.export()
            tracer.flush()
        paths = tracer.stats().trace_paths
        tracer.close()
        assert 2 == len(paths)
        for path in paths:
            (run,) = load_trace(path).runs
            assert run["segment"] in (0, 1)


def test_a_section_that_was_loaded_is_a_source() -> None:
    """With other options it configures a run; what stands beside them stays."""
    given = {
        "perf_metrics_options": {"trace_dir": "here"},
        "trace_files": {"compress": True},
        "keep_content": ["prompt"],
    }
    section = load_section({"rl_training_config": given})
    options = section["perf_metrics_options"]
    assert PerfMetricsOptions(trace_dir="here") == options
    other = dataclasses.replace(options, trace_dir="there")
    again = {**section, "perf_metrics_options": other}
    assert again == load_section(again)
    assert TraceFiles(compress=True) == again["trace_files"]
    assert ["prompt"] == list(again["keep_content"])


@pytest.mark.parametrize(
    ("option", "shown"),
    [
        ("keep_content: [prompt]", ["prompt"]),
        ("keep_content:", []),
        ("", []),
    ],
)
def test_content_that_is_written(tmp_path: Path, option: str, shown: list[str]) -> None:
    """`keep_content` beside the options goes to the writers of both versions."""
    loaded = load_config(writing(tmp_path, option), cluster())
    tags = {"prompt": "what is asked", "completion": "what is answered"}
    for tracer in (
        trace.PerfTracer(export_fn=loaded.custom_export_fn),
        tracer_v2.PerfTracer(export_fn=loaded.custom_export_fn_v2),
    ):
        with tracer, tracer.span("rollout", tags=tags):
            pass
        (path,) = tracer.stats().trace_paths
        written = load_trace(path).slices[0].tags
        assert shown == [key for key in tags if written[key] == tags[key]]


@pytest.mark.parametrize("names", ["prompt", 5, [5], {"prompt": False}])
def test_wrong_names_of_content_are_refused(names: Any) -> None:
    """Like any other option, also where no writer is asked for."""
    options = {"enable_trace_writer": False}
    with pytest.raises(ValueError, match=r"keep_content=.*\['prompt'\]"):
        load_config({"perf_metrics_options": options, "keep_content": names}, cluster())


@pytest.mark.parametrize(
    ("files", "said"),
    [({"segment": 1}, "unknown keys.*segment"), (5, "trace_files.*mapping.*int")],
)
def test_wrong_trace_files_are_refused(files: Any, said: str) -> None:
    """Like any other option."""
    with pytest.raises(ValueError, match=said):
        load_config({"perf_metrics_options": {}, "trace_files": files}, cluster())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"perf_metric_options": {}}, "did you mean 'perf_metrics_options'"),
        (
            {"rl_trainingconfig": {"perf_metrics_options": {}}},
            "under 'rl_trainingconfig': expected it under 'rl_training_config'",
        ),
        (
            {"perf_metrics_options": {}, "trace_file": {"compress": True}},
            "did you mean 'trace_files'",
        ),
        (
            {"rl_training_config": {"keep_contents": ["prompt"]}},
            "did you mean 'keep_content'",
        ),
        (
            {"rl_training_config": {}, "trace_files": {"compress": True}},
            "trace_files beside rl_training_config: expected it in there",
        ),
        (
            {"training_config": {}, "perf_metrics_options": {"trace_dir": "x"}},
            "perf_metrics_options beside training_config: expected it in there",
        ),
    ],
)
def test_a_misspelt_section_is_refused(content: Any, said: str) -> None:
    """It would be left out without a word."""
    with pytest.raises(ValueError, match=said):
        load_config(content, cluster())


def test_what_custom_export_functions_do_not_use_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is the built-in ones that write the trace."""
    own = {"custom_export_fn_path": f"{__name__}.custom_v1"}
    files = {"trace_files": {"compress": True}}
    load_config({"perf_metrics_options": own})
    assert "" == caplog.text
    load_config({"perf_metrics_options": {**own, "trace_dir": "traces"}, **files})
    assert "trace_dir, trace_files: not used" in caplog.text
    caplog.clear()
    both = own | {"enable_perf_v2": True, "trace_dir": "traces"}
    load_config({"perf_metrics_options": both}, cluster())
    assert "" == caplog.text
