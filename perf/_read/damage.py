"""Goes on with a trace file after bytes that cannot be read.

A packet counts its time from the one before, and is on its track. So what follows
damage means nothing until the writer has read the clocks again, which it does every
half a minute. The packet of that reading looks like no other: it is searched for byte
by byte, for the damage may be in a length. A cut file is damaged up to its end.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Sequence
from typing import BinaryIO, Final

from perf._read.packets import CutError, DamageError

_MOST: Final = 1_000  # mutate: ok any number of this size
"""Times that a file is searched: one with more damage holds nothing to rely on."""
_NAMED: Final = 3
"""Places in a sentence."""
_CHUNK: Final = 1 << 20  # mutate: ok any number of this size
_START: Final = re.compile(
    # A packet of less than 128 bytes: sequence, clock snapshot, the main clock; ...
    rb"\x0a[\x20-\x7f]\x50[\x80-\xff]?[\x01-\x7f]\x32[\x20-\x7f]\x10\x03"
    # ... or one of up to 2 MB of packed packets.
    rb"|\x0a[\x80-\xff]{0,2}[\x01-\x7f]\x92\x03"
    rb"[\x80-\xff]{0,2}[\x01-\x7f]\x78\x9c"
)
_LONGEST: Final = 11  # mutate: ok more is enough, too
"""Bytes of what that finds."""


@dataclasses.dataclass(frozen=True, slots=True)
class Unread:
    """Bytes of a file that could not be read."""

    offset: int
    """Where they begin."""
    size_bytes: int


class Damage:
    """What could not be read of a file so far."""

    def __init__(self) -> None:
        self.is_ours = False
        """Whether the file has said that rlperf wrote it. Before, nothing is damage."""
        self.is_cut = False  # mutate: ok until it is read
        """Whether it was not read to its end."""
        self.unread: list[Unread] = []
        self._begin: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether nothing could be read since the last damage."""
        return self._begin is not None

    def begin(self, error: DamageError) -> None:
        """Nothing can be read from there on.

        Raises:
            DamageError: the same; the file is no trace.
        """
        if not self.is_ours and not isinstance(error, CutError):
            raise error
        if self._begin is None:
            self._begin = error.offset

    def end(self, offset: int) -> None:
        """Everything can be read again from there on."""
        if self._begin is not None:
            self.unread.append(Unread(self._begin, offset - self._begin))
            self._begin = None

    def read(
        self,
        file: BinaryIO,
        read: Callable[[int], None],
        lose: Callable[[], None],
    ) -> None:
        """Reads a file, beginning anew after damage.

        Args:
            file: from its beginning.
            read: takes in the file from an offset on, where it stands; raises
                `DamageError` where it cannot go on.
            lose: told of each damage, before it is searched for what follows.

        Raises:
            TraceFormatError: the file is no trace.
        """
        offset: int | None = 0
        tries = 0
        while offset is not None:
            file.seek(offset)
            try:
                read(offset)
                break
            except DamageError as error:
                self.begin(error)
                lose()
                tries += 1
                offset = _next_start(file, error.offset + 1) if tries < _MOST else None
        self.is_cut = self.is_open
        self.end(os.fstat(file.fileno()).st_size)


def _next_start(file: BinaryIO, offset: int) -> int | None:
    """Where the clocks may be read next; None: nowhere."""
    file.seek(offset)
    data = b""
    while chunk := file.read(_CHUNK):
        data += chunk
        found = _START.search(data)
        if found is not None:
            return offset + found.start()
        kept = data[1 - _LONGEST :]
        offset += len(data) - len(kept)
        data = kept
    return None


def said(unread: Sequence[Unread], *, is_cut: bool) -> list[str]:
    """What a reader has to know about it."""
    found = []
    inside = unread[:-1] if is_cut else unread
    if inside:
        places = [f"{u.size_bytes} bytes at offset {u.offset}" for u in inside[:_NAMED]]
        more = len(inside) - len(places)
        if more:
            size = sum(u.size_bytes for u in inside[_NAMED:])
            places.append(f"{size} bytes at {more} more places")
        found.append(f"the file is damaged, and in part not read: {', '.join(places)}")
    if is_cut:
        last = unread[-1]
        found.append(
            "the file ends inside a packet, or its end is damaged and not read: "
            f"{last.size_bytes} bytes at offset {last.offset}"
        )
    return found
