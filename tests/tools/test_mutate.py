"""The mutation checker finds what no test notices, and leaves the sources alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import mutate


@pytest.mark.parametrize(
    ("module", "tests"),
    [
        ("perf/_read/query.py", "tests/read/test_query.py"),
        ("perf/loggers/backends/console.py", "tests/loggers/backends/test_console.py"),
        ("perf/trace.py", "tests/test_trace.py"),
        ("perf/__main__.py", "tests/test_main.py"),
        ("tools/mutate.py", "tests/tools/test_mutate.py"),
    ],
)
def test_the_tests_of_a_module_mirror_it(module: str, tests: str) -> None:
    """The tests of a module are found by its path."""
    assert Path(tests) == mutate.tests_of(Path(module))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A tree with one module and a test that looks at one of its two names."""
    (tmp_path / "perf").mkdir()
    (tmp_path / "perf" / "__init__.py").touch()
    (tmp_path / "perf" / "small.py").write_text("LIMIT = 3\n\nSTRICT = True\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_small.py").write_text(
        "from perf.small import LIMIT\n\n\ndef test_limit():\n    assert LIMIT == 3\n"
    )
    return tmp_path


def test_survivors_are_reported(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What no test notices is shown with its line and the change; sources stay."""
    module = project / "perf" / "small.py"
    assert mutate.main([str(module)], root=project) == 1
    assert (
        "perf/small.py:3 survives\n    -STRICT = True\n    +STRICT = False\n"
        "perf/small.py: 2 of 2 changes tried, 1 survived, 0 excused\n"
        == capsys.readouterr().out
    )
    assert module.read_text() == "LIMIT = 3\n\nSTRICT = True\n"


def test_endless_tests_have_failed(project: Path, tmp_path_factory) -> None:
    """Tests that a change has made endless are ended, and have noticed the change."""
    (project / "tests" / "test_small.py").write_text(
        "import threading\n\n\ndef test_wait():\n    threading.Event().wait()\n"
    )
    place = tmp_path_factory.mktemp("copies") / "0"
    changed = mutate.Copy(project, place, Path("perf/small.py"), ["tests"])
    assert (False, "timed out") == changed.passes("", timeout_s=0.1)


def test_failing_tests_give_no_verdict(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """When the tests fail without any change, that is said and nothing is tried."""
    (project / "tests" / "test_small.py").write_text("def test_no():\n    assert 0\n")
    assert mutate.main([str(project / "perf" / "small.py")], root=project) == 2
    assert "its tests fail without any change" in capsys.readouterr().err
