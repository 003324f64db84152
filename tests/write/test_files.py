from __future__ import annotations

import gc
import math
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf._model.log import OnceLog
from perf._write.files import MB, Disk, TraceFiles
from perf._write.sink import TraceFile


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"segment_mb": 0}, "segment_mb=0.*positive"),
        ({"segment_mb": -1}, "segment_mb=-1"),
        ({"segment_mb": math.inf}, "segment_mb=inf.*positive"),
        ({"segment_s": math.nan}, "segment_s=nan.*positive"),
        ({"max_disk_mb": -1}, "max_disk_mb=-1"),
        ({"segment_s": "5"}, "segment_s='5'.*number.*str"),
        ({"upload_wait_s": None}, "upload_wait_s=None.*number.*NoneType"),
        ({"segment_mb": True}, "segment_mb=True.*number"),
        ({"compress": 1}, "compress=1.*bool"),
        ({"compres": True}, "unknown keys.*compres.*segment_mb"),
    ],
)
def test_wrong_options_are_refused(options: Any, said: str) -> None:
    """At once, with what was asked, what was found and what there is."""
    with pytest.raises(ValueError, match=said):
        TraceFiles.from_mapping(options)


def test_segments_are_small_enough_for_the_disk() -> None:
    """Several have to fit, or all that is left would be the one being written."""
    sizes = [
        files.limits(remote=False).segment_bytes // MB
        for files in (
            TraceFiles(),
            TraceFiles(max_disk_mb=100),
            TraceFiles(segment_mb=2, max_disk_mb=100),
        )
    ]
    assert [256, 25, 2] == sizes


def test_what_is_uploaded_is_smaller_and_bounded() -> None:
    """A file reaches a remote folder when it is complete; what is chosen holds."""
    limits = TraceFiles().limits(remote=True)
    assert (64 * MB, 300 * 10**9, 1024 * MB) == limits
    assert (256 * MB, 0, 0) == TraceFiles().limits(remote=False)
    chosen = TraceFiles(segment_mb=8, segment_s=0, max_disk_mb=0)
    assert (8 * MB, 0, 0) == chosen.limits(remote=True) == chosen.limits(remote=False)


@given(
    st.lists(st.tuples(st.integers(1, 50), st.booleans()), max_size=12),
    st.integers(0, 200),
)
def test_room_is_made_by_the_oldest_closed_files(
    sizes: list[tuple[int, bool]], limit: int
) -> None:
    """Until all keep the limit or only those being written are left."""
    disk = Disk()
    for number, (size, is_closed) in enumerate(sizes):
        disk.grow(Path(f"/nowhere/{number}"), size)
        if is_closed:
            disk.close(Path(f"/nowhere/{number}"))
    deleted = [int(path.name) for path in disk.make_room(limit)]
    closed = [number for number, (_, is_closed) in enumerate(sizes) if is_closed]
    assert closed[: len(deleted)] == deleted
    left = sum(size for n, (size, _) in enumerate(sizes) if n not in deleted)
    assert left <= limit or len(deleted) == len(closed)
    if deleted:
        assert left + sizes[deleted[-1]][0] > limit


def test_a_file_that_is_gone_already_is_no_error(tmp_path: Path) -> None:
    """Somebody else may tidy up, too."""
    disk = Disk()
    (tmp_path / "b").write_bytes(b"b")
    for name in "ab":
        disk.grow(tmp_path / name, 1)
        disk.close(tmp_path / name)
    assert [tmp_path / "a", tmp_path / "b"] == disk.make_room(0)
    assert [] == list(tmp_path.iterdir())


def test_an_account_names_what_is_there() -> None:
    """What is being written, and what is complete and was not deleted."""
    disk = Disk()
    for name in "abc":
        disk.grow(Path(f"/nowhere/{name}"), 5)
    for name in "ab":
        disk.close(Path(f"/nowhere/{name}"))
    paths = tuple(Path(f"/nowhere/{name}") for name in "abc")
    assert paths == disk.left((*paths, Path("/nowhere/d")))
    disk.make_room(10)
    disk.forget(Path("/nowhere/b"))
    assert (Path("/nowhere/c"),) == disk.left(paths)


def test_a_file_that_left_takes_no_room() -> None:
    """It was uploaded: others need not be deleted."""
    disk = Disk()
    for name in "ab":
        disk.grow(Path(f"/nowhere/{name}"), 5)
        disk.close(Path(f"/nowhere/{name}"))
    disk.forget(Path("/nowhere/a"))
    assert [] == disk.make_room(5)
    assert [Path("/nowhere/b")] == disk.make_room(4)


def test_a_child_does_not_delete_its_parents_files() -> None:
    """They are of another account."""
    disk = Disk()
    disk.grow(Path("/nowhere/a"), 5)
    disk.close(Path("/nowhere/a"))
    disk.begin_anew()
    assert [] == disk.make_room(0)


class Collecting(type(Path())):  # type: ignore[misc]  # the platform's own
    """A path that Python collects garbage for, whenever it is looked up."""

    def __hash__(self) -> int:
        gc.collect()
        return super().__hash__()


def test_a_file_may_be_dropped_in_the_midst_of_it(tmp_path: Path) -> None:
    """Nothing is held up where garbage that is collected closes a file."""
    disk = Disk()
    dropped = TraceFile(tmp_path, "dropped", OnceLog(), disk)
    assert dropped.append(b"data")
    path = dropped.path
    dropped.itself = dropped  # type: ignore[attr-defined]  # a cycle
    del dropped
    disk.grow(Collecting("/nowhere/a"), 1)
    deleted = list[list[Path]]()
    making = threading.Thread(
        target=lambda: deleted.append(disk.make_room(1)), daemon=True
    )
    making.start()
    making.join(60)
    assert [[path]] == deleted


def test_writing_waits_for_nobody_who_keeps_the_account() -> None:
    """Who does may wait for the writing: in a signal handler that flushes."""
    disk, other, found = Disk(), Path("/nowhere/b"), list[object]()

    def write() -> None:
        disk.grow(other, 5)
        disk.close(other)
        found.extend([disk.make_room(1), disk.left([other])])

    class Interrupted(type(Path())):  # type: ignore[misc]  # as above
        def __hash__(self) -> int:
            if not found:
                writing = threading.Thread(target=write, daemon=True)
                writing.start()
                writing.join(30)
                assert not writing.is_alive()
            return super().__hash__()

    disk.grow(Interrupted("/nowhere/a"), 5)
    disk.left([])
    assert [[], (other,)] == found
    assert [other] == disk.make_room(5)
