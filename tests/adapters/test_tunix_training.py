"""Trainings of an unmodified google-tunix on this package: `make test-tunix`."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import math
import os
import pkgutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from perf._model.spans import OPEN, TimelineKind
from perf._read.load import load
from perf._read.recording import read_recording
from tests.adapters.needs import NEEDS_TUNIX
from tools.perfetto.trace_processor import Slice, TraceProcessor, slices

pytestmark = NEEDS_TUNIX

ROOT = Path(__file__).parent.parent.parent
STEPS = 2
COLOCATED = {"rollout": "01", "actor": "01", "reference": "01"}
ROLLOUT_APART = {"rollout": "01", "actor": "23", "reference": "23"}
ALL_APART = {"rollout": "01", "actor": "23", "reference": "45"}


@dataclasses.dataclass(frozen=True)
class Plan:
    """A training, and what it is known to do."""

    program: str
    arguments: tuple[str, ...]
    devices: Mapping[str, str]
    """Of each role: the numbers of its CPU devices."""
    micro_batches: int = 1
    has_reference: bool = True
    is_ppo: bool = False

    @property
    def rollout_apart(self) -> bool:
        """Whether rollouts have devices of their own; then weights are synchronized."""
        return self.devices["rollout"] != self.devices["actor"]

    @property
    def batches(self) -> int:
        """Micro-batches in the whole training."""
        return STEPS * self.micro_batches


def grpo(layout: str, devices: Mapping[str, str], *more: str, **facts: Any) -> Plan:
    """A training of the example."""
    arguments = ("--layout", layout, "--steps", str(STEPS), *more)
    return Plan("examples/tunix_grpo.py", arguments, devices, **facts)


PLANS = {
    "colocated": grpo("colocated", COLOCATED),
    "rollout apart": grpo("rollout-apart", ROLLOUT_APART),
    "all apart": grpo("all-apart", ALL_APART),
    "micro-batches": grpo(
        "all-apart", ALL_APART, "--micro-batches", "4", micro_batches=4
    ),
    "no reference": grpo(
        "rollout-apart", ROLLOUT_APART, "--no-reference", has_reference=False
    ),
    "ppo": Plan(
        "tests/adapters/tunix_ppo.py",
        (str(STEPS),),
        COLOCATED,
        micro_batches=2,
        has_reference=False,
        is_ppo=True,
    ),
}


class Training:
    """A training that came to its end."""

    def __init__(self, plan: Plan, folder: Path, cache: Path) -> None:
        self.plan = plan
        self.folder = folder
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "examples")]),
            # Compiling takes most of the time: quickly, and each program once.
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "WANDB_MODE": "disabled",
        }
        command = [sys.executable, "-m", "perf.adapters.tunix", plan.program]
        done = subprocess.run(
            [*command, str(folder), *plan.arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert 0 == done.returncode, done.stderr
        self.log = done.stderr

    def trace(self, version: int) -> Path:
        """The one trace of a tracer."""
        v2 = set(self.folder.glob("perfetto_trace_v2_*.pb"))
        (path,) = v2 if version == 2 else set(self.folder.glob("*.pb")) - v2
        return path

    def slices(self, version: int) -> list[Slice]:
        """What Perfetto finds in a trace; it drops and complains about nothing."""
        with TraceProcessor(self.trace(version)) as processor:
            processor.assert_clean()
            return slices(processor)

    def metrics(self) -> dict[str, list[tuple[int, float]]]:
        """Tunix's log: the name of each metric of ours to its steps and values."""
        from tensorboard.backend.event_processing import event_accumulator

        log = event_accumulator.EventAccumulator(str(self.folder / "tensorboard"))
        log.Reload()
        return {
            tag.removeprefix("perf/train/"): [
                (e.step, e.value) for e in log.Scalars(tag)
            ]
            for tag in log.Tags()["scalars"]
            if tag.startswith("perf/")
        }


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What XLA has compiled, for all trainings."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module", params=PLANS)
def training(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    cache: Path,
) -> Training:
    """Each training in turn."""
    return Training(PLANS[request.param], tmp_path_factory.mktemp("training"), cache)


def expected_metrics(plan: Plan) -> set[str]:
    """The metrics that such a training certainly has."""
    both = {"rollout_time", "actor_train_time", "actor_train_step_time"}
    if plan.is_ppo:
        both.add("critic_train_time")
    names = {f"{how}/{name}" for how in ("sum", "mean") for name in both}
    names |= {"global_step_time", "weight_sync_time", "sum/refer_inference_time"}
    if plan.has_reference:
        names.add("mean/refer_inference_time")
    if plan.rollout_apart:
        names |= {"rollout_idle_time", "first_micro_batch_rollout_time"}
    if plan.devices == ALL_APART:
        names |= {"sum/refer_gap_time", "sum/actor_gap_time"}
    elif plan.rollout_apart and plan.has_reference:
        names.add("sum/between_micro_batch_gap_time")
    return names


