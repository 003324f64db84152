"""Ids of timelines, from anything that JAX users call devices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

THREAD_PREFIX: Final = "thread-"
"""Begins the ids of host timelines in v1."""
HOST_PREFIX: Final = "host-"
"""Begins the ids of host timelines in v2."""
QUEUE_SUFFIX: Final = "_queue"
"""Ends the id of the timeline on which a device's work waits for the work before it."""


def device_id(device: Any) -> str:
    """The timeline id of one device.

    Args:
        device: a JAX device (anything with `platform` and `id`), or an id.

    Returns:
        `tpu0` for the first TPU; a string as it is.

    Raises:
        ValueError: it is neither; the message names it.
    """
    if isinstance(device, str):
        return device
    platform = getattr(device, "platform", None)
    number = getattr(device, "id", None)
    if platform is None or number is None:
        raise ValueError(
            f"unsupported device {device!r} of type {type(device).__name__}: "
            "expected a JAX device or a string such as 'tpu0'"
        )
    return f"{platform}{number}"


def device_ids(devices: Any) -> list[str]:
    """The timeline ids of devices in any form.

    Args:
        devices: None, one device, one id, a Mesh, or an array, list, set or generator
            of these, nested as deep as one likes. None among them is no device.

    Returns:
        Ids in the order given (those of a set in the order of their names).

    Raises:
        ValueError: something in it is no device; the message names it.
    """
    if devices is None:
        return []
    # Before the platform: an array has one too, but its text would wait for it.
    if hasattr(devices, "devices"):  # a mesh; an array says it by a method
        inner = devices.devices
        return device_ids(inner() if callable(inner) else inner)
    if isinstance(devices, str) or hasattr(devices, "platform"):
        return [device_id(devices)]
    if hasattr(devices, "ravel"):  # an array, also one of no dimensions
        devices = devices.ravel().tolist()
    elif isinstance(devices, (set, frozenset)):
        return sorted(device_ids(list(devices)), key=platform_and_number)
    if not isinstance(devices, Iterable) or isinstance(devices, (bytes, dict)):
        return [device_id(devices)]
    return [timeline_id for item in devices for timeline_id in device_ids(item)]


def queue_id(timeline_id: str) -> str:
    """The timeline on which this device's work waits."""
    return timeline_id + QUEUE_SUFFIX


def is_thread_id(timeline_id: str) -> bool:
    """Whether it is a host timeline of v1."""
    return timeline_id.startswith(THREAD_PREFIX)


def platform_and_number(timeline_id: str) -> tuple[str, int]:
    """`tpu` and 10 of `tpu10`; ids in that order are those of a set of devices."""
    digits = timeline_id[len(timeline_id.rstrip("0123456789")) :]
    return timeline_id.removesuffix(digits), int(digits or -1)  # mutate: ok below 0
