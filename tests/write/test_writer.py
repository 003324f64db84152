from __future__ import annotations

import copy
import logging
import pickle
from pathlib import Path

import pytest

from perf._model.spans import Batch, RawRecord
from perf._read.load import load
from perf._write.layout import V1Layout, V2Layout
from perf._write.stream import TraceStream
from perf._write.writer import TraceWriter
from tests.write.traces import MAIN, clocks, span


class Source:
    """What a tracer is to a writer."""

    def __init__(self) -> None:
        self.records: list[RawRecord] = []
        self.opened: list[RawRecord] = []
        self.now_ns = 10**6

    def drain(self) -> Batch:
        taken, self.records = self.records, []
        opened, self.opened = self.opened, []
        self.now_ns += 10
        return Batch(
            [(MAIN, taken)] if taken else [],
            [(MAIN, opened)] if opened else [],
            frozenset(),
            clocks(self.now_ns),
        )


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


def names(path: Path | None) -> list[str]:
    """The names of the slices in a file."""
    assert path is not None
    return [piece.name for piece in load(path).slices]


def test_what_a_source_gives_is_in_the_file_after_a_flush(tmp_path: Path) -> None:
    """And nothing was there before the first span."""
    source, writer = Source(), TraceWriter(tmp_path, V1Layout())
    writer.attach(source)
    assert writer.flush()
    assert [] == list(tmp_path.iterdir())
    source.records = [span(1, 0, 1), span(2, 2, 3)]
    writer.wake()
    assert writer.flush()
    assert ["span 1", "span 2"] == names(writer.stats.path)
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
    assert ["span 1"] == names(writer.stats.path)
    assert 1 == writer.stats.written_slices
    assert not writer.attached


def test_a_writer_serves_one_tracer(tmp_path: Path) -> None:
    """Two in one file would not be told apart."""
    writer = TraceWriter(tmp_path, V1Layout())
    writer.attach(Source())
    with pytest.raises(RuntimeError, match="attached"):
        writer.attach(Source())
    writer.close()


def test_statistics_say_what_was_written(writer: TraceWriter, source: Source) -> None:
    """Slices, bytes, and what it took."""
    source.records = [span(1, 0, 1), ("tick", 1, 1, 2, 0, 4, None, None)]
    source.opened = [span(3, 2)]
    writer.write_now()
    stats = writer.stats
    assert stats.path is not None
    assert (2, stats.path.stat().st_size) == (stats.written_slices, stats.written_bytes)
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
    writer = TraceWriter(tmp_path, V2Layout({"actor": ["tpu0"]}), process_index=4)
    writer.attach(source)
    other = copied(writer)  # type: ignore[operator]
    assert (writer.folder, writer.layout, 4) == (
        other.folder,
        other.layout,
        other.process_index,
    )
    assert not other.attached
    writer.close()


def test_a_url_is_refused_when_the_writer_is_made() -> None:
    """It is configuration, not weather."""
    with pytest.raises(ValueError, match="not supported yet"):
        TraceWriter("gs://bucket/traces", V1Layout())


def test_a_file_that_vanishes_is_begun_anew(
    writer: TraceWriter, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    """With everything introduced again, so that it can be read."""
    source.records = [span(1, 0, 1)]
    writer.write_now()
    first = writer.stats.path
    assert first is not None
    first.unlink()
    first.parent.rmdir()
    source.records = [span(2, 2, 3)]
    with caplog.at_level(logging.WARNING, logger="perf"):
        writer.write_now()
    assert ["span 2"] == names(writer.stats.path)
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
    assert ["span 1", "span 2"] == names(writer.stats.path)


def test_too_much_waiting_is_dropped_and_counted(
    writer: TraceWriter,
    source: Source,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Memory is bounded. What was encoded before stays whole, what comes after too."""
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
    assert ["span 1", "span 9"] == names(writer.stats.path)


def test_a_fault_of_ours_costs_one_batch(
    writer: TraceWriter, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is raised, and the file goes on with the next one."""
    source.records = [span(1, 0, 1)]
    writer.write_now()
    with monkeypatch.context() as patch:
        patch.setattr(TraceStream, "encode", lambda self, batch: 1 / 0)
        source.records = [span(2, 2, 3)]
        writer.write_now()
    source.records = [span(3, 4, 5)]
    writer.write_now()
    assert ["span 1", "span 3"] == names(writer.stats.path)
    assert (1, "ZeroDivisionError: division by zero") == (
        writer.stats.errors,
        writer.stats.last_error,
    )
