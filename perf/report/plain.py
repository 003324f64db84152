"""A report as text for the terminal, and as values for machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from perf._read.accounting import Account
from perf._read.busy import Busy, is_occupied
from perf.report.analysis import Report
from perf.report.figures import counted, duration, percent, role_name, signed
from perf.report.words import findings

FORMAT_VERSION: Final = 1
"""Of `as_values`; grows when a key changes its meaning or goes."""
_BAR: Final = 28
_SHOWN: Final = 12


def as_text(report: Report) -> str:
    """A page for the terminal: words first, then tables."""
    lines = [_title(report), ""]
    lines += [f"• {finding.text}" for finding in findings(report)]
    if report.steps:
        lines += ["", *_steps(report), "", *_table("Devices", report.account)]
        if len(report.roles) > 1:
            for role, account in sorted(report.roles.items()):
                lines += ["", *_table(role_name(role).capitalize(), account)]
        lines += _busy_table(report)
        lines += ["", "Critical path (what the steps' ends waited for)"]
        for stage, ns in report.path.most_common(_SHOWN):
            lines.append(_row(stage, ns / len(report.steps), ns / report.total_ns))
        unusual = sorted(report.steps, key=lambda s: -abs(s.deviation))[:5]
        if any(s.is_unusual for s in unusual):
            lines += ["", "Most unusual steps"]
            lines += [
                f"  step {s.step.number}: {duration(s.step.length_ns)} "
                f"({signed(s.deviation)} deviations), {s.reason} "
                f"{duration(s.reason_ns)} off its median"
                for s in unusual
                if s.is_unusual
            ]
    return printable("\n".join(lines) + "\n")


def printable(text: str) -> str:
    """The same without what a terminal would obey: names may hold anything."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode()
        for c in text
    )


def _title(report: Report) -> str:
    recording = report.recording
    spans, steps = counted(recording.spans, "span"), len(recording.steps)
    return f"{recording.path}: {spans}, {counted(steps, 'step')}"


def _steps(report: Report) -> list[str]:
    lines = [
        f"Steps: median {duration(report.median_ns)} "
        f"± {duration(report.mad_ns)} (MAD), {len(report.steps)} of them"
    ]
    if report.warm_up:
        first = report.warm_up[0].step
        lines[0] += (
            f"; step {first.number} took {duration(first.length_ns)} and is left out"
        )
    if report.overlap_frac is not None:
        lines.append(
            f"Rollout and training overlap {percent(report.overlap_frac)} of the time"
        )
    if report.samples_per_s:
        lines.append(f"{report.samples_per_s:.4g} samples a second")
    if report.tokens_per_s:
        lines.append(f"{report.tokens_per_s:.4g} tokens a second")
    return lines


def _table(title: str, account: Account) -> list[str]:
    total = account.total_ns
    lines = [f"{title}: {percent(account.bubble_frac)} idle"]
    lines += [
        _row(bucket, ns, ns / total)
        for bucket, ns in account.buckets.most_common(_SHOWN)
        if total and ns / total >= 0.0005
    ]
    return lines


def _busy_table(report: Report) -> list[str]:
    found = report.profiled.all
    if not found.held:
        return []
    title = f"Busy part of these {duration(sum(found.held.values()))} of device time"
    shown = [b for b, _ in found.held.most_common() if is_occupied(b) or found.busy[b]]
    rows = [
        _row(bucket, found.held[bucket], found.busy[bucket] / found.held[bucket])
        for bucket in shown[:_SHOWN]
    ]
    return ["", f"{title}, by a device profile", *rows]


def _row(name: str, ns: float, share: float) -> str:
    bar = "█" * round(share * _BAR)
    return f"  {name:<36}{duration(ns):>10} {percent(share):>8}  {bar}".rstrip()


def as_values(report: Report) -> dict[str, Any]:
    """Everything as JSON holds it; times in seconds, shares from 0 to 1."""
    return {
        "format_version": FORMAT_VERSION,
        "files": [report.recording.path],
        "run": {key: _plain(value) for key, value in report.recording.run.items()},
        "notes": list(report.notes),
        "findings": [
            {"kind": f.kind, "cause": f.cause, "text": f.text, "weight": f.weight}
            for f in findings(report)
        ],
        "unaccounted_frac": report.unaccounted_frac,
        "is_trusted": report.is_trusted,
        "step_time_median_s": report.median_ns / 1e9 if report.steps else None,
        "step_time_mad_s": report.mad_ns / 1e9 if report.steps else None,
        "overlap_frac": report.overlap_frac,
        "samples_per_s": report.samples_per_s or None,
        "tokens_per_s": report.tokens_per_s or None,
        "devices": _account(report.account),
        "by_role": {role: _account(a) for role, a in report.roles.items()},
        "by_device": {device: _account(a) for device, a in report.devices.items()},
        "outside_steps": {
            "seconds": report.outside_ns / 1e9,
            "devices": _account(report.outside),
        },
        "device_profile": _profiled(report),
        "critical_path_s": _seconds(report.path),
        "critical_path_by_role_s": _seconds(report.path_by_role),
        "what_if": [
            {"change": str(answer.change), "saving_frac": answer.saving}
            for answer in report.answers
        ],
        "what_if_refused": report.refused or None,
        "stragglers": [
            {
                "device": s.device,
                "stage": s.stage,
                "role": s.role,
                "late_s": s.late_ns / 1e9,
                "late_frac": s.late_frac,
                "last_frac": s.last_frac,
            }
            for s in report.stragglers
        ],
        "warm_up_steps": [s.step.number for s in report.warm_up],
        "steps": [
            {
                "step": s.step.number,
                "begin_s": s.step.begin_ns / 1e9,
                "seconds": s.step.length_ns / 1e9,
                "critical_path_s": _seconds(s.by_stage),
                "carried_in_s": (
                    s.path.carried_in.length_ns / 1e9 if s.path.carried_in else 0.0
                ),
                "bubble_frac": s.account.all.bubble_frac,
                "overlap_frac": s.account.overlap_frac,
                "deviation": s.deviation,
                "reason": s.reason if s.is_unusual else None,
            }
            for s in report.steps
        ],
    }


def _profiled(report: Report) -> dict[str, Any] | None:
    found = report.profiled
    if not found.devices:
        return None
    return {
        "seconds": found.covered_ns / 1e9,
        "devices": _busy(found.all),
        "by_device": {device: _busy(each) for device, each in found.devices.items()},
    }


def _busy(found: Busy) -> dict[str, Any]:
    return {
        "busy_over_occupied": found.over_occupied,
        "untraced_frac": found.untraced,
        "seconds": _seconds(found.held),
        "busy_s": _seconds(found.busy),
    }


def _account(account: Account) -> dict[str, Any]:
    return {
        "seconds": _seconds(account.buckets),
        "evidence_s": {
            name: _seconds(kinds) for name, kinds in account.evidence.items()
        },
        "queued_s": _seconds(account.queued),
        "bubble_frac": account.bubble_frac,
    }


def _seconds(values: Mapping[str, int]) -> dict[str, float]:
    return {name: ns / 1e9 for name, ns in sorted(values.items(), key=_most) if ns}


def _most(item: tuple[str, int]) -> int:
    return -item[1]


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else str(value)
