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
_SMALL: Final = 256
"""Packets of fewer bytes have their beginning in a table."""


_ONE_BYTE: Final = [bytes((value,)) for value in range(128)]


def varint(value: int) -> bytes:
    """An unsigned number; a negative one wraps to 64 bits, as int64 fields want it."""
    if 0 <= value < 128:
        return _ONE_BYTE[value]
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
def _tables() -> tuple[list[bytes], list[bytes], tuple[list[bytes], ...]]:
    """What packets are put together from.

    Returns:
        Varints below `_SHORT` as the end of a number; the same as its lower bits; what
        a packet begins with, by the size of its timestamp's value and of the rest.
    """
    last = [varint(value) for value in range(_SHORT)]
    lower = [bytes((value & 0x7F | 0x80, value >> 7 | 0x80)) for value in range(_SHORT)]
    return (
        last,
        lower,
        tuple(
            [_head(stamp_size + rest) for rest in range(_SMALL)]
            for stamp_size in range(5)
        ),
    )


def _head(size: int) -> bytes:
    """Of a packet whose timestamp's value and other fields have this size."""
    return b"\x0a" + varint(1 + size) + b"\x40"


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
    last, lower, (_, heads_1, heads_2, heads_3, heads_4) = _tables()
    parts: list[bytes] = []
    append = parts.append
    for time_ns, body in zip(times_ns, bodies, strict=True):
        delta = time_ns - last_ns
        last_ns = time_ns
        size = len(body)
        if not 0 <= delta < _SHORT * _SHORT or size >= _SMALL:
            stamp = varint(delta)
            append(_head(len(stamp) + size))
            append(stamp)
        elif delta < _SHORT:
            append(heads_2[size] if delta > 0x7F else heads_1[size])
            append(last[delta])
        else:
            append(heads_3[size] if delta < _SHORT << 7 else heads_4[size])
            append(lower[delta & _SHORT - 1])
            append(last[delta >> 14])
        append(body)
    return b"".join(parts)
