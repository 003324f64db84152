from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from perf.perfetto import PerfettoTraceWriter
from tests.faults.child import names, run, traces
from tools.perfetto.trace_processor import TraceProcessor

FILL = """
    def fill(tracer, failed):
        # Records and flushes until a flush fails, and goes on for a while.
        flushed = made = 0
        while failed:
            spans(tracer, "work", 200)
            made += 200
            if tracer.flush():
                flushed = made
            else:
                failed -= 1
        stats = tracer.stats()
        return flushed, made, stats

    def tell(tracer, flushed, made, stats):
        show(flushed)
        show(made == stats.recorded, stats.write_errors > 0)
        show(stats.last_error)
"""


@pytest.mark.parametrize("compress", [False, True])
def test_a_full_disk_costs_the_rest_of_the_trace_alone(
    tmp_path: Path, compress: bool
) -> None:
    """What was flushed is readable, the training goes on; one line, and the stats."""
    said, logged = run(
        f"""
        import resource
        from perf.perfetto import TraceFiles
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
        export = PerfMetricsExport(
            trace_dir=".", trace_files=TraceFiles(compress={compress})
        )
        perf = PerfTracer(export_fn=export.export_metrics)
        tell(perf, *fill(perf, failed=3))
        perf.close()
        stats = perf.stats()
        show(stats.written, stats.recorded == stats.written + stats.dropped)
        """,
        tmp_path,
        prelude=FILL,
    )
    flushed, account, error, end = said
    assert ("True True", True) == (account, "File too large" in error)
    assert [f"{flushed} True"] == [end]
    assert 1 == len(logged), logged
    assert "File too large" in logged[0]
    (trace,) = traces(tmp_path)
    assert not trace.is_cut
    assert int(flushed) == names(trace).count("work") > 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, where one may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_file_system_without_space_that_gets_some(small_disk: Path) -> None:
    """Nothing is lost then: what waited is written when there is room again."""
    (small_disk / "ballast").write_bytes(bytes(40_000))
    said, logged = run(
        """
        perf = traced()
        flushed, made, stats = fill(perf, failed=2)
        tell(perf, flushed, made, stats)
        os.remove("ballast")
        show(perf.flush(), made)
        """,
        small_disk,
        prelude=FILL,
    )
    assert "No space left" in said[2]
    assert 1 == len(logged), logged
    flushes, made = said[3].split()
    assert "True" == flushes
    (trace,) = traces(small_disk)
    assert int(made) == names(trace).count("work") > int(said[0])
    (path,) = small_disk.glob("*.pb")
    with TraceProcessor(path) as tp:
        tp.assert_clean()


@pytest.mark.parametrize(
    ("spoil", "mend"),
    [
        pytest.param("open('d', 'w').close()", "os.remove('d')", id="a file"),
        pytest.param(
            "os.symlink('nowhere/at/all', 'd')", "os.remove('d')", id="a broken link"
        ),
        pytest.param(
            "os.makedirs('d'); os.chmod('d', 0o500); drop_rights()",
            "os.chmod('d', 0o700)",
            id="read-only",
        ),
    ],
)
def test_an_unusable_folder_costs_the_trace_until_it_is_usable(
    tmp_path: Path, spoil: str, mend: str
) -> None:
    """Recording goes on; one line and the stats tell; then everything is written."""
    said, logged = run(
        f"""
        import ctypes

        def drop_rights():
            # Root may write anywhere, unless it gives up that right.
            libc = ctypes.CDLL(None, use_errno=True)
            header = (ctypes.c_uint32 * 2)(0x20080522, 0)
            sets = (ctypes.c_uint32 * 6)()
            if os.geteuid() == 0 and libc.capset(header, sets):
                raise OSError(ctypes.get_errno(), "capset")

        {spoil}
        perf = traced("d")
        for _ in range(3):
            spans(perf, "work")
            assert not perf.flush()
            assert perf.export() is not None
        stats = perf.stats()
        show(stats.recorded, stats.written, stats.dropped, stats.write_errors >= 3)
        show(stats.last_error)
        {mend}
        show(perf.flush(), perf.stats().written)
        """,
        tmp_path,
    )
    assert ["3 0 0 True", "True 3"] == [said[0], said[2]]
    assert "Error: [Errno" in said[1]
    assert 1 == len(logged), logged
    (trace,) = traces(tmp_path / "d")
    assert ["work"] * 3 == names(trace)


def test_a_folder_that_vanishes_is_made_again(tmp_path: Path) -> None:
    """With a file that begins anew, and is told of what is open."""
    said, logged = run(
        """
        import shutil
        perf = traced("d")
        perf.span("stuck").__enter__()
        spans(perf, "before")
        perf.flush()
        shutil.rmtree("d")
        spans(perf, "after")
        show(perf.flush())
        """,
        tmp_path,
    )
    assert ["True"] == said
    assert 1 == len(logged), logged
    assert "is gone" in logged[0]
    (trace,) = traces(tmp_path / "d")
    assert ["stuck", "after"] == names(trace)


def test_a_folder_that_vanishes_for_good(tmp_path: Path) -> None:
    """What was recorded meanwhile waits, in bounded memory."""
    said, _ = run(
        """
        import shutil
        import perf._write.writer as writer
        writer.MAX_WAITING_BYTES = 10_000
        perf = traced("d")
        spans(perf, "before")
        perf.flush()
        shutil.rmtree("d")
        open("d", "w").close()
        for _ in range(10):
            spans(perf, "after", 1000)
            assert not perf.flush()
        stats = perf.stats()
        show(stats.dropped, stats.recorded)
        """,
        tmp_path,
    )
    dropped, recorded = map(int, said[0].split())
    assert 10_001 == recorded
    assert 5_000 < dropped < 10_000
    assert dropped % 1_000 == 0


def test_a_writer_of_such_a_folder_costs_nobody_an_exception(tmp_path: Path) -> None:
    """Neither when it is made, nor later."""
    (tmp_path / "file").touch()
    writer = PerfettoTraceWriter(os.fspath(tmp_path / "file" / "folder"))
    writer.log_trace([], [], [], [])
    writer.close()
