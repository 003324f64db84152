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

_SMALL: Final = 256
"""Packets of fewer bytes have their beginning in a table."""
_MANY: Final = 512
"""So many packets are faster put together by numpy."""
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
    if len(bodies) >= _MANY:
        try:
            return _many_packets(times_ns, bodies, last_ns)
        except OverflowError:  # a time beyond 64 bits
            pass
    heads_1, heads_2, heads_3, heads_4 = _heads()
    parts: list[bytes] = []
    for time_ns, body in zip(times_ns, bodies, strict=True):
        delta = time_ns - last_ns
        last_ns = time_ns
        size = len(body)
        if not 0 <= delta < 1 << 28 or size >= _SMALL:
            stamp = varint(delta)
            parts += (_head(len(stamp) + size), stamp, body)
        elif delta < 1 << 7:
            parts += (heads_1[size], _ONE_BYTE[delta], body)
        elif delta < 1 << 14:
            low = _MORE[delta & 0x7F]
            parts += (heads_2[size], low, _ONE_BYTE[delta >> 7], body)
        elif delta < 1 << 21:
            low, middle = _MORE[delta & 0x7F], _MORE[delta >> 7 & 0x7F]
            parts += (heads_3[size], low, middle, _ONE_BYTE[delta >> 14], body)
        else:
            low, middle = _MORE[delta & 0x7F], _MORE[delta >> 7 & 0x7F]
            high = _MORE[delta >> 14 & 0x7F]
            parts += (heads_4[size], low, middle, high, _ONE_BYTE[delta >> 21], body)
    return b"".join(parts)


def _head(size: int) -> bytes:
    """Begins a packet: the key of its only field that varies, after its own size.

    Args:
        size: of the timestamp's value and all other fields.
    """
    return b"\x0a" + varint(1 + size) + b"\x40"


@functools.cache
def _heads() -> list[list[bytes]]:
    """By the size of the timestamp's value, from 1 to 4, and of all other fields."""
    return [[_head(stamp + rest) for rest in range(_SMALL)] for stamp in range(1, 5)]


def _many_packets(
    times_ns: Sequence[int], bodies: Sequence[bytes], last_ns: int
) -> bytes:
    """The same, twice as fast for a thousand, and slower for ten."""
    import numpy as np

    deltas = np.diff(np.array([last_ns, *times_ns], np.int64)).view(np.uint64)
    stamp_sizes = np.ones(len(bodies), np.int64)
    most = max(1, (int(deltas.max()).bit_length() + 6) // 7)
    for size in range(1, most):
        stamp_sizes += deltas >= np.uint64(1 << 7 * size)
    sizes = np.fromiter(map(len, bodies), np.int64, len(bodies)) + stamp_sizes
    rows = np.zeros((len(bodies), 3 + most), np.uint8)
    rows[:, 0] = 0x0A
    rows[:, 1] = 1 + sizes
    rows[:, 2] = 0x40
    for place in range(most):
        digits = (deltas >> np.uint64(7 * place)).astype(np.uint8) & 0x7F
        rows[:, 3 + place] = digits | (stamp_sizes > place + 1).astype(np.uint8) << 7
    # As texts, the rows lose their zeros at the end: those of shorter numbers.
    beginnings = rows.view(f"S{3 + most}").ravel().tolist()
    for row in np.flatnonzero((deltas == 0) | (sizes >= 127)).tolist():
        stamp = varint(int(deltas[row]))
        beginnings[row] = _head(int(sizes[row])) + stamp
    parts = [b""] * (2 * len(bodies))
    parts[::2] = beginnings
    parts[1::2] = bodies
    return b"".join(parts)
