"""The public surface, name by name: `public_names.txt` changes only on purpose.

`python -m tests.test_public_names --update` writes the list anew, to be read as a diff.
"""

from __future__ import annotations

import difflib
import enum
import importlib
import inspect
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.layers import layer_of, sources

RECORDED = Path(__file__).with_name("public_names.txt")

PUBLIC = {"adapters.tunix", "compat", "doors", "loggers", "loggers.backends"}
"""The layers that users import from."""


def public_modules() -> list[str]:
    """Every module of perf that a user may import."""
    return [
        module
        for module in sources()
        if layer_of(module) in PUBLIC
        and not any(part.startswith("_") for part in module.split("."))
    ]


def call_shape(function: Any) -> str:
    """The parameters of a callable with their defaults; types are mypy's business."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # Written in C, without a signature.
        return "(…)"
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    # A compiled method takes `self` by position alone.
    shape = str(inspect.Signature(bare)).replace("(self, /", "(self")
    return re.sub(r" at 0x[0-9a-f]+", "", shape)


def constructor(cls: type) -> str:
    """How a class is called, where that is said in perf.

    What Python gives to enums, protocols and exceptions differs with its version.
    """
    if issubclass(cls, enum.Enum) or getattr(cls, "_is_protocol", False):
        return ""
    ours = [base for base in cls.__mro__ if is_ours(base)]
    if any({"__init__", "__new__"} & set(vars(base)) for base in ours):
        return call_shape(cls)
    return ""


def is_ours(cls: type) -> bool:
    """Whether a class is defined in perf."""
    return cls.__module__.partition(".")[0] in ("perf", "tests")


def described(name: str, value: Any) -> str:
    """One line on a name and what it stands for."""
    match value:
        case type():
            bases = [base.__name__ for base in value.__bases__ if base is not object]
            inherits = f" of {', '.join(bases)}" if bases else ""
            return f"class {name}{constructor(value)}{inherits}"
        case property():
            return f"{name} (property)"
        case classmethod() | staticmethod():
            kind = type(value).__name__
            return f"{name}{call_shape(value.__func__)} ({kind})"
        case (
            types.FunctionType()
            | types.BuiltinFunctionType()
            | types.MethodDescriptorType()
        ):
            return f"{name}{call_shape(value)}"
        case str() | int() | float() | bool() | None:
            return f"{name} = {value!r}"
        case types.ModuleType():
            return f"{name} (module)"
        case types.MemberDescriptorType() | types.GetSetDescriptorType():
            return name
        case _:
            # What Python calls its aliases and unions differs with its version.
            return f"{name}: {type(value).__name__}" if is_ours(type(value)) else name


def members(cls: type) -> Iterator[str]:
    """The public members of a class, those inherited within perf included."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not is_ours(base):
            continue
        found |= {name: name for name in inspect.get_annotations(base)}
        for name, value in vars(base).items():
            found[name] = described(name, value)
        if issubclass(base, enum.Enum):
            for name, member in base.__members__.items():
                found[name] = f"{name} = {member.value!r}"
    for name in sorted(found):
        if not name.startswith("_"):
            yield f"  .{found[name]}"


def surface(module: str, seen: dict[type, str]) -> Iterator[str]:
    """The lines on one module: its names, and under each class its members.

    A class that is on the list already is named by its first place.
    """
    loaded = importlib.import_module(module)
    yield f"[{module}]"
    for name in sorted(loaded.__all__):
        value = getattr(loaded, name)
        if isinstance(value, type) and is_ours(value):
            if value in seen:
                yield f"{name} = {seen[value]}"
                continue
            seen[value] = f"{module}.{name}"
            yield described(name, value)
            yield from members(value)
        else:
            yield described(name, value)
    yield ""


def all_lines() -> list[str]:
    """The whole surface as it is now."""
    seen: dict[type, str] = {}
    return [line for module in public_modules() for line in surface(module, seen)]


def test_the_public_surface_is_the_recorded_one() -> None:
    """Every public name has the parameters and members on the checked-in list."""
    drift = list(
        difflib.unified_diff(
            RECORDED.read_text(encoding="utf-8").split("\n")[:-1],
            all_lines(),
            "recorded",
            "found",
            lineterm="",
        )
    )
    assert not drift, (
        "the public surface has changed; if on purpose, `make public-names`:\n"
        + "\n".join(drift)
    )


@pytest.mark.parametrize("module", public_modules())
def test_public_modules_list_their_names(module: str) -> None:
    """`__all__` of a public module is sorted and each name in it is there."""
    loaded = importlib.import_module(module)
    assert sorted(set(loaded.__all__)) == list(loaded.__all__)
    assert [] == [name for name in loaded.__all__ if not hasattr(loaded, name)]


class Sample:
    """What `described` tells apart."""

    limit = 3

    def method(self, x: int, *, y: float = 0.5) -> None:
        """Takes two."""

    @property
    def answer(self) -> int:
        """A property."""
        return 42

    @classmethod
    def make(cls, *parts: str) -> Sample:
        """A class method."""
        return cls()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("limit", "limit = 3"),
        ("method", "method(self, x, *, y=0.5)"),
        ("answer", "answer (property)"),
        ("make", "make(cls, *parts) (classmethod)"),
    ],
)
def test_a_line_tells_how_a_name_is_used(name: str, line: str) -> None:
    """A changed parameter, default or kind of a name changes its line."""
    assert line == described(name, vars(Sample)[name])


if __name__ == "__main__":
    if sys.argv[1:] != ["--update"]:
        sys.exit("usage: python -m tests.test_public_names --update")
    RECORDED.write_text("\n".join([*all_lines(), ""]), encoding="utf-8")
