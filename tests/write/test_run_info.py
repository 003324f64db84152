from __future__ import annotations

import importlib.metadata
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from perf._model.tracks import DEVICES_KEY, PROCESS_KEY, SCHEMA_VERSION
from perf._write.run_info import git_commit, run_info
from tests.programs import printed_by

HASH = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40


def test_a_file_tells_of_its_run() -> None:
    """Who wrote it, how it was started, with which versions."""
    info = run_info()
    assert (SCHEMA_VERSION, os.getpid(), socket.gethostname()) == (
        info["schema_version"],
        info["pid"],
        info["host"],
    )
    assert importlib.metadata.version("jax") == info["jax_version"]
    assert sys.version.split()[0] == info["python_version"]
    assert sys.orig_argv[-1] in info["command"]


def test_one_of_several_processes_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that is alone says nothing of it."""
    monkeypatch.delenv("RANK", raising=False)
    assert PROCESS_KEY not in run_info()
    monkeypatch.setenv("RANK", "3")
    assert 3 == run_info()[PROCESS_KEY]


def test_a_file_tells_of_the_devices_of_its_process() -> None:
    """By their ids, with their numbers in the process."""
    devices = jax.local_devices()
    assert {f"cpu{d.id}": number for number, d in enumerate(devices)} == run_info()[
        DEVICES_KEY
    ]


def test_the_versions_are_found_without_importing() -> None:
    """Looking for them must not load jax."""
    code = (
        "import sys; from perf._write.run_info import run_info; run_info();"
        "print('jax' in sys.modules)"
    )
    assert "False\n" == printed_by("-c", code)


def repository(folder: Path, head: str) -> Path:
    """The folder, as a repository with this HEAD."""
    (folder / ".git" / "refs" / "heads").mkdir(parents=True)
    (folder / ".git" / "HEAD").write_text(head)
    return folder


def test_the_commit_of_a_branch(tmp_path: Path) -> None:
    """Also from a folder inside the repository."""
    repository(tmp_path, "ref: refs/heads/main\n")
    (tmp_path / ".git" / "refs" / "heads" / "main").write_text(HASH + "\n")
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert HASH == git_commit(tmp_path / "a" / "b")


def test_the_commit_of_a_packed_branch(tmp_path: Path) -> None:
    """Git collects branches in one file now and then."""
    repository(tmp_path, "ref: refs/heads/main\n")
    (tmp_path / ".git" / "packed-refs").write_text(
        f"# pack-refs with: peeled\n{OTHER} refs/heads/x/refs/heads/main\n"
        f"{HASH} refs/heads/main\n"
    )
    assert HASH == git_commit(tmp_path)


def test_a_detached_head(tmp_path: Path) -> None:
    """It names the commit itself."""
    assert HASH == git_commit(repository(tmp_path, HASH + "\n"))


def test_a_repository_without_commits(tmp_path: Path) -> None:
    """There is no commit to name."""
    assert git_commit(repository(tmp_path, "ref: refs/heads/main\n")) is None


def test_outside_of_a_repository(tmp_path: Path) -> None:
    """Nothing is said."""
    assert git_commit(tmp_path) is None


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_worktree_has_the_commit_that_git_names(tmp_path: Path) -> None:
    """Its branches are kept by the repository it belongs to."""

    def git(*args: str) -> str:
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.com")
        done = subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *args],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "-m", "first")
    git("worktree", "add", "--quiet", "-b", "side", str(tmp_path / "tree"))
    assert git("rev-parse", "HEAD") == git_commit(tmp_path / "tree")


def test_a_repository_that_cannot_be_read_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tracing goes on without the commit."""
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "git_commit" not in run_info()
