"""Figures and names as sentences, tables and charts show them to people."""

from __future__ import annotations

from typing import Final

from perf._model.roles import REFERENCE

_ROLE_NAMES: Final = {REFERENCE: "the reference"}


def role_name(role: str) -> str:
    """What a role is called in a sentence."""
    return _ROLE_NAMES.get(role, f"the {role}" if role else "no role")


def counted(number: int, what: str) -> str:
    """How many for people: `1 step`, `2 steps`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def percent(share: float) -> str:
    """A share for people: `22 %`."""
    value = share * 100
    # Of what it is shown as: 9.96 is ten.
    digits = 1 if round(abs(value), 1) < 10 else 0
    return f"{_minus(value)}{abs(value):.{digits}f} %"


def signed_percent(share: float) -> str:
    """A change of a share for people: `+22 %`."""
    return f"{'+' * (share > 0)}{percent(share)}"


def duration(ns: float) -> str:
    """A length of time for people: `1.25 s`."""
    value, sign = abs(ns), _minus(ns)
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if value >= 0.9995 * size:  # or it would be shown as 1e+03 of the next
            shown = value / size
            if unit == "s" and shown >= 600:
                return f"{sign}{shown / 60:.0f} min"
            return f"{sign}{shown:.3g} {unit}"
    return f"{sign}{value:.0f} ns"


def signed_duration(ns: float) -> str:
    """A change of a length of time for people: `+1.25 s`."""
    return f"{'+' * (ns > 0)}{duration(ns)}"


def signed(value: float) -> str:
    """A change for people: `+1.5`."""
    return f"{value:+.1f}".replace("-", "−")


def _minus(value: float) -> str:
    return "−" if value < 0 else ""
