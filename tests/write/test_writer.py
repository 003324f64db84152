from __future__ import annotations

import copy
import io
import logging
import os
import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perf._model.lock import LockDemand
from perf._model.spans import OPEN, Batch
from perf._read.load import load
from perf._read.recording import read_recording
from perf._write import background
from perf._write import writer as writer_module
from perf._write.files import MB, Disk, TraceFiles
from perf._write.layout import V1Layout, V2Layout
from perf._write.lock_watch import LockWatch
from perf._write.sink import TraceFile
from perf._write.stream import TraceStream
from perf._write.writer import TraceWriter
from tests.write.traces import MAIN, Source, names, span
from tools.perfetto.trace_processor import TraceProcessor, slices


@pytest.fixture
def source() -> Source:
    """A source without records."""
    return Source()


@pytest.fixture
def writer(tmp_path: Path, source: Source) -> TraceWriter:
    """A writer that is attached; its rounds are made by the test's own thread."""
    made = TraceWriter(tmp_path / "traces", V1Layout())
    made._source = source
    return made


def test_what_a_source_gives_is_in_the_file_after_a_flush(tmp_path: Path) -> None:
    """And nothing was there before the first span."""
    source, writer = Source(), TraceWriter(tmp_path, V1Layout())
    writer.attach(source)
    assert writer.flush()
    assert [] == list(tmp_path.iterdir())
    source.records = [span(1, 0, 1), span(2, 2, 3)]
    writer.wake()
    assert writer.flush()
    assert ["span 1", "span 2"] == names(writer.stats.paths[-1])
    writer.close()


def test_a_writer_that_is_not_attached_has_nothing_to_do(tmp_path: Path) -> None:
    """Flushing and closing it is no error."""
    writer = TraceWriter(tmp_path, V1Layout())
    assert writer.flush()
    writer.close()
    assert not writer.attached


def test_closing_writes_and_lets_go(tmp_path: Path) -> None:
    """The statistics stay; afterwards nothing happens any more."""
    source, writer = Source(), TraceWriter(tmp_path, V1Layout())
    writer.attach(source)
    source.records = [span(1, 0, 1)]
    writer.close()
    source.records = [span(2, 2, 3)]
    writer.write_now()
    writer.wake()
    writer.close()
    assert ["span 1"] == names(writer.stats.paths[-1])
    assert (1, 1) == (writer.stats.written_slices, source.closed)
    assert not writer.attached


def test_a_writer_serves_one_tracer(tmp_path: Path) -> None:
    """Two in one file would not be told apart."""
    writer = TraceWriter(tmp_path, V1Layout())
    writer.attach(Source())
    with pytest.raises(RuntimeError, match="attached"):
        writer.attach(Source())
    writer.close()


def test_a_writer_serves_one_tracer_in_its_life(tmp_path: Path, source: Source) -> None:
    """A copy of it writes the next trace: the files of this one are told here."""
    writer = TraceWriter(tmp_path, V1Layout())
    writer.attach(source)
    source.records = [span(1, 0, 1)]
    writer.close()
    before = writer.stats
    with pytest.raises(RuntimeError, match="copy"):
        writer.attach(Source())
    assert (before, False) == (writer.stats, writer.attached)
    other = copy.copy(writer)
    other.attach(source)
    source.records = [span(2, 2, 3)]
    other.close()
    assert [["span 1"], ["span 2"]] == [
        names(path) for each in (writer, other) for path in each.stats.paths
    ]


def test_statistics_say_what_was_written(writer: TraceWriter, source: Source) -> None:
    """Slices, bytes, and what it took."""
    source.records = [span(1, 0, 1), ("tick", 1, 1, 2, 0, 4, None, None)]
    source.opened = [span(3, 2)]
    writer.write_now()
    stats = writer.stats
    (path,) = stats.paths
    assert (2, path.stat().st_size) == (stats.written_slices, stats.written_bytes)
    assert 0 < stats.own_time_s < 60
    assert (0, "", 0) == (stats.errors, stats.last_error, stats.dropped)


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, copy.copy, lambda writer: pickle.loads(pickle.dumps(writer))],
)
def test_a_copy_is_configuration(
    copied: object, tmp_path: Path, source: Source
) -> None:
    """Frameworks copy options deeply: the copy writes a file of its own."""
    writer = TraceWriter(tmp_path, V2Layout({"actor": ["tpu0"]}))
    writer.attach(source)
    other = copied(writer)  # type: ignore[operator]
    assert (writer.folder, writer.layout) == (other.folder, other.layout)
    assert not other.attached
    writer.close()


