"""How much of the time that spans hold a device it is at work.

A span holds a device from launch to ready, an upper bound of busy. Where a device
profile covers a part of the run, it says how near that bound is to the truth.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from perf._model.ids import platform_and_number
from perf._model.tracks import DEVICES_KEY, PROCESS_KEY
from perf._read.accounting import OCCUPIED, SYNC, Accountant
from perf._read.device_profile import DeviceProfile
from perf._read.recording import Recording
from perf._read.schedule import Lane, Schedule
from perf._read.stretches import Stretch, common

_WORTH_NAMING: Final = 0.01
"""Part of the profiled time."""


@dataclasses.dataclass(slots=True)
class Busy:
    """A device, or several, while they were profiled; nanoseconds by bucket.

    Attributes:
        held: all of the time.
        busy: when the device was at work.
    """

    held: Counter[str] = dataclasses.field(default_factory=Counter)
    busy: Counter[str] = dataclasses.field(default_factory=Counter)

    @property
    def over_occupied(self) -> float | None:
        """Busy ÷ occupied; None if no span holds a device meanwhile."""
        held = sum(ns for bucket, ns in self.held.items() if is_occupied(bucket))
        busy = sum(ns for bucket, ns in self.busy.items() if is_occupied(bucket))
        return busy / held if held else None

    @property
    def untraced(self) -> float:
        """Busy ÷ all of the time in which no span holds a device; 0 of no time."""
        free = sum(ns for bucket, ns in self.held.items() if not is_occupied(bucket))
        busy = sum(ns for bucket, ns in self.busy.items() if not is_occupied(bucket))
        return busy / free if free else 0.0

    def share(self, bucket: str) -> float | None:
        """Busy ÷ all of the time in a bucket; None of no time."""
        held = self.held[bucket]
        return self.busy[bucket] / held if held else None

    def add(self, other: Busy) -> None:
        """Adds another one."""
        self.held.update(other.held)
        self.busy.update(other.busy)


@dataclasses.dataclass(frozen=True, slots=True)
class Profiled:
    """What device profiles say of a recording.

    Attributes:
        covered_ns: how long they cover it, on the clock.
        devices: each device that they and the recording know.
        notes: what a reader has to know about it.
    """

    covered_ns: int
    devices: Mapping[str, Busy]
    notes: Sequence[str]

    @property
    def all(self) -> Busy:
        """Over all devices."""
        total = Busy()
        for each in self.devices.values():
            total.add(each)
        return total


def is_occupied(bucket: str) -> bool:
    """Whether a span holds the device in this bucket."""
    return bucket == SYNC or bucket.startswith(OCCUPIED)


def profiled(
    recording: Recording,
    schedule: Schedule,
    accountant: Accountant,
    profiles: Iterable[DeviceProfile],
) -> Profiled:
    """Joins device profiles to a recording, by the wall clock.

    Args:
        recording: of one process.
        schedule: its.
        accountant: of that.
        profiles: in any order; those of other processes or times are left out, and
            those that could not be read.
    """
    covered: list[Stretch] = []
    devices: dict[str, Busy] = {}
    untraced: set[str] = set()
    reasons: list[str] = []
    unread: list[str] = []
    for profile in profiles:
        if profile.error:
            unread.append(_left_out(profile, profile.error))
            continue
        try:
            begin_ns, end_ns, offset_ns = _window(recording, profile)
            if any(begin_ns < end and begin < end_ns for begin, end in covered):
                raise _LeftOutError("another one covers the same time")
            works, without = _by_timeline(recording, schedule, profile)
        except _LeftOutError as reason:
            reasons.append(_left_out(profile, reason))
            continue
        covered.append((begin_ns, end_ns))
        untraced |= without
        for device, work in works.items():
            moved = [(begin + offset_ns, end + offset_ns) for begin, end in work]
            lane = schedule.devices[device]
            window = _seen_whole(lane, moved, begin_ns, end_ns)
            found = devices.setdefault(device, Busy())
            by_bucket: dict[str, list[Stretch]] = {}
            for begin, end, bucket, _ in accountant.pieces(device, *window):
                by_bucket.setdefault(bucket, []).append((begin, end))
            for bucket, stretches in by_bucket.items():
                found.held[bucket] += sum([end - begin for begin, end in stretches])
                found.busy[bucket] += common(stretches, moved)
    covered_ns = sum([end - begin for begin, end in covered])
    # That others do not fit is as it should be, if some do; what cannot be read is not.
    notes = [*_first(unread), *_notes(devices, untraced, reasons)]
    return Profiled(covered_ns, devices, notes)


def _left_out(profile: DeviceProfile, reason: object) -> str:
    return f"the device profile {profile.path} is left out: {reason}"


def _first(reasons: Sequence[str]) -> list[str]:
    more = f" (likewise {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return [f"{reasons[0]}{more}"] if reasons else []


def _notes(
    devices: Mapping[str, Busy], untraced: Collection[str], reasons: Sequence[str]
) -> list[str]:
    if not devices:
        return _first(reasons)
    found = []
    if all(busy.over_occupied is None for busy in devices.values()):
        found.append("no span holds a device where the device profile has seen it")
    if untraced:
        found.append(
            "the device profile shows work on devices without a timeline "
            f"({', '.join(sorted(untraced, key=platform_and_number))}): of a mesh the "
            "trace may tell of the first device alone"
        )
    return found


class _LeftOutError(Exception):
    """A profile says nothing about a recording; the text says why."""


def _window(recording: Recording, profile: DeviceProfile) -> tuple[int, int, int]:
    """What both cover, on the tracer's clock; and that clock less the wall clock."""
    for what, own, others in (
        ("host", recording.run.get("host"), profile.host or None),
        ("process", recording.run.get("pid"), profile.process),
    ):
        if own is not None and others is not None and own != others:
            raise _LeftOutError(f"it is of {what} {others}, the trace of {own}")
    if not recording.clocks:
        raise _LeftOutError("the trace does not tell what the wall clock showed")
    # The wall clock may be set in the course of a run: the nearest reading counts.
    nearest = min(recording.clocks, key=lambda c: abs(c.wall_ns - profile.begin_ns))
    offset_ns = nearest.monotonic_ns - nearest.wall_ns
    begin_ns = max(profile.begin_ns + offset_ns, recording.begin_ns)
    end_ns = min(profile.end_ns + offset_ns, recording.end_ns)
    if begin_ns >= end_ns:
        raise _LeftOutError("it was taken when the trace has no span")
    return begin_ns, end_ns, offset_ns


