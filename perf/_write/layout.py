"""Which track shows what: the pictures of v1 and v2.

A layout is configuration: small, comparable, copied and pickled freely. For each file
it makes a plan, which knows the file's tracks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from perf._model.ids import QUEUE_SUFFIX
from perf._model.roles import ACTOR, REFERENCE, ROLLOUT, as_role
from perf._model.spans import (
    DEVICE,
    GROUP,
    SPAN,
    RawRecord,
    TimelineInfo,
    TimelineKind,
)
from perf._model.tracks import (
    CLUSTER,
    DEVICES,
    LANE_RANKS,
    MAIN,
    MAIN_THREADS,
    ROLE_LABELS,
    ROLLOUT_THREADS,
    TOP,
    Track,
)
from perf._write.names import documented_name

_GROUP_STEP: Final = 1_000_000
"""Between groups of tracks under one parent."""

RoleToDevices = Mapping[Any, Iterable[str]]
NameOf = Callable[[RawRecord], str | None] | None


@dataclasses.dataclass(frozen=True, slots=True)
class Copy:
    """A further track that shows some of a timeline's spans."""

    track: Track
    kind: int
    name: str


class Plan(Protocol):
    """The tracks of one file."""

    counters: Track
    """Heads the counters of the process."""
    run: Track
    """Shows the run's metadata."""

    def home(self, info: TimelineInfo, records: Sequence[RawRecord]) -> Track:
        """The track that shows all spans of a timeline.

        Args:
            info: the timeline.
            records: the first that are known of it.
        """
        ...

    def copies(self, info: TimelineInfo) -> Sequence[Copy]:
        """Further tracks of a timeline."""
        ...

    name: NameOf
    """The name of a slice where it is not the span's own; None: always its own."""


class Layout(Protocol):
    """What a writer asks for."""

    @property
    def file_prefix(self) -> str:
        """Begins the names of its files."""
        ...

    def plan(self, root: Track) -> Plan:
        """The tracks of a new file, under the track of its process."""
        ...


@dataclasses.dataclass(frozen=True)
class V1Layout:
    """Main, Rollout, Reference and Actor, as v1 drew them, then everything recorded.

    Args:
        role_to_devices: ids of the devices by role; None: no tracks of roles.
    """

    role_to_devices: RoleToDevices | None = None
    file_prefix: str = "perfetto_trace"

    def plan(self, root: Track) -> Plan:
        """See `Layout`."""
        return _V1Plan(root, self.role_to_devices or {})


@dataclasses.dataclass(frozen=True)
class V2Layout:
    """Host threads by what they do, and devices by the roles that share them.

    Args:
        role_to_devices: ids of the devices by role; None: all under "Devices".
        documented_names: whether slices bear the tags that make them distinct in
            their names, as `rollout (step=3, …)`; Perfetto then groups by none.
    """

    role_to_devices: RoleToDevices | None = None
    documented_names: bool = False
    file_prefix: str = "perfetto_trace_v2"

    def plan(self, root: Track) -> Plan:
        """See `Layout`."""
        return _V2Plan(root, self.role_to_devices or {}, self.documented_names)


_SHOWN: Final = {
    ROLLOUT: "rollout",
    REFERENCE: "refer_inference",
    ACTOR: "peft_train_step",
}
"""Of v1: by role the spans of its first device that are shown on its track."""


class _V1Plan:
    name: NameOf = None

    def __init__(self, root: Track, role_to_devices: RoleToDevices) -> None:
        self._top = Track(TOP, root)
        self._devices = Track(DEVICES, self._top, 5 * _GROUP_STEP)
        self.counters = Track("Counters", self._top, 6 * _GROUP_STEP)
        self.run = Track("Run", self._top, 8 * _GROUP_STEP)
        self._threads = _Ranks()
        self._device_ranks = _Ranks()
        self._copies: dict[str, list[Copy]] = {}
        self._main_copies: list[Copy] = []
        devices = {as_role(role): list(ids) for role, ids in role_to_devices.items()}
        for role, name in ROLE_LABELS.items():
            if not devices.get(role):
                continue
            track = Track(name, self._top, _v1_rank(name))
            copies = self._copies.setdefault(devices[role][0], [])
            copies.append(Copy(track, DEVICE, _SHOWN[role]))
            if role == ACTOR:
                self._main_copies.append(Copy(track, GROUP, "actor_training"))

    def home(self, info: TimelineInfo, records: Sequence[RawRecord]) -> Track:
        if info.kind is TimelineKind.HOST:
            if info.is_main:
                return Track(MAIN, self._top, 0, info.id)
            rank = 4 * _GROUP_STEP + self._threads.next()
            return Track(f"{MAIN} {info.name}", self._top, rank, info.id)
        if info.kind is TimelineKind.NAMED:
            return Track(info.name, self._top, _v1_rank(info.name), info.id)
        rank = self._device_ranks.of_device(info)
        return Track(info.name, self._devices, rank, info.id)

    def copies(self, info: TimelineInfo) -> Sequence[Copy]:
        if info.kind is TimelineKind.HOST:
            return self._main_copies if info.is_main else ()
        return self._copies.get(info.id, ())


