"""`rlperf demo`: trains a small policy with GRPO and shows where its steps went."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import perf
from perf.cli.arguments import at_least
from perf.metrics import PerfMetricsOptions, load_config, load_section

if TYPE_CHECKING:
    from perf.demo.train import StepResult

_TOPOLOGIES = (
    "colocated", "rollout-apart", "reference-apart", "actor-apart", "all-apart",
)  # fmt: skip
_DEFAULT_DIR = "traces"
_METRICS_FILE = "metrics.jsonl"
_TEXTS_FILE = "texts.jsonl"


def add_to(commands: Any) -> None:
    """Adds the command to the parser's subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "demo",
        help="train a small policy with GRPO and show where its steps went",
        description="A real GRPO training on virtual CPU devices, traced throughout.",
    )
    parser.add_argument(
        "--steps", type=at_least(1), metavar="N", help="global steps (default: 40)"
    )
    parser.add_argument(
        "--topology",
        choices=_TOPOLOGIES,
        default="rollout-apart",
        help="which roles share devices (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument(
        "--trace-dir",
        metavar="DIR",
        help=f"for traces and {_METRICS_FILE} (default: the config's, {_DEFAULT_DIR})",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="YAML with rl_training_config.perf_metrics_options",
    )
    parser.add_argument(
        "--texts",
        action="store_true",
        help=f"write prompts and completions, too, to {_TEXTS_FILE}",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Trains and reports; returns the exit code."""
    from perf.demo.topology import Topology, provide_devices

    section = _section(arguments.config)
    options = section["perf_metrics_options"]
    trace_dir = arguments.trace_dir or options.trace_dir or _DEFAULT_DIR
    folder = _make_folder(trace_dir)
    if options.enable_trace_writer:
        options = dataclasses.replace(options, trace_dir=trace_dir)
    topology = Topology(arguments.topology)
    provide_devices(topology)

    # After this: jax is loaded, with its devices.
    from perf import trace
    from perf.adapters.jax_compiles import record_compiles
    from perf.demo.config import DemoConfig
    from perf.demo.topology import make_cluster_config
    from perf.demo.train import train
    from perf.experimental import tracer as tracer_v2

    config = DemoConfig(seed=arguments.seed, texts=arguments.texts)
    if arguments.steps:
        config = dataclasses.replace(config, steps=arguments.steps)
    cluster = make_cluster_config(topology, options)
    exports = load_config({**section, "perf_metrics_options": options}, cluster)
    v1 = trace.PerfTracer(export_fn=exports.custom_export_fn)
    v2 = tracer_v2.PerfTracer(export_fn=exports.custom_export_fn_v2)
    v1.enabled, v2.enabled = options.enable_perf_v1, options.enable_perf_v2
    record_compiles(v1)
    record_compiles(v2)
    perf.set_tracer(v1 if options.enable_perf_v1 else v2)

    print(f"GRPO on virtual CPU devices, {topology}: the policy learns to sort.")
    begin = time.perf_counter()
    results: list[StepResult] = []
    interrupted = False
    steps = train(config, cluster, v1, v2)
    with contextlib.ExitStack() as files:
        metrics_file = files.enter_context(_written(folder / _METRICS_FILE))
        texts_file = None
        if config.texts:
            texts_file = files.enter_context(_written(folder / _TEXTS_FILE))
        try:
            for result in _with_progress(steps, config.steps):
                results.append(result)
                _log(metrics_file, _numbers(result))
                if texts_file:
                    _log(texts_file, {"step": result.step, **result.texts})
        except KeyboardInterrupt:
            interrupted = True
            steps.close()
    elapsed_s = time.perf_counter() - begin
    v1.close()
    v2.close()
    perf.set_tracer(None)
    _report(results, elapsed_s, [v1.stats(), v2.stats()], folder / _METRICS_FILE)
    if interrupted:
        print("Interrupted: what was recorded until then is in the traces.")
    return 130 if interrupted else 0


_FOUND = {
    FileExistsError: "a file of that name",
    FileNotFoundError: "none",
    IsADirectoryError: "a folder",
    NotADirectoryError: "a file where a folder of its path should be",
    PermissionError: "no permission",
}
"""What the system's errors mean where a file or folder was expected."""


def _found(error: OSError) -> str:
    return _FOUND.get(type(error)) or error.strerror or str(error)


def _make_folder(name: str) -> Path:
    """The folder for traces and metrics, which can be written to.

    Raises:
        ValueError: it cannot be; the message says what was found and what to do.
    """
    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _METRICS_FILE).open("w"):
            pass
    except OSError as error:
        raise ValueError(
            f"traces to {name}: expected a folder to write {_METRICS_FILE} to, found "
            f"{_found(error)} ({error.filename}): name another with --trace-dir"
        ) from error
    return folder


