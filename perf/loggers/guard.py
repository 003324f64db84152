"""Methods that are called in a training step, and so must not raise."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from perf._model.log import OnceLog
from perf.loggers.redaction import error_line

__all__ = ["never_raises"]

P = ParamSpec("P")
S = TypeVar("S")


def never_raises(
    method: Callable[Concatenate[S, P], None],
) -> Callable[Concatenate[S, P], None]:
    """A method whose exceptions are logged instead, once for each object and method."""

    def guarded(self: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            log: Any = vars(self).setdefault("_guard_log", OnceLog())
            what = f"{type(self).__name__}.{method.__name__}"
            log.say(what, f"{what} failed: {error_line(error)}; it is left out")

    return functools.update_wrapper(guarded, method)
