"""What a file says about the run that it shows."""

from __future__ import annotations

import importlib
import os
import platform
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final

from perf._model.process import local_devices, process_index
from perf._model.tracks import DEVICES_KEY, PROCESS_KEY, SCHEMA_KEY, SCHEMA_VERSION

_PACKAGES: Final = (("jax", "jax"), ("jaxlib", "jaxlib"), ("perf", "rlperf"))
"""What a file calls them, and the names under which they are installed."""
_VARIABLES: Final = {
    "RLPERF_RUN_ID": "run_id",
    "RLPERF_ATTEMPT": "attempt",
    "RLPERF_ROLE": "role",
}
"""Environment variables that whoever starts a process tells about it. A run that is
resumed repeats steps: run, attempt and step together are a step's key."""


def import_all() -> None:
    """Imports what `run_info` needs; to be called by a thread of the user's.

    A child that is forked while another thread imports would wait for ever for that
    import to end. And it is too slow for `import perf`.
    """
    for module in ("importlib.metadata", "email.parser"):
        importlib.import_module(module)


def run_info() -> dict[str, Any]:
    """The metadata of the present process, by name.

    Returns:
        Texts and numbers; what cannot be found out is left out.
    """
    import importlib.metadata

    info: dict[str, Any] = {
        SCHEMA_KEY: SCHEMA_VERSION,
        "command": " ".join(command()),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python_version": platform.python_version(),
    }
    index = process_index()
    if index is not None:
        info[PROCESS_KEY] = index
    devices = local_devices()
    if devices:
        info[DEVICES_KEY] = devices
    for variable, key in _VARIABLES.items():
        if os.environ.get(variable):
            info[key] = os.environ[variable]
    for name, package in _PACKAGES:
        try:
            # Asked without importing: jax takes a second, and a device.
            info[f"{name}_version"] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    try:
        commit = git_commit(Path.cwd())
    except (OSError, ValueError):
        commit = None
    if commit:
        info["git_commit"] = commit
    return info


def command() -> list[str]:
    """The command line of this process."""
    return list(getattr(sys, "orig_argv", sys.argv))


def git_commit(folder: Path) -> str | None:
    """The commit that is checked out in a folder, read without running git.

    Returns:
        The full hash; None outside of a repository and before its first commit.

    Raises:
        OSError, ValueError: the repository's files cannot be read.
    """
    for place in (folder, *folder.parents):
        git = place / ".git"
        if git.is_file():  # a worktree or submodule
            text = git.read_text().strip()
            git = (place / text.removeprefix("gitdir:").strip()).resolve()
        if git.is_dir():
            return _head_commit(git)
    return None


def _head_commit(git: Path) -> str | None:
    head = (git / "HEAD").read_text().strip()
    if not head.startswith("ref:"):
        return head
    ref = head.removeprefix("ref:").strip()
    shared = git
    if (git / "commondir").is_file():  # branches of a worktree are its repository's
        shared = (git / (git / "commondir").read_text().strip()).resolve()
    for folder in (git, shared):
        if (folder / ref).is_file():
            return (folder / ref).read_text().strip()
    packed = shared / "packed-refs"
    lines = packed.read_text().splitlines() if packed.is_file() else []
    return next((line.split()[0] for line in lines if line.endswith(f" {ref}")), None)
