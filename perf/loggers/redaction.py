"""Secrets have no place in a log line or an error."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Iterable
from typing import Final

__all__ = ["HIDDEN", "error_line", "is_secret_name", "redact"]

HIDDEN: Final = "[hidden]"

_SECRET_NAME: Final = re.compile(
    r"(?i)(api_?key|token|secret|passw(or)?d|webhook|credential|authorization)"
)
_SHORTEST: Final = 6
"""Shorter values are words: hiding "on" would hide half a sentence."""
_PATTERNS: Final = (
    # user:password@ of a URL
    (re.compile(r"(?<=://)[^/\s@'\"]+@"), f"{HIDDEN}@"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), rf"\1 {HIDDEN}"),
    # Webhooks: whoever has the path may post.
    (
        re.compile(
            r"(?i)(https?://[^\s'\"]*?/(?:services|api/webhooks|webhooks?)/)[^\s'\"<>]+"
        ),
        rf"\1{HIDDEN}",
    ),
    (
        re.compile(
            r"(?i)([\w-]*(?:api_?key|token|secret|passw(?:or)?d|signature)"
            r"['\"]?\s*[=:]\s*['\"]?)[^\s'\"&,;)}\]]{3,}"
        ),
        rf"\1{HIDDEN}",
    ),
)


def is_secret_name(name: str) -> bool:
    """Whether a key or an environment variable of this name holds a secret."""
    return bool(_SECRET_NAME.search(name))


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """A text without the secrets given, those of the environment, and what looks so."""
    environment = (value for name, value in os.environ.items() if is_secret_name(name))
    # The longest first: one may be part of another.
    for secret in sorted({*secrets, *environment}, key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, HIDDEN)
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text


def error_line(error: BaseException, secrets: Iterable[str] = ()) -> str:
    """An error as one line with the place it came from, without secrets.

    Tracebacks show the messages of all errors in the chain, so none is logged.
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    try:
        text = str(error)
    except Exception:  # whatever made it left it half made
        text = ""
    text = " ".join(text.split()) or "no message"
    return f"{type(error).__name__}: {redact(text, secrets)[:500]}{place}"
