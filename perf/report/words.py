"""What a report says first: sentences, the most important one on top."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from perf._model import names
from perf._read.accounting import (
    HOST,
    OCCUPIED,
    UNACCOUNTED,
    WAIT,
    Account,
)
from perf._read.busy import is_occupied
from perf._read.lock import seen_late_ns
from perf._read.recording import Recording
from perf._read.robust import UNUSUAL, usual_stages
from perf._read.schedule import STRUCTURE
from perf.report.analysis import (
    TRUSTED_UNACCOUNTED,
    TRUSTED_UNEXPLAINED,
    Report,
    StepReport,
)
from perf.report.figures import counted, duration, percent, role_name

WORTH_SAYING: Final = 0.08
"""Part of the run's time below which a finding does not come before what bounds it."""
_WORTH_SAYING_TOO: Final = 0.01
"""Part of the time without a span below which work in it is not told."""
_NAMED: Final = 4
"""Stages in one sentence."""
_MANY_SPANS: Final = 30
_SHORT_NS: Final = 20_000_000
_IDLE_BETWEEN: Final = 0.2
_ONE_GAP: Final = 0.5
"""Part of the time between steps above which one gap is told apart, ..."""
_FEW_GAPS: Final = 4
"""... unless there are fewer: then each may be as usual."""
_MANY_TIMES: Final = 3
_ALL: Final = 4
"""Stages that are so many times as long at once."""


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """A sentence of a report.

    Attributes:
        kind: "bound" (what bounds the run), "help" (what would help), "odd" (what is
            odd), or "limit" (what the report cannot know).
        cause: the stage or thing that it names; "" if it names none.
        text: the sentence.
        weight: part of the run's time that it is about; the greatest comes first.
    """

    kind: str
    cause: str
    text: str
    weight: float = 0.0


def findings(report: Report) -> list[Finding]:
    """Everything worth saying, the most important first.

    What limits all numbers comes right behind the first sentence.
    """
    found = [*_hangs(report.recording), *_about_the_run(report)]
    limits = [_note(text) for text in report.recording.limits]
    notes = [_note(text) for text in report.notes[len(limits) :]]
    return [*found[:1], *limits, *found[1:], *notes]


def _note(text: str) -> Finding:
    return Finding("limit", "", f"Note: {text}.")


def _about_the_run(report: Report) -> list[Finding]:
    outer = (_lock(report) or _all_slower(report)) if report.steps else None
    found = list(_limits(report, outer))
    if not report.steps:
        return found
    # Where the report leads with what is unaccounted, it is said there.
    odd = [outer] if outer and report.is_trusted else []
    odd += list(_oddities(report, has_outer_cause=bool(outer)))
    odd.sort(key=lambda finding: -finding.weight)
    first = [finding for finding in odd if finding.weight >= WORTH_SAYING]
    later = [finding for finding in odd if finding.weight < WORTH_SAYING]
    found += first
    found += _bounds(report)
    found += _busy(report)
    if report.is_trusted:
        found += _help(report)
    return found + later


def _hangs(recording: Recording) -> Iterator[Finding]:
    """What the watchdog saw: of the step that hung longest the last time of it."""
    found: dict[int, tuple[float, str]] = {}
    for time_ns, name, tags in recording.instants:
        if name != names.HANG:
            continue
        step, seconds, text = (tags.get(key) for key in _HANG_TAGS)
        if not (isinstance(step, int) and isinstance(seconds, (int, float))):
            continue  # somebody else's
        begin_ns = time_ns - seconds * 1e9
        # Where steps go on ending nothing hangs: the training does not call `export`.
        ends = [each.end_ns for each in recording.steps if each.end_ns > begin_ns]
        if sum(end_ns < time_ns for end_ns in ends) < 2:  # mutate: ok if equal
            where = str(text).partition(": ")[2]
            found[step] = max(found.get(step, (0.0, "")), (seconds, where))
    if not found:
        return
    step = max(found, key=lambda step: found[step])
    seconds, where = found[step]
    others = len(found) - 1
    lasted = duration(seconds * 1e9)  # mutate: ok rounded
    text = f"The run hung: step {step} had not ended after {lasted}"
    text += f" ({counted(others, 'other step')} hung, too)" if others else ""
    yield Finding("odd", names.HANG, f"{text}: {where}.")


