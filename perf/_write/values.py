"""Tags of any kind as Perfetto's debug annotations. Never fails, loses no tag."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from perf._write.interning import Strings
from perf._write.tags import LEFT_OUT, TagRules
from perf._write.wire import blob, double, key, number, plain_event, readable, varint

MAX_TEXT: Final = 4_096
"""Characters of a value; a longer one is cut and says how long it was."""
_MAX_BYTES: Final = 512
"""Likewise, of a value that is bytes: shown, each may take four characters."""
MAX_KEY: Final = 256
"""Characters of a key."""
MAX_DEPTH: Final = 6
"""Levels of dicts and lists in each other; what lies deeper is shown as `…`."""
MAX_ITEMS: Final = 256
"""Entries of one tag, on all levels together; the rest is counted."""
MAX_REPEATED: Final = 64
"""Characters of a text value that is worth remembering in case it comes again."""

# Fields of DebugAnnotation.
_NAME_IID, _BOOL, _UINT, _INT, _DOUBLE, _STRING = 1, 2, 3, 4, 5, 6
_NAME, _DICT_ENTRY, _ARRAY_VALUE, _STRING_IID = 10, 11, 12, 17
_ANNOTATION_KEY: Final = key(4, 2)
"""Of `TrackEvent.debug_annotations`."""
_INT_KEY: Final = key(_INT, 0)

_CONTAINERS: Final = (Mapping, list, tuple, set, frozenset)

_FOLDED: Final = re.compile(r"[.\[\]]")
"""Perfetto shows these characters of a key as `_`, so that "a.b" would hide "a_b"."""


class Annotations:
    """Encodes tags; remembers the keys and texts that a file already holds.

    Args:
        keys: table of keys.
        texts: table of values.
        rules: which values are left out, on any level.
    """

    def __init__(
        self, keys: Strings, texts: Strings, rules: TagRules | None = None
    ) -> None:
        self._rules = rules or TagRules()
        self._keys = keys
        self._texts = texts
        self._known_keys: dict[str, tuple[str, bytes]] = {}
        """Keys that are interned: how Perfetto shows them, and their field."""
        self.plain_keys: dict[str, bytes] = {}
        """The fields of those that it shows as they are: no two of them look alike."""
        self._seen: set[str] = set()
        """Texts written once: worth an entry in the file's table when they return."""
        self._by_type: dict[type, Callable[[Any], bytes]] = {
            str: self._text,
            int: self._int,
            bool: self._bool,
            float: self._float,
            type(None): self._plain_repr,
        }

    def event(self, head: bytes, fields: bytes, tags: Any) -> bytes:
        """An event that ends with these tags.

        Args:
            head: what comes before its length.
            fields: what comes before the tags.
            tags: see `encode`.
        """
        quick = plain_event(head, fields, tags, self.plain_keys, self._texts.iids)
        if quick is not None:
            return quick
        fields += self.encode(tags)
        return head + varint(len(fields)) + fields

    def encode(self, tags: Any) -> bytes:
        """The `debug_annotations` fields of a TrackEvent that hold these tags."""
        parts: list[bytes] = []
        try:
            for tag, value in tags.items():
                field = self._by_type.get(type(value))
                data = self.plain_keys[tag] + (
                    field(value) if field else self._other(value, 0, None)
                )
                parts += (_ANNOTATION_KEY, varint(len(data)), data)
        except Exception:
            # A key that is new or looks like another, or a mapping that misbehaves.
            parts = list(self.fields(tags).values())
        return b"".join(parts)

    def fields(self, tags: Any) -> dict[Any, bytes]:
        """Each tag's key with its `debug_annotations` field."""
        try:
            # One call that no other thread can interrupt: tags of an open span grow.
            items = list(tags.items())
        except Exception:
            items = [("tags", tags)]
        return {
            tag: _ANNOTATION_KEY + varint(len(entry)) + entry
            for (tag, _), entry in zip(items, self._entries(items), strict=True)
        }

    def changes(self, tags: Any, written: Mapping[Any, bytes]) -> bytes:
        """The fields of those tags that have changed since they were written.

        Args:
            tags: as they are now.
            written: as `fields` gave them for the slice's BEGIN.
        """
        new = []
        for tag, field in self.fields(tags).items():
            if tag in written and written[tag] != field:
                value = self._shown(tag, tags[tag])
                if isinstance(value, _CONTAINERS):
                    # Perfetto would add its entries to those that it has already.
                    field = self.encode({f"{_key_text(tag)} (at the end)": value})
            if written.get(tag) != field:
                new.append(field)
        return b"".join(new)

    def _entries(
        self,
        items: list[tuple[Any, Any]],
        depth: int = 0,
        room: list[int] | None = None,
    ) -> Iterable[bytes]:
        used: set[str] = set()
        for tag, value in items:
            shown = self._shown(tag, value)
            yield self._key(tag, used) + self._value(shown, depth, room)

    def _shown(self, tag: Any, value: Any) -> Any:
        return LEFT_OUT if self._rules.leaves_out(_key_text(tag), value) else value

    def _key(self, tag: Any, used: set[str]) -> bytes:
        shown, field = self._known_keys.get(tag) or self._new_key(tag)
        if shown in used:
            count = next(n for n in itertools.count(2) if f"{shown} ({n})" not in used)
            shown, field = self._new_key(f"{shown} ({count})")
        used.add(shown)
        return field

    def _new_key(self, tag: Any) -> tuple[str, bytes]:
        text = tag if type(tag) is str else _key_text(tag)
        data = readable(text, MAX_KEY)
        shown = _FOLDED.sub("_", data.decode())
        iid = self._keys.iid(text)
        if not iid:
            return shown, blob(_NAME, data)
        known = shown, number(_NAME_IID, iid)
        if text is tag:
            self._known_keys[text] = known
            # Those that may be left out are to be looked at each time.
            if shown == text and not self._rules.leaves_out(text, ""):
                self.plain_keys[text] = known[1]
        return known

    # -- single values ---------------------------------------------------------------

    def _text(self, value: str) -> bytes:
        if len(value) <= MAX_REPEATED:
            iid = self._texts.get(value)
            if not iid and value in self._seen:
                iid = self._texts.iid(value)
            if iid:
                return number(_STRING_IID, iid)
            if len(self._seen) >= self._texts.limit:
                self._seen.clear()
            self._seen.add(value)
        return blob(_STRING, readable(value, MAX_TEXT))

    def _int(self, value: int) -> bytes:
        if -(1 << 63) <= value < 1 << 63:
            return _INT_KEY + varint(value)
        if 0 <= value < 1 << 64:
            return number(_UINT, value)
        # Decimal digits of a huge number take quadratic time, and Python refuses them.
        return self._text(str(value) if value.bit_length() < 8192 else f"{value:#x}")

    def _bool(self, value: bool) -> bytes:
        return number(_BOOL, value)

    def _float(self, value: float) -> bytes:
        # Perfetto's tables have no NaN and would show NULL: a loss that is NaN is news.
        return self._text("NaN") if math.isnan(value) else double(_DOUBLE, value)

    def _plain_repr(self, value: Any) -> bytes:
        return self._text(repr(value))

    # -- everything else -------------------------------------------------------------

    def _value(self, value: Any, depth: int, room: list[int] | None) -> bytes:
        kind = type(value)
        if kind is str and depth > 0:
            # Always written the same way, so that changes can be seen in the bytes.
            return blob(_STRING, readable(value, MAX_TEXT))
        field = self._by_type.get(kind)
        return field(value) if field else self._other(value, depth, room)

    def _other(self, value: Any, depth: int, room: list[int] | None) -> bytes:
        try:
            return self._structured(value, depth, room or [MAX_ITEMS])
        except Exception as error:  # Its own methods ran: anything may come of it.
            return self._text(f"<{type(value).__name__}: {type(error).__name__}>")

    def _structured(self, value: Any, depth: int, room: list[int]) -> bytes:
        # Enums, numpy scalars and the like, without the methods that they override.
        if isinstance(value, str):
            return self._text(str.__str__(value))
        if isinstance(value, int):
            return self._int(int.__int__(value))
        if isinstance(value, float):
            return self._float(float.__float__(value))
        if isinstance(value, (bytes, bytearray)):
            return self._text(_bytes_text(value))
        if isinstance(value, _CONTAINERS):
            return self._container(value, depth, room)
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, numpy.generic):
            plain = value.item()
            field = self._by_type.get(type(plain))
            return field(plain) if field else self._text(str(value))
        if hasattr(value, "shape") and hasattr(value, "dtype"):
            # Asking an array for more than these two may wait for its device.
            shape = ",".join(map(str, value.shape))
            return self._text(f"{type(value).__name__} {value.dtype}[{shape}]")
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            # Nor is its repr asked for: there may be arrays in it.
            names = [field.name for field in dataclasses.fields(value)]
            return self._container({n: getattr(value, n) for n in names}, depth, room)
        return self._text(repr(value))

    def _container(self, value: Any, depth: int, room: list[int]) -> bytes:
        if not value:
            return self._text(str(value))  # Perfetto drops what has no entry.
        if depth >= MAX_DEPTH or room[0] <= 0:
            return self._text(f"… ({type(value).__name__} of {len(value)})")
        fits = min(len(value), room[0])
        room[0] -= fits
        if isinstance(value, Mapping):
            items = list(itertools.islice(value.items(), fits))
            if fits < len(value):
                items.append(("…", f"{len(value) - fits} more"))
            entries = self._entries(items, depth + 1, room)
            return b"".join([blob(_DICT_ENTRY, entry) for entry in entries])
        parts = list(itertools.islice(value, fits))
        if fits < len(value):
            parts.append(f"… {len(value) - fits} more")
        values = [self._value(part, depth + 1, room) for part in parts]
        return b"".join([blob(_ARRAY_VALUE, data) for data in values])


def _key_text(tag: Any) -> str:
    try:
        return str(tag)
    except Exception:
        return f"<{type(tag).__name__}>"


def _bytes_text(value: bytes | bytearray) -> str:
    first = repr(bytes(value[:_MAX_BYTES]))
    return first if len(value) <= _MAX_BYTES else f"{first}… ({len(value)} bytes)"
