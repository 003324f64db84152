"""The public surface, name by name, and the lists of it that are checked in."""

from __future__ import annotations

import dataclasses
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

from tests.layers import layer_of, sources


@dataclasses.dataclass(frozen=True)
class Recorded:
    """A list of public names, which changes only on purpose."""

    path: Path
    layers: frozenset[str]
    """Whose modules it lists."""
    elsewhere: frozenset[str] = frozenset()
    """Layers on another list: a class from there is named by its place in them."""

    def modules(self) -> list[str]:
        """Every module on the list."""
        return public_modules(self.layers)

    def found(self) -> list[str]:
        """The list as it would be written now."""
        seen: dict[type, str] = {}
        for module in public_modules(self.elsewhere):
            list(surface(module, seen))
        return [line for module in self.modules() for line in surface(module, seen)]

    def drift(self) -> str:
        """How the list differs from what is found; empty if it does not."""
        recorded = self.path.read_text(encoding="utf-8").split("\n")[:-1]
        found = self.found()
        return "\n".join(
            difflib.unified_diff(recorded, found, "recorded", "found", lineterm="")
        )

    def main(self) -> None:
        """The command that writes the list anew, to be read as a diff."""
        if sys.argv[1:] != ["--update"]:
            sys.exit("expected --update: it writes the list anew")
        self.path.write_text("\n".join([*self.found(), ""]), encoding="utf-8")


def public_modules(layers: frozenset[str]) -> list[str]:
    """Every module of some layers that a user may import."""
    return [
        module
        for module in sources()
        if layer_of(module) in layers
        and not any(part.startswith("_") for part in module.split("."))
    ]


def unlisted(module: str) -> list[str]:
    """What is wrong with `__all__` of a module: names that are missing, its order."""
    loaded = importlib.import_module(module)
    missing = [name for name in loaded.__all__ if not hasattr(loaded, name)]
    in_order = sorted(set(loaded.__all__)) == list(loaded.__all__)
    return missing if in_order else [*missing, "not in order"]


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
