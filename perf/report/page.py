"""A report as one page: no script, nothing from elsewhere, readable offline."""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from perf._model import names
from perf._read.accounting import (
    HOST,
    OCCUPIED,
    OTHER_ROLE,
    SYNC,
    UNACCOUNTED,
    WAIT,
    Account,
    stages_of,
)
from perf._read.recording import Sampled
from perf.report.analysis import Report, StepReport
from perf.report.style import STYLE
from perf.report.words import Finding, counted, duration, findings, percent, role_name

_COLOURS: Final = 8
"""Of stages; further ones share the last."""
_BARS: Final = 240
"""At most so many bars in the history of steps; beyond that each is a mean of some."""
_ROWS: Final = 14
_CURVE_POINTS: Final = 400
_GANTT_SPANS: Final = 1_500


def as_page(reports: Sequence[Report], *, linked: bool = False) -> str:
    """The page as HTML.

    Args:
        reports: one or more; each gets its part.
        linked: whether a server shows the trace in Perfetto beside the page, as
            `./?visStart=NS&visEnd=NS`.
    """
    titles = ", ".join(_name_of(report) for report in reports)
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        # Names in a trace are anybody's: nothing on the page may run or load.
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; "
        "style-src 'unsafe-inline'\">",
        "<meta name='color-scheme' content='light dark'>",
        f"<title>rlperf report: {_e(titles)}</title><style>{STYLE}</style></head>",
        f"<body>{_PATTERNS}",
    ]
    parts += [_Page(report, linked).html() for report in reports]
    parts.append(
        "<footer>Written by rlperf. Times are of the tracer's clock; occupied time is "
        "from launch to ready, an upper bound of busy.</footer></body></html>"
    )
    return "\n".join(parts)


_PATTERNS: Final = (
    "<svg width='0' height='0' style='position:absolute' aria-hidden='true'><defs>"
    "<pattern id='hatch' width='6' height='6' patternUnits='userSpaceOnUse' "
    "patternTransform='rotate(45)'><rect width='6' height='6' class='hatch-ground'/>"
    "<rect width='2' height='6' class='hatch-line'/></pattern></defs></svg>"
)


