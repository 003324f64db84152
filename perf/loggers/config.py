"""Configuration: read from YAML, checked against the signature of what it is for."""

from __future__ import annotations

import inspect
import os
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from perf._model.errors import PerfError

__all__ = [
    "ConfigError",
    "MissingExtraError",
    "checked",
    "fits",
    "read_config",
    "section",
]


class ConfigError(PerfError, ValueError):
    """A configuration that says something that cannot be done.

    Values are not shown: they may be secrets.

    Attributes:
        key: which entry, from the top: "tensorboard.log_dir".
        expected: what it has to be.
        found: what it is, in words.
    """

    def __init__(self, key: str, expected: str, found: str) -> None:
        super().__init__(f"{key}: expected {expected}, found {found}")
        self.key = key
        self.expected = expected
        self.found = found


class MissingExtraError(PerfError, ImportError):
    """A backend was asked for by name, and its library is not installed."""

    def __init__(self, backend: str, library: str) -> None:
        super().__init__(
            f"the {backend} backend needs {library}: pip install 'rlperf[{backend}]'"
        )


def read_config(source: str | os.PathLike[str] | Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as a mapping: itself, or from a YAML file.

    What stands under a single root `logging:` is what counts.

    Raises:
        ConfigError: the file is no YAML, or no mapping of texts.
        OSError: it cannot be read.
    """
    content: Any = source
    where = "configuration"
    if not isinstance(source, Mapping):
        import yaml

        where = os.fspath(source)
        with open(source, encoding="utf-8") as file:
            try:
                content = yaml.safe_load(file)
            except yaml.YAMLError as error:
                # The text of the error quotes the file.
                mark = getattr(error, "problem_mark", None)
                line = f" at line {mark.line + 1}" if mark else ""
                raise ConfigError(where, "YAML", f"none{line}") from None
    found = section(where, content)
    if "logging" in found:
        return section("logging", found["logging"])
    return found


def section(where: str, content: Any) -> dict[str, Any]:
    """A part of a configuration that has to be a mapping; None is an empty one."""
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise ConfigError(where, "a mapping", type(content).__name__)
    for key in content:
        if not isinstance(key, str):
            raise ConfigError(f"{where}.{key}", "a text as the key", _kind(key))
    return dict(content)


def checked(
    where: str,
    content: Mapping[str, Any],
    target: Callable[..., Any],
    *,
    complete: bool = True,
) -> dict[str, Any]:
    """The entries of a section as keyword arguments of what they are for.

    Args:
        where: the section, for errors.
        content: the entries.
        target: a class or function; its parameters say what may and must be there, and
            their annotations of which type. Types that are not plain are not checked.
        complete: whether what has no default must be there.

    Raises:
        ConfigError: an unknown key, a missing one, or a wrong type.
    """
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(target).parameters.items()
        if not name.startswith("_")
    }
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    named = {
        name: parameter
        for name, parameter in parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    # Only asked for its hints: that a subclass may have others does not matter.
    function = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError):  # an annotation for type checkers only
        hints = {}
    for key, value in content.items():
        if key not in named:
            if open_ended:
                continue
            known = ", ".join(sorted(named)) or "nothing"
            raise ConfigError(f"{where}.{key}", f"one of {known}", "an unknown key")
        if key in hints and not fits(value, hints[key]):
            raise ConfigError(f"{where}.{key}", _spelled(hints[key]), _kind(value))
    for name, parameter in named.items():
        if complete and parameter.default is parameter.empty and name not in content:
            raise ConfigError(f"{where}.{name}", "a value", "none")
    return dict(content)


_ALSO: Final[dict[Any, tuple[type, ...]]] = {float: (float, int), int: (int,)}


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the type of an annotation, as far as that is plain."""
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if hint is Any:
        return True
    if hint is None or hint is type(None):
        return value is None
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, each) for each in arguments)
    if origin is typing.Literal:
        return value in arguments
    if isinstance(origin, type) and origin.__module__ != "typing":  # as IO[str] is
        if issubclass(origin, Sequence) and isinstance(value, str):
            return False
        if origin is tuple and isinstance(value, list):  # YAML has no tuples
            value = tuple(value)
        if isinstance(value, Sequence) and arguments:
            return isinstance(value, origin) and all(
                fits(each, arguments[0]) for each in value
            )
        return isinstance(value, origin)
    if isinstance(hint, type):
        # True is an int to Python, but not to whoever wrote `port: yes`.
        if isinstance(value, bool) and hint in _ALSO:
            return False
        return isinstance(value, _ALSO.get(hint, (hint,)))
    return True


def _spelled(hint: Any) -> str:
    if typing.get_origin(hint) is None and isinstance(hint, type):
        return hint.__name__
    return str(hint).replace("typing.", "").replace("collections.abc.", "")


def _kind(value: Any) -> str:
    return "nothing" if value is None else type(value).__name__
