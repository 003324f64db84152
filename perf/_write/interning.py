"""Texts that a file holds once and then refers to by number."""

from __future__ import annotations

from perf._write.wire import blob, number, readable

_IID, _TEXT = 1, 2
"""Fields of all the messages that InternedData is made of."""


class Strings:
    """One of the tables of interned texts of a packet sequence.

    Args:
        field: of InternedData.
        limit: texts at most; further ones are to be written out each time.
        longest: characters of a text that is taken.
    """

    def __init__(self, field: int, limit: int, longest: int) -> None:
        self.limit = limit
        self._field = field
        self._longest = longest
        self.iids: dict[str, int] = {}
        """The number of each text that the table holds."""
        self._new: list[bytes] = []

    def get(self, text: str) -> int:
        """The number of a text; 0 if the table does not hold it."""
        return self.iids.get(text, 0)

    def iid(self, text: str) -> int:
        """The number of a text, taking it into the table; 0 if that cannot be."""
        iid = self.iids.get(text, 0)
        if iid or len(self.iids) >= self.limit or len(text) > self._longest:
            return iid
        iid = self.iids[text] = len(self.iids) + 1
        data = number(_IID, iid) + blob(_TEXT, readable(text, self._longest))
        self._new.append(blob(self._field, data))
        return iid

    def take_new(self) -> bytes:
        """The fields of InternedData for what was taken in since the last call."""
        if not self._new:  # as in most batches
            return b""
        new, self._new = self._new, []
        return b"".join(new)
