"""Which tags reach a file: content only if asked for, others as a hook says."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from perf._model.log import OnceLog
from perf._model.spans import COUNTER, Batch, RawRecord

RedactTags = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]
"""From a span's name and tags to the tags that are written. A hook that fails lets
none through."""

CONTENT_WORDS: Final = frozenset(
    [
        "completion",
        "completions",
        "content",
        "contents",
        "conversation",
        "conversations",
        "messages",
        "prompt",
        "prompts",
        "response",
        "responses",
        "text",
        "texts",
        "transcript",
        "transcripts",
    ]
)
"""What people and models wrote. A key is one for content if its last word is among
these: `prompt`, `user_prompt`, `completionText`, `prompt_2`; not `prompt_tokens`."""

LEFT_OUT: Final = "(content: not written)"
"""Stands in a file for the value of such a tag."""

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_LONGEST_KEY: Final = 256
_NUMBERS: Final = (bool, int, float, type(None))


@dataclasses.dataclass(frozen=True, slots=True)
class TagRules:
    """What a writer does with tags.

    Args:
        redact: the user's hook.
        keep: keys of content that is written all the same.
    """

    redact: RedactTags | None = None
    keep: frozenset[str] = frozenset()

    @classmethod
    def of(cls, redact: RedactTags | None, keep: Iterable[str]) -> TagRules:
        """From what the public writers are given.

        Raises:
            ValueError: the hook cannot be called, or `keep` is no collection of names.
        """
        if redact is not None and not callable(redact):
            raise ValueError(
                f"redact_tags={redact!r}: expected a function of a span's name and "
                f"tags, found {type(redact).__name__}"
            )
        # Neither one name, which is a collection of letters, nor names with a "no".
        is_wrong = isinstance(keep, (str, Mapping)) or not isinstance(keep, Iterable)
        names = [] if is_wrong else list(keep)
        if is_wrong or not all(isinstance(name, str) for name in names):
            raise ValueError(
                f"keep_content={keep!r}: expected names of tags, e.g. ['prompt']"
            )
        return cls(redact, frozenset(names))

    def leaves_out(self, key: str, value: Any) -> bool:
        """Whether a value is content that nobody asked for. Numbers never are."""
        if isinstance(value, _NUMBERS):
            return False
        return _is_content(key[-_LONGEST_KEY:]) and key not in self.keep

    def redacted(self, batch: Batch, log: OnceLog) -> Batch:
        """The same batch with the tags that the hook lets through."""
        if self.redact is None:
            return batch

        def through(record: RawRecord) -> RawRecord:
            if record[5] == COUNTER or not record[6]:
                return record
            return (*record[:6], self._redacted(record[0], record[6], log), record[7])

        return batch._replace(
            records=[(info, list(map(through, some))) for info, some in batch.records],
            open=[(info, list(map(through, some))) for info, some in batch.open],
        )

    def _redacted(
        self, name: str, tags: Mapping[str, Any], log: OnceLog
    ) -> dict[str, Any]:
        assert self.redact is not None
        try:
            return {**self.redact(name, {**tags})}
        except Exception as error:
            # Neither is the error shown: it may quote what is not to be seen.
            log.say(
                "redact",
                f"redact_tags failed with {type(error).__name__}: tags of spans for "
                "which it fails are not written",
            )
            return {}


@functools.lru_cache(maxsize=4_096)
def _is_content(key: str) -> bool:
    words = _WORD.findall(key)
    return bool(words) and words[-1].lower() in CONTENT_WORDS
