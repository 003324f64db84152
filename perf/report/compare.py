"""What changed from one run to another, and how sure that is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from perf._model.errors import PerfError
from perf.report.analysis import Report
from perf.report.figures import (
    duration,
    percent,
    signed_duration,
    signed_percent,
)
from perf.report.plain import printable

_RESAMPLES: Final = 2_000  # mutate: ok any number of this size
_CONFIDENCE: Final = 0.95
_LEAST_STEPS: Final = 3
_MATTERS: Final = 0.05
"""Part of the step time from which on a stage is looked at by itself."""
_NAMED: Final = 4
"""Stages in sentences."""
_ALL: Final = 3
"""As many stages that changed alike have one cause."""
_ALIKE: Final = 0.5
"""How much of the step's change that is at least; and the other way round."""
FORMAT_VERSION: Final = 1
"""Of `as_values`; grows when a key changes its meaning or goes."""


class CompareError(PerfError):
    """Two runs cannot be compared; the message says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Estimate:
    """A difference with what it may be instead.

    Attributes:
        value: as measured.
        low: of the interval that holds the true one in 95 of 100 cases.
        high: likewise.
    """

    value: float
    low: float
    high: float

    @property
    def is_sure(self) -> bool:
        """Whether it is not 0, beyond reasonable doubt."""
        return self.low > 0 or self.high < 0


@dataclasses.dataclass(frozen=True, slots=True)
class StageChange:
    """How much longer a stage is on the critical path of a step, in nanoseconds."""

    stage: str
    before_ns: float
    after_ns: float
    change_ns: Estimate


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs side by side; means over their steps.

    Attributes:
        step_ns: of the first and of the second run.
        change: of the step time, as a part of the first one's.
        stages: those that changed most first; their changes add up to the steps'.
        notes: what a reader has to know about either, in sentences.
    """

    names: tuple[str, str]
    steps: tuple[int, int]
    step_ns: tuple[float, float]
    change: Estimate
    stages: Sequence[StageChange]
    notes: Sequence[str]


def compare(before: Report, after: Report) -> Comparison:
    """Compares two runs, their steps resampled to see what chance alone does.

    Raises:
        CompareError: one of them has fewer than three steps.
    """
    for report in (before, after):
        if len(report.steps) < _LEAST_STEPS:
            raise CompareError(
                f"{report.recording.path}: at least {_LEAST_STEPS} steps are "
                f"needed to compare, found {len(report.steps)}"
            )
    stages = sorted(set(before.path) | set(after.path))
    tables = [_table(report, stages) for report in (before, after)]
    means = [table.mean(axis=0) for table in tables]
    # The same answer for the same traces, and draws that are independent.
    samples = [_resampled(table, seed) for seed, table in enumerate(tables)]
    totals = [sample.sum(axis=1) for sample in samples]
    change = _estimate(means[1].sum() / means[0].sum() - 1, totals[1] / totals[0] - 1)
    found = [
        StageChange(
            stage,
            float(means[0][at]),
            float(means[1][at]),
            _estimate(
                means[1][at] - means[0][at], samples[1][:, at] - samples[0][:, at]
            ),
        )
        for at, stage in enumerate(stages)
    ]
    found.sort(key=lambda change: -abs(change.change_ns.value))
    return Comparison(
        (before.recording.path, after.recording.path),
        (len(before.steps), len(after.steps)),
        (float(means[0].sum()), float(means[1].sum())),
        change,
        found,
        list(_notes(before, after)),
    )


def _notes(before: Report, after: Report) -> Iterator[str]:
    for name, report in (("A", before), ("B", after)):
        for note in report.notes:
            yield f"Note on {name}: {note}."
    alone = [_alone(before, after), _alone(after, before)]
    if all(alone):
        yield (
            f"Note: A alone has {', '.join(alone[0])}, B alone {', '.join(alone[1])}: "
            "names that changed, or traces of two kinds (v1 and v2)?"
        )


def _alone(report: Report, other: Report) -> list[str]:
    """Stages that matter and are not in the other one."""
    return [
        stage
        for stage, ns in report.path.most_common()
        if stage not in other.path and ns >= _MATTERS * report.total_ns
    ]


def _table(report: Report, stages: Sequence[str]) -> Any:
    """Float [steps, stages]: nanoseconds of each step's path."""
    return np.array(
        [[s.by_stage.get(stage, 0) for stage in stages] for s in report.steps],
        dtype=np.float64,
    )


