"""Traces in a notebook."""

from __future__ import annotations

import html
import os

from perf._read.recording import begun_trace
from perf._trace_server import TraceServer, ui_folder

__all__ = ["TraceView", "show_trace"]


class TraceView:
    """A trace that is being served; a notebook shows it as the value of a cell.

    Args:
        path: a trace file.
        height: of the frame, in pixels.
    """

    def __init__(self, path: str | os.PathLike[str], height: int) -> None:
        self._has_ui = (ui := ui_folder()) is not None
        self._server = TraceServer(begun_trace(path), ui)
        self._height = height

    @property
    def url(self) -> str:
        """Where a browser on this machine, or behind `ssh -L`, finds it."""
        return self._server.url

    def close(self) -> None:
        """Serves it no longer; the end of the process does so, too."""
        self._server.close()

    def _repr_html_(self) -> str:
        url = html.escape(self.url)
        name = html.escape(self._server.trace.name)
        link = f'<a href="{url}" target="_blank">{name}</a>'
        if not self._has_ui:
            return link
        style = f"width: 100%; height: {self._height}px; border: 0"
        return f'{link}<iframe src="{url}" style="{style}"></iframe>'


def show_trace(path: str | os.PathLike[str], *, height: int = 600) -> TraceView:
    """Shows a trace in Perfetto's user interface, in the notebook.

    Args:
        path: a trace file.
        height: of the frame, in pixels.

    Returns:
        What a notebook shows as a frame, or as a link to ui.perfetto.dev where
        `rlperf[view]` is not installed. The browser has to reach this machine: run the
        notebook here, or forward the port of `url`.

    Raises:
        PerfError: the path is a folder, no file, or no trace.
        OSError: it cannot be found, or cannot be served.
    """
    return TraceView(path, height)
