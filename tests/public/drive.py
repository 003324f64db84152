"""Tracers driven by hand, and one scripted GRPO step for both of them.

Times are seconds since the run began. The clock moves where a test moves it, and
device work ends where a test ends it, so that every number has one right value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from perf import trace
from perf.experimental import tracer as tracer_v2
from perf.metrics import PerfSpanQuery
from perf.span import SpanGroup
from perf.testing import FakeClock, ManualWait

Roles = Mapping[str, list[str]]
Row = tuple[Any, ...]
"""(name, begin, end, *rows of the children), times in seconds since the run began."""

NAMES_V2 = {"refer_inference": "reference_inference", "peft_train_step": "peft_train"}
"""The names under which v2 knows what v1 calls otherwise."""


class Timer:
    """A fake clock that is told where to be, not how far to go."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.born_ns = self.clock()

    def at(self, second: float) -> None:
        """Moves the clock forward to `second`, counted from the run's begin."""
        self.clock.advance_ns(self.born_ns + round(second * 1e9) - self.clock())

    def since(self, second: float) -> float:
        """Turns a time of the tracer's clock into one since the run's begin."""
        return round(second - self.born_ns / 1e9, 6)


class Run:
    """One tracer under a hand-moved clock; `seen` is what its export function got.

    With `watch=False` the tracer gets the export function itself, as a user would give
    it: a writer is then told of everything, not only of the steps. With `real=True` the
    clock is the machine's and arrays are JAX's.
    """

    def __init__(
        self,
        tracer_type: Callable[..., Any],
        devices: Any = None,
        export_fn: Callable[[Any], Any] | None = None,
        timer: Timer | None = None,
        watch: bool = True,
        real: bool = False,
        **options: Any,
    ) -> None:
        self.timer = timer or Timer()
        self.wait = ManualWait()
        self.seen: Any = None

        def export(seen: Any) -> Any:
            self.seen = seen
            return export_fn(seen) if export_fn else {}

        if not real:
            options |= {"_clock": self.timer.clock, "_wait": self.wait}
        self.tracer = tracer_type(devices, export if watch else export_fn, **options)

    def at(self, second: float) -> None:
        """Moves the clock forward to `second`."""
        self.timer.at(second)

    def launch(self, name: str, devices: Any, **options: Any) -> Any:
        """Opens a span, hands it device work, closes it; returns the work."""
        work = self.wait.arrays(name)
        with self.tracer.span(name, devices=devices, **options) as span:
            self.hand_over(span, [work])
        return work

    def finish(self, work: Any) -> None:
        """Ends device work now."""
        self.wait.finish(work)

    @staticmethod
    def hand_over(span: Any, work: Any) -> None:
        """Gives a span what its devices are to be waited for."""
        raise NotImplementedError

    def spans(self) -> Iterator[tuple[str, Any]]:
        """(timeline id, span) of all that the last export saw, groups left out."""
        raise NotImplementedError

    def on_device(self, id_: str) -> list[Any]:
        """The spans of a device in all that the last export saw."""
        return [span for timeline_id, span in self.spans() if timeline_id == id_]

    def by_name(self) -> dict[str, tuple[float, float]]:
        """Begin and end of each span, where no two have one name."""
        since = self.timer.since
        return {s.name: (since(s.begin), since(s.end)) for _, s in self.spans()}


class V1Run(Run):
    """A v1 tracer under a hand-moved clock."""

    seen: PerfSpanQuery

    def __init__(self, devices: Any = None, *args: Any, **options: Any) -> None:
        super().__init__(trace.PerfTracer, devices, *args, **options)

    @staticmethod
    def hand_over(span: Any, work: Any) -> None:
        span.device_end(work)

    def spans(self) -> Iterator[tuple[str, Any]]:
        for id_ in self.seen.get_timeline_ids():
            (root,) = self.seen().timeline(id_).get()
            yield from ((id_, span) for span in _leaves(root))

    def rows(self, timeline_id: str | None = None) -> list[Row]:
        """What the last export saw on a timeline (default: the main thread's)."""
        query = self.seen()
        chosen = query.timeline(timeline_id) if timeline_id else query.main()
        return [self.row(node) for (root,) in [chosen.get()] for node in root.inner]

    def row(self, node: Any) -> Row:
        """A span or group as nested tuples, children by begin."""
        since = self.timer.since
        inner = sorted(self.row(child) for child in getattr(node, "inner", ()))
        inner.sort(key=lambda row: row[1:3])
        return (node.name, since(node.begin), since(node.end), *inner)


class V2Run(Run):
    """A v2 tracer under a hand-moved clock."""

    seen: Mapping[str, tracer_v2.Timeline]

    def __init__(self, devices: Any = None, *args: Any, **options: Any) -> None:
        super().__init__(tracer_v2.PerfTracer, devices, *args, **options)

    @staticmethod
    def hand_over(span: Any, work: Any) -> None:
        span.async_end(work)

    def spans(self) -> Iterator[tuple[str, Any]]:
        return every_span(self.seen)

    def rows(self, timeline_id: str) -> list[Row]:
        """What the last step holds on a timeline, by begin."""
        since = self.timer.since
        spans = self.seen[timeline_id].committed_steps[-1].values()
        rows = [(span.name, since(span.begin), since(span.end)) for span in spans]
        return sorted(rows, key=lambda row: (row[1], -row[2], row[0]))

    def named(self, name: str) -> Any:
        """The one host span of that name in everything the last export saw."""
        (span,) = [
            span
            for id_, span in self.spans()
            if span.name == name and id_.startswith("host-")
        ]
        return span


