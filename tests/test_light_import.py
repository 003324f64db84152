"""`import perf` is light: it may stand in any program, whether or not it traces."""

from __future__ import annotations

import json

import pytest

from tests.programs import printed_by

REPORT = """
import json, sys
before = set(sys.modules)
{code}
packages = {{name.partition(".")[0] for name in set(sys.modules) - before}}
json.dump(sorted(packages - set(sys.stdlib_module_names)), sys.stdout)
"""


def packages_loaded_by(code: str) -> list[str]:
    """The packages beside the standard library that a fresh interpreter loads."""
    loaded: list[str] = json.loads(printed_by("-c", REPORT.format(code=code)))
    return loaded


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import perf", id="import"),
        pytest.param("import perf.collect", id="collect"),
        pytest.param(
            "import perf\nwith perf.get_tracer().span('x'): pass", id="no-op span"
        ),
        pytest.param("import perf.loggers", id="loggers"),
        pytest.param("import perf.metrics_logger", id="metrics logger"),
    ],
)
def test_perf_loads_numpy_at_most(code: str) -> None:
    """Neither an import nor a span of the default tracer loads JAX or protobuf.

    Nor the library of any backend, nor anything else from outside the standard library
    but numpy.
    """
    assert {"perf"} <= set(packages_loaded_by(code)) <= {"numpy", "perf"}


def test_what_is_loaded_is_seen() -> None:
    """The check above would notice a package that is loaded."""
    assert "google" in packages_loaded_by("import google.protobuf.message")
