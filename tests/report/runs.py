"""Recordings of trainings, simulated or drawn by hand, for reports and diffs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from perf._model.spans import (
    COUNTER,
    NO_PARENT,
    SPAN,
    Batch,
    ClockSnapshot,
    RawRecord,
    TimelineInfo,
)
from perf._model.tracks import SCHEMA_KEY, SCHEMA_VERSION, Process
from perf._read.accounting import FLOW, Account
from perf._read.recording import Recording, Sampled, Step
from perf._write.layout import V2Layout
from perf._write.stream import TraceStream
from tests.read.drawn import Timelines, device, span, work
from tests.read.simulator import MAIN, MS, Simulation

GAP_NS = MS // 2
"""Between two steps."""


class TrainingRun:
    """Steps of a simulated training, one after the other.

    Args:
        steps: how many.
        topology: that of all of them.
        rename: other names for stages.
        seed: of the first simulation.
    """

    def __init__(
        self,
        steps: int,
        topology: str = "rollout-apart",
        *,
        rename: dict[str, str] | None = None,
        seed: int = 0,
    ) -> None:
        self.records: dict[TimelineInfo, list[RawRecord]] = {}
        self.windows: list[Step] = []
        self.roles: dict[str, str] = {}
        offset_ns, ids = 10**12, 0
        rename = rename or {}
        while len(self.windows) < steps:
            seed += 1
            simulation = Simulation(seed)
            if simulation.topology != topology:
                continue
            self.roles = simulation.roles
            number = len(self.windows)
            begin, end = offset_ns, offset_ns + simulation.main.now_ns
            for info, some in simulation.timelines():
                moved = [
                    (
                        rename.get(r[0], r[0]),
                        r[1] + offset_ns,
                        r[2] + offset_ns,
                        r[3] + ids + 1,
                        r[4] + ids + 1 if r[4] else NO_PARENT,
                        r[5],
                        {**(r[6] or {}), "step": number},
                        tuple(i + ids + 1 for i in r[7] or ()) or None,
                    )
                    for r in some
                ]
                if info is MAIN:
                    tags = {"step": number}
                    step = ("global_step", begin, end, ids + 1, 0, SPAN, tags, None)
                    moved.append(step)
                moved.sort(key=lambda record: (record[2], -record[3]))
                self.records.setdefault(info, []).extend(moved)
            self.windows.append(Step(number, begin, end))
            offset_ns += simulation.end_ns + GAP_NS
            ids += simulation.count + 1
        self.end_ns = offset_ns

    def recording(self) -> Recording:
        """What reading its file would give."""
        return Recording(
            "run.pb",
            {"command": "train"},
            [(info, list(records)) for info, records in self.records.items()],
            self.windows,
            [Sampled("reward", "", [(s.end_ns, 0.1) for s in self.windows])],
            [],
            self.windows[0].begin_ns,
            self.end_ns,
            (),
        )

    def write(self, path: Path) -> Path:
        """Writes its trace as v2's writer does."""
        run = {SCHEMA_KEY: SCHEMA_VERSION, "command": "train", "host": "h", "pid": 1}
        layout = V2Layout({role: [name] for role, name in self.roles.items()})
        stream = TraceStream(layout, Process(1, "python"), run, seed=b"test")
        clocks = ClockSnapshot(self.end_ns, self.end_ns, self.end_ns)
        rewards: list[RawRecord] = [
            ("reward", step.end_ns, 0.1, 0, 0, COUNTER, None, None)
            for step in self.windows
        ]
        records = [(info, list(some)) for info, some in self.records.items()]
        records.append((MAIN, rewards))
        path.write_bytes(stream.encode(Batch(records, [], frozenset(), clocks)))
        return path


def moved(recording: Recording, move: Callable[[int], int]) -> Recording:
    """The same with other times."""
    return dataclasses.replace(
        recording,
        timelines=[
            (info, [(r[0], move(r[1]), move(r[2]), *r[3:]) for r in records])
            for info, records in recording.timelines
        ],
        steps=[
            Step(s.number, move(s.begin_ns), move(s.end_ns)) for s in recording.steps
        ],
        end_ns=move(recording.end_ns),
    )


def made(timelines: Timelines, windows: Sequence[tuple[int, int]]) -> Recording:
    """A recording of what was drawn by hand; windows in milliseconds."""
    steps = [Step(n, b * MS, e * MS) for n, (b, e) in enumerate(windows)]
    end = steps[-1].end_ns
    return Recording("a.pb", {}, timelines, steps, (), (), 0, end, ())


def run_of(*steps: dict[str, int]) -> Recording:
    """Stages one after the other in each step, in milliseconds."""
    spans: list[RawRecord] = []
    windows, at = [], 0
    for stages in steps:
        begin = at
        for stage, length in stages.items():
            spans.append(span(stage, at, at + length, len(spans) + 1))
            at += length
        windows.append((begin, at))
    return made([(MAIN, spans)], windows)


def steps_alike() -> Recording:
    """Twelve steps of three stages on two devices, 100 ms each."""
    main: list[RawRecord] = []
    lanes: dict[str, list[RawRecord]] = {"tpu0": [], "tpu1": []}
    windows = [(at, at + 100) for at in range(0, 1200, 100)]
    for at, _ in windows:
        for name, lane, begin, end in (
            ("rollout", "tpu0", 0, 60),
            ("reference_inference", "tpu1", 60, 70),
            ("peft_train", "tpu1", 70, 100),
        ):
            number = len(main) + 1
            main.append(span(name, at + begin, at + end, number))
            lanes[lane].append(work(name, at + begin, at + end, number))
    timelines: Timelines = [(MAIN, main)]
    timelines += [(device(name), lane) for name, lane in lanes.items()]
    return made(timelines, windows)


def account(**held: int) -> Account:
    """Of so many nanoseconds in buckets; `wait_x` is short for wait/x, by arrows."""
    found = Account()
    for name, ns in held.items():
        kind, _, stage = name.partition("_")
        label = (f"{kind}/{stage}", FLOW * (kind == "wait")) if stage else (kind, "")
        found.held[label] = ns
    return found
