"""Uploads: what fails, what hangs, what comes back, and the end of a process."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import stat
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from perf._read.load import load
from perf._write import upload
from perf._write import writer as writer_module
from perf._write.files import MB, Disk, TraceFiles
from perf._write.layout import V1Layout
from perf._write.upload import Spool, Uploads, as_url, remote_folder
from perf._write.writer import TraceWriter
from tests.programs import run_python
from tests.write.traces import Source, names, span

URL = "test://bucket/traces"


class Folder:
    """A remote folder that works, fails or hangs, as the test says."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.order: list[str] = []
        self.works = True
        self.open = threading.Event()
        self.open.set()
        self.asked = threading.Event()
        self.failed = threading.Semaphore(0)
        self.reached = 0

    def reach(self) -> None:
        """Asks whether it is there."""
        self.reached += 1

    def put(self, part: Path) -> None:
        """Takes a file."""
        self.asked.set()
        self.open.wait()
        if not self.works:
            self.failed.release()
            raise ConnectionError("no route")
        self.files[part.name] = part.read_bytes()
        self.order.append(part.name)


@pytest.fixture(autouse=True)
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where parts wait; pauses are so short that nobody notices."""
    monkeypatch.setenv(upload.SPOOL_VARIABLE, str(tmp_path / "spool"))
    monkeypatch.setattr(upload, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(upload, "_MAX_PAUSE_S", 0.002)
    monkeypatch.setattr(writer_module, "_spool", Disk())
    return tmp_path / "spool"


@pytest.fixture
def folder() -> Folder:
    """A remote folder that works."""
    return Folder()


Make = Callable[..., Uploads]


@pytest.fixture
def make(folder: Folder) -> Iterator[Make]:
    """Makes uploads to the folder; at the end it works, and all of them end."""
    made: list[Uploads] = []

    def make(wait_s: float = 60, disk: Disk | None = None) -> Uploads:
        made.append(Uploads(URL, folder, wait_s, disk or Disk()))
        made[-1].start()
        return made[-1]

    yield make
    folder.works = True
    folder.open.set()
    for uploads in made:
        uploads.finish(for_ever=True)
        uploads._patience_s = 60
        assert uploads.settle()


@pytest.fixture
def ended(folder: Folder, make: Make, monkeypatch: pytest.MonkeyPatch) -> Uploads:
    """Uploads that have ended while their folder, which hangs, is still asked for."""
    monkeypatch.setattr(folder, "reach", folder.open.wait)
    folder.open.clear()
    uploads = make()
    uploads.finish(for_ever=True)
    assert uploads.settle()
    return uploads


def part(uploads: Uploads, name: str) -> Path:
    """A part that is complete."""
    path = uploads.folder / name
    path.write_text(f"content of {name}")
    return path


def put(uploads: Uploads, *some: str) -> None:
    """Has parts uploaded."""
    for name in some:
        uploads.put(part(uploads, name))


def settled(uploads: Uploads) -> bool:
    """Whether all is uploaded in time; further parts may come."""
    uploads.finish(for_ever=False)
    return uploads.settle()


def left(spool: Path) -> list[str]:
    """Names of the files in the spool."""
    return sorted(path.name for path in spool.rglob("*") if path.is_file())


# One after the other


def test_parts_are_uploaded_in_their_order(
    folder: Folder, make: Make, spool: Path
) -> None:
    """What is there is no longer here."""
    uploads = make()
    put(uploads, "b", "a", "c")
    assert settled(uploads)
    assert ["b", "a", "c"] == folder.order
    assert b"content of a" == folder.files["a"]
    assert [] == left(spool)
    assert (3, (), 0) == (uploads.uploaded, uploads.waiting, uploads.failures)


def test_what_fails_is_tried_again_until_it_is_there(
    folder: Folder, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Attempts are counted, their cause is said once."""
    folder.works = False
    uploads = make()
    with caplog.at_level(logging.WARNING, logger="perf"):
        put(uploads, "a", "b")
        for _ in range(3):
            folder.failed.acquire()
        assert 2 == len(uploads.waiting)
        folder.works = True
        assert settled(uploads)
    assert ["a", "b"] == folder.order
    assert uploads.failures >= 3
    assert "ConnectionError: no route" == uploads.last_error
    (line,) = [record.getMessage() for record in caplog.records]
    assert URL in line
    assert str(uploads.folder) in line


