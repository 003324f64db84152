"""Keeps the names of spans few, short and printable, whatever the user passes."""

from __future__ import annotations

import operator
from itertools import chain
from typing import Any, Final

from perf._model.log import OnceLog
from perf._model.spans import Records

MAX_NAMES: Final = 10_000  # mutate: ok any number of this size
MAX_LENGTH: Final = 512
"""Characters of a name; a longer one is cut and says so."""
OTHER: Final = "(other)"

_name_of = operator.itemgetter(0)
_records_of = operator.itemgetter(1)


class Names:
    """The distinct names of a tracer's run. Not thread-safe: its owner locks."""

    def __init__(self, log: OnceLog) -> None:
        self._log = log
        self._known: set[Any] = set()

    def __len__(self) -> int:
        return len(self._known)

    def checked(self, parts: Records) -> Records:
        """The same records with proper names; the same lists if all are known."""
        names = map(_name_of, chain.from_iterable(map(_records_of, parts)))
        try:
            if self._known.issuperset(names):
                return parts
        except Exception:  # a name that cannot be hashed
            pass
        return [
            (info, [(self._name(record[0]), *record[1:]) for record in records])
            for info, records in parts
        ]

    def _name(self, name: Any) -> str:
        name = proper(name)
        if name not in self._known:
            if len(self._known) >= MAX_NAMES:
                self._log.say(
                    "too-many-names",
                    f"more than {MAX_NAMES} distinct span names, {name!r} among them: "
                    f"further ones are called {OTHER!r}. Put what varies into tags.",
                )
                return OTHER
            self._known.add(name)
        return str(name)


def proper(name: Any) -> str:
    """A name as text of bounded length, whatever it is."""
    text = name if type(name) is str else as_text(name)
    if len(text) > MAX_LENGTH:
        text = f"{text[:MAX_LENGTH]}… ({len(text)} characters)"
    return text


def as_text(name: Any) -> str:
    """A name as text, whatever it is."""
    try:
        if isinstance(name, (bytes, bytearray)):
            return bytes(name).decode(errors="backslashreplace")
        return str(name)
    except Exception:
        return f"<{type(name).__name__}>"


def shown(value: Any) -> str:
    """For a log line; the value's own __repr__ may be broken."""
    try:
        return repr(value)[:200]
    except Exception:
        return f"<{type(value).__name__}>"