@pytest.mark.row("L8", "P16", "P19")
def test_the_metrics_reach_tunix_s_own_log(training: Training) -> None:
    """Each of them, for each step; the first of tunix's steps is number 1."""
    found = training.metrics()
    expected = expected_metrics(training.plan)
    means_of_gaps = {
        n for n in found if n.startswith("mean/") and n.endswith("gap_time")
    }
    # What v2 says of the devices' time is not of tunix's making.
    analysed = {"bubble_frac", "overlap_frac"}
    assert expected == set(found) - means_of_gaps - analysed
    for name in expected:
        assert [1, 2] == [step for step, _ in found[name]], name


def test_no_metric_is_nan(training: Training) -> None:
    """Nor infinite, nor negative; what ran took some time."""
    found = training.metrics()
    values = {name: [value for _, value in some] for name, some in found.items()}
    for name, some in values.items():
        assert all(math.isfinite(value) and value >= 0 for value in some), name
    for name in {"global_step_time", "sum/rollout_time", "sum/actor_train_time"}:
        assert all(value > 0 for value in values[name]), name
    has_reference = training.plan.has_reference
    assert has_reference == all(v > 0 for v in values["sum/refer_inference_time"])


def test_both_tracers_measured_the_same(training: Training) -> None:
    """Tunix logs the mean of v1's and v2's values: neither lacks or adds a span.

    How many there are is known: so many times the mean is the sum.
    """
    found = training.metrics()
    names = ["rollout_time", "actor_train_step_time"]
    if training.plan.has_reference:
        names.append("refer_inference_time")
    for name in names:
        sums = [value for _, value in found[f"sum/{name}"]]
        means = [value for _, value in found[f"mean/{name}"]]
        n = training.plan.micro_batches
        assert pytest.approx([n * mean for mean in means], rel=0.01) == sums


@pytest.mark.parametrize("version", [1, 2])
def test_the_traces_load_again(training: Training, version: int) -> None:
    """Whole, from one run, and with the same slices that Perfetto finds."""
    trace = load(training.trace(version))
    assert (False, 1) == (trace.is_cut, len(trace.runs))
    assert [] == [s.name for s in trace.slices if s.end_ns == OPEN]
    loaded = Counter((s.track.name, s.name) for s in trace.slices)
    moments = Counter((i.track.name, i.name) for i in trace.instants)
    found = Counter((s.track[-1], s.name) for s in training.slices(version))
    assert loaded + moments <= found


@pytest.mark.row("P4")
def test_every_span_is_in_the_trace_of_v1(training: Training) -> None:
    """As often as there were micro-batches, on its role's track and devices."""
    plan = training.plan
    found = Counter((s.track[-1].split(" ")[0], s.name) for s in training.slices(1))
    n, of_critic = plan.batches, plan.batches * plan.is_ppo
    inferences = n * plan.has_reference
    syncs = STEPS * plan.rollout_apart
    expected = {
        ("Main", "global_step"): STEPS,
        ("Main", "mini_batch_step"): STEPS,
        ("Main", "micro_batch_steps"): STEPS,
        ("Main", "data_loading"): n,
        ("Main", "rollout"): n,
        ("Main", "refer_inference"): inferences,
        ("Main", "advantage_computation"): n * (not plan.is_ppo),
        ("Main", "actor_training"): n,
        ("Main", "critic_training"): of_critic,
        ("Main", "peft_train_step"): n + of_critic,
        ("Main", "weight_sync"): syncs,
        ("Rollout", "rollout"): n,
        ("Reference", "refer_inference"): inferences,
        ("Actor", "actor_training"): n,
    }
    for device in plan.devices["rollout"]:
        expected[f"cpu{device}", "rollout"] = n
        expected[f"cpu{device}", "weight_sync"] = syncs
    for device in plan.devices["actor"]:
        expected[f"cpu{device}", "peft_train_step"] = n + of_critic
    for device in plan.devices["reference"]:
        expected[f"cpu{device}", "refer_inference"] = inferences
    assert expected == {key: found[key] for key in expected}


