"""The examples and links of README and docs, and the tool that checks them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tools import check_docs

ON_FACES = [
    *sorted(check_docs.ROOT.glob("docs/compat/*.md")),
    check_docs.ROOT / "docs" / "reference" / "rows.md",  # It leads to their tests.
]
"""The documents that are true only of a tree with `perf/compat` and its tests."""


def each_of(paths: Sequence[Path]) -> pytest.MarkDecorator:
    """Runs a test with each of some documents."""
    return pytest.mark.parametrize(
        "path", paths, ids=lambda path: str(path.relative_to(path.parents[1]))
    )


def check(path: Path) -> None:
    """Fails if there is a fault in a document."""
    faults = [*check_docs.broken_links(path), *check_docs.failed_examples(path)]
    assert not faults, "\n".join(faults)


@each_of([path for path in check_docs.documents() if path not in ON_FACES])
def test_the_documents_are_true(path: Path) -> None:
    """Every example in a document runs as it stands, and every link leads somewhere."""
    check(path)


def test_examples_share_a_namespace(tmp_path: Path) -> None:
    """A block sees the names of those before it, in a list too; others are left out."""
    path = tmp_path / "page.md"
    path.write_text(
        "```python\nx = 1\n```\n"
        "```sh\nexit 1\n```\n"
        "<!-- no-run: needs a TPU -->\n```python\n1 / 0\n```\n"
        "- item\n\n  ```python\n  assert x == 1\n  ```\n"
    )
    assert [] == list(check_docs.failed_examples(path))
    assert [2, 9, 14] == [block.line for block in check_docs.blocks(path.read_text())]


def test_a_failing_example_is_named(tmp_path: Path) -> None:
    """The traceback of an example tells the line in the document."""
    path = tmp_path / "page.md"
    path.write_text("Text.\n\n```python\nx = 0\n1 / x\n```\n")
    [fault] = check_docs.failed_examples(path)
    assert f'"{path}", line 5' in fault
    assert "\nZeroDivisionError: division by zero" in fault


def test_no_run_needs_a_reason(tmp_path: Path) -> None:
    """A block can only be excused by saying why."""
    path = tmp_path / "page.md"
    path.write_text("<!-- no-run: -->\n```python\n1 / 0\n```\n")
    assert [f"{path}:3: no-run needs a reason"] == list(
        check_docs.failed_examples(path)
    )


@pytest.mark.parametrize(
    "link",
    [
        "[a](other.md)",
        "[a](other.md#two-words-its-id)",
        "[a](#here)",
        "![a](image.png 'title')",
        '<img src="image.png">',
        "[a]: other.md",
        "[a](https://example.org/missing)",
        "[a](mailto:someone@example.org)",
        "`[a](missing.md)`",
        "```\n[a](missing.md)\n```",
    ],
)
def test_links_that_lead_somewhere(tmp_path: Path, link: str) -> None:
    """Links to files and headings that exist, to the web and in code are no faults."""
    (tmp_path / "image.png").touch()
    (tmp_path / "other.md").write_text("## Two words: its `id`\n")
    path = tmp_path / "page.md"
    path.write_text(f"# Here\n\n{link}\n")
    assert [] == list(check_docs.broken_links(path))


@pytest.mark.parametrize(
    ("link", "fault"),
    [
        ("[a](missing.md)", "missing.md: there is no such file"),
        ("![a](missing.png)", "missing.png: there is no such file"),
        ('<img src="missing.png">', "missing.png: there is no such file"),
        ("[a]: missing.md", "missing.md: there is no such file"),
        ("[a](#there)", "#there: there is no such heading"),
    ],
)
def test_links_that_lead_nowhere(tmp_path: Path, link: str, fault: str) -> None:
    """A relative link to nothing is named with its line."""
    path = tmp_path / "page.md"
    path.write_text(f"# Here\n\n{link}\n")
    assert [f"{path}:3: {fault}"] == list(check_docs.broken_links(path))


@pytest.mark.parametrize(
    ("text", "status", "says"),
    [
        ("[a](page.md)", 0, "every example runs, every link leads somewhere\n"),
        ("[a](b.md)", 1, "{path}:1: b.md: there is no such file\n"),
    ],
)
def test_the_exit_status_tells(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    status: int,
    says: str,
) -> None:
    """The command names every fault, and exits with 1 if there is one."""
    path = tmp_path / "page.md"
    path.write_text(text)
    assert status == check_docs.main([str(path)])
    assert says.format(path=path) == capsys.readouterr().out
