"""The documents on the faces, and the table of rows."""

from __future__ import annotations

from pathlib import Path

from tests.tools.test_check_docs import ON_FACES, check, each_of


@each_of(ON_FACES)
def test_the_documents_are_true(path: Path) -> None:
    """Every example in a document runs as it stands, and every link leads somewhere."""
    check(path)
