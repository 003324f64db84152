"""When devices really were at work: what `jax.profiler` saw of them.

Format: https://openxla.org/xprof (files `plugins/profile/<time>/<host>.xplane.pb`).
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from perf._model.errors import TraceFormatError
from perf._read.stretches import Stretch, united

_SUFFIX: Final = ".xplane.pb"
_DEVICE_PLANE: Final = re.compile(r"/device:(GPU|TPU):(\d+)")
_HOST_PLANE: Final = "/host:CPU"
_ABOUT_HOST: Final = "/host:metadata"
_ABOUT_RUN: Final = "Task Environment"
_LINES: Final = ("Stream", "XLA Ops", "XLA Modules")
"""How the lines of a device begin on which its work is, the best first; the others tell
the same once more, by step or by layer."""
_PYTHON_CALL: Final = "$"
"""Begins the names of the host's events that are Python's functions."""
_OP: Final = "hlo_op"
_ORDINAL: Final = "device_ordinal"


@dataclasses.dataclass(frozen=True, slots=True)
class DeviceProfile:
    """What one process's devices did while it was profiled.

    Attributes:
        path: the file it comes from.
        host: whose it is by the file's name; "" of a file that was asked for itself.
        process: its id; None where JAX does not say.
        begin_ns, end_ns: its first and last event, on the wall clock, while it ran.
        busy: of each device when it was at work, on the wall clock, in order and
            apart. Devices are known by their platform and number in the process:
            `gpu0`.
        error: why it could not be read, and says nothing; "" of one that could.
    """

    path: str
    host: str
    process: int | None
    begin_ns: int
    end_ns: int
    busy: Mapping[str, Sequence[Stretch]]
    error: str = ""


def read_device_profiles(path: str | os.PathLike[str]) -> list[DeviceProfile]:
    """Reads what `jax.profiler.start_trace(path)` has left.

    Args:
        path: that folder, or an `.xplane.pb` in it.

    Returns:
        One of each file; of several, those too that cannot be read, with the reason.

    Raises:
        TraceFormatError: there is no such file, or none can be read; the message says
            what was found.
        OSError: likewise.
    """
    place = Path(path)
    if not place.is_dir():
        return [_read(place, "")]
    files = [file for file in sorted(place.rglob(f"*{_SUFFIX}")) if file.is_file()]
    if not files:
        raise TraceFormatError(
            f"{place}: expected a device profile of jax.profiler, found a folder "
            f"without any {_SUFFIX} file"
        )
    found: list[DeviceProfile] = []
    errors: list[Exception] = []
    for file in files:
        host = file.name.removesuffix(_SUFFIX)
        try:
            found.append(_read(file, host))
        except (TraceFormatError, OSError) as error:
            errors.append(error)
            reason = str(error).removeprefix(f"{file}: ")
            found.append(DeviceProfile(os.fspath(file), host, None, 0, 0, {}, reason))
    if len(errors) == len(files):
        raise errors[0]
    return found


def _read(file: Path, host: str) -> DeviceProfile:
    import jax.profiler

    reader: Any = getattr(jax.profiler, "ProfileData", None)
    if reader is None:
        raise TraceFormatError(
            f"{file}: device profiles are read by JAX 0.7.2 or newer; this one is "
            f"{jax.__version__}"
        )
    try:
        space = reader.from_serialized_xspace(file.read_bytes())
    except RuntimeError as error:
        raise TraceFormatError(
            f"{file}: expected a device profile of jax.profiler, found other bytes"
        ) from error
    planes = {plane.name: plane for plane in space.planes}
    about = dict(planes[_ABOUT_RUN].stats) if _ABOUT_RUN in planes else {}
    start_ns = about.get("profile_start_time")
    if not isinstance(start_ns, int):
        raise TraceFormatError(
            f"{file}: expected a device profile of jax.profiler, found one that does "
            "not say when it began"
        )
    begin_ns, end_ns = _seen(planes.values(), start_ns)
    # The host goes on to tell what it does after the devices are seen no more.
    stop_ns = about.get("profile_stop_time")
    end_ns = min(end_ns, stop_ns) if isinstance(stop_ns, int) else end_ns
    about = dict(planes[_ABOUT_HOST].stats) if _ABOUT_HOST in planes else {}
    process = about.get("process_id")
    return DeviceProfile(
        os.fspath(file),
        host,
        process if isinstance(process, int) else None,
        begin_ns,
        end_ns,
        {
            device: united(sorted(some), begin_ns, end_ns)
            for device, some in _work(planes, start_ns).items()
        },
    )


def _seen(planes: Iterable[Any], start_ns: int) -> Stretch:
    """From the first event of all to the last: profilers take a while to begin."""
    begin_ns, end_ns = None, start_ns
    for plane in planes:
        for line in plane.lines:
            for event in line.events:
                begin, end = _stretch(event, start_ns)
                begin_ns = begin if begin_ns is None else min(begin_ns, begin)
                end_ns = max(end_ns, end)
    return start_ns if begin_ns is None else begin_ns, end_ns


def _work(planes: Mapping[str, Any], start_ns: int) -> dict[str, list[Stretch]]:
    """When each device was at work; stretches may overlap."""
    found: dict[str, list[Stretch]] = {}
    for name, plane in planes.items():
        match = _DEVICE_PLANE.fullmatch(name)
        if match is not None:
            device = f"{match[1].lower()}{match[2]}"
            events = _events(plane.lines)
            found[device] = [_stretch(event, start_ns) for event in events]
    if _HOST_PLANE in planes and not found:
        # The devices of a CPU are threads, which take work of any of them in turn.
        for line in planes[_HOST_PLANE].lines:
            for event in line.events:
                if event.name.startswith(_PYTHON_CALL):
                    continue
                stats = dict(event.stats)
                if _OP in stats and _ORDINAL in stats:
                    device = f"cpu{stats[_ORDINAL]}"
                    found.setdefault(device, []).append(_stretch(event, start_ns))
    return found


def _events(lines: Iterable[Any]) -> Iterator[Any]:
    lines = list(lines)
    for begins in _LINES:
        some = [line for line in lines if line.name.startswith(begins)]
        if some:
            for line in some:
                yield from line.events
            return


def _stretch(event: Any, start_ns: int) -> tuple[int, int]:
    begin_ns = start_ns + round(event.start_ns)
    return begin_ns, begin_ns + round(event.duration_ns)