_HANG_TAGS: Final = (names.STEP, names.HANG_SECONDS, names.HANG_TEXT)


# -- limits ----------------------------------------------------------------------------


def _limits(report: Report, outer: Finding | None) -> Iterator[Finding]:
    share, most, what = report.unaccounted_frac, TRUSTED_UNACCOUNTED, "devices' time"
    if not report.account.total_ns:
        what = "critical path"
    elif share <= most:
        share, most = report.unexplained_frac, TRUSTED_UNEXPLAINED
        what = "critical path"
    if not report.steps:
        yield Finding("limit", "", "The trace holds no whole step of the trainer.")
    elif not report.is_trusted:
        text = (
            f"{percent(share)} of the {what} is unaccounted for, more than "
            f"{percent(most)}: too much to give advice"
        )
        if outer is not None:
            text += f" on stages. {outer.text}"
        else:
            text += (
                ". Record what the launching threads do there (spans, `waits_for` "
                "tags, `after=`), and look again."
            )
        yield Finding("limit", UNACCOUNTED, text, share)


# -- what bounds the run ---------------------------------------------------------------


def _bounds(report: Report) -> Iterator[Finding]:
    known = [(s, ns) for s, ns in report.path.most_common() if s != UNACCOUNTED]
    if not known:
        return
    stage, ns = known[0]
    share = ns / report.total_ns
    where = _where(report, stage)
    text = (
        f"{stage} bounds the run: it is {percent(share)} of the critical path, "
        f"{duration(ns / len(report.steps))} of a step of "
        f"{duration(report.total_ns / len(report.steps))}{where}."
    )
    yield Finding("bound", stage, text, share)
    waits = _largest_wait(report)
    if waits is not None:
        yield waits
    bubble = report.account.bubble_frac
    if report.account.total_ns:
        parts = "; ".join(
            f"{percent(report.account.share(prefix))} {word}"
            for prefix, word in (
                (WAIT, "waiting"),
                (HOST, f"for the host{_host_stage(report.account)}"),
                (UNACCOUNTED, "unexplained"),
            )
            if report.account.share(prefix) >= 0.005
        )
        detail = f" ({parts})" if parts else ""
        yield Finding(
            "bound", "", f"Devices are idle {percent(bubble)} of the time{detail}."
        )


def _host_stage(account: Account) -> str:
    """What the host was in for most of the time that devices were idle for it."""
    stages = {b: ns for b, ns in account.buckets.items() if b.startswith(HOST)}
    for bucket, ns in stages.items():
        if ns > sum(stages.values()) / 2:
            return f", most of it in {bucket.removeprefix(HOST)}"
    return ""


def _busy(report: Report) -> Iterator[Finding]:
    found = report.profiled.all
    share = found.over_occupied
    if share is None:
        return
    held = [item for item in found.held.most_common() if is_occupied(item[0])]
    stages = ", ".join(
        f"{bucket.removeprefix(OCCUPIED)} {percent(found.busy[bucket] / ns)}"
        for bucket, ns in held[:_NAMED]
    )
    text = (
        f"By a device profile of {duration(report.profiled.covered_ns)}, devices are "
        f"busy {percent(share)} of the time that spans hold them ({stages})"
    )
    if found.untraced >= _WORTH_SAYING_TOO:
        text += f", and {percent(found.untraced)} of the time that none does"
    yield Finding("bound", "", f"{text}.")


def _where(report: Report, stage: str) -> str:
    """On which devices, or that it is on the host while they are idle."""
    role = report.schedule.stage_roles.get(stage)
    if role is None:
        return ", on the host" if report.account.total_ns else ""
    devices = report.schedule.roles.get(role, ())
    return f", on {_listed(devices)}" if devices else ""


