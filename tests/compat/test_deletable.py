"""The faces can be deleted: all other tests pass without them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.layers import ROOT
from tools.mutate import NOT_COPIED

TIMEOUT_S = 1800
"""Four minutes on two cores; it only ends what would never end."""

LOOKS_AT_ALL = [
    "tests/test_layers.py",
    "tests/test_public_names.py",
    "tests/tools/test_rows.py",
]
"""The tests of what the whole tree holds."""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., int]:
    """Runs Python in a copy of the tree without the faces; returns its exit status."""
    tree = tmp_path_factory.mktemp("without_faces") / "tree"
    shutil.copytree(ROOT, tree, ignore=NOT_COPIED, symlinks=True)
    shutil.rmtree(tree / "perf" / "compat")
    shutil.rmtree(tree / "tests" / "compat")
    # An editable install would go on finding the deleted modules where it was made.
    # Python looks for such installs in the folder of its own environment only: here it
    # has one in which the packages of ours are no more than a folder on the path.
    environment = tree.with_name("environment")
    venv.create(environment, symlinks=True)
    base = {"base": str(environment)}
    places = [tree, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    Path(sysconfig.get_path("purelib", "venv", base), "places.pth").write_text(
        "".join(f"{place}\n" for place in places)
    )
    others = {name: os.environ[name] for name in os.environ if name != "PYTHONPATH"}

    def run(*arguments: str) -> int:
        return subprocess.run(
            [environment / "bin" / "python", *arguments],
            cwd=tree,
            env=others,
            timeout=TIMEOUT_S,
            check=False,
        ).returncode

    return run


def test_they_are_deleted(python: Callable[..., int]) -> None:
    """Python finds the package there, and no faces in it."""
    assert 0 == python(
        "-c",
        "from importlib.util import find_spec\n"
        "assert find_spec('perf.loggers')\n"
        "assert not find_spec('perf.compat')",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--collect-only", "--quiet"], id="found"),
        pytest.param(LOOKS_AT_ALL, id="some"),
        pytest.param(
            ["-n", "auto", "--dist", "loadfile"],
            marks=pytest.mark.without_faces,
            id="all",
        ),
    ],
)
def test_all_else_works_without_the_faces(
    python: Callable[..., int], arguments: list[str]
) -> None:
    """All other tests are imported, and pass: here some, in `.ci/run` all of them."""
    assert 0 == python("-m", "pytest", *arguments)
