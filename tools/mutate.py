"""Changes a module in one small way at a time and lists the changes no test notices.

    python -m tools.mutate perf/_read/sequence.py

Each survivor gets a test, or a comment on its line that says why it is harmless:

    while low < high:  # mutate: ok one more turn of the loop finds nothing

The changes: an operator, a comparison, `and` for `or`, a number, a truth value, a
condition negated, None returned. Tests run in a copy of the tree; the sources stay as
they are. Exit status: 0 all changes noticed, 1 some survived, 2 nothing could be told.
"""

from __future__ import annotations

import argparse
import ast
import concurrent.futures
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tools.mutants import Mutant, NoVerdictError, mutants

ROOT = Path(__file__).parent.parent
NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv*", "__pycache__", ".*_cache", ".hypothesis", "build", "dist"
)


def tests_of(module: Path) -> Path:
    """Where the tests of a module are; both paths start at the root of the project."""
    folders = [part.lstrip("_") for part in module.parent.parts if part != "perf"]
    return Path("tests", *folders, f"test_{module.stem.strip('_')}.py")


class Copy:
    """A copy of the tree in which one module is changed and tested."""

    def __init__(self, root: Path, place: Path, module: Path, tests: Sequence[str]):
        shutil.copytree(root, place, ignore=NOT_COPIED, symlinks=True)
        self._place = place
        self._module = place / module
        self._command = [sys.executable, "-m", "pytest", "-x", "-q"]
        self._command += ["-p", "no:cacheprovider", *tests]

    def passes(self, source: str, timeout_s: float | None = None) -> tuple[bool, str]:
        """Whether the tests pass with this source of the module, and what they say.

        Tests that take longer than the timeout have failed.
        """
        self._module.write_text(source, encoding="utf-8")
        environment = os.environ | {
            "CI": "true",  # The same examples for every mutant.
            "PYTHONPATH": str(self._place),
            # Two mutants of one second and one size would share their compiled form.
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        with subprocess.Popen(
            self._command,
            cwd=self._place,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                output, _ = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                # With the children that tests have started.
                os.killpg(process.pid, signal.SIGKILL)
                return False, "timed out"
        return process.returncode == 0, output


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Runs the command; returns its exit status."""
    options = _parse(arguments)
    try:
        survivors = _check(options, root)
    except NoVerdictError as error:
        print(f"{options.file}: {error}", file=sys.stderr)
        return 2
    return 1 if survivors else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.mutate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, help="the module to change")
    parser.add_argument(
        "--tests", action="append", help="tests to run (default: the module's own)"
    )
    parser.add_argument("--sample", type=int, help="try only so many, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="for --sample")
    parser.add_argument("--jobs", type=int, default=1, help="mutants tested at a time")
    parser.add_argument(
        "--timeout-s",
        type=float,
        help="for the tests of one mutant (default: five times what they take "
        "unchanged, and ten seconds)",
    )
    return parser.parse_args(arguments)


def _check(options: argparse.Namespace, root: Path) -> int:
    """Tests the mutants that the options ask for; returns how many survived."""
    module = options.file.resolve().relative_to(root.resolve())
    tests = options.tests or [str(tests_of(module))]
    source = (root / module).read_text(encoding="utf-8")
    found = list(mutants(source))
    wanted = [mutant for mutant in found if mutant.excuse is None]
    excused = len(found) - len(wanted)
    if options.sample is not None and options.sample < len(wanted):
        drawn = random.Random(options.seed).sample(range(len(wanted)), options.sample)
        wanted = [wanted[at] for at in sorted(drawn)]

    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        copies: queue.SimpleQueue[Copy] = queue.SimpleQueue()
        for job in range(options.jobs):
            copies.put(Copy(root, Path(folder, str(job)), module, tests))
        timeout_s = options.timeout_s or 10 + 5 * _baseline_s(copies, source)

        def survives(mutant: Mutant) -> bool:
            where = copies.get()
            try:
                return where.passes(mutant.source, timeout_s)[0]
            finally:
                copies.put(where)

        survivors = 0
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            for mutant, survived in zip(
                wanted, pool.map(survives, wanted), strict=True
            ):
                if survived:
                    survivors += 1
                    print(f"{module}:{mutant.line} survives\n{mutant.diff}", flush=True)
    print(
        f"{module}: {len(wanted)} of {len(found)} changes tried, "
        f"{survivors} survived, {excused} excused"
    )
    return survivors


def _baseline_s(copies: queue.SimpleQueue[Copy], source: str) -> float:
    """How long the tests take with the module as it is.

    Raises:
        NoVerdictError: They fail, or there are none.
    """
    where = copies.get()
    start = time.perf_counter()
    # Without comments too, as every mutant is.
    passed, output = where.passes(ast.unparse(ast.parse(source)))
    copies.put(where)
    if not passed:
        raise NoVerdictError(f"its tests fail without any change:\n{output}")
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