class _Page:
    """The part of one recording."""

    def __init__(self, report: Report, linked: bool) -> None:
        self._report = report
        self._linked = linked
        stages = [s for s, _ in report.path.most_common() if s != UNACCOUNTED]
        for bucket, _ in report.account.buckets.most_common():
            if bucket.startswith(OCCUPIED):
                stages += [s for s in stages_of(bucket) if s not in stages]
        self._colours = {
            stage: min(number, _COLOURS - 1) for number, stage in enumerate(stages)
        }

    def html(self) -> str:
        """All of it."""
        report = self._report
        said = findings(report)
        parts = [self._head(), _words(said)]
        if report.steps:
            parts += [
                self._history(),
                self._typical_step(),
                self._roles(),
                self._accounting(),
                self._path(),
                self._unusual(),
                self._stragglers(),
                self._counters(),
            ]
        parts.append(self._run())
        return f"<main>{''.join(parts)}</main>"

    # -- head --------------------------------------------------------------------------

    def _head(self) -> str:
        report = self._report
        run = report.recording.run
        where = " · ".join(
            str(run[key]) for key in ("command", "host", "started") if run.get(key)
        )
        tiles = []
        if report.steps:
            tiles = [
                ("step time (median)", duration(report.median_ns)),
                ("± (MAD)", duration(report.mad_ns)),
                ("steps", str(len(report.steps))),
            ]
        if report.account.total_ns:
            tiles.append(("devices idle", percent(report.account.bubble_frac)))
        if report.overlap_frac is not None:
            tiles.append(("rollout ∥ training", percent(report.overlap_frac)))
        if report.samples_per_s:
            tiles.append(("samples/s", f"{report.samples_per_s:.4g}"))
        if report.tokens_per_s:
            tiles.append(("tokens/s", f"{report.tokens_per_s:.4g}"))
        shown = "".join(
            f"<div class='tile'><b>{_e(value)}</b><span>{_e(name)}</span></div>"
            for name, value in tiles
        )
        return (
            f"<header><h1>{_e(_name_of(report))}</h1><p class='sub'>{_e(where)}</p>"
            f"<div class='tiles'>{shown}</div></header>"
        )

    # -- steps -------------------------------------------------------------------------

    def _history(self) -> str:
        report = self._report
        bars = list(_binned(report.steps))
        top = max([sum(stages.values()) for _, stages, _ in bars], default=1) or 1
        order = [s for s, _ in report.path.most_common()]
        width = 1000 / len(bars)
        shapes = []
        for number, (label, stages, unusual) in enumerate(bars):
            y = 300.0
            whole = sum(stages.values())
            for stage in order:
                ns = stages.get(stage, 0)
                if ns <= 0:
                    continue
                height = 300 * ns / top
                y -= height
                shapes.append(
                    f"<rect x='{number * width:.2f}' y='{y:.2f}' "
                    f"width='{max(width * 0.86, 0.6):.2f}' height='{height:.2f}' "
                    f"class='{self._class(stage)}'><title>{_e(label)}: {_e(stage)} "
                    f"{duration(ns)} of {duration(whole)}</title></rect>"
                )
            if unusual:
                shapes.append(
                    f"<rect x='{number * width:.2f}' y='{max(y - 7, 0):.2f}' "
                    f"width='{max(width * 0.86, 0.6):.2f}' height='4' class='mark'>"
                    f"<title>{_e(label)}: unusual</title></rect>"
                )
        note = ""
        if report.warm_up:
            first = report.warm_up[0].step
            note = (
                f"Step {first.number} ({duration(first.length_ns)}) compiles and "
                "loads: it is left out everywhere. "
            )
        if len(report.steps) > len(bars):
            each = len(report.steps) // len(bars)
            note += f"Each bar is the mean of about {counted(each, 'step')}. "
        note += "A mark above a bar: the step is unusual."
        first_label, last_label = bars[0][0], bars[-1][0]
        return _section(
            "Step time, by what the step waited for",
            f"<div class='chart'><div class='axis'><span>{duration(top)}</span>"
            f"<span>{duration(top / 2)}</span><span>0</span></div>"
            "<svg viewBox='0 0 1000 300' preserveAspectRatio='none' role='img' "
            "aria-label='Step time history, stages stacked'>"
            "<line x1='0' x2='1000' y1='150' y2='150' class='grid'/>"
            "<line x1='0' x2='1000' y1='0.5' y2='0.5' class='grid'/>"
            f"{''.join(shapes)}</svg></div>"
            f"<div class='ends'><span>{_e(first_label)}</span>"
            f"<span>{_e(last_label)}</span></div>{self._legend(order)}"
            f"<p class='note'>{_e(note)}</p>",
        )

    def _class(self, stage: str) -> str:
        if stage == UNACCOUNTED:
            return "unaccounted"
        return f"c{self._colours.get(stage, _COLOURS - 1)}"

    def _legend(self, stages: Iterable[str]) -> str:
        items = "".join(
            f"<li><i class='{self._class(stage)}'></i>{_e(stage)}</li>"
            for stage in itertools.islice(stages, _ROWS)
        )
        return f"<ul class='legend'>{items}</ul>"

    # -- a typical step ----------------------------------------------------------------

    def _typical_step(self) -> str:
        report = self._report
        typical = min(
            report.steps, key=lambda s: abs(s.step.length_ns - report.median_ns)
        )
        begin, end = typical.step.begin_ns, typical.step.end_ns
        on_path: dict[str, list[tuple[int, int]]] = {}
        for piece in typical.path.pieces:
            if piece.stage != UNACCOUNTED:
                on_path.setdefault(piece.place, []).append(
                    (piece.begin_ns, piece.end_ns)
                )
        schedule = report.schedule
        rows = []
        for place, lane in [*schedule.threads.items(), *schedule.devices.items()]:
            if place in schedule.threads:
                pieces = [
                    (b, e, str(r[0]))
                    for b, e, r in lane.innermost(begin, end)
                    if str(r[0]) in self._colours
                ]
            else:
                pieces = [
                    (max(r[1], begin), min(r[2], end), str(r[0]))
                    for r in lane.between(begin, end)
                ]
            if pieces:
                rows.append((place, pieces[:_GANTT_SPANS]))
        if not rows:
            return ""
        shown = []
        for place, pieces in rows[:16]:
            shapes = [
                f"<rect x='{_at(b, begin, end):.2f}' y='3' "
                f"width='{max(_at(e, begin, end) - _at(b, begin, end), 0.7):.2f}' "
                f"height='16' class='{self._class(name)}'><title>{_e(name)}: "
                f"{duration(e - b)}</title></rect>"
                for b, e, name in pieces
            ]
            shapes += [
                f"<rect x='{_at(b, begin, end):.2f}' y='20' "
                f"width='{max(_at(e, begin, end) - _at(b, begin, end), 0.7):.2f}' "
                "height='3' class='path'/>"
                for b, e in on_path.get(place, ())
            ]
            shown.append(
                f"<div class='lane'><span title='{_e(place)}'>{_e(_short(place))}"
                "</span><svg viewBox='0 0 1000 24' preserveAspectRatio='none' "
                f"role='img' aria-label='{_e(place)}'>{''.join(shapes)}</svg></div>"
            )
        return _section(
            f"A typical step: {typical.step.number}",
            f"<div class='lanes'>{''.join(shown)}</div>"
            f"<div class='ends inset'><span>0</span><span>"
            f"{duration(typical.step.length_ns)}</span></div>"
            "<p class='note'>Underlined: the critical path, what the end of the step "
            f"waited for. {self._link(typical, 'Show it in Perfetto.')}</p>",
        )

    # -- roles and accounts ------------------------------------------------------------

    def _roles(self) -> str:
        report = self._report
        if not report.roles:
            return ""
        rows = []
        for role, account in sorted(report.roles.items()):
            devices = report.schedule.roles.get(role, ())
            total = account.total_ns or 1
            bars = "".join(
                f"<i style='flex:{max(ns / total, 0.0005):.4f}' class='{css}' "
                f"title='{_e(name)}: {percent(ns / total)}'></i>"
                for name, ns, css in self._parts(account)
            )
            rows.append(
                f"<div class='role'><span>{_e(role_name(role).removeprefix('the '))}"
                f"<small>{_e(_devices(devices))}</small></span>"
                f"<div class='bar'>{bars}</div>"
                f"<b>{percent(account.bubble_frac)}<small> idle</small></b></div>"
            )
        kinds = (
            "<ul class='legend'><li><i class='host'></i>for the host</li>"
            "<li><i class='wait'></i>waiting for another stage</li>"
            "<li><i class='unaccounted'></i>unaccounted</li>"
            "<li><i class='other'></i>other role on the same devices</li>"
            "<li><i class='sync'></i>weight sync</li>"
            "<li><i class='compile'></i>compiling</li></ul>"
        )
        return _section(
            "Occupancy and bubble by role",
            f"{''.join(rows)}{kinds}<p class='note'>Roles that share devices show each "
            "other's work as “other role”: their bars are not added up.</p>",
        )

    def _parts(self, account: Account) -> Iterator[tuple[str, int, str]]:
        def rank(item: tuple[str, int]) -> tuple[int, int]:
            kinds = (OCCUPIED, OTHER_ROLE, SYNC, names.COMPILE, HOST, WAIT, UNACCOUNTED)
            at = [n for n, kind in enumerate(kinds) if item[0].startswith(kind)]
            return (at[0] if at else len(kinds)), -item[1]

        for bucket, ns in sorted(account.buckets.items(), key=rank):
            yield bucket, ns, self._css(bucket)

    def _css(self, bucket: str) -> str:
        if bucket.startswith(OCCUPIED):
            return self._class(stages_of(bucket)[0])
        for kind in (HOST, WAIT):
            if bucket.startswith(kind):
                return kind.rstrip("/")
        return "other" if bucket == OTHER_ROLE else bucket

    def _accounting(self) -> str:
        report = self._report
        if not report.account.total_ns:
            return _section(
                "Accounting of device time",
                "<p class='note'>The trace has no timeline of a device.</p>",
            )
        roles = sorted(report.roles) if len(report.roles) > 1 else []
        head = "".join(
            f"<th class='n'>{_e(role_name(role).removeprefix('the '))}</th>"
            for role in roles
        )
        shown = [report.roles[role] for role in roles]
        buckets = _all_buckets(report.account, shown)
        busy = report.profiled.all
        head += "<th class='n'>busy</th>" if busy.held else ""
        rows = []
        for bucket in buckets[: _ROWS * 2]:
            cells = "".join(
                f"<td class='n'>{_share(a.buckets.get(bucket, 0), a.total_ns)}</td>"
                for a in shown
            )
            ns = report.account.buckets.get(bucket, 0)
            share = busy.share(bucket)
            if busy.held:
                cells += f"<td class='n'>{'' if share is None else percent(share)}</td>"
            rows.append(
                f"<tr><td><i class='dot {self._css(bucket)}'></i>{_e(bucket)}</td>"
                f"<td class='n'>{duration(ns / len(report.steps)) if ns else ''}</td>"
                f"<td class='n'>{_share(ns, report.account.total_ns)}</td>{cells}"
                f"<td class='dim'>{_e(_evidence(report.account, bucket))}</td></tr>"
            )
        outside = ""
        if report.outside.total_ns:
            whole = report.outside.total_ns + report.account.total_ns
            top = ", ".join(
                f"{name} {percent(ns / report.outside.total_ns)}"
                for name, ns in report.outside.buckets.most_common(3)
            )
            outside = (
                f"<p class='note'>Between steps, kept apart: "
                f"{percent(report.outside.total_ns / whole)} of the devices' time "
                f"({_e(top)}).</p>"
            )
        if busy.held:
            outside += (
                f"<p class='note'>Busy: at work by a device profile, which covers "
                f"{duration(report.profiled.covered_ns)} of the run.</p>"
            )
        return _section(
            "Accounting of device time",
            "<div class='scroll'><table><thead><tr><th>bucket</th>"
            "<th class='n'>a step, of all devices</th><th class='n'>share</th>"
            f"{head}<th>evidence</th></tr></thead><tbody>{''.join(rows)}</tbody>"
            f"</table></div>{outside}",
        )

    # -- the path ----------------------------------------------------------------------

    def _path(self) -> str:
        report = self._report
        rows = []
        for stage, ns in report.path.most_common(_ROWS):
            share = ns / report.total_ns
            rows.append(
                f"<tr><td><i class='dot {self._class(stage)}'></i>{_e(stage)}</td>"
                f"<td class='n'>{duration(ns / len(report.steps))}</td>"
                f"<td class='n'>{percent(share)}</td><td class='wide'>"
                f"<div class='bar thin'><i class='{self._class(stage)}' "
                f"style='width:{share:.2%}'></i></div></td></tr>"
            )
        carried = [s.path.carried_in for s in report.steps if s.path.carried_in]
        note = ""
        if carried:
            ns = sum(piece.length_ns for piece in carried)
            note = (
                f"<p class='note'>In {len(carried)} of "
                f"{counted(len(report.steps), 'step')} the "
                f"path begins with work carried in from before, {duration(ns)} in all, "
                "which is no part of the steps.</p>"
            )
        return _section(
            "Critical path",
            "<div class='scroll'><table><thead><tr><th>stage</th><th class='n'>a step"
            "</th><th class='n'>share</th><th></th></tr></thead>"
            f"<tbody>{''.join(rows)}</tbody></table></div>{note}{self._what_if()}",
        )

    def _what_if(self) -> str:
        report = self._report
        if not report.is_trusted:
            return (
                "<p class='note'>No what-ifs: too much of the time is unaccounted for."
                "</p>"
            )
        rows = "".join(
            f"<tr><td>{_e(str(answer.change))}</td>"
            f"<td class='n'>{percent(-answer.saving)}</td></tr>"
            for answer in report.answers
        )
        refused = f"<p class='note'>{_e(report.refused)}</p>" if report.refused else ""
        if not rows:
            return refused
        return (
            "<h3>What if</h3><p class='note'>The same run, timed anew with one stage "
            "changed and everything else as recorded.</p><div class='scroll'><table>"
            "<thead><tr><th>change</th><th class='n'>step time</th></tr></thead>"
            f"<tbody>{rows}</tbody></table></div>{refused}"
        )

    # -- the rest ----------------------------------------------------------------------

    def _unusual(self) -> str:
        report = self._report
        ranked = sorted(report.steps, key=lambda s: -abs(s.deviation))[:8]
        rows = "".join(
            f"<tr class='{'odd' if s.is_unusual else ''}'><td>{s.step.number}</td>"
            f"<td class='n'>{duration(s.step.length_ns)}</td>"
            f"<td class='n'>{s.deviation:+.1f}</td><td>{_e(s.reason)}</td>"
            f"<td class='n'>{'+' * (s.reason_ns > 0)}{duration(s.reason_ns)}</td>"
            f"{look and f'<td>{look}</td>'}</tr>"
            for s in ranked
            for look in [self._link(s, "Perfetto")]
        )
        note = "Deviation from the median in robust standard deviations (1.48 × MAD)."
        if not self._linked:
            file = _e(report.recording.path)
            note += (
                f" <code>rlperf view --report {file}</code> shows this page with links "
                "from the steps into Perfetto."
            )
        return _section(
            "Slowest and most unusual steps",
            "<div class='scroll'><table><thead><tr><th>step</th><th class='n'>time</th>"
            "<th class='n'>deviation</th><th>stage that differs</th>"
            f"<th class='n'>by</th>{'<th>look</th>' * self._linked}</tr></thead>"
            f"<tbody>{rows}</tbody></table></div><p class='note'>{note}</p>",
        )

    def _link(self, step: StepReport, text: str) -> str:
        """To a step in Perfetto, where a server has both."""
        if not self._linked:
            return ""
        begin, end = step.step.begin_ns, step.step.end_ns
        return f"<a href='./?visStart={begin}&amp;visEnd={end}'>{text}</a>"

    def _stragglers(self) -> str:
        report = self._report
        parts = []
        if report.stragglers:
            rows = "".join(
                f"<tr><td>{_e(s.device)}</td><td>{_e(s.stage)}</td>"
                f"<td class='n'>{duration(s.late_ns)}</td>"
                f"<td class='n'>{percent(s.late_frac)}</td>"
                f"<td class='n'>{percent(s.last_frac)}</td></tr>"
                for s in report.stragglers
            )
            parts.append(
                "<div class='scroll'><table><thead><tr><th>device</th><th>stage</th>"
                "<th class='n'>late by</th><th class='n'>of its work</th>"
                "<th class='n'>last in</th></tr></thead>"
                f"<tbody>{rows}</tbody></table></div>"
            )
        else:
            told = "No device is behind the others of its launches."
            if all(len(some) < 2 for some in report.schedule.roles.values()):
                told = "No role has timelines of two devices: nothing is compared."
            parts.append(f"<p class='note'>{told}</p>")
        if report.slow_spans:
            rows = "".join(
                f"<tr><td>{_e(s.name)}</td><td>{s.step}</td>"
                f"<td class='n'>{duration(s.length_ns)}</td>"
                f"<td class='n'>{duration(s.usual_ns)}</td>"
                f"<td class='dim'>{_e(_tags(s.tags))}</td></tr>"
                for s in report.slow_spans[:8]
            )
            parts.append(
                "<h3>Spans far longer than their like in the same step</h3>"
                "<div class='scroll'><table><thead><tr><th>span</th><th>step</th>"
                "<th class='n'>took</th><th class='n'>others</th><th>tags</th></tr>"
                f"</thead><tbody>{rows}</tbody></table></div>"
            )
        return _section("Stragglers", "".join(parts))

    def _counters(self) -> str:
        curves = [c for c in self._report.recording.counters if len(c.points) > 1]
        if not curves:
            return ""
        shown = "".join(_curve(counter) for counter in curves[:24])
        return _section("Counters", f"<div class='curves'>{shown}</div>")

    def _run(self) -> str:
        rows = "".join(
            f"<tr><td>{_e(str(key))}</td><td>{_e(str(value))}</td></tr>"
            for key, value in self._report.recording.run.items()
        )
        return (
            "<details><summary>The run</summary><div class='scroll'><table><tbody>"
            f"{rows}</tbody></table></div></details>"
            if rows
            else ""
        )