def _resampled(table: Any, seed: int) -> Any:
    """Float [resamples, stages]: means over steps drawn with replacement."""
    draw = np.random.default_rng(seed)
    count = len(table)
    found = np.empty((_RESAMPLES, table.shape[1]))
    for at in range(_RESAMPLES):
        found[at] = table[draw.integers(count, size=count)].mean(axis=0)
    return found


def _estimate(value: float, samples: Any) -> Estimate:
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(samples, [tail, 1 - tail])
    return Estimate(float(value), float(low), float(high))


def sentences(comparison: Comparison) -> list[str]:
    """What changed, in words; the verdict first."""
    before, after = comparison.step_ns
    change = comparison.change
    value, low, high = map(signed_percent, (change.value, change.low, change.high))
    interval = f"95 % sure: {low} to {high}"
    times = f"{duration(before)} → {duration(after)} a step"
    if not change.is_sure:
        first = f"No sure change of step time: {value} ({interval}), {times}."
    else:
        word = "slower" if change.value > 0 else "faster"  # mutate: ok 0 is not sure
        first = (
            f"The second run is {percent(abs(change.value))} {word} ({interval}): "
            f"{times}."
        )
    found = [first]
    whole = after - before
    sure = [stage for stage in comparison.stages if stage.change_ns.is_sure]
    for stage in sure[:_NAMED]:
        ns = stage.change_ns
        share = f", {percent(ns.value / whole)} of the change" if change.is_sure else ""
        found.append(
            f"{stage.stage}: {signed_duration(ns.value)} a step "
            f"({signed_duration(ns.low)} to {signed_duration(ns.high)}){share}, "
            f"{duration(stage.before_ns)} → {duration(stage.after_ns)}."
        )
    if change.is_sure and _all_changed(comparison):
        found.append(
            "Every stage changed alike: the machine, or what else runs on it, is "
            "behind that, not one stage."
        )
    if not sure and change.is_sure:
        found.append("No single stage explains it for sure: more steps would.")
    return [*found, *comparison.notes]


def _all_changed(comparison: Comparison) -> bool:
    """Whether all stages that matter changed by about as much as the step."""
    whole = comparison.change.value
    shares = [
        stage.change_ns.value / stage.before_ns
        for stage in comparison.stages
        if stage.before_ns >= _MATTERS * comparison.step_ns[0]
    ]
    return len(shares) >= _ALL and all(
        _ALIKE * abs(whole) <= share * np.sign(whole) <= abs(whole) / _ALIKE
        for share in shares
    )


def as_text(comparison: Comparison) -> str:
    """Sentences, then a table of the stages."""
    lines = [
        f"A {comparison.names[0]} ({comparison.steps[0]} steps)",
        f"B {comparison.names[1]} ({comparison.steps[1]} steps)",
        "",
        *[f"• {sentence}" for sentence in sentences(comparison)],
        "",
        f"  {'critical path, a step':<32}{'A':>10}{'B':>10}{'B − A':>12}  95 % sure",
    ]
    for stage in comparison.stages:
        ns = stage.change_ns
        mark = "  " if ns.is_sure else " ?"
        lines.append(
            f"  {stage.stage:<32}{duration(stage.before_ns):>10}"
            f"{duration(stage.after_ns):>10}{signed_duration(ns.value):>12}  "
            f"{signed_duration(ns.low)} to {signed_duration(ns.high)}{mark}".rstrip()
        )
    return printable("\n".join(lines) + "\n")


def as_values(comparison: Comparison) -> dict[str, Any]:
    """Everything as JSON holds it; times in seconds, shares from 0 to 1."""

    def values(estimate: Estimate, unit: float) -> dict[str, float | bool]:
        return {
            "value": estimate.value / unit,
            "low": estimate.low / unit,
            "high": estimate.high / unit,
            "is_sure": estimate.is_sure,
        }

    return {
        "format_version": FORMAT_VERSION,
        "files": list(comparison.names),
        "steps": list(comparison.steps),
        "sentences": sentences(comparison),
        "step_time_s": [ns / 1e9 for ns in comparison.step_ns],
        "change_frac": values(comparison.change, 1.0),
        "stages": [
            {
                "stage": stage.stage,
                "before_s": stage.before_ns / 1e9,
                "after_s": stage.after_ns / 1e9,
                "change_s": values(stage.change_ns, 1e9),
            }
            for stage in comparison.stages
        ],
    }
