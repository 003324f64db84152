"""Packs packets into packets, as Perfetto unpacks them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from perf._write.wire import blob

MAX_BLOCK: Final = 400_000
"""Bytes packed at once: a packed packet has to stay under 512 KB even if it grew."""
_PACKET: Final = 1  # of Trace
_COMPRESSED_PACKETS: Final = 50  # of TracePacket


def compressed(packets: bytes) -> bytes:
    """The same packets, packed: still whole packets that can be appended to a file.

    A file that is packed as a whole would be lost if its end was cut off.
    """
    return b"".join(
        blob(_PACKET, blob(_COMPRESSED_PACKETS, zlib.compress(block)))
        for block in _blocks(packets)
    )


def _blocks(packets: bytes) -> Iterator[bytes]:
    """Cuts between packets, into blocks of bounded size where packets are smaller."""
    begin = end = 0
    while end < len(packets):
        after = _packet_end(packets, end)
        if after - begin > MAX_BLOCK and end > begin:
            yield packets[begin:end]
            begin = end
        end = after
        if len(packets) - begin <= MAX_BLOCK:
            break
    if begin < len(packets):
        yield packets[begin:]


def _packet_end(packets: bytes, begin: int) -> int:
    """Where the packet ends that begins there."""
    at, size, shift = begin + 1, 0, 0
    while True:
        byte = packets[at]
        size |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return at + size