def test_pauses_grow_and_a_hurry_cuts_them_short(
    folder: Folder, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that is down is not flooded; whoever closes does not wait for it."""
    monkeypatch.setattr(upload, "_FIRST_PAUSE_S", 1e6)
    monkeypatch.setattr(upload, "_MAX_PAUSE_S", 1e6)
    folder.works = False
    uploads = make()
    put(uploads, "a")
    folder.failed.acquire()
    folder.works = True
    assert settled(uploads)
    assert ["a"] == folder.order


def test_an_upload_that_hangs_holds_up_nobody(
    folder: Folder, make: Make, spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Waiting ends at the deadline and says where the parts are; then it goes on."""
    folder.open.clear()
    uploads = make(wait_s=0)
    put(uploads, "a", "b")
    folder.asked.wait()
    with caplog.at_level(logging.WARNING, logger="perf"):
        assert not settled(uploads)
    assert f"2 trace files were not uploaded to {URL}" in caplog.text
    assert str(uploads.folder) in caplog.text
    assert ["a", "b"] == left(spool)
    folder.open.set()
    uploads._patience_s = 60
    assert settled(uploads)
    assert ["a", "b"] == folder.order


def test_patience_is_one_for_all_waiting(folder: Folder, make: Make) -> None:
    """The interpreter's exit asks twice."""
    folder.open.clear()
    uploads = make(wait_s=0.01)
    put(uploads, "a")
    assert not settled(uploads)
    assert 0 == uploads._patience_s


def test_what_was_deleted_to_make_room_is_not_uploaded(
    folder: Folder, make: Make
) -> None:
    """Neither if it was told, nor if it was not; an upload in progress may end."""
    folder.open.clear()
    uploads = make()
    put(uploads, "a", "b", "c", "d")
    folder.asked.wait()
    dropped = uploads.folder / "b"
    dropped.unlink()
    uploads.drop([dropped])
    assert ["a", "c", "d"] == [path.name for path in uploads.waiting]
    (uploads.folder / "c").unlink()
    folder.open.set()
    assert settled(uploads)
    assert ["a", "d"] == folder.order
    assert (2, 0) == (uploads.uploaded, uploads.failures)


def test_a_folder_that_cannot_be_reached_is_said_at_once(
    folder: Folder, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with the first part, minutes later. Parts are tried all the same."""

    def reach() -> None:
        raise PermissionError("who are you?")

    monkeypatch.setattr(folder, "reach", reach)
    uploads = make()
    put(uploads, "a")
    assert settled(uploads)
    assert (1, "PermissionError: who are you?") == (
        uploads.failures,
        uploads.last_error,
    )
    assert ["a"] == folder.order


def test_nothing_is_waited_for_where_nothing_waits(ended: Uploads) -> None:
    """Though the folder hangs when it is asked for."""
    assert not ended.folder.exists()


def test_a_thread_that_cannot_be_started(
    folder: Folder, make: Make, monkeypatch: pytest.MonkeyPatch, spool: Path
) -> None:
    """Parts stay where they are, until one can."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        uploads = make(wait_s=0)
    put(uploads, "a")
    assert not settled(uploads)
    assert ["a"] == left(spool)
    uploads.start()


def test_a_local_folder_that_cannot_be_reached_ends_no_uploads(
    folder: Folder, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount that is away for a while: asking whether a part is there fails, too."""

    def away(path: Path, **options: bool) -> bool:
        raise OSError(107, "Transport endpoint is not connected")

    folder.works = False
    uploads = make()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", away)
        put(uploads, "a")
        assert folder.failed.acquire(timeout=10)
        assert folder.failed.acquire(timeout=10)
    folder.works = True
    assert settled(uploads)
    assert ["a"] == folder.order


# The spool


def test_a_spool_is_gone_when_all_is_uploaded(make: Make, spool: Path) -> None:
    """Nothing is left behind."""
    uploads = make()
    put(uploads, "a")
    uploads.finish(for_ever=True)
    assert uploads.settle()
    assert not uploads.folder.exists()


def test_what_a_dead_process_left_is_uploaded_first(
    folder: Folder, make: Make, spool: Path
) -> None:
    """By the next one that writes to the same folder; it counts towards the limit."""
    dead, other = Spool(URL), Spool("test://bucket/others")
    for each in (dead, other):
        each.own()
        (each.folder / "left_2").write_text("2")
        (each.folder / "left_1").write_text("1")
        each.forget()  # as the end of its process does
    folder.open.clear()
    disk = Disk()
    uploads = make(disk=disk)
    put(uploads, "own")
    folder.asked.wait()
    assert not dead.folder.exists()
    taken = [uploads.folder / "left_1", uploads.folder / "left_2"]
    assert {*taken, uploads.folder / "own"} == set(uploads.waiting)
    assert taken == disk.make_room(0)
    assert ["left_1", "left_2"] == sorted(path.name for path in other.folder.iterdir())


def test_a_folder_that_cannot_be_read_does_not_hide_the_others(
    folder: Folder,
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whichever comes first; the log says what is wrong with it."""
    dead = [Spool(URL), Spool(URL), Spool(URL)]
    for number, each in enumerate(dead):
        each.own()
        (each.folder / f"left_{number}").write_text("1")
        each.forget()
    rename = Path.rename

    def rename_some(path: Path, target: Path) -> Path:
        if path.name == "left_1":
            raise PermissionError("not yours")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", rename_some)
    with caplog.at_level(logging.WARNING, logger="perf"):
        uploads = make()
        put(uploads, "own")
        assert settled(uploads)
    assert ["left_0", "left_2", "own"] == folder.order
    assert "what others left in the spool: not yours" in caplog.text
    assert (dead[1].folder / "left_1").exists()


def test_what_a_living_process_has_is_its_own(make: Make) -> None:
    """Its folder is locked, in this process too."""
    living = Spool(URL)
    living.own()
    (living.folder / "part").write_text("more comes")
    assert settled(make())
    assert (living.folder / "part").exists()
    living.forget()


def test_a_folder_that_was_taken_for_a_dead_ones_is_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another process may look between its making and its locking."""
    spool, looking = Spool(URL), Spool(URL)
    tries: list[Path] = []
    looking.own()
    locked = upload._locked

    def locked_late(folder: Path) -> int | None:
        if folder == spool.folder and not tries:
            tries.append(folder)
            assert ([], None) == looking.left_behind()
            assert not folder.exists()
        return locked(folder)

    monkeypatch.setattr(upload, "_locked", locked_late)
    spool.own()
    assert spool.folder.exists()
    assert ([], None) == looking.left_behind()
    assert spool.folder.exists()
    spool.release()
    looking.release()


def test_a_file_system_without_locks_is_no_obstacle(
    monkeypatch: pytest.MonkeyPatch, make: Make, folder: Folder
) -> None:
    """The folder is used as it is."""
    monkeypatch.setattr(upload, "_locked", lambda folder: None)
    uploads = make()
    put(uploads, "a")
    assert settled(uploads)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("gs://bucket/traces", "gs://bucket/traces"),
        ("gs:/bucket/x", "gs://bucket/x"),
        (Path("s3://x"), "s3://x"),
        ("/tmp/x", None),
        ("traces", None),
        ("C:/traces", None),
        (Path("a/b"), None),
        ("a:b", None),
    ],
)
def test_what_is_a_url(given: str | Path, url: str | None) -> None:
    """A drive is no scheme, nor is a colon without a slash; pathlib halves slashes."""
    assert url == as_url(given)


# Kinds of folders


def test_without_etils_remote_folders_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At once, with what to install."""
    monkeypatch.setitem(sys.modules, "etils", None)
    with pytest.raises(ValueError, match=r"'gs://x'.*rlperf\[remote\]"):
        remote_folder("gs://x")


def test_a_kind_that_nobody_knows_is_refused() -> None:
    """It would be a local folder of a strange name."""
    pytest.importorskip("etils.epath")
    with pytest.raises(ValueError, match=r"'nowhere://x'.*knows no 'nowhere://'"):
        remote_folder("nowhere://x")


def test_any_kind_that_etils_knows_is_written_to(tmp_path: Path) -> None:
    """As gs:// is, or what the user has registered."""
    epath = pytest.importorskip("etils.epath")
    from etils.epath import register

    def somewhere(url: str) -> Any:
        return epath.Path(tmp_path / url.removeprefix("somewhere://"))

    known: dict[str, Any] = register._URI_PREFIXES_TO_CLS
    known["somewhere://"] = somewhere
    try:
        (tmp_path / "there").mkdir()
        (tmp_path / "part").write_bytes(bytes(3 * MB // 2))
        there = remote_folder("somewhere://there")
        there.reach()
        for _ in range(2):  # over what an attempt left behind
            there.put(tmp_path / "part")
    finally:
        del known["somewhere://"]
    assert bytes(3 * MB // 2) == (tmp_path / "there" / "part").read_bytes()


# With a writer

SMALL = TraceFiles(segment_mb=500 / MB)
"""A file is full after its first batch."""


@pytest.fixture
def writer(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable]:
    """Makes attached writers to the folder; rounds are made by the test's thread."""
    monkeypatch.setattr(writer_module, "remote_folder", lambda url: folder)
    made: list[TraceWriter] = []

    def make(source: Source, **files: float) -> TraceWriter:
        options = {"segment_mb": 500 / MB, **files}
        writer = TraceWriter(URL, V1Layout(), files=TraceFiles(**options))  # type: ignore[arg-type]
        writer._source = source
        assert writer._uploads is not None
        writer._uploads.start()
        made.append(writer)
        return writer

    yield make
    folder.works = True
    folder.open.set()
    for each in made:
        each.close()


def write(writer: TraceWriter, source: Source, *numbers: int) -> None:
    """Has spans written, each in a round of its own."""
    for number in numbers:
        source.records = [span(number, number * 10, number * 10 + 5)]
        writer.write_now()


def names_there(folder: Folder, tmp_path: Path) -> list[list[str]]:
    """The slices of each file in the remote folder, in the order of upload."""
    found = []
    for name in folder.order:
        (tmp_path / name).write_bytes(folder.files[name])
        found.append(names(tmp_path / name))
    return found


def test_parts_of_a_trace_are_uploaded_when_complete(
    folder: Folder, writer: Callable, tmp_path: Path, spool: Path
) -> None:
    """Each can be read on its own; the last one is complete when all is closed."""
    source = Source()
    made = writer(source)
    write(made, source, 1, 2, 3)
    assert 1 == len([path for path in made.stats.paths if path == made._file.path])
    made.close()
    assert [["span 1"], ["span 2"], ["span 3"]] == names_there(folder, tmp_path)
    stats = made.stats
    assert (3, 0, 0) == (
        stats.uploaded_parts,
        stats.waiting_parts,
        stats.failed_uploads,
    )
    assert (3, 0, "") == (stats.written_slices, stats.errors, stats.last_error)
    assert sum(map(len, folder.files.values())) == stats.written_bytes
    assert () == stats.paths
    assert [] == left(spool)
    assert 0 < stats.own_time_s < 60


def test_an_idle_run_uploads_its_part_all_the_same(
    folder: Folder,
    writer: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When it is old enough, whether or not anything is recorded."""
    now_ns = [10**12]
    monkeypatch.setattr("time.monotonic_ns", lambda: now_ns[0])
    source = Source()
    made = writer(source, segment_mb=64, segment_s=300)
    write(made, source, 1)
    now_ns[0] += 300 * 10**9
    assert 0 == made.stats.uploaded_parts + made.stats.waiting_parts
    made.write_now()
    assert 1 == made.stats.uploaded_parts + made.stats.waiting_parts
    made.close()
    assert [["span 1"]] == names_there(folder, tmp_path)


def test_writing_goes_on_while_uploads_hang(
    folder: Folder, writer: Callable, tmp_path: Path
) -> None:
    """When they come back, all that was written meanwhile is there."""
    folder.open.clear()
    source = Source()
    made = writer(source, upload_wait_s=0)
    write(made, source, *range(1, 6))
    stats = made.stats
    assert (0, 4, 5) == (stats.uploaded_parts, stats.waiting_parts, len(stats.paths))
    made._uploads._patience_s = 60
    folder.open.set()
    made.close()
    assert [[f"span {n}"] for n in range(1, 6)] == names_there(folder, tmp_path)


def test_the_spool_is_bounded(
    folder: Folder, writer: Callable, tmp_path: Path, spool: Path
) -> None:
    """The oldest parts that wait are dropped, and counted; the newest are kept."""
    folder.works = False
    source = Source()
    made = writer(source, max_disk_mb=4_000 / MB)
    write(made, source, *range(1, 21))
    stats = made.stats
    assert 0 < stats.deleted_files < 19
    assert 20 == stats.deleted_files + len(stats.paths)
    assert stats.waiting_parts + 1 == len(stats.paths)
    assert sum(path.stat().st_size for path in spool.rglob("*.pb")) <= 4_000
    folder.works = True
    made.close()
    there = names_there(folder, tmp_path)
    assert [[f"span {n}"] for n in range(21 - len(there), 21)] == there


def test_a_copy_writes_to_the_same_folder(folder: Folder, writer: Callable) -> None:
    """From a local folder of its own."""
    import copy

    made = writer(Source())
    other = copy.deepcopy(made)
    assert URL == made.folder == other.folder
    assert made._uploads.folder != other._uploads.folder


# The end of a process

PROGRAM = """
import os, shutil, signal, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from perf._write import writer as module
from perf._write.files import TraceFiles
from perf._write.layout import V1Layout
from tests.write.traces import Source, span

there = Path(sys.argv[1])

class Folder:
    # As the clients of object stores do: a pool is asked where the host is.
    pool = ThreadPoolExecutor()
    def reach(self): self.pool.submit(there.mkdir).result()
    def put(self, part): self.pool.submit(shutil.copy, part, there).result()

module.remote_folder = lambda url: Folder()
source = Source()
def start(**files):
    writer = module.TraceWriter("test://x", V1Layout(), files=TraceFiles(**files))
    writer.attach(source)
    return writer
"""


def run(folder: Path, program: str, *, code: int = 0, said: str = "") -> list[set[str]]:
    """The slices of each file in the remote folder after a program's end."""
    done = run_python("-c", PROGRAM + textwrap.dedent(program), str(folder))
    assert code == done.returncode, done.stderr
    assert said in done.stderr
    assert bool(said) == bool(done.stderr), done.stderr
    found = [{slice.name for slice in load(path).slices} for path in folder.glob("*")]
    return sorted(found, key=str)


def test_the_last_part_is_uploaded_at_the_exit(tmp_path: Path, spool: Path) -> None:
    """Nobody has to close anything, though pools of threads end before exit hooks."""
    there = tmp_path / "there"
    program = "writer = start()\nsource.records = [span(1, 0, 1)]\n"
    assert [{"span 1"}] == run(there, program)
    assert [] == left(spool)


def test_an_exit_while_uploads_hang(tmp_path: Path, spool: Path) -> None:
    """It comes in time, and says where the trace is."""
    there = tmp_path / "there"
    found = run(
        there,
        """
        Folder.put = lambda self, part: threading.Event().wait()
        writer = start(upload_wait_s=0.05)
        source.records = [span(1, 0, 1)]
        """,
        said=f"not uploaded to test://x in time: they stay in {spool}",
    )
    assert [] == found
    assert 1 == len(left(spool))


def test_what_a_killed_process_left_is_uploaded_by_the_next(
    tmp_path: Path, spool: Path
) -> None:
    """Up to the last flush, with the parts that were complete."""
    there = tmp_path / "there"
    found = run(
        there,
        """
        Folder.put = lambda self, part: threading.Event().wait()
        writer = start(segment_mb=0.0001)
        for number in (1, 2):
            source.records = [span(number, number, number + 1)]
            assert writer.flush()
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        code=-signal.SIGKILL,
    )
    assert [] == found
    assert 2 == len(left(spool))
    shutil.rmtree(there, ignore_errors=True)  # There, if it was asked for in time.
    program = "writer = start()\nsource.records = [span(3, 0, 1)]\nwriter.close()\n"
    assert [{"span 1"}, {"span 2"}, {"span 3"}] == run(there, program)
    assert [] == left(spool)


def test_a_container_that_starts_again_uploads_what_was_left(
    tmp_path: Path, spool: Path
) -> None:
    """On a volume that stays; its first process is number 1 each time, and the clock
    may show the same second.
    """
    again = "os.getpid, time.time = lambda: 1, lambda: 5.0"
    there = tmp_path / "there"
    found = run(
        there,
        f"""
        {again}
        Folder.put = lambda self, part: threading.Event().wait()
        writer = start()
        source.records = [span(1, 0, 1)]
        assert writer.flush()
        os._exit(9)
        """,
        code=9,
    )
    assert [] == found
    assert 1 == len(left(spool))
    shutil.rmtree(there, ignore_errors=True)  # There, if it was asked for in time.
    program = f"""
        {again}
        writer = start()
        source.records = [span(2, 0, 1)]
        writer.close()
        """
    assert [{"span 1"}, {"span 2"}] == run(there, program)
    assert [] == left(spool)


def test_a_forked_child_uploads_what_is_its_own(tmp_path: Path, spool: Path) -> None:
    """The parent's parts stay the parent's."""
    found = run(
        tmp_path / "there",
        """
        writer = start()
        source.records = [span(1, 0, 1)]
        assert writer.flush()
        if (child := os.fork()) == 0:
            Folder.pool = ThreadPoolExecutor()  # its threads are the parent's
            Folder.reach = lambda self: None
            source.records = [span(2, 0, 1)]
            writer.close()
            assert writer.stats.uploaded_parts == 1
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        """,
    )
    assert [{"span 1"}, {"span 2"}] == found
    assert [] == left(spool)


# The spool


def default_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the spool is if nobody says where."""
    monkeypatch.delenv(upload.SPOOL_VARIABLE)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"rlperf-spool-{os.getuid()}"


@pytest.mark.parametrize("is_there", [False, True])
def test_nobody_else_may_look_into_the_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    """From its root on: names of runs are in the names of folders."""
    root = default_spool(tmp_path, monkeypatch)
    if is_there:
        root.mkdir(mode=0o755)
    spool = upload.Spool("mem://bucket/run")
    spool.own()
    spool.release()
    assert 0o700 == stat.S_IMODE(root.stat().st_mode)


@pytest.mark.parametrize("planted", ["another user's", "a link"])
def test_a_spool_that_somebody_planted_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    folder: Folder,
    planted: str,
) -> None:
    """Its name is known to all, in a folder in which all may write."""
    root = default_spool(tmp_path, monkeypatch)
    if planted == "a link":
        root.symlink_to(tmp_path)
    else:
        me = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: me + 1)
        root = tmp_path / f"rlperf-spool-{me + 1}"
        root.mkdir()
    uploads = Uploads(URL, folder, 0.0, Disk())
    uploads.start()
    uploads.finish(for_ever=True)
    assert uploads.settle()
    (message,) = caplog.messages
    assert f"{root} is another user's" in message
    assert upload.SPOOL_VARIABLE in message
