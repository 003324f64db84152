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
from perf._model.tracks import PROCESS_KEY
from perf._read.accounting import OCCUPIED, SYNC, Accountant
from perf._read.device_profile import DeviceProfile
from perf._read.recording import Recording
from perf._read.schedule import Schedule
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
        """Part of the time in which the device is at work and no span holds it."""
        busy = sum(ns for bucket, ns in self.busy.items() if not is_occupied(bucket))
        total = sum(self.held.values())
        return busy / total if total else 0.0

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
        devices: each device that they know.
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
        profiles: those of other processes or times are left out, with a note.
    """
    covered_ns = 0
    devices: dict[str, Busy] = {}
    notes: list[str] = []
    for profile in profiles:
        try:
            begin_ns, end_ns, offset_ns = _window(recording, profile)
            works = _by_timeline(recording, schedule, profile)
        except _LeftOutError as reason:
            notes.append(f"the device profile {profile.path} is left out: {reason}")
            continue
        covered_ns += end_ns - begin_ns
        notes += [
            f"the device profile shows {device} at work, which the trace does not know"
            for device in _untraced(recording, profile, works)
        ]
        for device, work in works.items():
            moved = [(begin + offset_ns, end + offset_ns) for begin, end in work]
            found = devices.setdefault(device, Busy())
            by_bucket: dict[str, list[Stretch]] = {}
            for begin, end, bucket, _ in accountant.pieces(device, begin_ns, end_ns):
                by_bucket.setdefault(bucket, []).append((begin, end))
            for bucket, stretches in by_bucket.items():
                found.held[bucket] += sum([end - begin for begin, end in stretches])
                found.busy[bucket] += common(stretches, moved)
    return Profiled(covered_ns, devices, notes)


class _LeftOutError(Exception):
    """A profile says nothing about a recording; the text says why."""


def _window(recording: Recording, profile: DeviceProfile) -> tuple[int, int, int]:
    """What both cover, on the tracer's clock; and that clock less the wall clock."""
    process = recording.run.get("pid")
    if profile.process is not None and process not in (None, profile.process):
        raise _LeftOutError(
            f"it is of process {profile.process}, the trace of process {process}"
        )
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
) -> dict[str, Sequence[Stretch]]:
    """The work of each device by the name of its timeline."""
    known = sorted(profile.busy, key=platform_and_number)
    platforms = {platform_and_number(device)[0] for device in known}
    timelines = [
        device
        for device in sorted(schedule.devices, key=platform_and_number)
        if platform_and_number(device)[0] in platforms
    ]
    if not timelines:
        raise _LeftOutError(
            f"it knows {', '.join(known) or 'no device'}, "
            f"the trace {', '.join(schedule.devices) or 'none'}"
        )
    if PROCESS_KEY not in recording.run:
        # One that it does not know was not at work.
        return {device: profile.busy.get(device, ()) for device in timelines}
    if len(timelines) != len(known):
        raise _LeftOutError(
            f"it knows {len(known)} devices by their numbers in one of several "
            f"processes, the trace has {len(timelines)}: which are which is unknown"
        )
    works = [profile.busy[device] for device in known]
    return dict(zip(timelines, works, strict=True))  # mutate: ok as many of both


def _untraced(
    recording: Recording, profile: DeviceProfile, works: Collection[str]
) -> list[str]:
    """Devices that are at work for a part worth naming and have no timeline."""
    if PROCESS_KEY in recording.run:
        return []  # known by other numbers
    least_ns = _WORTH_NAMING * (profile.end_ns - profile.begin_ns)
    return [
        device
        for device, work in sorted(profile.busy.items())
        if device not in works and sum([e - b for b, e in work]) >= least_ns
    ]
