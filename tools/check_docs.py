"""Runs the examples in Markdown files and follows their links.

    python -m tools.check_docs [FILE …]

The ```python blocks of a file run one after the other in one namespace, in a process
and a folder of their own. A comment on the line before excuses a block from running:

    <!-- no-run: needs a TPU -->

Links and images that are relative must lead to a file, and to a heading in it where
they name one.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).parent.parent
TIMEOUT_S = 300  # mutate: ok it only ends what would never end

FENCE = re.compile(
    r"(?:<!-- no-run:[ ]*(?P<reason>.*?)[ ]*-->[ ]*\n\s*)?"
    r"^(?P<fence>[ ]*(?:```+|~~~+))[ ]*(?P<language>\w*)[^\n]*\n"
    r"(?P<code>.*?)"
    r"^(?P=fence)[ ]*$",
    re.MULTILINE | re.DOTALL,
)
LINK = re.compile(
    r"\[[^\]]*\]\(\s*<?(?P<inline>[^)\s>]+)[^)]*\)"
    r"|^\s*\[[^\]]+\]:\s*<?(?P<reference>[^\s>]+)"
    r"|<(?:img|a)\b[^>]*?\b(?:src|href)=\"(?P<html>[^\"]+)\"",
    re.MULTILINE,
)
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$", re.MULTILINE)
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//")


@dataclasses.dataclass(frozen=True)
class Block:
    """A Python example."""

    line: int
    """Of its first line of code, in the file."""
    code: str
    no_run: str | None
    """Why it is not run; None for one that is."""


def blocks(text: str) -> Iterator[Block]:
    """The Python examples in a Markdown text."""
    for match in FENCE.finditer(text):
        if match["language"] == "python":
            line = text[: match.start("code")].count("\n") + 1
            yield Block(line, textwrap.dedent(match["code"]), match["reason"])


def run_blocks(path: Path) -> None:
    """Runs the examples of a file in this process."""
    namespace = {"__name__": "__main__"}
    for block in blocks(path.read_text(encoding="utf-8")):
        if block.no_run is None:
            # Tracebacks tell the lines of the Markdown file.
            padded = "\n" * (block.line - 1) + block.code
            exec(compile(padded, path, "exec"), namespace)


def failed_examples(path: Path) -> Iterator[str]:
    """What is wrong with the examples of a file."""
    found = list(blocks(path.read_text(encoding="utf-8")))
    for block in found:
        if block.no_run == "":
            yield f"{path}:{block.line}: no-run needs a reason"
    if all(block.no_run is not None for block in found):
        return
    with tempfile.TemporaryDirectory(prefix="docs-") as folder:
        try:
            subprocess.run(
                [sys.executable, "-m", "tools.check_docs", "--run", path.resolve()],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=True,
                timeout=TIMEOUT_S,
            )
        except subprocess.CalledProcessError as error:
            yield f"{path}: an example fails\n{error.stdout}"
        except subprocess.TimeoutExpired:
            yield f"{path}: the examples are not done after {TIMEOUT_S} s"


def broken_links(path: Path) -> Iterator[str]:
    """The relative links of a file that lead nowhere."""
    text = path.read_text(encoding="utf-8")
    prose = _without_code(text)
    for match in LINK.finditer(prose):
        target = next(filter(None, match.groups()))
        if ELSEWHERE.match(target):
            continue
        name, _, heading = unquote(target).partition("#")
        place = path.parent / name if name else path
        line = prose[: match.end()].count("\n") + 1
        if not place.exists():
            yield f"{path}:{line}: {target}: there is no such file"
        elif heading and place.suffix == ".md" and heading not in _anchors(place):
            yield f"{path}:{line}: {target}: there is no such heading"


def _without_code(text: str) -> str:
    """A Markdown text with code blanked; every line keeps its number."""
    text = FENCE.sub(lambda match: "\n" * match[0].count("\n"), text)
    return re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "", text)


def _anchors(path: Path) -> set[str]:
    """The names under which the headings of a file can be linked to."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in HEADING.findall(text)
    }


def documents() -> list[Path]:
    """The Markdown files of the project."""
    top = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "changelog.d/README.md"]
    return [path for path in top if path.exists()] + sorted(ROOT.glob("docs/**/*.md"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.check_docs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.run:
        run_blocks(options.run)
        return 0  # mutate: ok None is the same exit status
    faults = [
        fault
        for path in options.files or documents()
        for check in (broken_links, failed_examples)
        for fault in check(path)
    ]
    print("\n".join(faults) or "every example runs, every link leads somewhere")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
