"""The names of the faces: `public_names.txt` changes only on purpose.

`python -m tests.compat.test_public_names --update` writes that list anew.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import test_public_names
from tests.surface import Recorded, unlisted

RECORDED = Recorded(
    Path(__file__).with_name("public_names.txt"),
    frozenset({"compat"}),
    elsewhere=test_public_names.RECORDED.layers,
)


def test_the_names_of_the_faces_are_the_recorded_ones() -> None:
    """Every name has the parameters and members on the checked-in list."""
    drift = RECORDED.drift()
    assert not drift, f"if on purpose, `make public-names`:\n{drift}"


@pytest.mark.parametrize("module", RECORDED.modules())
def test_faces_list_their_names(module: str) -> None:
    """`__all__` of each module is sorted and each name in it is there."""
    assert [] == unlisted(module)


if __name__ == "__main__":
    RECORDED.main()
