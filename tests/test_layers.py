"""Imports go down only: the sources keep to the table in tests/layers.py."""

from __future__ import annotations

import ast
import dataclasses
import sys
from collections.abc import Iterator

import pytest

from tests.layers import ANYTHING, LAYERS, NUMPY, layer_of, sources


@dataclasses.dataclass(frozen=True)
class Import:
    """One import in the sources."""

    module: str
    """The module that imports."""
    line: int
    target: str
    """What it imports, in full: a module, or a name in one."""
    lazy: bool
    """Whether it waits until a function is called, or is for type checkers only."""

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def imports(module: str, source: str) -> Iterator[Import]:
    """Every import of a module, `importlib.import_module("literal")` included."""

    def visit(node: ast.AST, *, lazy: bool) -> Iterator[Import]:
        match node:
            case ast.Import(names=names):
                for name in names:
                    yield Import(module, node.lineno, name.name, lazy)
            case ast.ImportFrom(module=str(base), names=names, level=0):
                for name in names:
                    yield Import(module, node.lineno, f"{base}.{name.name}", lazy)
            case ast.ImportFrom():
                pytest.fail(f"{module}:{node.lineno} imports relatively")
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name("import_module"),
                args=[ast.Constant(value=str(target)), *_],
            ):
                yield Import(module, node.lineno, target, lazy)
            case ast.If(
                test=ast.Name("TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")
            ):
                for statement in node.body:
                    yield from visit(statement, lazy=True)
                for statement in node.orelse:
                    yield from visit(statement, lazy=lazy)
                return
        inner = lazy or isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
        )
        for child in ast.iter_child_nodes(node):
            yield from visit(child, lazy=inner)

    return visit(ast.parse(source), lazy=False)


def is_in(target: str, packages: frozenset[str]) -> bool:
    """Whether a dotted name is one of some packages, or in one of them."""
    return packages == ANYTHING or any(
        f"{target}.".startswith(f"{package}.") for package in packages
    )


def breach(found: Import) -> str | None:
    """Why an import is not allowed, or None."""
    home = layer_of(found.module)
    layer = LAYERS[home]
    first = found.target.split(".")[0]
    if first == "perf":
        # `from perf._model import spans` is of the same layer, module or name.
        target = layer_of(found.target)
        folder = target.split(".")[0]
        if folder == home.split(".")[0] or folder in layer.perf:
            return None
        return f"{found}: {home} may not import {target}"
    if first in sys.stdlib_module_names or is_in(found.target, layer.outside):
        return None
    if is_in(found.target, layer.lazily):
        return None if found.lazy else f"{found}: {home} must import it lazily"
    return f"{found}: not among the packages of {home}"


def breaches(modules: dict[str, str]) -> list[str]:
    """What is wrong with the imports of some modules, in sentences."""
    return [
        reason
        for module, source in modules.items()
        for found in imports(module, source)
        if (reason := breach(found))
    ]


def reached_by(start: str, modules: dict[str, str]) -> dict[str, list[Import]]:
    """The modules that importing one of them executes, each with its eager imports."""
    reached: dict[str, list[Import]] = {}
    waiting = [start]
    while waiting:
        module = waiting.pop()
        if module not in modules or module in reached:
            continue
        eager = [found for found in imports(module, modules[module]) if not found.lazy]
        reached[module] = eager
        waiting += [
            prefix
            for found in eager
            for prefix in (
                found.target.rsplit(".", count)[0]
                for count in range(found.target.count(".") + 1)
            )
        ]
    return reached


def test_imports_go_down_only() -> None:
    """No module of perf imports what its row of the table does not list."""
    found = breaches(sources())
    assert not found, "\n".join(found)


def test_tools_stand_without_the_tests() -> None:
    """Tests import tools; the other way round there would be no first one."""
    found = [
        str(each)
        for module, source in sources("tools").items()
        for each in imports(module, source)
        if is_in(each.target, frozenset({"tests"}))
    ]
    assert not found, "\n".join(found)


def test_import_perf_reaches_nothing_heavy() -> None:
    """Nothing that `import perf` executes imports a package from outside but numpy."""
    heavy = [
        str(found)
        for eager in reached_by("perf", sources()).values()
        for found in eager
        if not is_in(found.target, NUMPY | {"perf"})
        and found.target.split(".")[0] not in sys.stdlib_module_names
    ]
    assert not heavy, "\n".join(heavy)


@pytest.mark.parametrize(
    ("module", "source", "reason"),
    [
        pytest.param(
            "perf._model.ids",
            "import perf._record.clock",
            "perf._model.ids:1 imports perf._record.clock: "
            "_model may not import _record",
            id="upwards",
        ),
        pytest.param(
            "perf._read.tree",
            "if TYPE_CHECKING:\n    from perf._write import sink",
            "perf._read.tree:2 imports perf._write.sink: _read may not import _write",
            id="sideways, for type checkers",
        ),
        pytest.param(
            "perf._record.tracer",
            "def f():\n    import jax.numpy",
            "perf._record.tracer:2 imports jax.numpy: not among the packages of "
            "_record",
            id="outside",
        ),
        pytest.param(
            "perf._read.query",
            "from google.protobuf import message",
            "perf._read.query:1 imports google.protobuf.message: "
            "not among the packages of _read",
            id="allowed to a neighbour only",
        ),
        pytest.param(
            "perf.trace",
            "try:\n    import jax\nexcept ImportError:\n    jax = None",
            "perf.trace:2 imports jax: doors must import it lazily",
            id="eagerly",
        ),
        pytest.param(
            "perf._write.sink",
            "import importlib\nepath = importlib.import_module('etils.epath')",
            "perf._write.sink:2 imports etils.epath: _write must import it lazily",
            id="eagerly, by name",
        ),
    ],
)
def test_a_breach_is_found(module: str, source: str, reason: str) -> None:
    """An import that the table does not allow is named with its line and the reason."""
    assert [reason] == breaches({module: source})


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("perf._read.packets", "def f():\n    from google.protobuf import message"),
        ("perf._write.sink", "def f():\n    from etils import epath"),
        ("perf._write.sink", "from perf._write import packets"),
        ("perf.loggers.factory", "from perf.loggers.backends import console"),
        (
            "perf.trace",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING: import jax",
        ),
        ("perf.trace", "from perf import span\nfrom perf._record import tracer"),
        ("perf.experimental.tracer", "import perf.span"),
        ("perf.adapters.tunix", "import perf.metrics_logger"),
        ("perf.__main__", "from perf.cli import demo"),
    ],
)
def test_what_the_table_allows_is_no_breach(module: str, source: str) -> None:
    """Imports down, within a layer, and lazy ones where they may be lazy, are fine."""
    assert [] == breaches({module: source})


def test_reach_follows_eager_imports_only() -> None:
    """What a package executes includes its parents' code, not what functions import."""
    modules = {
        "perf": "from perf._model import ids\ndef f():\n    import perf.trace",
        "perf._model": "import perf._model.tree",
        "perf._model.ids": "",
        "perf._model.tree": "",
        "perf.trace": "",
    }
    reached = {"perf", "perf._model", "perf._model.ids", "perf._model.tree"}
    assert reached == set(reached_by("perf", modules))