def test_every_span_is_in_the_trace_of_v2(training: Training) -> None:
    """As often as there were micro-batches; of a mesh only the first device has it."""
    plan = training.plan
    found: Counter[tuple[str, str | None]] = Counter()
    for row in training.slices(2):
        place = row.track[-1].split(" ")[0]
        found["host" if place.startswith("host-") else place, row.name] += 1
    n, of_critic = plan.batches, plan.batches * plan.is_ppo
    inferences = n * plan.has_reference
    syncs = STEPS * plan.rollout_apart
    first = {role: f"cpu{devices[0]}" for role, devices in plan.devices.items()}
    expected = {
        ("host", "data_loading"): n,
        ("host", "rollout"): n,
        ("host", "reference_inference"): inferences,
        ("host", "advantage_computation"): n * (not plan.is_ppo),
        ("host", "peft_train"): n + of_critic,
        ("host", "weight_sync"): syncs,
        (first["rollout"], "rollout"): n,
        (first["rollout"], "weight_sync"): syncs,
        (first["reference"], "reference_inference"): inferences,
        (first["actor"], "peft_train"): n + of_critic,
    }
    assert expected == {key: found[key] for key in expected}


def test_the_tags_are_in_the_trace_of_v2(training: Training) -> None:
    """Tunix's step, role and number of the micro-batch."""
    plan = training.plan
    on_host = [s for s in training.slices(2) if s.track[-1].startswith("host-")]
    trained = Counter(
        (s.args["role"], s.args["step"], s.args["micro_batch_step"])
        for s in on_host
        if s.name == "peft_train"
    )
    roles = ["actor", "critic"] if plan.is_ppo else ["actor"]
    assert trained == {
        (role, step, micro_batch): 1
        for role in roles
        for step in range(STEPS)
        for micro_batch in range(plan.micro_batches)
    }
    assert {"rollout"} == {s.args["role"] for s in on_host if s.name == "rollout"}
    loaded = Counter(s.args["step"] for s in on_host if s.name == "data_loading")
    assert dict.fromkeys(range(STEPS), plan.micro_batches) == loaded


def test_a_step_of_a_report_holds_all_of_its_spans(training: Training) -> None:
    """Rollouts, too, which tunix makes on a thread of its own, before the trainer."""
    found = read_recording(training.trace(2))
    assert STEPS == len(found.steps)
    for info, records in found.timelines:
        if info.kind is TimelineKind.HOST:
            for name, begin_ns, end_ns, _, _, _, tags, _ in records:
                (step,) = [
                    step
                    for step in found.steps
                    if step.begin_ns <= begin_ns <= end_ns <= step.end_ns
                ]
                # PPO's rollouts have no number.
                assert step.number == (tags or {}).get("step", step.number), name


@pytest.mark.parametrize("version", [1, 2])
def test_device_work_does_not_begin_before_its_launch(
    training: Training, version: int
) -> None:
    """Of each rollout, inference and training step, on the first device of its role."""
    rows = training.slices(version)
    for role, names in {
        "rollout": {"rollout"},
        "reference": {"refer_inference", "reference_inference"},
        "actor": {"peft_train_step", "peft_train"},
    }.items():
        device = f"cpu{training.plan.devices[role][0]}"
        chosen = [s for s in rows if s.name in names]
        ran = [s.ts for s in chosen if s.track[-1] == device]
        launched = [s.ts for s in chosen if s.track[-1].startswith(("host-", "Main"))]
        assert len(launched) == len(ran)
        assert all(a <= b for a, b in zip(launched, ran, strict=True)), role


def test_all_that_tunix_asks_of_its_tracer_is_there() -> None:
    """Every name that a module of tunix takes from one of `tunix.perf`."""
    spec = importlib.util.find_spec("tunix")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    taken = {
        name
        for path in package.rglob("*.py")
        if package / "perf" not in path.parents
        for name in names_taken(path.read_text(encoding="utf-8"))
    }
    assert "perf.trace.PerfTracer" in taken
    assert [] == [name for name in sorted(taken) if not is_there(name)]


def names_taken(source: str) -> Iterator[str]:
    """What a module imports from `tunix.perf` and its modules, by our names."""
    bound: dict[str, str] = {}
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if (
                f"{module}.".startswith("tunix.perf.")
            ):
                ours = module.removeprefix("tunix.")
                bound |= {n.asname or n.name: f"{ours}.{n.name}" for n in names}
    yield from bound.values()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=attr) if name in bound:
                yield f"{bound[name]}.{attr}"


def is_there(name: str) -> bool:
    """Whether a dotted name leads to something."""
    try:
        pkgutil.resolve_name(name)
    except (AttributeError, ImportError):
        return False
    return True


def test_nothing_was_dropped_or_failed(training: Training) -> None:
    """This package had nothing to say."""
    assert "rlperf" not in training.log
    assert "perf." not in training.log