def _by_timeline(
    recording: Recording, schedule: Schedule, profile: DeviceProfile
) -> tuple[dict[str, Sequence[Stretch]], set[str]]:
    """The work of each device by the name of its timeline; devices that have none."""
    names = _names(recording, profile)
    known = {platform_and_number(place)[0] for place in profile.busy}
    works: dict[str, Sequence[Stretch]] = {
        # Of a platform that it knows it would have told of work.
        name: profile.busy.get(place, ())
        for place, name in names.items()
        if name in schedule.devices and platform_and_number(place)[0] in known
    }
    if not works:
        raise _LeftOutError(
            f"it knows {', '.join(profile.busy) or 'no device'}, "
            f"the trace {', '.join(schedule.devices) or 'none'}"
        )
    least_ns = _WORTH_NAMING * (profile.end_ns - profile.begin_ns)
    busy = {
        names.get(place, place)
        for place, work in profile.busy.items()
        if sum([end - begin for begin, end in work]) > least_ns  # mutate: ok if equal
    }
    return works, busy - works.keys()


def _names(recording: Recording, profile: DeviceProfile) -> dict[str, str]:
    """The timelines' names of this process's devices, by what profiles call them."""
    numbers = recording.run.get(DEVICES_KEY)
    if isinstance(numbers, Mapping):
        return {
            f"{platform_and_number(name)[0]}{number}": name
            for name, number in numbers.items()
        }
    if PROCESS_KEY in recording.run:
        raise _LeftOutError(
            "the trace was begun before JAX had looked for devices, and does not tell "
            "which are this process's"
        )
    return {place: place for place in profile.busy}


def _seen_whole(
    lane: Lane, work: Sequence[Stretch], begin_ns: int, end_ns: int
) -> tuple[int, int]:
    """The part of a window of whose work nothing is missing in a profile.

    What is under way when a profiler starts, or when it stops, it does not tell. Where
    a span holds the device then, what is known begins with the first work that it does
    tell, or with the span's end; and ends likewise.
    """
    spans = lane.between(begin_ns, end_ns)
    opened = [span[2] for span in spans if span[1] < begin_ns]
    closed = [span[1] for span in spans if span[2] > end_ns]
    begins = [begin for begin, _ in work if begin >= begin_ns]
    ends = [end for _, end in work if end <= end_ns]
    if opened:
        begin_ns = min([max(opened), end_ns, *begins])
    if closed:
        end_ns = max([min(closed), begin_ns, *ends])
    return begin_ns, max(begin_ns, end_ns)
