"""The harness shows a trace in the real UI, and says why when it cannot."""

import os
import struct

import pytest

from tests.perfetto.packets import (
    begin,
    end,
    instant,
    sample,
    start,
    tags,
    trace,
    track,
)
from tools import screenshot
from tools.perfetto import chromium, ui

needs_browser = pytest.mark.skipif(
    chromium.find() is None and "RLPERF_REQUIRE_BROWSER" not in os.environ,
    reason=f"needs a browser on the PATH, one of {', '.join(chromium.NAMES)}",
)

RUN = trace(
    start(1, at_ns=1000, names=("step",)),
    track(1, "Run"),
    track(2, "Main", parent_uuid=1),
    track(3, "Rollout", parent_uuid=1),
    track(4, "tpu0 <b>&", parent_uuid=3),
    track(5, "tokens", parent_uuid=1, counter={"unit_name": "tok/s"}),
    *[begin(10, 1, track_uuid=2), end(30, track_uuid=2)],
    begin(-20, 1, track_uuid=4, debug_annotations=tags({"id": 3})),
    end(5, track_uuid=4),
    sample(1, 7.5, track_uuid=5),
    instant(1, "saved"),
)
SYSTEM = (("System",), ("System", "Clock Snapshots"))
"""What the UI adds of its own to a trace with clock snapshots."""


def size(png: bytes) -> tuple[int, int]:
    """Returns width and height from a PNG's header."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


@needs_browser
def test_tracks_are_visible():
    """Every track of a trace is shown under its parents, without a complaint."""
    view = ui.view(RUN, width=1000, height=600, visible_ns=(1000, 1100))
    expected = {
        ("Run",),
        ("Run", "Main"),
        ("Run", "Rollout"),
        ("Run", "Rollout", "tpu0 <b>&"),
        ("Run", "tokens"),
    }
    assert expected.union(SYSTEM) == set(view.tracks)
    assert (0, ()) == (view.import_errors, view.dialogs)
    assert (1000, 600) == size(view.png)


@needs_browser
def test_the_command_writes_a_picture(tmp_path, capsys):
    """`tools.screenshot` lists the tracks, and fails when there is no picture."""
    file, picture = tmp_path / "trace.pb", tmp_path / "trace.png"
    file.write_bytes(RUN)
    window = ["--size", "640x480", "--collapsed"]
    assert 0 == screenshot.main([str(file), str(picture), *window])
    assert {"System", "Run"} == set(capsys.readouterr().out.split())
    assert (640, 480) == size(picture.read_bytes())
    file.write_bytes(b"no trace")
    assert 2 == screenshot.main([str(file), str(picture)])
    assert "doesn't look like a Perfetto trace" in capsys.readouterr().err


@needs_browser
def test_groups_may_stay_closed():
    """Without `expand` only the outermost tracks are shown; pictures can be scaled."""
    select = "select id from slice where name = 'saved'"
    view = ui.view(RUN, width=800, height=400, scale=2, expand=False, select=select)
    assert {("System",), ("Run",)} == set(view.tracks)
    assert (1600, 800) == size(view.png)


@needs_browser
def test_complaints_are_counted():
    """A trace with errors is shown, and they are counted."""
    no_clock = start(1, at_ns=0, clock_snapshot=None)
    bare = {"trusted_packet_sequence_id": 8, "trace_packet_defaults": None}
    saved = instant(5, "saved", track_uuid=2, sequence_flags=None, **bare)
    view = ui.view(trace(no_clock, track(2, "Main"), begin(1, 1), saved))
    assert 1 == view.import_errors


@needs_browser
def test_what_is_no_trace_is_refused():
    """The UI's own words say why."""
    with pytest.raises(
        ui.TraceRefusedError, match="doesn't look like a Perfetto trace"
    ):
        ui.view(b"\xff" * 100)


@needs_browser
def test_a_browser_that_takes_too_long_is_ended():
    """Time that is up is an error that says what was waited for."""
    with pytest.raises(chromium.ChromiumError, match=r"no answer to .* within 0 s"):
        ui.view(RUN, timeout_s=0)


@needs_browser
@pytest.mark.parametrize(
    ("select", "message"),
    [
        ("select nope", "no such column: nope"),
        ("select id from slice where name = 'nope'", "no slice to select: select id"),
    ],
)
def test_errors_in_the_page_are_told(select, message):
    """A query that is wrong or finds nothing is named."""
    with pytest.raises(chromium.ChromiumError, match=message):
        ui.view(RUN, select=select)


@needs_browser
def test_dialogs_are_told():
    """A dialog of the UI's is read; the tracks behind it are shown all the same."""
    view = ui.view(RUN, select="select name from slice")
    assert ["Oops, something went wrong"] == [text[:26] for text in view.dialogs]
    assert ("Run", "Main") in view.tracks


def test_a_browser_that_ends_is_told(tmp_path, monkeypatch):
    """What it printed is in the error."""
    program = tmp_path / chromium.NAMES[0]
    program.write_text("#!/bin/sh\necho no display >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(chromium.ChromiumError, match="no display"):
        ui.view(RUN)


def test_a_missing_browser_is_told(monkeypatch, tmp_path):
    """The error says what was looked for and what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(chromium.ChromiumError, match="apt-get install chromium"):
        ui.view(RUN)
