"""A training whose every nanosecond is known: what a device did, or why it did not.

Two threads, as many devices as the topology says, random lengths. The simulation keeps
the truth of each device's idle time as it makes it; the accountant sees the records
only, with some of the arrows missing and the ends seen a little late.

    python -m tests.read.simulator 10000
"""

from __future__ import annotations

import dataclasses
import itertools
import random
import sys
from collections import Counter
from typing import Any

from perf._model.spans import (
    DEVICE,
    NO_PARENT,
    QUEUED,
    SPAN,
    RawRecord,
    TimelineInfo,
    TimelineKind,
)
from perf._read.accounting import Accountant
from perf._read.schedule import Schedule

TOPOLOGIES = {
    "colocated": {"rollout": "a", "actor": "a", "refer": "a"},
    "rollout-apart": {"rollout": "a", "actor": "b", "refer": "b"},
    "reference-apart": {"rollout": "a", "actor": "a", "refer": "b"},
    "actor-apart": {"rollout": "a", "actor": "b", "refer": "a"},
    "all-apart": {"rollout": "a", "actor": "b", "refer": "c"},
}
MS = 1_000_000
MAIN = TimelineInfo("host-1", TimelineKind.HOST, "MainThread", True, 1)
WORKER = TimelineInfo("host-2", TimelineKind.HOST, "rollout", False, 2)
_Piece = tuple[int, int, str]


@dataclasses.dataclass
class _Done:
    id: int
    begin_ns: int
    """On the devices; of host work, there."""
    end_ns: int
    """Likewise."""


class _Thread:
    """One thread: its clock, and what it did when, as a bucket of a device's gap."""

    def __init__(self, info: TimelineInfo, now_ns: int) -> None:
        self.info = info
        self.now_ns = now_ns
        self.did: list[_Piece] = []
        self.records: list[RawRecord] = []

    def until(self, end_ns: int, bucket: str) -> None:
        if end_ns > self.now_ns:
            self.did.append((self.now_ns, end_ns, bucket))
            self.now_ns = end_ns

    def waited_as(self, begin_ns: int, end_ns: int) -> list[_Piece]:
        """What it did in a stretch, for somebody who waits for it."""
        return [
            (max(b, begin_ns), min(e, end_ns), f"wait/{bucket.rpartition('/')[2]}")
            for b, e, bucket in self.did
            if b < end_ns and e > begin_ns
        ]

    def overlay(self, begin_ns: int, end_ns: int, bucket: str) -> None:
        """Says anew what it waited for in a stretch."""
        before, self.did = self.did, []
        for b, e, old in before:
            if old.startswith(("wait/", "unaccounted")) and b < end_ns and e > begin_ns:
                cuts = sorted({b, e, *(c for c in (begin_ns, end_ns) if b < c < e)})
                for left, right in itertools.pairwise(cuts):
                    inside = begin_ns <= left and right <= end_ns
                    self.did.append((left, right, bucket if inside else old))
            else:
                self.did.append((b, e, old))


