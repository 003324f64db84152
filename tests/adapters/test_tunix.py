"""The adapter, on a small package that stands for google-tunix."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.layers import ROOT
from tests.programs import run_python

STAND_IN = {
    "tunix/__init__.py": "",
    "tunix/rl.py": "from tunix.perf import trace as perf_trace\n",
    "tunix/perf/trace.py": "raise AssertionError('its own tracer was loaded')\n",
    "tunix/perf/only_theirs.py": "",
}
"""Its `perf` is a namespace package, as google-tunix's is."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the package, from which programs are started."""
    for name, source in STAND_IN.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return tmp_path


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in the folder, whose modules it finds."""
    path = os.pathsep.join([str(folder), str(ROOT)])
    return run_python(*arguments, folder=folder, PYTHONPATH=path)


def printed(folder: Path, *arguments: str) -> str:
    """What a program printed that came to a good end."""
    done = python(folder, *arguments)
    assert 0 == done.returncode, done.stderr
    return done.stdout.strip()


def installed(folder: Path, code: str) -> str:
    """What code prints after `install()`."""
    return printed(
        folder, "-c", f"from perf.adapters import tunix\ntunix.install()\n{code}"
    )


def test_the_framework_gets_our_modules(folder: Path) -> None:
    """However they are imported, and by whomever."""
    code = """
import perf.trace, perf.experimental.tracer
import tunix.rl
import tunix.perf.experimental.tracer as v2
import tunix.perf.metrics
from tunix.perf.export import PerfMetricsExport
print(
    tunix.rl.perf_trace is perf.trace,
    v2 is perf.experimental.tracer,
    tunix.perf is perf,
    tunix.perf.metrics is perf.metrics,
    PerfMetricsExport is perf.export.PerfMetricsExport,
)
"""
    assert "True True True True True" == installed(folder, code)


def test_our_modules_stay_as_they_are(folder: Path) -> None:
    """Each is loaded once, under its own name."""
    code = """
import tunix.perf.trace, sys
print(tunix.perf.trace.__spec__.name, tunix.perf.trace.__name__, tunix.perf.__name__)
print(tunix.perf.trace is sys.modules["perf.trace"])
"""
    assert "perf.trace perf.trace perf\nTrue" == installed(folder, code)


def test_what_only_the_framework_has_is_not_found(folder: Path) -> None:
    """Neither its own tracer nor half of it is used without a word."""
    code = """
try:
    import tunix.perf.only_theirs
except ModuleNotFoundError as error:
    print(error)
"""
    assert "No module named 'tunix.perf.only_theirs'" == installed(folder, code)


def test_other_modules_are_left_alone(folder: Path) -> None:
    """Those whose names begin alike, too."""
    (folder / "tunix/performance.py").write_text("x = 1\n")
    code = "from tunix import performance; print(performance.x, performance.__name__)"
    assert "1 tunix.performance" == installed(folder, code)


def test_a_second_call_does_nothing(folder: Path) -> None:
    """The framework may be loaded by then."""
    code = "import sys, tunix.rl; n = len(sys.meta_path); tunix_rl = tunix.rl\n"
    code += "from perf.adapters import tunix; tunix.install()\n"
    code += "print(len(sys.meta_path) - n)"
    assert "0" == installed(folder, code)


def test_it_is_too_late_after_the_framework_was_imported(folder: Path) -> None:
    """The error says what was found and what to do."""
    (folder / "tunix/perf/trace.py").write_text("")
    code = "import tunix.rl\nfrom perf.adapters import tunix\ntunix.install()"
    error = python(folder, "-c", code).stderr
    assert "RuntimeError: perf.adapters.tunix.install() has to come before" in error
    assert "tunix.perf" in error
    assert "python -m perf.adapters.tunix script.py" in error


PROGRAM = """
import sys
from perf.adapters import tunix
tunix.install()
import neighbour
import tunix.rl
print(__name__, sys.argv[1:], tunix.rl.perf_trace.__name__)
"""


def test_a_script_runs_unchanged(folder: Path) -> None:
    """With its arguments, as `__main__`, beside its modules; it may install, too."""
    (folder / "scripts").mkdir()
    (folder / "scripts/neighbour.py").write_text("")
    (folder / "scripts/train.py").write_text(PROGRAM)
    found = printed(
        folder, "-m", "perf.adapters.tunix", "scripts/train.py", "--steps", "-m"
    )
    assert "__main__ ['--steps', '-m'] perf.trace" == found


def test_a_module_runs_unchanged(folder: Path) -> None:
    """Likewise with `-m`."""
    (folder / "neighbour.py").write_text("")
    (folder / "train.py").write_text(PROGRAM)
    found = printed(folder, "-m", "perf.adapters.tunix", "-m", "train", "-x")
    assert "__main__ ['-x'] perf.trace" == found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("no.py", "-x"), "no.py: no such file"),
        (("-m", "nothing"), "no module named nothing"),
        (("-m", "no.module"), "no module named no.module"),
        (("-m", "tunix.nothing"), "no module named tunix.nothing"),
    ],
)
def test_a_program_that_is_not_there_is_named(
    folder: Path, arguments: tuple[str, ...], said: str
) -> None:
    """In a line, without a traceback."""
    done = python(folder, "-m", "perf.adapters.tunix", *arguments)
    assert 1 == done.returncode
    assert f"python -m perf.adapters.tunix: {said}\n" == done.stderr


def test_a_package_around_a_module_may_lack_something(folder: Path) -> None:
    """Then the traceback says where."""
    (folder / "train").mkdir()
    (folder / "train/__init__.py").write_text("import nothing")
    done = python(folder, "-m", "perf.adapters.tunix", "-m", "train.main")
    assert "No module named 'nothing'" in done.stderr
    assert "train/__init__.py" in done.stderr


@pytest.mark.parametrize("arguments", [(), ("-m",), ("--help",)])
def test_without_a_program_it_says_how(folder: Path, arguments: tuple[str]) -> None:
    """Nothing is run."""
    done = python(folder, "-m", "perf.adapters.tunix", *arguments)
    assert (1, "usage: python -m perf.adapters.tunix (script.py | -m module) …") == (
        done.returncode,
        done.stderr.strip(),
    )