def _words(said: Sequence[Finding]) -> str:
    if not said:
        return ""
    first, *others = said
    items = "".join(f"<li class='{_e(f.kind)}'>{_e(f.text)}</li>" for f in others)
    return (
        f"<section class='words'><p class='first {_e(first.kind)}'>{_e(first.text)}</p>"
        f"<ul>{items}</ul></section>"
    )


def _binned(
    steps: Sequence[StepReport],
) -> Iterator[tuple[str, Mapping[str, float], bool]]:
    """Label, mean nanoseconds by stage, and whether one of the steps is unusual."""
    size = -(-len(steps) // _BARS)
    for first in range(0, len(steps), size):
        some = steps[first : first + size]
        stages: dict[str, float] = {}
        for each in some:
            for stage, ns in each.by_stage.items():
                stages[stage] = stages.get(stage, 0.0) + ns / len(some)
        label = f"step {some[0].step.number}"
        if len(some) > 1:
            label += f"–{some[-1].step.number}"
        yield label, stages, any(each.is_unusual for each in some)


def _curve(counter: Sampled) -> str:
    points = counter.points
    step = -(-len(points) // _CURVE_POINTS)
    some = [*points[::step], points[-1]]
    finite = [value for _, value in some if abs(value) < 1e300]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    span = (high - low) or 1.0
    begin, end = some[0][0], some[-1][0]
    line = " ".join(
        f"{_at(t, begin, end):.1f},{56 - 52 * (value - low) / span:.1f}"
        for t, value in some
        if abs(value) < 1e300
    )
    unit = f" {counter.unit}" if counter.unit else ""
    return (
        f"<figure><figcaption>{_e(counter.name)}<b>{some[-1][1]:.4g}{_e(unit)}</b>"
        "</figcaption><svg viewBox='0 0 1000 60' preserveAspectRatio='none' role='img' "
        f"aria-label='{_e(counter.name)}'><polyline points='{line}'/></svg>"
        f"<small>{low:.4g} … {high:.4g}</small></figure>"
    )


def _all_buckets(total: Account, roles: Iterable[Account]) -> list[str]:
    """Every bucket of any table, those with most of the devices' time first."""
    found = [bucket for bucket, _ in total.buckets.most_common()]
    for account in roles:
        found += [bucket for bucket in account.buckets if bucket not in found]
    return found


def _evidence(account: Account, bucket: str) -> str:
    kinds = account.evidence.get(bucket)
    if not kinds:
        return ""
    total = sum(kinds.values()) or 1
    return ", ".join(
        f"{kind} {percent(ns / total)}" if len(kinds) > 1 else kind
        for kind, ns in kinds.most_common()
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{_e(title)}</h2>{content}</section>"


def _share(ns: int, total: int) -> str:
    return percent(ns / total) if ns and total else ""


def _at(time_ns: float, begin_ns: float, end_ns: float) -> float:
    return 1000 * (time_ns - begin_ns) / ((end_ns - begin_ns) or 1)


def _short(place: str) -> str:
    """`host-1397 MainThread` is known by its second word."""
    head, _, rest = place.partition(" ")
    return rest if rest and head.startswith(("host-", "thread-")) else place


def _devices(devices: Sequence[str]) -> str:
    if len(devices) > 3:
        return f"{devices[0]} … {devices[-1]}"
    return ", ".join(devices)


def _tags(tags: Mapping[str, object]) -> str:
    return ", ".join(f"{key}={value}" for key, value in list(tags.items())[:6])


def _name_of(report: Report) -> str:
    path = report.recording.path
    return path.rpartition("/")[2] or path


def _e(text: str) -> str:
    """Escapes: a name may hold anything, lone surrogates too."""
    safe = text.encode(errors="backslashreplace").decode()
    return html.escape(safe, quote=True)