class Simulation:
    """One random run of a few micro-batches and a weight sync."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.topology = self.draw.choice(sorted(TOPOLOGIES))
        self.roles = TOPOLOGIES[self.topology]
        self.late_ns = self.draw.choice([0, 20_000])
        self.keeps_arrows = self.draw.choice([1.0, 1.0, 1.0, 0.95])
        self.tags_waits = self.draw.random() < 0.3
        self.main = _Thread(MAIN, 0)
        apart = self.roles["rollout"] != self.roles["actor"]
        self.worker = _Thread(WORKER, 0) if apart else self.main
        devices = sorted(set(self.roles.values()))
        self.busy_ns = dict.fromkeys(devices, 0)
        self.truth: dict[str, list[_Piece]] = {device: [] for device in devices}
        self.lanes: dict[str, list[RawRecord]] = {device: [] for device in devices}
        self.queues: dict[str, list[RawRecord]] = {device: [] for device in devices}
        self.compiled: set[str] = set()
        self.count = 0
        self._run()

    # -- what the accountant sees ------------------------------------------------------

    def timelines(self) -> list[tuple[TimelineInfo, list[RawRecord]]]:
        found = [(MAIN, self.main.records)]
        if self.worker is not self.main:
            found.append((WORKER, self.worker.records))
        for device, records in self.lanes.items():
            found.append((TimelineInfo(device, TimelineKind.DEVICE, device), records))
            queue = f"{device}_queue"
            info = TimelineInfo(queue, TimelineKind.QUEUE, queue)
            found.append((info, self.queues[device]))
        return found

    # -- the run -----------------------------------------------------------------------

    def _run(self) -> None:
        trained: list[_Done] = []
        for number in range(self.draw.randint(2, 5)):
            made = self._experience(number)
            self._wait_for_worker()
            if self.draw.random() < 0.3:
                self._host(self.main, "prepare", 1, 10)
            self._nothing(self.main)
            refer, advantage = made
            if self.worker is not self.main and refer.end_ns > advantage.end_ns:
                # Of what training waits for, what ends last is the cause.
                name = "wait/reference_inference"
                self.main.overlay(refer.begin_ns, refer.end_ns, name)
            blocks = self.draw.random() < 0.7
            trained = [self._launch(self.main, "peft_train", "actor", made, blocks)]
        last = max(self.busy_ns.values())
        self.main.until(last, "unaccounted") if self.draw.random() < 0.2 else None
        self._launch(self.main, "weight_sync", "rollout", trained, True)
        self.end_ns = max(self.main.now_ns, self.worker.now_ns, *self.busy_ns.values())
        for device in self.lanes:
            thread = self.launched_by.get(device, self.main)
            self._idle(device, thread, self.end_ns)

    def _experience(self, number: int) -> list[_Done]:
        thread = self.worker
        self._host(thread, "data_loading", 1, 15)
        rollout = self._launch(thread, "rollout", "rollout", [], True)
        if self.draw.random() < 0.4:
            self._host(thread, "reward", 1, 30, [rollout])
        refer = self._launch(thread, "reference_inference", "refer", [rollout], False)
        advantage = self._host(thread, "advantage_computation", 1, 5, [rollout, refer])
        return [refer, advantage]

    def _wait_for_worker(self) -> None:
        """The trainer blocks until there is experience; a tag says so, or nothing."""
        begin, end = self.main.now_ns, self.worker.now_ns
        if self.worker is self.main or end <= begin:
            return
        if self.tags_waits:
            self.main.records.append(
                self._record("queue_get", begin, end, SPAN, {"waits_for": "rollout"})
            )
            # With the arrows the reason is known better.
        self.main.did += self.worker.waited_as(begin, end)
        self.main.now_ns = end

    def _host(
        self, thread: _Thread, name: str, least: int, most: int, after: Any = ()
    ) -> _Done:
        begin = thread.now_ns
        thread.until(begin + self._length(least, most), f"host/{name}")
        record = self._record(name, begin, thread.now_ns, SPAN, None, after)
        thread.records.append(record)
        return _Done(record[3], begin, thread.now_ns)

    def _nothing(self, thread: _Thread) -> None:
        """A little that no span tells of."""
        thread.until(thread.now_ns + self._length(0, 1) // 2, "unaccounted")

    launched_by: dict[str, _Thread]

    def _launch(
        self, thread: _Thread, name: str, role: str, after: list[_Done], blocks: bool
    ) -> _Done:
        device = self.roles[role]
        launch = thread.now_ns
        if not hasattr(self, "launched_by"):
            self.launched_by = {}
        self.launched_by[device] = thread
        self._idle(device, thread, launch)
        begin = max(launch, self.busy_ns[device])
        ready = max([begin, *(done.end_ns for done in after)])
        own_id = self.count = self.count + 1
        compile_ns = 0
        if name not in self.compiled and self.draw.random() < 0.5:
            compile_ns = self._length(5, 80)
            inner = self._record("compile", launch, launch + compile_ns, SPAN)
        self.compiled.add(name)
        end = max(ready, launch + compile_ns) + self._length(5, 100)
        seen = end + (self.draw.randint(0, self.late_ns) if self.late_ns else 0)
        bucket = "sync" if name == "weight_sync" else f"occupied/{name}"
        compiled_until = min(max(begin, launch + compile_ns), end)
        if compiled_until > begin:
            self.truth[device].append((begin, compiled_until, "compile"))
        self.truth[device].append((compiled_until, seen, bucket))
        if begin > launch:
            queued = self._record("queue", launch, begin, QUEUED, {"NAME": name})
            self.queues[device].append(queued)
        self.busy_ns[device] = seen
        if compile_ns:
            thread.until(launch + compile_ns, f"compile/{name}")
        else:
            thread.until(launch + self._length(0, 1), f"host/{name}")
        if blocks and seen > thread.now_ns:
            thread.until(seen, f"wait/{name}")
            thread.until(thread.now_ns + self._length(0, 1) // 4, f"host/{name}")
        host = self._record(name, launch, thread.now_ns, SPAN, {"role": role}, after)
        host = (*host[:3], own_id, *host[4:])
        thread.records.append(host)
        if compile_ns:
            thread.records.append((*inner[:4], host[3], *inner[5:]))
        self.lanes[device].append((name, begin, seen, host[3], 0, DEVICE, *host[6:]))
        return _Done(host[3], begin, seen)

    def _idle(self, device: str, thread: _Thread, until_ns: int) -> None:
        """Notes why a device was idle: what the thread did that launches next."""
        at = self.busy_ns[device]
        if at >= until_ns:
            return
        for begin, end, bucket in thread.did:
            begin, end = max(begin, at), min(end, until_ns)
            if begin < end:
                if at < begin:
                    self.truth[device].append((at, begin, "unaccounted"))
                known = "compile" if bucket.startswith("compile") else bucket
                self.truth[device].append((begin, end, known))
                at = end
        if at < until_ns:
            self.truth[device].append((at, until_ns, "unaccounted"))

    def _record(
        self,
        name: str,
        begin: int,
        end: int,
        kind: int,
        tags: dict[str, Any] | None = None,
        after: Any = (),
    ) -> RawRecord:
        self.count += 1
        ids = tuple(done.id for done in after)
        if self.draw.random() > self.keeps_arrows:
            ids = ()
        return (name, begin, end, self.count, NO_PARENT, kind, tags, ids or None)

    def _length(self, least: int, most: int) -> int:
        return self.draw.randint(least * MS, most * MS)


def agreement(simulation: Simulation) -> tuple[int, int, Counter[tuple[str, str]]]:
    """Device time in its true bucket, all device time, and what was mistaken."""
    accountant = Accountant(Schedule(simulation.timelines(), simulation.end_ns))
    right = total = 0
    wrong: Counter[tuple[str, str]] = Counter()
    for device, truth in simulation.truth.items():
        for begin, end, bucket in truth:
            total += end - begin
            for b, e, found, _ in accountant.pieces(device, begin, end):
                if found == bucket:
                    right += e - b
                else:
                    wrong[bucket, found] += e - b
    return right, total, wrong


def main(count: int) -> int:
    """Says how much of the device time of many runs is in its true bucket."""
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    wrong: Counter[tuple[str, str]] = Counter()
    for seed in range(count):
        simulation = Simulation(seed)
        some_right, some, mistaken = agreement(simulation)
        right[simulation.topology] += some_right
        total[simulation.topology] += some
        wrong += mistaken
    for topology, ns in total.items():
        print(f"{topology:<16}{right[topology] / ns:>8.2%}")
    share = sum(right.values()) / sum(total.values())
    print(f"{'all':<16}{share:>8.2%} of {sum(total.values()) / 1e9:.0f} s")
    for (true, found), ns in wrong.most_common(8):
        print(f"  {true} taken for {found}: {ns / sum(total.values()):.2%}")
    return 0 if share >= 0.95 else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
