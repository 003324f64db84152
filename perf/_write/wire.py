"""The few forms of protobuf's wire format that a trace is made of.

Encoded by hand: a packet object of the protobuf library costs four times what the
whole slice does here. The loop over all events is in C (`_wire.c`) where a C compiler
was at hand when the package was installed.
"""

from __future__ import annotations

import functools
import os
import struct
from typing import Any, Final

from perf._model.compiled import PURE_PYTHON_VARIABLE
from perf._model.spans import RawRecord

_U64: Final = (1 << 64) - 1
_pack_double = struct.Struct("<d").pack

_ONE_BYTE: Final = [bytes((value,)) for value in range(128)]
_MORE: Final = [bytes((value | 0x80,)) for value in range(128)]
"""Seven bits of a number that has more of them."""


def varint(value: int) -> bytes:
    """An unsigned number; a negative one wraps to 64 bits, as int64 fields want it."""
    if 0 <= value < 128:
        return _ONE_BYTE[value]
    value &= _U64
    if value < 1 << 14:
        return _MORE[value & 0x7F] + _ONE_BYTE[value >> 7]
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


@functools.cache
def key(field: int, wire_type: int) -> bytes:
    """What stands before a field's value."""
    return varint(field << 3 | wire_type)


def number(field: int, value: int) -> bytes:
    """An integer, enum or bool."""
    return key(field, 0) + varint(value)


def double(field: int, value: float) -> bytes:
    """A floating-point number."""
    return key(field, 1) + _pack_double(value)


def blob(field: int, data: bytes) -> bytes:
    """A message, or the bytes of a text."""
    return key(field, 2) + varint(len(data)) + data


def readable(text: str, limit: int) -> bytes:
    r"""The UTF-8 form of any text, with what cannot be shown made visible.

    Args:
        text: may hold lone surrogates, which UTF-8 has no form for, and NULs, at which
            Perfetto would cut it: both become escapes such as `\udc80`.
        limit: characters; a longer text is cut and says how long it was.
    """
    if len(text) > limit:
        text = f"{text[:limit]}… ({len(text)} characters)"
    data = text.encode(errors="backslashreplace")
    return data.replace(b"\0", rb"\x00") if b"\0" in data else data


def timed_packets(times_ns: list[int], bodies: list[bytes], last_ns: int) -> bytes:
    """Packets whose timestamps count from one to the next.

    Args:
        times_ns: n times; each is written as its distance from the one before.
        bodies: n packets without their timestamp.
        last_ns: what the first time counts from.

    Returns:
        n entries of `Trace.packet`.
    """
    parts: list[bytes] = []
    for time_ns, body in zip(times_ns, bodies, strict=True):
        stamp = varint(time_ns - last_ns)
        last_ns = time_ns
        # The timestamp is the only field of a packet that is not in its body.
        parts += (b"\x0a", varint(1 + len(stamp) + len(body)), b"\x40", stamp, body)
    return b"".join(parts)


def plain_event(
    key: bytes, fields: bytes, tags: Any, keys: dict[str, bytes], texts: dict[str, int]
) -> bytes | None:
    """None: only the compiled half has a short way for tags that are plain."""
    return None


def plain_slices(
    records: list[RawRecord],
    nests: bool,
    since_ns: int,
    last_ns: int,
    event_key: bytes,
    names: dict[Any, bytes],
    keys: dict[str, bytes],
    texts: dict[str, int],
) -> bytes | None:
    """None: likewise for slices."""
    return None


if not os.environ.get(PURE_PYTHON_VARIABLE):
    try:
        from perf._write import _wire  # type: ignore[attr-defined]  # compiled
    except ImportError:
        pass
    else:
        timed_packets = _wire.timed_packets
        plain_event = _wire.plain_event
        plain_slices = _wire.plain_slices
