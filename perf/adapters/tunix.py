"""Has an unmodified google-tunix record with this package.

Start the program with `python -m perf.adapters.tunix script.py arguments…` (or `-m
module arguments…`), or let it begin with

    from perf.adapters import tunix

    tunix.install()

before it imports anything of tunix. From then on `tunix.perf` and every module in it
are those of `perf`.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import runpy
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["install"]

_COMMAND = "python -m perf.adapters.tunix"
_THEIRS = "tunix.perf"
_OURS = "perf"


class _Finder(MetaPathFinder, Loader):
    """Gives the modules of `perf` to whoever imports those of `tunix.perf`."""

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> ModuleSpec | None:
        """Finds what is in `tunix.perf`, as far as we have it, and nothing else."""
        is_theirs = f"{fullname}.".startswith(f"{_THEIRS}.")
        # What we do not have nobody finds: the package in which it is looked for is
        # ours. The error then names what was asked for.
        if is_theirs and importlib.util.find_spec(_ours(fullname)) is not None:
            return ModuleSpec(fullname, self)
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Puts ours in the place of the module that was made for theirs."""
        # The import system takes what is there when this returns.
        ours = importlib.import_module(_ours(module.__name__))
        sys.modules[module.__name__] = ours


def _ours(theirs: str) -> str:
    return _OURS + theirs.removeprefix(_THEIRS)


def install() -> None:
    """Makes `tunix.perf` and all modules in it those of `perf`.

    A second call does nothing.

    Raises:
        RuntimeError: tunix is loaded already, with its own tracer.
    """
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    loaded = sorted(name for name in sys.modules if name.startswith("tunix."))
    if loaded:
        raise RuntimeError(
            "perf.adapters.tunix.install() has to come before the first import of "
            f"tunix, which keeps the tracer that it finds then; found {len(loaded)} of "
            f"its modules loaded, {', '.join(loaded[:3])} among them. Move the call to "
            "the top of the program, or start that with "
            "`python -m perf.adapters.tunix script.py`"
        )
    sys.meta_path.insert(0, _Finder())


def _main(arguments: Sequence[str]) -> None:
    """Runs a script or a module as Python does, on this package."""
    if not arguments or arguments[0] in ("-h", "--help") or arguments == ["-m"]:
        sys.exit(f"usage: {_COMMAND} (script.py | -m module) …")
    install()
    if arguments[0] == "-m":
        if not _has_module(arguments[1]):
            sys.exit(f"{_COMMAND}: no module named {arguments[1]}")
        sys.argv = list(arguments[1:])
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        if not os.path.exists(arguments[0]):
            sys.exit(f"{_COMMAND}: {arguments[0]}: no such file")
        sys.argv = list(arguments)
        sys.path[0] = os.path.dirname(os.path.abspath(arguments[0]))
        runpy.run_path(arguments[0], run_name="__main__")


def _has_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            return False
        raise  # a package around it lacks something


if __name__ == "__main__":
    # By its own name: the program may call `install()`, too.
    from perf.adapters import tunix

    tunix._main(sys.argv[1:])