def _largest_wait(report: Report) -> Finding | None:
    waits = [
        (ns / account.total_ns, role, bucket)
        for role, account in report.roles.items()
        for bucket, ns in account.buckets.items()
        if bucket.startswith(WAIT)
    ]
    share, role, bucket = max(waits, key=lambda wait: wait[0], default=(0.0, "", ""))
    if share < 0.05:
        return None
    cause = bucket.removeprefix(WAIT)
    devices = report.schedule.roles[role]
    alike = [r for r, some in report.schedule.roles.items() if some == devices]
    whose = " and ".join(role_name(r) for r in alike)
    kind = _longest(report.roles[role].evidence.get(bucket, {}))
    return Finding(
        "bound",
        cause,
        f"The devices of {whose} wait for {cause} {percent(share)} of the "
        f"time{_EVIDENCE.get(kind, '')}.",
        share,
    )


_EVIDENCE: Final = {
    "flow": ", by recorded arrows",
    "waits_for": ", by the tag waits_for",
    "blocked": ": the thread that launches blocks on it",
    "inferred": ", as far as can be inferred",
}


# -- what would help -------------------------------------------------------------------


def _help(report: Report) -> Iterator[Finding]:
    worth = [a for a in report.answers if a.saving >= 0.01]  # mutate: ok if equal
    if worth:
        said = [f"{answer.change}: {percent(-answer.saving)}" for answer in worth[:3]]
        yield Finding(
            "help",
            worth[0].change.stage,
            "What would help most, by timing the same run anew: "
            + "; ".join(said)
            + " of step time.",
            worth[0].saving,
        )
    elif report.answers:
        yield Finding(
            "help", "", "Making any one stage faster would save less than 1 %."
        )
    if report.refused:
        yield Finding("limit", "", f"No what-if: {report.refused}.")


# -- what is odd -----------------------------------------------------------------------


def _oddities(report: Report, *, has_outer_cause: bool) -> Iterator[Finding]:
    yield from _compiles(report)
    yield from _outside(report)
    yield from _straggling(report)
    yield from _slow_spans(report)
    yield from _small_work(report)
    if not has_outer_cause:
        yield from _unusual(report)


def _compiles(report: Report) -> Iterator[Finding]:
    # Not the first step of the run, where everything is compiled.
    later = report.steps if report.warm_up else report.steps[1:]
    steps = [s for s in later if s.by_stage.get(names.COMPILE)]
    ns = sum(s.by_stage[names.COMPILE] for s in steps)
    if ns > 0.005 * report.total_ns:
        share = ns / report.total_ns
        stages = Counter(
            stage for step in steps for stage in _compiled_in(report, step)
        )
        of = f" (in {_longest(stages)})" if stages else ""
        yield Finding(
            "odd",
            names.COMPILE,
            f"Recompilation{of} takes {percent(share)} of the time, in {len(steps)} of "
            f"{counted(len(later), 'step')} after the first: shapes or arguments "
            "change.",
            share,
        )


def _compiled_in(report: Report, step: StepReport) -> Iterator[str]:
    """The stages whose programs were compiled in a step."""
    for lane in report.schedule.threads.values():
        for record in lane.between(step.step.begin_ns, step.step.end_ns):
            if record[0] != names.COMPILE:
                continue
            at = record[1]
            around = [
                r
                for r in lane.between(at, at + 1)  # mutate: ok a nanosecond more
                if r[0] not in STRUCTURE | {names.COMPILE} and r[2] >= record[2]
            ]
            if around:
                yield str(around[-1][0])  # the last begun is innermost


