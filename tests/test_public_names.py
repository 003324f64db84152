"""The public surface: `public_names.txt` changes only on purpose.

`python -m tests.test_public_names --update` writes the list anew, to be read as a diff.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.surface import Recorded, described, unlisted

RECORDED = Recorded(
    Path(__file__).with_name("public_names.txt"),
    frozenset({"adapters.tunix", "collect", "doors", "loggers", "loggers.backends"}),
)
"""Of the layers that users import from."""


def test_the_public_surface_is_the_recorded_one() -> None:
    """Every public name has the parameters and members on the checked-in list."""
    drift = RECORDED.drift()
    assert not drift, f"if on purpose, `make public-names`:\n{drift}"


@pytest.mark.parametrize("module", RECORDED.modules())
def test_public_modules_list_their_names(module: str) -> None:
    """`__all__` of a public module is sorted and each name in it is there."""
    assert [] == unlisted(module)


class Sample:
    """What `described` tells apart."""

    limit = 3

    def method(self, x: int, *, y: float = 0.5) -> None:
        """Takes two."""

    @property
    def answer(self) -> int:
        """A property."""
        return 42

    @classmethod
    def make(cls, *parts: str) -> Sample:
        """A class method."""
        return cls()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("limit", "limit = 3"),
        ("method", "method(self, x, *, y=0.5)"),
        ("answer", "answer (property)"),
        ("make", "make(cls, *parts) (classmethod)"),
    ],
)
def test_a_line_tells_how_a_name_is_used(name: str, line: str) -> None:
    """A changed parameter, default or kind of a name changes its line."""
    assert line == described(name, vars(Sample)[name])


if __name__ == "__main__":
    RECORDED.main()