def _v1_rank(name: str) -> int:
    names = [MAIN, *ROLE_LABELS.values()]
    return (names.index(name) if name in names else 7) * _GROUP_STEP


class _V2Plan:
    name: NameOf = None

    def __init__(
        self, root: Track, role_to_devices: RoleToDevices, documented_names: bool
    ) -> None:
        # Perfetto orders what is right under a process by name, whatever it is told.
        top = Track(TOP, root)
        self._main = Track(MAIN_THREADS, top, 0)
        self._rollout = Track(ROLLOUT_THREADS, top, _GROUP_STEP)
        self._clusters: dict[str, Track] = {}
        clusters = _clusters(role_to_devices)
        for number, (ids, roles) in enumerate(clusters.items(), start=2):
            track = Track(", ".join(roles) + CLUSTER, top, number * _GROUP_STEP)
            # A device of several overlapping clusters is shown in the first.
            for device in ids:
                self._clusters.setdefault(device, track)
        after = (len(clusters) + 2) * _GROUP_STEP
        self._devices = Track(DEVICES, top, after)
        self.counters = Track("Counters", top, after + _GROUP_STEP)
        self._named = Track("Tracks", top, after + 2 * _GROUP_STEP)
        self.run = Track("Run", top, after + 3 * _GROUP_STEP)
        self._threads = _Ranks()
        self._device_ranks = _Ranks()
        if documented_names:
            self.name = documented_name

    def home(self, info: TimelineInfo, records: Sequence[RawRecord]) -> Track:
        if info.kind is TimelineKind.HOST:
            names = {record[0] for record in records if record[5] in (SPAN, GROUP)}
            only_rolls_out = names == {"rollout"} and not info.is_main
            head = self._rollout if only_rolls_out else self._main
            rank = 0 if info.is_main else LANE_RANKS + self._threads.next()
            return Track(f"{info.id} {info.name}", head, rank, info.id)
        if info.kind is TimelineKind.NAMED:
            return Track(info.name, self._named, 0, info.id)
        head = self._clusters.get(info.id.removesuffix(QUEUE_SUFFIX), self._devices)
        return Track(info.name, head, self._device_ranks.of_device(info), info.id)

    def copies(self, info: TimelineInfo) -> Sequence[Copy]:
        return ()


class _Ranks:
    """Ranks in the order of asking, and of devices with their queues."""

    def __init__(self) -> None:
        self._count = 0
        self._devices: dict[str, int] = {}

    def next(self) -> int:
        self._count += 1
        return min(self._count * LANE_RANKS, _GROUP_STEP - LANE_RANKS)

    def of_device(self, info: TimelineInfo) -> int:
        device = info.id.removesuffix(QUEUE_SUFFIX)
        if device not in self._devices:
            self._devices[device] = 2 * self.next()
        queue = LANE_RANKS if info.kind is TimelineKind.QUEUE else 0
        return self._devices[device] + queue


def _clusters(role_to_devices: RoleToDevices) -> dict[frozenset[str], list[str]]:
    """Device sets with the names of the roles that share each."""
    clusters: dict[frozenset[str], list[str]] = {}
    for role, ids in role_to_devices.items():
        devices = frozenset(ids)
        if devices:
            name = as_role(role)
            label = ROLE_LABELS.get(name, name.capitalize())
            clusters.setdefault(devices, []).append(label)
    return clusters
