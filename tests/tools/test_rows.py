from __future__ import annotations

from pathlib import Path

import pytest

from tools import rows


@pytest.mark.parametrize("letter", ["B", "M", "L", "P"])
def test_a_section_is_that_of_the_tests(letter: str) -> None:
    """It promises nothing that no test shows: `python -m tools.rows` writes it."""
    section = rows.section(letter, rows.proofs(rows.ROOT / "tests"))
    assert section in rows.TABLE.read_text()
    assert "| – |" not in section


def test_marks_are_found(tmp_path: Path) -> None:
    """Those of functions and methods, several rows at once."""
    (tmp_path / "test_x.py").write_text(
        "@pytest.mark.row('P1', 'L3')\n"
        "def test_a(): ...\n"
        "class TestB:\n"
        "    @pytest.mark.slow\n"
        "    @pytest.mark.row('P1')\n"
        "    async def test_c(self): ...\n"
    )
    found = rows.proofs(tmp_path)
    file = f"{tmp_path.name}/test_x.py"
    assert found["P1"] == [(file, "test_a"), (file, "test_c")]
    assert found["L3"] == [(file, "test_a")]
    assert not found["P2"]


def test_a_row_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """A slip of the pen proves nothing."""
    (tmp_path / "test_x.py").write_text("@pytest.mark.row('Q1')\ndef test_a(): ...\n")
    with pytest.raises(ValueError, match=r"test_x\.py::test_a: no row 'Q1'"):
        rows.proofs(tmp_path)
