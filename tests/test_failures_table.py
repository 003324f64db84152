from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "docs" / "reference" / "failures.md"
ROWS = re.findall(
    r"^\| (\d+) \|(.*)\|$", TABLE.read_text(encoding="utf-8"), re.MULTILINE
)
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def test_every_failure_has_its_row() -> None:
    """The 28 of the parts and the two of the whole, in order."""
    assert [str(number) for number in range(1, 31)] == [number for number, _ in ROWS]


@pytest.mark.parametrize(("number", "row"), ROWS, ids=[number for number, _ in ROWS])
def test_what_proves_ours_is_there(number: str, row: str) -> None:
    """Each row names tests that exist."""
    there, here, shown_by = (cell.strip() for cell in row.split("|"))
    assert there
    assert here
    named = NAMED.findall(shown_by)
    assert len(named) == shown_by.count("::") > 0
    for path, name in named:
        source = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^(async )?def {name}\(", source, re.MULTILINE), (
            f"{path}::{name}"
        )