def every_span(
    timelines: Mapping[str, tracer_v2.Timeline],
) -> Iterator[tuple[str, Any]]:
    """(timeline id, span) for all spans of all steps that the timelines hold."""
    for id_, timeline in timelines.items():
        for step in timeline.all_steps:
            for span in step.values():
                yield id_, span


def _leaves(group: SpanGroup) -> Iterator[Any]:
    for node in group.inner:
        if isinstance(node, SpanGroup):
            yield from _leaves(node)
        else:
            yield node


class Micro(NamedTuple):
    """One micro-batch: begin and end of its three pieces of work, in seconds."""

    rollout: tuple[float, float]
    refer: tuple[float, float]
    train: tuple[float, float]


class Plan(NamedTuple):
    """One global step of GRPO, in seconds."""

    begin: float
    micros: tuple[Micro, ...]
    sync: tuple[float, float]
    end: float


PLAN = Plan(
    begin=0.5,
    micros=(
        Micro(rollout=(1.0, 3.0), refer=(3.0, 4.0), train=(5.0, 7.0)),
        Micro(rollout=(7.0, 8.5), refer=(8.5, 9.5), train=(10.0, 14.0)),
        Micro(rollout=(14.0, 14.5), refer=(14.5, 15.0), train=(15.0, 16.0)),
    ),
    sync=(17.0, 18.5),
    end=20.0,
)
"""No two pieces of work overlap, so it can be played on any layout of devices."""


def play(run: Run, roles: Roles, plan: Plan = PLAN) -> None:
    """Plays a step's events on a tracer in the order of time and leaves it closed.

    v2 gets no groups, as the real framework gives it none.
    """
    _play(run, _events(run, roles, plan))


def play_both(v1: V1Run, v2: V2Run, roles: Roles, plan: Plan = PLAN) -> None:
    """Plays one step on two tracers that share a clock."""
    _play(v1, [*_events(v1, roles, plan), *_events(v2, roles, plan)])


Launch = tuple[str, list[str], float, float]
"""Name, devices, when it is launched, when the devices are done."""


def play_launches(run: Run, *launches: Launch) -> None:
    """Launches work and ends it, in the order of time."""
    events: list[Event] = []
    for name, devices, begin, end in launches:
        _work(events, run, name, devices, (begin, end))
    _play(run, events)


Event = tuple[float, float, Callable[[], None]]
"""When; the order among events of one instant; what."""
_WORK_ENDS, _GROUP_ENDS, _GROUP_BEGINS, _WORK_BEGINS = range(4)


def _play(run: Run, events: list[Event]) -> None:
    for second, _, act in sorted(events, key=lambda event: event[:2]):
        run.at(second)
        act()


def _events(run: Run, roles: Roles, plan: Plan) -> list[Event]:
    events: list[Event] = []
    _group(events, run, "global_step", plan.begin, plan.end)
    last = plan.micros[-1].train[1]
    _group(events, run, "mini_batch_step", plan.begin, last)
    for micro in plan.micros:
        # Groups of one instant open outermost first, because sorting is stable.
        _group(events, run, "micro_batch_steps", micro.rollout[0], micro.train[1])
        _work(events, run, "rollout", roles["rollout"], micro.rollout)
        if "refer" in roles:
            _work(events, run, "refer_inference", roles["refer"], micro.refer)
        _group(events, run, "actor_training", *micro.train)
        _step(events, run, "peft_train_step", roles["actor"], micro.train)
    _step(events, run, "weight_sync", None, plan.sync)
    return events


def _group(events: list[Event], run: Run, name: str, begin: float, end: float) -> None:
    if isinstance(run, V1Run):
        # Of groups that end at one instant the innermost ends first.
        order = _GROUP_ENDS + _INNERMOST_FIRST.index(name) / 10
        scope = _Scope(lambda: run.tracer.span_group(name))
        events.append((begin, _GROUP_BEGINS, scope.open))
        events.append((end, order, scope.close))


_INNERMOST_FIRST = (
    "actor_training",
    "micro_batch_steps",
    "mini_batch_step",
    "global_step",
)


def _work(
    events: list[Event],
    run: Run,
    name: str,
    devices: list[str],
    when: tuple[float, float],
) -> None:
    """Work that is launched, and ends on the device later."""
    launched: list[Any] = []
    known_as = _known_as(run, name)
    events.append(
        (when[0], _WORK_BEGINS, lambda: launched.append(run.launch(known_as, devices)))
    )
    events.append((when[1], _WORK_ENDS, lambda: run.finish(launched[0])))


def _step(
    events: list[Event],
    run: Run,
    name: str,
    devices: list[str] | None,
    when: tuple[float, float],
) -> None:
    """Work that the host stays with until its end."""
    scope = _Scope(lambda: run.tracer.span(_known_as(run, name), devices=devices))

    def end() -> None:
        work = run.wait.arrays(name)
        if devices:
            run.hand_over(scope.entered, [work])
        scope.close()
        if devices:
            run.finish(work)

    events.append((when[0], _WORK_BEGINS, scope.open))
    events.append((when[1], _WORK_ENDS, end))


def _known_as(run: Run, name: str) -> str:
    return NAMES_V2.get(name, name) if isinstance(run, V2Run) else name


class _Scope:
    """A `with` statement in two halves."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._manager: Any = None
        self.entered: Any = None

    def open(self) -> None:
        self._manager = self._make()
        self.entered = self._manager.__enter__()

    def close(self) -> None:
        self._manager.__exit__(None, None, None)
