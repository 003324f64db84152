"""`rlperf view`, as its user runs it, and what a real browser shows of it."""

from __future__ import annotations

import html
import os
import re
import signal
import subprocess
import sys
import urllib.request
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from perf import _trace_server
from perf.__main__ import main
from perf._model.errors import TraceFormatError
from perf.cli import view
from perf.notebook import show_trace
from tests.write.traces import file_of
from tools.perfetto import chromium, ui

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A trace."""
    path = tmp_path / "trace 1.pb"
    path.write_bytes(file_of())
    return path


@contextmanager
def viewed(trace: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command in a process of its own, and the address that it prints."""
    with subprocess.Popen(
        [sys.executable, "-m", "perf", "view", str(trace), "--no-browser", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            said = "".join([process.stdout.readline() for _ in range(3)])
            found = re.fullmatch(
                r"Open (http://127\.0\.0\.1:(\d+)/\S+/\S*)\n"
                r"On another machine: ssh -L (\d+):127\.0\.0\.1:(\d+) \S+\n"
                r"Ctrl-C ends\.\n",
                said,
            )
            assert found, said
            assert found[2] == found[3] == found[4]
            yield process, found[1]
        finally:
            process.kill()


def test_ctrl_c_ends_it(trace: Path) -> None:
    """Without a traceback, after it served."""
    with viewed(trace) as (process, url):
        with urllib.request.urlopen(f"{url}trace/trace%201.pb", timeout=30) as answer:
            assert trace.read_bytes() == answer.read()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (0, "") == (process.returncode, errors)


needs_browser = pytest.mark.skipif(
    chromium.find() is None and "RLPERF_REQUIRE_BROWSER" not in os.environ,
    reason=f"needs a browser on the PATH, one of {', '.join(chromium.NAMES)}",
)


@needs_browser
def test_a_browser_shows_the_tracks(trace: Path) -> None:
    """The real UI, from the address that is printed, without anything from outside."""
    with viewed(trace) as (_, url):
        shown = ui.view_at(url, width=1000, height=700)
    run = ("train.py 42", "Post-Training Run")
    assert {
        run,
        (*run, "Main"),
        (*run, "Main worker"),
        (*run, "Counters", "loss"),
        (*run, "Run"),
    } <= set(shown.tracks)
    assert (0, ()) == (shown.import_errors, shown.dialogs)


@needs_browser
def test_a_step_of_the_report_is_shown_in_the_trace(trace: Path) -> None:
    """The link of a step opens the UI on the same trace, from the same address."""
    with viewed(trace, "--report") as (_, url):
        assert url.endswith("/report.html")
        with urllib.request.urlopen(url, timeout=60) as answer:
            page = answer.read().decode()
        found = re.search(r"<a href='\./(\?visStart=\d+&amp;visEnd=\d+)'>", page)
        assert found
        link = url.removesuffix("report.html") + html.unescape(found[1])
        shown = ui.view_at(link, width=1000, height=700)
    assert ("train.py 42", "Post-Training Run", "Main") in shown.tracks
    assert (0, ()) == (shown.import_errors, shown.dialogs)


def test_it_ends_when_nobody_asks(trace: Path, capsys: Captured) -> None:
    """And says so."""
    assert 0 == main(["view", str(trace), "--no-browser", "--idle-s", "0.001"])
    assert "Nothing was asked for 0.001 s.\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("variable", "arguments", "opens"),
    [
        ("DISPLAY", [], True),
        ("WAYLAND_DISPLAY", [], True),
        ("DISPLAY", ["--no-browser"], False),
        (None, [], False),
    ],
)
def test_a_browser_is_opened_where_it_has_a_window(
    variable: str | None,
    arguments: list[str],
    opens: bool,
    trace: Path,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not one of the terminal's, which would take it over."""
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if variable:
        monkeypatch.setenv(variable, ":0")
    monkeypatch.setattr(sys, "platform", "linux")
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert 0 == main(["view", str(trace), "--idle-s", "0.001", *arguments])
    shown = capsys.readouterr().out
    assert opens == bool(opened)
    assert all(f"Open {url}\n" in shown for url in opened)


def test_without_the_extra_the_public_ui_is_named(
    trace: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trace comes from the one port that it may fetch from."""
    monkeypatch.setattr(view, "ui_folder", lambda: None)
    asked: list[Any] = []

    class Server(_trace_server.TraceServer):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            asked.append((arguments, options))
            raise OSError("127.0.0.1:9001 cannot be served (taken)")

    monkeypatch.setattr(view, "TraceServer", Server)
    for place in (trace, trace.parent):  # a folder stands for the trace in it
        assert 1 == main(["view", str(place), "--no-browser"])
        assert [((trace, None), {"host": "127.0.0.1", "port": 0, "pages": {}})] == asked
        asked.clear()
    assert "rlperf: 127.0.0.1:9001 cannot be served" in capsys.readouterr().err
    assert 9001 == _trace_server.PUBLIC_UI_PORT


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["missing.pb"], 1, "missing.pb: No such file or directory"),
        (["{folder}/trace 1.pb", "--host", "no.such.host.invalid"], 1, "no.such.host"),
        (["{folder}/trace 1.pb", "--port", "70000"], 2, "expected 0 to 65535"),
        (["{folder}/trace 1.pb", "--idle-s", "-1"], 2, "expected 0 or more"),
        (["{folder}/trace 1.pb", "--idle-s", "inf"], 2, "expected 0 or more"),
        (["{folder}/trace 1.pb", "--device-profile", "x"], 1, "--report: give both"),
    ],
)
def test_what_cannot_be_shown_is_named(
    arguments: list[str], code: int, said: str, trace: Path, capsys: Captured
) -> None:
    """With what was asked and what was found."""
    given = [each.format(folder=trace.parent) for each in arguments]
    try:
        found = main(["view", *given])
    except SystemExit as left:
        found = int(left.code or 0)
    assert code == found
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.pb", b"", "found an empty file"),
        ("a.pb", b"hello\n", "found the byte 0x68 where a packet should begin"),
        ("a.json", b'{"a": 1}', "found JSON without traceEvents"),
    ],
)
def test_what_is_no_trace_is_not_shown(
    name: str, content: bytes, found: str, tmp_path: Path, capsys: Captured
) -> None:
    """Perfetto's interface would say so, but only in the browser."""
    path = tmp_path / name
    path.write_bytes(content)
    assert 1 == main(["view", "--no-browser", "--idle-s", "0.01", str(path)])
    assert found in capsys.readouterr().err
    with pytest.raises(TraceFormatError, match=found):
        show_trace(path)