def test_an_unknown_kind_of_folder_is_refused_when_the_writer_is_made() -> None:
    """It is configuration, not weather."""
    with pytest.raises(ValueError, match="'nowhere://bucket/traces'"):
        TraceWriter("nowhere://bucket/traces", V1Layout())


def test_a_file_that_vanishes_is_begun_anew(
    writer: TraceWriter, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    """With everything introduced again, so that it can be read."""
    source.records = [span(1, 0, 1)]
    writer.write_now()
    (first,) = writer.stats.paths
    first.unlink()
    first.parent.rmdir()
    source.records = [span(2, 2, 3)]
    with caplog.at_level(logging.WARNING, logger="perf"):
        writer.write_now()
    assert ["span 2"] == names(writer.stats.paths[-1])
    assert 2 == writer.stats.written_slices
    assert f"the trace {first} is gone" in caplog.text


def test_an_unwritable_folder_never_reaches_the_caller(
    writer: TraceWriter, source: Source, tmp_path: Path
) -> None:
    """It is counted; when it can be written to, everything is there."""
    (tmp_path / "traces").write_text("in the way")
    source.records = [span(1, 0, 1)]
    writer.write_now()
    source.records = [span(2, 2, 3)]
    writer.write_now()
    assert 2 == writer.stats.errors
    assert "FileExistsError" in writer.stats.last_error
    (tmp_path / "traces").unlink()
    writer.write_now()
    assert ["span 1", "span 2"] == names(writer.stats.paths[-1])


def test_too_much_waiting_is_dropped_and_counted(
    writer: TraceWriter,
    source: Source,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Memory is bounded. What was encoded before stays whole; what comes after is in
    a file of its own: the ends of slices may be among what was lost.
    """
    monkeypatch.setattr("perf._write.writer.MAX_WAITING_BYTES", 100)
    (tmp_path / "traces").write_text("in the way")
    for number in range(1, 4):
        source.records = [span(number, number * 10, number * 10 + 5)]
        writer.write_now()
    assert 2 == writer.stats.dropped
    (tmp_path / "traces").unlink()
    writer.write_now()
    source.records = [span(9, 90, 95)]
    writer.write_now()
    assert [["span 1"], ["span 9"]] == [names(path) for path in writer.stats.paths]
    told = [("lost", {"records": 2}), ("end", {"slices": 1, "open_slices": 0})]
    assert told == about(writer.stats.paths[0])


def write_in_vain(writer: TraceWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has what was recorded written while encoding it fails, by a fault of ours."""
    with monkeypatch.context() as patch:
        patch.setattr(TraceStream, "encode", lambda self, batch: 1 / 0)
        writer.write_now()


def test_a_fault_of_ours_costs_one_batch(
    writer: TraceWriter, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is raised, and another file goes on, with all that is open."""
    source.records = [span(1, 0, 1)]
    writer.write_now()
    source.records = [span(2, 2, 3)]
    write_in_vain(writer, monkeypatch)
    source.records = [span(3, 4, 5)]
    writer.write_now()
    assert [["span 1"], ["span 3"]] == [names(path) for path in writer.stats.paths]
    assert [True, False, True] == source.anew
    assert (1, "ZeroDivisionError: division by zero") == (
        writer.stats.errors,
        writer.stats.last_error,
    )


def about(path: Path) -> list[tuple[str, dict[str, int]]]:
    """What a file says of itself after its beginning, as Perfetto shows it."""
    with TraceProcessor(path) as tp:
        tp.assert_clean()
        rows = [row for row in slices(tp) if row.track[-1] == "Run"]
    assert "run" == rows[0].name
    return [(row.name or "", row.args) for row in rows if row.name != "run"]


def test_what_is_lost_is_told_in_the_file(
    writer: TraceWriter, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the tracer lost, and what the writer itself could not write."""
    source.dropped = 4
    writer.write_now()
    source.records = [span(1, 0, 1)]
    writer.write_now()
    source.records = [span(2, 2, 3), span(3, 4, 5)]
    write_in_vain(writer, monkeypatch)
    source.records = [span(4, 6, 7)]
    writer.write_now()
    source.dropped = 1
    writer.close()
    assert [
        [("lost", {"records": 4})],
        [
            ("lost", {"records": 2}),
            ("lost", {"records": 1}),
            ("end", {"slices": 1, "open_slices": 0}),
        ],
    ] == [about(path) for path in writer.stats.paths]
    assert 2 == writer.stats.dropped


def test_each_stretch_of_the_interpreters_lock_is_told_once(
    writer: TraceWriter, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nothing is recorded meanwhile; but no file has it alone, or last."""
    watch, at_ns = LockWatch(), 10**7
    monkeypatch.setattr(background.worker(), "lock_watch", watch)

    def saw(taken: int) -> None:
        demand = LockDemand(10, 5, taken, 1, 1, 1, 1, 9, ["busy"], [9])
        watch.last = at_ns + taken, demand

    saw(1)
    writer.write_now()
    source.records = [span(1, 0, 1)]
    for taken in (1, 2, 3):
        saw(taken)
        writer.write_now()
        writer.write_now()
        source.records = [span(4, 6, 7)] if taken == 2 else []
    writer.finish()
    saw(4)
    writer.write_now()
    assert MAIN.native_thread_id == watch.trainer
    (path,) = writer.stats.paths
    told = read_recording(path).lock
    assert [1, 2, 3] == [seen.taken for _, seen in told]
    assert [at_ns + n for n in (1, 2, 3)] == [end_ns for end_ns, _ in told]
    assert load(path).has_ended


def test_of_several_trainings_the_first_is_watched(
    writer: TraceWriter, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stretches of one thread each would all be thrown away if they took turns."""
    watch = LockWatch()
    monkeypatch.setattr(background.worker(), "lock_watch", watch)
    watch.trainer = 1 + MAIN.native_thread_id
    source.records = [span(1, 0, 1)]
    writer.write_now()
    assert 1 + MAIN.native_thread_id == watch.trainer


def test_a_stretch_before_the_writer_came_is_not_told(
    source: Source, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It was seen for the files of an earlier tracer."""
    watch = LockWatch()
    watch.last = 10**7, LockDemand(10, 5, 1, 1, 1, 1, 1, 9, ["busy"], [9])
    monkeypatch.setattr(background.worker(), "lock_watch", watch)
    writer = TraceWriter(tmp_path, V1Layout())
    writer.attach(source)
    source.records = [span(1, 0, 1)]
    writer.close()
    (path,) = writer.stats.paths
    assert [] == list(read_recording(path).lock)


@pytest.mark.parametrize("last", ["close", "finish"])
def test_what_is_lost_last_is_told_too(
    writer: TraceWriter, source: Source, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    """By a file that has nothing else."""
    source.records = [span(1, 0, 1)]
    writer.write_now()
    source.records = [span(2, 2, 3)]
    write_in_vain(writer, monkeypatch)
    getattr(writer, last)()
    told = [("lost", {"records": 1}), ("end", {"slices": 0, "open_slices": 0})]
    assert [[], told] == [about(path) for path in writer.stats.paths]


@pytest.mark.parametrize("last", ["close", "finish"])
def test_the_end_waits_for_a_source_that_is_busy(
    writer: TraceWriter, source: Source, last: str
) -> None:
    """There is no later batch that the rest could come with."""
    source.records, source.busy = [span(1, 0, 1)], 3
    getattr(writer, last)()
    assert ["span 1"] == names(writer.stats.paths[-1])


def test_the_end_does_not_wait_for_ever(writer: TraceWriter, source: Source) -> None:
    """For somebody who never lets go."""
    source.records, source.busy = [span(1, 0, 1)], 10**9
    writer.close()
    assert (1, ()) == (source.closed, writer.stats.paths)


@pytest.mark.parametrize("last", ["close", "finish", "write_now"])
def test_a_handler_that_interrupts_its_writer_does_not_wait_for_it(
    writer: TraceWriter,
    source: Source,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    last: str,
) -> None:
    """Nor for another, whose thread waits for this one; the interrupted writes on."""
    other, flushed = TraceWriter(tmp_path / "other", V1Layout()), list[bool]()
    other.attach(Source())
    encode = TraceStream.encode

    def interrupted(stream: TraceStream, batch: Batch) -> bytes:
        flushed.extend([writer.flush(), other.flush()])
        writer.write_now()
        writer.finish()
        writer.close()
        return encode(stream, batch)

    monkeypatch.setattr(TraceStream, "encode", interrupted)
    source.records = [span(1, 0, 1)]
    thread = threading.Thread(target=getattr(writer, last), daemon=True)
    thread.start()
    thread.join(30)
    assert ["span 1"] == names(writer.stats.paths[-1])
    assert [False, False] == flushed
    monkeypatch.undo()
    assert writer.flush()
    writer.close()
    other.close()


@pytest.mark.parametrize("last", ["close", "finish"])
def test_a_write_that_hangs_is_not_waited_for_for_ever(
    writer: TraceWriter,
    source: Source,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    last: str,
) -> None:
    """It has the lock, and is waited for once; when it ends after all, what waited is
    written.
    """
    monkeypatch.setattr(writer_module, "HANG_S", 0.1)
    hangs, goes_on = threading.Event(), threading.Event()
    write = TraceFile._write

    def hang(file: TraceFile, into: io.FileIO, data: bytes) -> None:
        hangs.set()
        goes_on.wait()
        write(file, into, data)

    monkeypatch.setattr(TraceFile, "_write", hang)
    source.records = [span(1, 0, 1)]
    thread = threading.Thread(target=writer.write_now)
    thread.start()
    hangs.wait()
    with caplog.at_level(logging.WARNING, logger="perf"):
        getattr(writer, last)()
    assert 1 == len(caplog.records)
    assert f"hangs: {writer.folder}" in caplog.text
    assert (int(last == "close"), last != "close") == (source.closed, writer.attached)
    monkeypatch.setattr(writer_module, "HANG_S", 3600)
    writer.write_now()
    goes_on.set()
    thread.join()
    source.records = [span(2, 2, 3)]
    writer.finish()
    more = ["span 2"] if last == "finish" else []
    assert ["span 1", *more] == names(writer.stats.paths[-1])


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[HangingDisk]:
    """A disk that does not hang yet, and a worker that knows no other."""
    made = HangingDisk()
    monkeypatch.setattr(os, "pwrite", made.pwrite)
    monkeypatch.setattr(background, "HANG_S", 0.1)
    monkeypatch.setattr(background, "_worker", background.Worker())
    yield made
    made.goes_on.set()
    background.worker().round(None)


class HangingDisk:
    """Writes to a disk that hangs when it is told to."""

    def __init__(self) -> None:
        self.threads: set[threading.Thread] = set()
        """Those that wrote while it hung."""
        self.hangs = threading.Event()
        self.goes_on = threading.Event()
        self.goes_on.set()
        self._pwrite = os.pwrite

    def hang(self) -> None:
        """From now on."""
        self.goes_on.clear()

    def pwrite(self, *args: Any) -> int:
        """As the one of `os`."""
        if not self.goes_on.is_set():
            self.threads.add(threading.current_thread())
            self.hangs.set()
            self.goes_on.wait()
        return self._pwrite(*args)


@pytest.mark.parametrize("new", [True, False], ids=["records", "nothing"])
def test_no_thread_but_the_workers_writes_to_a_disk_that_hangs(
    tmp_path: Path, hanging: HangingDisk, caplog: pytest.LogCaptureFixture, new: bool
) -> None:
    """Whoever closes several writers or ends the process waits once; the files are
    ended when the disk is back.
    """
    sources = [Source(), Source()]
    writers = [TraceWriter(tmp_path, layout) for layout in (V1Layout(), V2Layout())]
    for writer, source in zip(writers, sources, strict=True):
        writer.attach(source)
        source.records = [span(1, 0, 1)]
        assert writer.flush()
        source.records = [span(2, 2, 3)] if new else []
    hanging.hang()

    def close() -> None:
        for writer in writers:
            writer.close()
        background.worker().finish()
        background.worker().stop()

    closing = threading.Thread(target=close, daemon=True)
    closing.start()
    closing.join(20)
    assert not closing.is_alive()
    assert hanging.hangs.is_set()
    assert {"perf-writer"} == {thread.name for thread in hanging.threads}
    said = [each.getMessage() for each in caplog.records]
    assert 2 == sum(f"a write hangs: {tmp_path}" in line for line in said)
    assert 1 == sum("a write of a trace hangs" in line for line in said)
    assert 3 == len(said)
    assert [1, 1] == [source.closed for source in sources]
    hanging.goes_on.set()
    (thread,) = hanging.threads
    thread.join()
    for writer in writers:
        (path,) = writer.stats.paths
        assert load(path).has_ended


def test_a_fault_at_the_very_end_reaches_nobody(
    writer: TraceWriter, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot even be told is counted."""
    monkeypatch.setattr(TraceStream, "encode", lambda self, batch: 1 / 0)
    source.records = [span(1, 0, 1)]
    writer.close()
    assert (1, 2) == (writer.stats.dropped, writer.stats.errors)


def test_a_slice_whose_end_is_lost_has_nothing_in_it(
    tmp_path: Path, source: Source
) -> None:
    """It would be around all that follows: that is in the next file."""
    writer = TraceWriter(tmp_path, V1Layout())
    writer._source = source
    source.opened = [span(1, 0)]
    writer.write_now()
    source.records, source.dropped, source.lost_ends = [span(2, 20, 30)], 1, True
    writer.write_now()
    source.records = [span(3, 40, 50)]
    writer.write_now()
    assert [True, False, True, False] == source.anew
    found = [
        [(piece.name, piece.parent_id) for piece in load(path).slices]
        for path in writer.stats.paths
    ]
    assert [[("span 1", None)], [("span 2", None), ("span 3", None)]] == found
    told = [("lost", {"records": 1}), ("end", {"slices": 1, "open_slices": 1})]
    assert told == about(writer.stats.paths[0])


def test_a_loss_alone_ends_no_file(writer: TraceWriter, source: Source) -> None:
    """Whoever records too much for a while has not a file for each second."""
    source.records = [span(1, 0, 1)]
    writer.write_now()
    source.records, source.dropped = [span(2, 2, 3)], 7
    writer.write_now()
    source.records = [span(3, 4, 5)]
    writer.write_now()
    (path,) = writer.stats.paths
    assert ["span 1", "span 2", "span 3"] == names(path)


def test_what_a_full_disk_kept_out_begins_in_another_file(
    writer: TraceWriter,
    source: Source,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The end of a slice is lost meanwhile: nothing that follows is inside it."""
    monkeypatch.setattr("perf._write.writer.MAX_WAITING_BYTES", 100)
    (tmp_path / "traces").write_text("in the way")
    source.opened = [span(1, 0)]
    writer.write_now()
    source.records = [span(1, 0, 5)]
    writer.write_now()
    (tmp_path / "traces").unlink()
    source.records = [span(2, 10, 20)]
    writer.write_now()
    assert [["span 1"], ["span 2"]] == [names(path) for path in writer.stats.paths]


def test_a_closed_file_says_that_it_ends(tmp_path: Path) -> None:
    """One that is full says so, too: what is open goes on in the next."""
    source, writer = Source(), TraceWriter(tmp_path, V1Layout(), files=SMALL)
    writer.attach(source)
    source.records, source.opened = [span(1, 0, 1)], [span(2, 2)]
    assert writer.flush()
    source.records = [span(2, 2, 9)]
    writer.close()
    assert [
        [("end", {"slices": 2, "open_slices": 1})],
        [("end", {"slices": 1, "open_slices": 0})],
    ] == [about(path) for path in writer.stats.paths]


def test_a_file_that_nothing_followed_ends_once(
    tmp_path: Path, writer: TraceWriter, source: Source
) -> None:
    """At the interpreter's exit two hooks say that it ends, and the user may close."""
    source.records = [span(1, 0, 1)]
    writer.finish()
    writer.finish()
    end = ("end", {"slices": 1, "open_slices": 0})
    assert [end] == about(writer.stats.paths[0])
    source.records = [span(2, 2, 3)]
    writer.finish()
    source.dropped = 3
    writer.finish()
    writer.close()
    last = ("end", {"slices": 2, "open_slices": 0})
    lost = ("lost", {"records": 3})
    assert [end, last, lost, last] == about(writer.stats.paths[0])


def test_a_writer_that_wrote_nothing_ends_nothing(tmp_path: Path) -> None:
    """No file is made only to say that it ends."""
    writer = TraceWriter(tmp_path / "traces", V1Layout())
    writer.attach(Source())
    writer.close()
    assert not (tmp_path / "traces").exists()


# Several files

SMALL = TraceFiles(segment_mb=500 / MB)
"""A file is full after its first batch."""


@pytest.fixture(autouse=True)
def disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """An account without the files of other tests of this process."""
    monkeypatch.setattr(writer_module, "_disk", Disk())


def segmented(folder: Path, source: Source, files: TraceFiles) -> TraceWriter:
    """An attached writer whose rounds are made by the test's own thread."""
    made = TraceWriter(folder, V1Layout(), files=files)
    made._source = source
    return made


def test_a_full_file_is_followed_by_another(tmp_path: Path, source: Source) -> None:
    """Each is whole: it opens on its own, and knows which part of the run it is."""
    writer = segmented(tmp_path, source, SMALL)
    for number in range(1, 4):
        source.records = [span(number, number, number + 1)]
        writer.write_now()
    found = [load(path) for path in writer.stats.paths]
    assert [["span 1"], ["span 2"], ["span 3"]] == [
        names(p) for p in writer.stats.paths
    ]
    assert [0, 1, 2] == [file.runs[0]["segment"] for file in found]
    assert 3 == writer.stats.written_slices
    sizes = [path.stat().st_size for path in writer.stats.paths]
    assert sum(sizes) == writer.stats.written_bytes
    for path in writer.stats.paths:
        with TraceProcessor(path.read_bytes()) as tp:
            tp.assert_clean()


def test_a_folder_that_cannot_be_reached_keeps_its_files(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount that is away for a while: asking whether a file is there fails, too."""

    def away(path: Path, **options: bool) -> bool:
        raise OSError(107, "Transport endpoint is not connected")

    writer = segmented(tmp_path, source, SMALL)
    source.records = [span(1, 0, 1)]
    writer.write_now()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", away)
        source.records = [span(2, 2, 3)]
        writer.write_now()
    assert [["span 1"], ["span 2"]] == [names(path) for path in writer.stats.paths]
    assert 0 == writer.stats.errors


def test_a_fault_between_two_files_is_counted(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is raised: what was recorded meanwhile is written."""
    writer = segmented(tmp_path, source, SMALL)
    source.records = [span(1, 0, 1)]
    writer.write_now()
    with monkeypatch.context() as patch:
        patch.setattr(TraceStream, "end", lambda self: 1 / 0)
        source.records = [span(2, 2, 3)]
        writer.write_now()
    writer.write_now()
    found = [name for path in writer.stats.paths for name in names(path)]
    assert (["span 1", "span 2"], 1) == (found, writer.stats.errors)


def test_a_file_that_begins_is_told_of_what_is_open(
    tmp_path: Path, source: Source
) -> None:
    """So that a span open since long is in the last file, too, if the run is killed."""
    writer = segmented(tmp_path, source, SMALL)
    source.records = [span(1, 1, 2)]
    writer.write_now()
    writer.write_now()
    assert [True, True] == source.anew
    source.opened = [span(2, 1)]
    writer.write_now()
    source.records = [span(2, 1, 9)]
    writer.write_now()
    assert [True, True, True, True] == source.anew
    (_, opened, closed) = (load(path).slices for path in writer.stats.paths)
    assert [("span 2", OPEN)] == [(piece.name, piece.end_ns) for piece in opened]
    assert [("span 2", 9)] == [(piece.name, piece.end_ns) for piece in closed]


def test_a_file_that_goes_on_is_not(writer: TraceWriter, source: Source) -> None:
    """It has what was open already."""
    for number in range(3):
        source.records = [span(number + 1, number, number + 1)]
        writer.write_now()
    assert [True, False, False] == source.anew


def test_an_old_file_is_followed_by_another(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its size; its age counts from its first bytes."""
    now_ns = [10**12]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now_ns[0])
    writer = segmented(tmp_path, source, TraceFiles(segment_s=60))
    for number, age_s in enumerate((0, 59, 60, 61), start=1):
        now_ns[0] = 10**12 + age_s * 10**9
        source.records = [span(number, number, number + 1)]
        writer.write_now()
    assert [["span 1", "span 2"], ["span 3", "span 4"]] == [
        names(path) for path in writer.stats.paths
    ]


def test_the_oldest_files_make_room(tmp_path: Path, source: Source) -> None:
    """They are counted, and no longer told as there."""
    files = TraceFiles(segment_mb=500 / MB, max_disk_mb=4_000 / MB)
    writer = segmented(tmp_path, source, files)
    for number in range(1, 21):
        source.records = [span(number, number, number + 1)]
        writer.write_now()
    stats = writer.stats
    assert set(stats.paths) == set(tmp_path.iterdir())
    assert 20 == stats.deleted_files + len(stats.paths)
    assert 0 < stats.deleted_files < 19
    assert sum(path.stat().st_size for path in stats.paths) <= 4_000
    assert ["span 20"] == names(stats.paths[-1])
    assert 20 == stats.written_slices


def test_files_that_another_writer_deleted_are_not_told(
    tmp_path: Path, source: Source
) -> None:
    """All writers of a process share what they may take."""
    files = TraceFiles(segment_mb=500 / MB, max_disk_mb=4_000 / MB)
    writers = [segmented(tmp_path / name, source, files) for name in ("a", "b")]
    for writer in writers:
        for number in range(1, 11):
            source.records = [span(number, number, number + 1)]
            writer.write_now()
    told = [set(writer.stats.paths) for writer in writers]
    assert [set((tmp_path / name).iterdir()) for name in ("a", "b")] == told
    assert 1 == len(told[0])


def test_statistics_while_a_file_follows_another(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody may ask at any time: nothing is told twice."""
    asked: list[tuple[int, int, int]] = []

    writer = segmented(tmp_path, source, SMALL)

    def asking(*args: Any, **options: Any) -> TraceFile:
        stats = writer.stats
        paths = len(stats.paths)
        asked.append((paths, stats.written_records, stats.written_slices))
        return TraceFile(*args, **options)

    source.records = [span(1, 0, 1)]
    writer.write_now()
    monkeypatch.setattr(writer_module, "TraceFile", asking)
    writer.write_now()
    assert [(1, 1, 1)] == asked


def test_a_compressed_file_reads_back(tmp_path: Path, source: Source) -> None:
    """Flush by flush, so that one that is cut off is readable up to the cut."""
    writer = segmented(tmp_path, source, TraceFiles(compress=True))
    for number in range(1, 4):
        source.records = [span(number, number, number + 1)]
        writer.write_now()
    (path,) = writer.stats.paths
    assert ["span 1", "span 2", "span 3"] == names(path)
    data = path.read_bytes()
    with TraceProcessor(data) as tp:
        tp.assert_clean()
        assert 3 == len([row for row in slices(tp) if row.track[-1] == "Main"])
    with TraceProcessor(data[:-5]) as tp:
        assert 2 == len([row for row in slices(tp) if row.track[-1] == "Main"])


def test_a_copy_has_the_same_files(tmp_path: Path) -> None:
    """How a trace is spread is configuration."""
    writer = TraceWriter(tmp_path, V1Layout(), files=SMALL)
    assert (
        SMALL == copy.deepcopy(writer).files == pickle.loads(pickle.dumps(writer)).files
    )