def _outside(report: Report) -> Iterator[Finding]:
    whole = report.total_ns + report.outside_ns
    if report.outside_ns <= 0.05 * whole:
        return
    share = report.outside_ns / whole
    gaps = [
        (after.step.begin_ns - before.step.end_ns, after.step.number)
        for before, after in report.neighbours
    ]
    longest_ns, number = max(gaps)
    if len(gaps) >= _FEW_GAPS and longest_ns > _ONE_GAP * report.outside_ns:
        # What happened once is odd, and does not bound the run.
        yield Finding(
            "odd",
            "outside steps",
            f"{percent(share)} of the time passes between steps, "
            f"{percent(longest_ns / report.outside_ns)} of it at once, before step "
            f"{number}.",
            (report.outside_ns - longest_ns) / whole,
        )
        return
    inside: Counter[str] = Counter()
    main = report.schedule.threads.get(report.schedule.main or "")
    if main is not None:
        for before, after in report.neighbours:
            for leaf in main.innermost(before.step.end_ns, after.step.begin_ns):
                inside[str(leaf[2][0])] += leaf[1] - leaf[0]
    name = _longest(inside)
    if inside[name] <= report.outside_ns / 2:
        name = ""
    said = f", most of it in {name}" if name else ""
    yield Finding(
        "odd",
        name or "outside steps",
        f"{percent(share)} of the time passes between steps{said}.",
        share,
    )


def _straggling(report: Report) -> Iterator[Finding]:
    for straggler in report.stragglers[:1]:
        yield Finding(
            "odd",
            straggler.device,
            f"{straggler.device} ({role_name(straggler.role)}) straggles: it is the "
            f"last to finish {percent(straggler.last_frac)} of its {straggler.stage}, "
            f"{duration(straggler.late_ns)} behind the others on average.",
            straggler.late_frac,
        )


def _slow_spans(report: Report) -> Iterator[Finding]:
    if not report.slow_spans:
        return
    worst = report.slow_spans[0]
    alike = [s for s in report.slow_spans if s.name == worst.name]
    excess = sum(s.excess_ns for s in alike)
    which = ", ".join(
        f"{key} {worst.tags[key]}"
        for key in ("group_id", "pair_index", "sample", "micro_batch_step")
        if key in worst.tags
    )
    yield Finding(
        "odd",
        worst.name,
        f"One slow {worst.name} holds its step up in {len(alike)} of "
        f"{counted(len(report.steps), 'step')}: in step {worst.step} it takes "
        f"{duration(worst.length_ns)}, the others {duration(worst.usual_ns)}"
        + (f" ({which})." if which else "."),
        excess / report.total_ns,
    )


def _lock(report: Report) -> Finding | None:
    """Python threads that hold the interpreter while the training's may want it."""
    seen = report.lock
    if seen is None or not seen.threads:
        return None
    share = min(seen.held_frac, _for_the_lock(report))
    if share < WORTH_SAYING:
        return None
    (first, busy), *others = seen.threads
    threads = _listed(
        [
            f"{first} runs {percent(busy)} of the time",
            *[f"{name} {percent(busy)}" for name, busy in others],
        ]
    )
    return Finding(
        "odd",
        "GIL",
        "Python threads hold the interpreter's lock (GIL) beside the training's: "
        f"{threads}. A thread that woke up found the lock taken "
        f"{percent(seen.taken_frac)} of {counted(seen.wakeups, 'time')} and came late "
        f"by a median of {duration(seen.late_ns)} then. So may the training's, which "
        f"had the lock itself {percent(seen.trainer_frac)} of the time at most. Move "
        "the work of these threads to a process or into native code that releases the "
        "lock, or shorten `sys.setswitchinterval`.",
        share,
    )


def _for_the_lock(report: Report) -> float:
    """The part of the devices' time for which they may wait for it, at most.

    Devices that work, or wait for work that is under way, do not.
    """
    total_ns = report.account.total_ns
    if not total_ns:
        return 1.0
    begin_ns, end_ns = report.steps[0].step.begin_ns, report.steps[-1].step.end_ns
    late_ns = seen_late_ns(report.schedule, begin_ns, end_ns)
    idle = report.account.share(HOST) + report.account.share(UNACCOUNTED)
    return idle + late_ns / total_ns


