"""A notebook shows a trace as the value of a cell."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from perf import notebook
from perf._trace_server import TraceServer
from perf.notebook import show_trace
from tests.write.traces import file_of


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A trace whose name is no HTML."""
    path = tmp_path / "a<b>.pb"
    path.write_bytes(file_of())
    return path


def test_a_notebook_shows_a_frame(trace: Path) -> None:
    """With the UI and the trace, from this process; and a link to see it alone."""
    view = show_trace(trace, height=321)
    shown = view._repr_html_()
    assert f'<iframe src="{view.url}" style="width: 100%; height: 321px' in shown
    assert f'<a href="{view.url}" target="_blank">a&lt;b&gt;.pb</a>' in shown
    with urllib.request.urlopen(view.url, timeout=30) as answer:
        assert b"location.replace" in answer.read()
    view.close()


def test_without_the_extra_it_is_a_link(
    trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the public UI, which fetches the trace from here."""

    class Server(TraceServer):
        def __init__(self, path: Path, ui: None) -> None:
            assert ui is None
            self.trace, self.url = path, "https://ui.perfetto.dev/#!/?url=x"

    monkeypatch.setattr(notebook, "ui_folder", lambda: None)
    monkeypatch.setattr(notebook, "TraceServer", Server)
    shown = show_trace(trace)._repr_html_()
    assert '<a href="https://ui.perfetto.dev/#!/?url=x" target="_blank">' in shown
    assert "iframe" not in shown
