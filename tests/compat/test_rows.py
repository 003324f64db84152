"""The table of all rows; the faces' tests prove more than half of them."""

from __future__ import annotations

from tools import rows


def test_the_table_is_that_of_the_tests() -> None:
    """It promises nothing that no test shows: `python -m tools.rows` writes it."""
    found = rows.proofs(rows.ROOT / "tests")
    assert rows.table(found) == rows.TABLE.read_text()
    assert [] == [row for row, tests in found.items() if not tests]
    assert 164 == len(found)
