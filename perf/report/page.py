"""A report as one page: no script, nothing from elsewhere, readable offline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
)
from perf.report.analysis import Report, StepReport
from perf.report.charts.curves import curve
from perf.report.charts.gantt import gantt
from perf.report.charts.history import history
from perf.report.colours import Colours
from perf.report.figures import (
    counted,
    duration,
    percent,
    role_name,
    signed,
    signed_duration,
)
from perf.report.markup import escape, link_to, section, table
from perf.report.style import PATTERNS, STYLE
from perf.report.words import Finding, findings

_ROWS: Final = 14


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
        f"<title>rlperf report: {escape(titles)}</title><style>{STYLE}</style></head>",
        f"<body>{PATTERNS}",
    ]
    parts += [_Page(report, linked).html() for report in reports]
    parts.append(
        "<footer>Written by rlperf. Times are of the tracer's clock; occupied time is "
        "from launch to ready, an upper bound of busy.</footer></body></html>"
    )
    return "\n".join(parts)


class _Page:
    """The part of one recording."""

    def __init__(self, report: Report, linked: bool) -> None:
        self._report = report
        self._linked = linked
        self._colours = Colours(report)

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
            f"<div class='tile'><b>{escape(value)}</b><span>{escape(name)}</span></div>"
            for name, value in tiles
        )
        return (
            f"<header><h1>{escape(_name_of(report))}</h1><p class='sub'>"
            f"{escape(where)}</p><div class='tiles'>{shown}</div></header>"
        )

    # -- steps -------------------------------------------------------------------------

    def _history(self) -> str:
        return section(
            "Step time, by what the step waited for",
            history(self._report, self._colours),
        )

    def _typical_step(self) -> str:
        report = self._report
        typical = min(
            report.steps, key=lambda s: abs(s.step.length_ns - report.median_ns)
        )
        lanes = gantt(report, typical, self._colours)
        if not lanes:
            return ""
        return section(
            f"A typical step: {typical.step.number}",
            f"{lanes}<p class='note'>Underlined: the critical path, what the end of "
            f"the step waited for. {self._link(typical, 'Show it in Perfetto.')}</p>",
        )

    # -- roles and accounts ------------------------------------------------------------

    def _roles(self) -> str:
        report = self._report
        if not report.roles:
            return ""
        rows = []
        for role, account in sorted(report.roles.items()):
            devices = report.schedule.roles.get(role, ())
            total = account.total_ns
            bars = "".join(
                f"<i style='flex:{max(ns / total, 0.0005):.4f}' "
                f"class='{self._colours.of_bucket(bucket)}' "
                f"title='{escape(bucket)}: {percent(ns / total)}'></i>"
                for bucket, ns in sorted(account.buckets.items(), key=_rank)
            )
            rows.append(
                f"<div class='role'><span>{escape(_role(role))}"
                f"<small>{escape(_devices(devices))}</small></span>"
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
        return section(
            "Occupancy and bubble by role",
            f"{''.join(rows)}{kinds}<p class='note'>Roles that share devices show each "
            "other's work as “other role”: their bars are not added up.</p>",
        )

    def _accounting(self) -> str:
        report = self._report
        if not report.account.total_ns:
            return section(
                "Accounting of device time",
                "<p class='note'>The trace has no timeline of a device.</p>",
            )
        roles = sorted(report.roles) if len(report.roles) > 1 else []
        head = "".join(f"<th class='n'>{escape(_role(role))}</th>" for role in roles)
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
                f"<tr>{_dotted(self._colours.of_bucket(bucket), bucket)}"
                f"<td class='n'>{duration(ns / len(report.steps)) if ns else ''}</td>"
                f"<td class='n'>{_share(ns, report.account.total_ns)}</td>{cells}"
                f"<td class='dim'>{escape(_evidence(report.account, bucket))}</td></tr>"
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
                f"({escape(top)}).</p>"
            )
        if busy.held:
            outside += (
                f"<p class='note'>Busy: at work by a device profile, which covers "
                f"{duration(report.profiled.covered_ns)} of the run.</p>"
            )
        return section(
            "Accounting of device time",
            table(
                "<th>bucket</th><th class='n'>a step, of all devices</th>"
                f"<th class='n'>share</th>{head}<th>evidence</th>",
                "".join(rows),
            )
            + outside,
        )

    # -- the path ----------------------------------------------------------------------

    def _path(self) -> str:
        report = self._report
        rows = []
        for stage, ns in report.path.most_common(_ROWS):
            share, css = ns / report.total_ns, self._colours.of_stage(stage)
            rows.append(
                f"<tr>{_dotted(css, stage)}"
                f"<td class='n'>{duration(ns / len(report.steps))}</td>"
                f"<td class='n'>{percent(share)}</td><td class='wide'>"
                f"<div class='bar thin'><i class='{css}' style='width:{share:.2%}'></i>"
                "</div></td></tr>"
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
        return section(
            "Critical path",
            table(
                "<th>stage</th><th class='n'>a step</th><th class='n'>share</th>"
                "<th></th>",
                "".join(rows),
            )
            + note
            + self._what_if(),
        )

    def _what_if(self) -> str:
        report = self._report
        if not report.is_trusted:
            return (
                "<p class='note'>No what-ifs: too much of the time is unaccounted for."
                "</p>"
            )
        rows = "".join(
            f"<tr><td>{escape(str(answer.change))}</td>"
            f"<td class='n'>{percent(-answer.saving)}</td></tr>"
            for answer in report.answers
        )
        refused = (
            f"<p class='note'>{escape(report.refused)}</p>" if report.refused else ""
        )
        if not rows:
            return refused
        return (
            "<h3>What if</h3><p class='note'>The same run, timed anew with one stage "
            "changed and everything else as recorded.</p>"
            + table("<th>change</th><th class='n'>step time</th>", rows)
            + refused
        )

    # -- the rest ----------------------------------------------------------------------

    def _unusual(self) -> str:
        report = self._report
        ranked = sorted(report.steps, key=lambda s: -abs(s.deviation))[:8]
        rows = "".join(
            f"<tr class='{'odd' if s.is_unusual else ''}'><td>{s.step.number}</td>"
            f"<td class='n'>{duration(s.step.length_ns)}</td>"
            f"<td class='n'>{signed(s.deviation)}</td><td>{escape(s.reason)}</td>"
            f"<td class='n'>{signed_duration(s.reason_ns)}</td>"
            f"{look and f'<td>{look}</td>'}</tr>"
            for s in ranked
            for look in [self._link(s, "Perfetto")]
        )
        note = "Deviation from the median in robust standard deviations (1.48 × MAD)."
        if not self._linked:
            file = escape(report.recording.path)
            note += (
                f" <code>rlperf view --report {file}</code> shows this page with links "
                "from the steps into Perfetto."
            )
        return section(
            "Slowest and most unusual steps",
            table(
                "<th>step</th><th class='n'>time</th><th class='n'>deviation</th>"
                "<th>stage that differs</th><th class='n'>by</th>"
                + "<th>look</th>"
                * self._linked,
                rows,
            )
            + f"<p class='note'>{note}</p>",
        )

    def _link(self, step: StepReport, text: str) -> str:
        """To a step in Perfetto, where a server has both."""
        if not self._linked:
            return ""
        return link_to(step.step, text)

    def _stragglers(self) -> str:
        report = self._report
        parts = []
        if report.stragglers:
            rows = "".join(
                f"<tr><td>{escape(s.device)}</td><td>{escape(s.stage)}</td>"
                f"<td class='n'>{duration(s.late_ns)}</td>"
                f"<td class='n'>{percent(s.late_frac)}</td>"
                f"<td class='n'>{percent(s.last_frac)}</td></tr>"
                for s in report.stragglers
            )
            parts.append(
                table(
                    "<th>device</th><th>stage</th><th class='n'>late by</th>"
                    "<th class='n'>of its work</th><th class='n'>last in</th>",
                    rows,
                )
            )
        else:
            told = "No device is behind the others of its launches."
            if all(len(some) < 2 for some in report.schedule.roles.values()):
                told = "No role has timelines of two devices: nothing is compared."
            parts.append(f"<p class='note'>{told}</p>")
        if report.slow_spans:
            rows = "".join(
                f"<tr><td>{escape(s.name)}</td><td>{s.step}</td>"
                f"<td class='n'>{duration(s.length_ns)}</td>"
                f"<td class='n'>{duration(s.usual_ns)}</td>"
                f"<td class='dim'>{escape(_tags(s.tags))}</td></tr>"
                for s in report.slow_spans[:8]
            )
            parts.append(
                "<h3>Spans far longer than their like in the same step</h3>"
                + table(
                    "<th>span</th><th>step</th><th class='n'>took</th>"
                    "<th class='n'>others</th><th>tags</th>",
                    rows,
                )
            )
        return section("Stragglers", "".join(parts))

    def _counters(self) -> str:
        curves = [c for c in self._report.recording.counters if len(c.points) > 1]
        if not curves:
            return ""
        shown = "".join(curve(counter) for counter in curves[:24])
        return section("Counters", f"<div class='curves'>{shown}</div>")

    def _run(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(str(key))}</td><td>{escape(str(value))}</td></tr>"
            for key, value in self._report.recording.run.items()
        )
        return (
            "<details><summary>The run</summary><div class='scroll'><table><tbody>"
            f"{rows}</tbody></table></div></details>"
            if rows
            else ""
        )


def _words(said: Sequence[Finding]) -> str:
    first, *others = said
    items = "".join(
        f"<li class='{escape(f.kind)}'>{escape(f.text)}</li>" for f in others
    )
    return (
        f"<section class='words'><p class='first {escape(first.kind)}'>"
        f"{escape(first.text)}</p><ul>{items}</ul></section>"
    )


_ORDER: Final = (OCCUPIED, OTHER_ROLE, SYNC, names.COMPILE, HOST, WAIT, UNACCOUNTED)
"""Of the kinds of buckets in a role's bar."""


def _rank(item: tuple[str, int]) -> tuple[int, int]:
    """Of buckets of a kind the longest comes first."""
    bucket, ns = item
    kinds = (n for n, kind in enumerate(_ORDER) if bucket.startswith(kind))
    return next(kinds, len(_ORDER)), -ns


def _dotted(css: str, name: str) -> str:
    """A cell with a name and its colour."""
    return f"<td><i class='dot {css}'></i>{escape(name)}</td>"


def _role(role: str) -> str:
    """What a role is called in a table."""
    return role_name(role).removeprefix("the ")


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
    total = kinds.total()
    return ", ".join(
        f"{kind} {percent(ns / total)}" if len(kinds) > 1 else kind
        for kind, ns in kinds.most_common()
    )


def _share(ns: int, total: int) -> str:
    return percent(ns / total) if ns and total else ""


def _devices(devices: Sequence[str]) -> str:
    if len(devices) > 3:
        return f"{devices[0]} … {devices[-1]}"
    return ", ".join(devices)


def _tags(tags: Mapping[str, object]) -> str:
    return ", ".join(f"{key}={value}" for key, value in list(tags.items())[:6])


def _name_of(report: Report) -> str:
    path = report.recording.path
    return path.rpartition("/")[2] or path