def _all_slower(report: Report) -> Finding | None:
    """Steps in which everything took longer: no stage of the training is the cause."""
    slow = _slow_steps(report)
    excess = sum(s.step.length_ns - report.median_ns for s in slow)
    if excess < WORTH_SAYING * report.total_ns:
        return None
    usual = usual_stages([s.by_stage for s in report.steps])
    more: Counter[str] = Counter()
    for step in slow:
        more.update(step.by_stage)
        more.subtract(usual)
    slower = [
        stage
        for stage, ns in more.most_common()
        if ns > (_MANY_TIMES - 1) * usual[stage] * len(slow) and ns > 0.02 * excess
    ]
    if len(slower) < _ALL or more[slower[0]] > excess / 2:
        return None
    steps = counted(len(slow), "step")
    stages = _listed([stage for stage in slower if stage != UNACCOUNTED])
    return Finding(
        "odd",
        "GIL",
        f"In {steps} everything is slower at once ({stages}): another thread of the "
        "process holds the interpreter (GIL), or another process the CPU.",
        excess / report.total_ns,
    )


def _small_work(report: Report) -> Iterator[Finding]:
    """Many short launches, and devices that are idle while the host makes them."""
    idle = report.account.share(HOST) + report.account.share(UNACCOUNTED)
    if idle < _IDLE_BETWEEN or len(report.steps) == 1:  # which may be the whole run
        return
    begin, end = report.steps[0].step.begin_ns, report.steps[-1].step.end_ns
    lengths: dict[str, list[int]] = {}
    for devices in report.schedule.roles.values():
        for record in report.schedule.devices[devices[0]].between(begin, end):
            lengths.setdefault(str(record[0]), []).append(record[2] - record[1])
    short = [
        (len(some) / len(report.steps), stage, statistics.median(some))
        for stage, some in lengths.items()
        if len(some) >= _MANY_SPANS * len(report.steps)
    ]
    short = [each for each in short if each[2] < _SHORT_NS]
    if short:
        count, stage, each_ns = max(short)
        yield Finding(
            "odd",
            "micro-batch",
            f"Micro-batches are too small: {stage} runs {count:.0f} times a step for "
            f"{duration(each_ns)} each, and devices are idle {percent(idle)} of the "
            "time while the host launches the next.",
            idle,
        )


def _unusual(report: Report) -> Iterator[Finding]:
    of_reasons: Counter[str] = Counter()
    for each in _slow_steps(report):
        of_reasons[each.reason] += _of_reason(report, each)
    reason = _longest(of_reasons)
    if not reason or reason == names.COMPILE:
        return  # told as recompilation
    slow = [s for s in _slow_steps(report) if s.reason == reason]
    excess = sum(s.step.length_ns - report.median_ns for s in slow)
    worst = max(slow, key=lambda s: s.deviation)
    steps = counted(len(slow), "step")
    yield Finding(
        "odd",
        reason,
        f"{reason} makes {steps} unusually slow, {duration(excess)} more than usual in "
        f"all and {percent(of_reasons[reason] / excess)} of that in {reason}: step "
        f"{worst.step.number} takes {duration(worst.step.length_ns)} instead of "
        f"{duration(report.median_ns)}.",
        excess / report.total_ns,
    )


def _of_reason(report: Report, slow: StepReport) -> int:
    """How much of what a slow step takes longer its reason does, in nanoseconds.

    That may take longer by more than the step, where other stages are shorter.
    """
    return min(slow.reason_ns, slow.step.length_ns - report.median_ns)


def _slow_steps(report: Report) -> list[StepReport]:
    """Those that are unusually long."""
    return [s for s in report.steps if s.deviation >= UNUSUAL]  # mutate: ok if equal


def _longest(lengths: Mapping[str, int]) -> str:
    """The name of the greatest length; "" if there is none."""
    return max(lengths, key=lambda name: lengths[name], default="")


# -- numbers ---------------------------------------------------------------------------


def _listed(items: Iterable[str]) -> str:
    some = list(items)
    if len(some) > 4:
        return f"{', '.join(some[:3])} and {len(some) - 3} more"
    return ", ".join(some)