def _section(config: str | None) -> dict[str, Any]:
    if config is None:
        return load_section(PerfMetricsOptions(enable_perf_v2=True))
    try:
        return load_section(config)
    except OSError as error:
        raise ValueError(
            f"--config {config}: expected a YAML file with "
            f"rl_training_config.perf_metrics_options, found {_found(error)} "
            f"(from {Path.cwd()}): name one, or leave --config out"
        ) from error


def _with_progress(steps: Iterator[StepResult], count: int) -> Iterator[StepResult]:
    from tqdm import tqdm

    # Compiling makes the first step the longest by far; the bar says so by itself.
    with tqdm(total=count, unit="step", desc="training") as bar:
        for result in steps:
            metrics = result.metrics
            bar.set_postfix(
                reward=f"{metrics['rewards/mean']:.3f}", right=f"{metrics['exact']:.0%}"
            )
            bar.update()
            yield result


def _written(path: Path) -> IO[str]:
    return path.open("w", encoding="utf-8")


def _log(file: IO[str], line: Mapping[str, Any]) -> None:
    file.write(json.dumps(line) + "\n")
    file.flush()


def _numbers(result: StepResult) -> dict[str, Any]:
    """A step's metrics; those of v2 under `v2`."""
    line = {
        "step": result.step,
        **result.metrics,
        **_values(result.perf_metrics or result.perf_metrics_v2),
    }
    if result.perf_metrics and result.perf_metrics_v2:
        line["v2"] = _values(result.perf_metrics_v2)
    return line


def _values(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, (value, _) in metrics.items()}


_ROWS = (
    ("global step", "perf/global_step_time"),
    ("rollout", "perf/sum/rollout_time"),
    ("reference inference", "perf/sum/refer_inference_time"),
    ("actor training", "perf/sum/actor_train_time"),
    ("weight sync", "perf/weight_sync_time"),
    ("rollout devices idle before the sync", "perf/rollout_idle_time"),
    ("trainer waits between micro-batches", "perf/sum/between_micro_batch_gap_time"),
    ("reference devices idle between calls", "perf/sum/refer_gap_time"),
    ("actor devices idle between calls", "perf/sum/actor_gap_time"),
)


def _report(
    results: list[StepResult], elapsed_s: float, stats: list[Any], metrics_file: Path
) -> None:
    # The first step compiles; with a single one there is nothing else to show.
    shown = results[1:] or results
    if shown:
        first, last = results[0].metrics, results[-1].metrics
        print(
            f"\nReward {first['rewards/mean']:.3f} -> {last['rewards/mean']:.3f}, "
            f"{last['exact']:.0%} of the answers right, in {elapsed_s:.1f} s."
        )
        _table([_values(r.perf_metrics or r.perf_metrics_v2) for r in shown])
    own_s = sum(each.own_time_s for each in stats)
    share = own_s / elapsed_s if elapsed_s else 0.0
    print(f"\nTracing itself: {own_s * 1e3:.1f} ms, {share:.3%} of the time.")
    paths = [path for each in stats for path in each.trace_paths]
    for path in [*paths, str(metrics_file)]:
        print(f"  {path}")
    if paths:
        print(f"Where the time went, in words: {_command()} report {paths[-1]}")
        print(f"In pictures: {_command()} view {paths[-1]}")
        print("  or drag the file onto https://ui.perfetto.dev")


def _command() -> str:
    """How the user may call this program again."""
    if shutil.which("rlperf"):
        return "rlperf"
    script = sys.argv[0]  # of a virtual environment that is not active
    is_ours = os.path.basename(script) == "rlperf"
    return script if is_ours else f"{sys.executable} -m perf"


def _table(steps: list[dict[str, float]]) -> None:
    """Prints the means over steps, and their shares of the step."""
    whole = sum(step.get("perf/global_step_time", 0.0) for step in steps)
    if not whole:
        return
    print(f"\nWhere a step's time went (mean of {len(steps)} steps; ", end="")
    print("roles with devices of their own overlap):\n")
    for label, name in _ROWS:
        values = [step[name] for step in steps if name in step]
        if values:
            mean_ms = sum(values) / len(steps) * 1e3
            share = sum(values) / whole
            bar = "█" * round(share * 30)
            print(f"  {label:<38}{mean_ms:>9.1f} ms {share:>6.1%}  {bar}")
