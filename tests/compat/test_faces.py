"""Nothing else imports the faces, and they are what a face may be: thin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.layers import ROOT, sources
from tests.test_layers import Import, imports

COMPAT = "perf.compat"


def outside() -> Iterator[tuple[str, str]]:
    """Name and source of every module that has to do without `perf/compat`."""
    for name, source in sources().items():
        if not f"{name}.".startswith(f"{COMPAT}."):
            yield name, source
    own = ROOT / "tests" / "compat"
    for folder in ("tests", "tools", "benchmarks", "examples"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if own not in path.parents:
                name = path.relative_to(ROOT).with_suffix("").as_posix()
                yield name.replace("/", "."), path.read_text(encoding="utf-8")


def of_compat(found: Import) -> bool:
    """Whether an import is of `perf/compat` or its tests."""
    return f"{found.target}.".startswith((f"{COMPAT}.", "tests.compat."))


def test_nothing_else_imports_the_faces() -> None:
    """Neither eagerly nor in a function: without them all else imports as before."""
    found = [
        str(each)
        for name, source in outside()
        for each in imports(name, source)
        if of_compat(each)
    ]
    assert not found, "\n".join(found)


def test_an_import_of_a_face_would_be_found() -> None:
    """In a function too."""
    source = "def f():\n    from perf import compat\n    import tests.compat.jepa"
    assert [True, True] == [of_compat(each) for each in imports("perf.trace", source)]


@pytest.mark.parametrize("folder", ["instructlab", "jepa", "refunc"])
def test_faces_import_loggers_and_collect_only(folder: str) -> None:
    """And each other's modules never."""
    allowed = ("perf.loggers.", "perf.collect.", f"{COMPAT}.{folder}.")
    found = [
        str(each)
        for name, source in sources().items()
        if name.startswith(f"{COMPAT}.{folder}")
        for each in imports(name, source)
        if each.target.startswith("perf.") and not f"{each.target}.".startswith(allowed)
    ]
    assert not found, "\n".join(found)


def test_faces_are_thin() -> None:
    """Fewer than 2500 lines together: what is more belongs into the pipeline."""
    files = Path(ROOT, "perf", "compat").rglob("*.py")
    assert 2500 > sum(len(path.read_text().splitlines()) for path in files)
