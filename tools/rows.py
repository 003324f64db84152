"""Writes which test proves which row: `python -m tools.rows`.

A test says so itself: `@pytest.mark.row("P25")`. The table holds what stands in the
tests and nothing else; a test fails if it does not.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.row_titles import DOCUMENTS, TITLES

ROOT: Final = Path(__file__).resolve().parent.parent
TABLE: Final = ROOT / "docs" / "reference" / "rows.md"


def proofs(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """File and name of the tests that are marked with each row.

    Raises:
        ValueError: a row that there is none of.
    """
    found: dict[str, list[tuple[str, str]]] = {row: [] for row in TITLES}
    for path in sorted(folder.rglob("test_*.py")):
        file = path.relative_to(folder.parent).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for row in _rows(node):
                    if row not in found:
                        raise ValueError(f"{file}::{node.name}: no row {row!r}")
                    found[row].append((file, node.name))
    return found


def _rows(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith(
            "mark.row"
        ):
            for argument in decorator.args:
                yield ast.literal_eval(argument)


def table(found: dict[str, list[tuple[str, str]]]) -> str:
    """The page."""
    proven = sum(1 for tests in found.values() if tests)
    lines = [
        "# What works, and which test proves it",
        "",
        "Made from the marks of the tests by `python -m tools.rows`.",
        f"Of {len(found)} rows, {proven} are proven.",
    ]
    return "\n".join(lines) + "\n" + "".join(section(each, found) for each in DOCUMENTS)


def section(letter: str, found: dict[str, list[tuple[str, str]]]) -> str:
    """The part of the page on one document's rows."""
    lines = [
        "",
        f"## {DOCUMENTS[letter]}",
        "",
        "| row | | proven by |",
        "| --- | --- | --- |",
    ]
    for row, title in TITLES.items():
        if row.rstrip("0123456789") == letter:
            tests = "<br>".join(_link(*test) for test in found[row]) or "–"
            lines.append(f"| {row} | {title} | {tests} |")
    return "\n".join(lines) + "\n"


def _link(file: str, name: str) -> str:
    return f"[{name}](../../{file})"


if __name__ == "__main__":
    TABLE.write_text(table(proofs(ROOT / "tests")), encoding="utf-8")
