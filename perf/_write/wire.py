"""The few forms of protobuf's wire format that a trace is made of.

Encoded by hand: a packet object of the protobuf library costs four times what the
whole slice does here.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from typing import Final

_U64: Final = (1 << 64) - 1
_pack_double = struct.Struct("<d").pack
_pack_fixed64 = struct.Struct("<Q").pack

_SHORT: Final = 1 << 14
"""Values below this take two bytes and come out of a table."""


def varint(value: int) -> bytes:
    """An unsigned number; a negative one wraps to 64 bits, as int64 fields want it."""
    value &= _U64
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


@functools.cache
def key(field: int, wire_type: int) -> bytes:
    """What stands before a field's value."""
    return varint(field << 3 | wire_type)


def number(field: int, value: int) -> bytes:
    """An integer, enum or bool."""
    return key(field, 0) + varint(value)


def fixed64(field: int, value: int) -> bytes:
    """An unsigned number of always eight bytes."""
    return key(field, 1) + _pack_fixed64(value & _U64)


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


@functools.cache
def _tables() -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Varints that end a number, those that are its lower 14 bits, packet heads."""
    last = [varint(value) for value in range(_SHORT)]
    lower = [bytes((value & 0x7F | 0x80, value >> 7 | 0x80)) for value in range(_SHORT)]
    # Trace.packet, its length, and the key of its first field, the timestamp.
    heads = [b"\x0a" + varint(size) + b"\x40" for size in range(128)]
    return last, lower, heads


def timed_packets(
    times_ns: Sequence[int], bodies: Sequence[bytes], last_ns: int
) -> bytes:
    """Packets whose timestamps count from one to the next.

    Args:
        times_ns: n times; each is written as its distance from the one before.
        bodies: n packets without their timestamp.
        last_ns: what the first time counts from.

    Returns:
        n entries of `Trace.packet`.
    """
    last, lower, heads = _tables()
    parts: list[bytes] = []
    append = parts.append
    for time_ns, body in zip(times_ns, bodies, strict=True):
        delta = time_ns - last_ns
        last_ns = time_ns
        if 0 <= delta < _SHORT:
            stamp = last[delta]
        elif 0 <= delta < _SHORT * _SHORT:
            stamp = lower[delta & _SHORT - 1] + last[delta >> 14]
        else:
            stamp = varint(delta)
        size = 1 + len(stamp) + len(body)
        append(heads[size] if size < 128 else b"\x0a" + varint(size) + b"\x40")
        append(stamp)
        append(body)
    return b"".join(parts)
