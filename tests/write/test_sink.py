from __future__ import annotations

import errno
import itertools
import logging
import os
import re
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from perf._model.log import OnceLog
from perf._write.files import Disk
from perf._write.sink import TraceFile


def trace_file(folder: Path) -> TraceFile:
    """A file in a folder."""
    return TraceFile(folder, "perfetto_trace", OnceLog(), Disk())


@pytest.fixture
def at_most_100_bytes() -> Iterator[None]:
    """Files end at 100 bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_file_is_named_by_the_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It and its folder are made with the first bytes, not before."""
    monkeypatch.setattr("time.time", lambda: 1771973518.7)
    file = trace_file(tmp_path / "a" / "b")
    assert file.path is None
    assert not (tmp_path / "a").exists()
    assert file.append(b"x")
    assert tmp_path / "a" / "b" / "perfetto_trace_1771973518.pb" == file.path


def test_a_taken_name_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Host, process index and pid are added, then a number."""
    monkeypatch.setattr("time.time", lambda: 5.0)
    files = [trace_file(tmp_path) for _ in range(4)]
    for number, file in enumerate(files):
        file.append(str(number).encode())
    host = re.sub(r"[^\w.-]", "-", socket.gethostname())
    whose = f"perfetto_trace_5_{host}_0_{os.getpid()}"
    names = ["perfetto_trace_5.pb", f"{whose}.pb", f"{whose}_2.pb", f"{whose}_3.pb"]
    assert ["0", "1", "2", "3"] == [(tmp_path / name).read_text() for name in names]


def test_files_of_a_run_of_several_processes_say_whose_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first one on, though the run began after the file was thought of."""
    file = trace_file(tmp_path)
    monkeypatch.setenv("RANK", "3")
    file.append(b"x")
    assert file.path is not None
    assert file.path.name.endswith(f"_3_{os.getpid()}.pb")


def test_files_that_leave_their_folder_never_had_their_name_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where they go, one would be written over the other: of the same second and, in
    containers, of processes of the same number.
    """
    monkeypatch.setattr("time.time", lambda: 5.0)
    names = set()
    for part in (1, 2, 1):
        monkeypatch.setattr(TraceFile, "_numbers", itertools.count(part))
        file = TraceFile(tmp_path, "perfetto_trace", OnceLog(), Disk(), leaves=True)
        file.append(b"x")
        file.close()
        assert file.path is not None
        assert f"_{os.getpid()}_part{part}_" in file.path.name
        names.add(file.path.name)
        file.path.unlink()
    assert 3 == len(names)


def test_bytes_are_in_the_file_when_append_returns(tmp_path: Path) -> None:
    """Nothing waits in a buffer of ours."""
    file = trace_file(tmp_path)
    file.append(b"one")
    assert file.append(b"two")
    assert file.path is not None
    assert b"onetwo" == file.path.read_bytes()
    assert 6 == file.written_bytes


def test_nothing_makes_no_file(tmp_path: Path) -> None:
    """A run without spans leaves no trace."""
    assert trace_file(tmp_path).append(b"")
    assert [] == list(tmp_path.iterdir())


def test_a_full_disk_leaves_whole_packets(
    tmp_path: Path, at_most_100_bytes: None, caplog: pytest.LogCaptureFixture
) -> None:
    """What was written in part is taken back, kept, and written when there is room."""
    file = trace_file(tmp_path)
    assert file.append(b"a" * 80)
    with caplog.at_level(logging.WARNING, logger="perf"):
        assert not file.append(b"b" * 80)
        assert not file.append(b"c" * 10)
    assert file.path is not None
    assert b"a" * 80 == file.path.read_bytes()
    assert (2, 90) == (file.errors, file.waiting_bytes)
    assert "File too large" in file.last_error
    assert 1 == len(caplog.records)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    )
    assert file.append(b"d")
    assert b"a" * 80 + b"b" * 80 + b"c" * 10 + b"d" == file.path.read_bytes()
    assert 0 == file.waiting_bytes


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_write_that_cannot_be_taken_back_is_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device takes no truncation either: the error is counted, not raised."""
    monkeypatch.setattr(TraceFile, "_names", lambda self: iter(["t.pb"]))
    file = trace_file(tmp_path)
    file.append(b"a")
    full = os.open("/dev/full", os.O_RDWR)
    assert file._file is not None
    os.dup2(full, file._file.fileno())
    os.close(full)
    assert not file.append(b"b")
    assert "No space left" in file.last_error


def test_a_folder_that_cannot_be_made_is_no_error_of_the_callers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Said once, counted each time; when the obstacle is gone, all is written."""
    obstacle = tmp_path / "traces"
    obstacle.write_text("a file")
    file = trace_file(obstacle)
    with caplog.at_level(logging.WARNING, logger="perf"):
        assert [False, False] == [file.append(b"a"), file.append(b"b")]
    assert 2 == file.errors
    assert 1 == len(caplog.records)
    assert str(obstacle) in caplog.text
    obstacle.unlink()
    assert file.append(b"c")
    assert file.path is not None
    assert b"abc" == file.path.read_bytes()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    """Counted, not raised."""
    tmp_path.chmod(0o500)
    file = trace_file(tmp_path)
    assert not file.append(b"a")
    assert "PermissionError" in file.last_error


def test_each_cause_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another cause is another line."""
    causes = [errno.ENOSPC, errno.ENOSPC, errno.EIO, errno.ENOSPC]

    def fail(self: TraceFile) -> None:
        raise OSError(causes.pop(0), "no")

    monkeypatch.setattr(TraceFile, "_create", fail)
    file = trace_file(tmp_path)
    with caplog.at_level(logging.WARNING, logger="perf"):
        for _ in range(4):
            file.append(b"a")
    assert 2 == len(caplog.records)


def test_a_file_that_was_removed_or_replaced_is_gone(tmp_path: Path) -> None:
    """Writing to it would go nowhere, without an error."""
    file = trace_file(tmp_path)
    assert not file.is_gone()
    file.append(b"a")
    assert not file.is_gone()
    assert file.path is not None
    file.path.unlink()
    assert file.is_gone()
    file.path.write_bytes(b"another")
    assert file.is_gone()
    file.close()
    assert not file.is_gone()


def test_a_file_that_was_moved_is_still_written(tmp_path: Path) -> None:
    """Somebody keeps it under another name; one that is replaced is gone."""
    file = trace_file(tmp_path)
    file.append(b"a")
    assert file.path is not None
    file.path.rename(tmp_path / "kept")
    assert not file.is_gone()
    file.append(b"b")
    assert b"ab" == (tmp_path / "kept").read_bytes()
    (tmp_path / "other").write_bytes(b"c")
    (tmp_path / "other").rename(tmp_path / "kept")
    assert file.is_gone()
    file.close()
