"""The real Perfetto UI on a trace: a picture, and the tracks that can be seen in it."""

from __future__ import annotations

import base64
import functools
import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from tools.perfetto.chromium import Chromium, ChromiumError
from tools.perfetto.wasm import web_dist

# Runs in the page. `app` and `waitForPerfettoIdle` are what the UI offers to its own
# tests. Of a trace that it cannot read it tells in a dialog, and there is no `trace`.
_SHOW: Final = """
async ({expand, visible, select}) => {
  const all = (css, root = document) => [...root.querySelectorAll(css)];
  const dialogs = () => all('.pf-modal-dialog').map((dialog) => dialog.innerText);
  const loaded = () => window.app?.trace && !app.isLoadingTrace;
  while (!loaded()) {
    if (dialogs().length) return {refused: dialogs().join('\\n')};
    await new Promise(requestAnimationFrame);
  }
  await waitForPerfettoIdle();

  if (expand) app.commands.runCommand('dev.perfetto.ExpandAllGroups');
  if (visible) {
    const [start, end] = visible.map(BigInt);
    app.trace.scrollTo({time: {start, end, viewPercentage: 1}});
  }
  if (select) {
    const found = await app.trace.engine.query(select);
    if (!found.numRows()) throw new Error(`no slice to select: ${select}`);
    const id = Number(found.iter({}).get(found.columns()[0]));
    app.trace.selection.selectSqlEvent('slice', id);
  }
  await waitForPerfettoIdle();

  const path = (track) => {
    const above = track.parentElement.closest('.pf-track');
    const [title] = all('.pf-track__title-popup', track);
    return [...(above ? path(above) : []), title.textContent];
  };
  const view = {
    tracks: all('.pf-track').map(path),
    import_errors: app.trace.traceInfo.importErrors,
    dialogs: dialogs(),
  };
  const style = document.createElement('style');
  style.textContent = `.pf-cookie-consent, .pf-hiring-banner, .pf-modal-backdrop,
    .pf-modal-dialog, .pf-topbar__error-box, .pf-popup:has(.pf-topbar__error-popup)
    {display: none !important}`;
  document.head.append(style);
  await document.fonts.ready;
  await waitForPerfettoIdle();
  return view;
}
"""


class TraceRefusedError(Exception):
    """The UI cannot read the trace; the message is what it says."""


@dataclass(frozen=True, slots=True)
class View:
    """A trace as the UI shows it."""

    png: bytes
    tracks: tuple[tuple[str, ...], ...]
    """Titles from the root to the track, of every track shown, from top to bottom, also
    below the edge of the picture. Tracks in a collapsed group are not shown."""
    import_errors: int
    """How many errors and data losses the UI warns of."""
    dialogs: tuple[str, ...]
    """Texts of dialogs that stood before the tracks; the picture leaves them out."""


def view(
    trace: bytes | Path,
    *,
    width: int = 1600,
    height: int = 900,
    scale: float = 1.0,
    expand: bool = True,
    visible_ns: tuple[int, int] | None = None,
    select: str | None = None,
    timeout_s: float = 120.0,
) -> View:
    """Opens a trace in the UI, without its sidebar, and takes a picture.

    Args:
        trace: the bytes of a trace, or the file that holds them.
        width: of the window, in CSS pixels.
        height: likewise.
        scale: pixels of the picture per CSS pixel.
        expand: whether all groups of tracks are opened.
        visible_ns: begin and end of the time to show, on the trace's clock; None: all.
        select: SQL that gives the id of the slice to select; its details and its flows
            are shown then.
        timeout_s: how long all of it may take.

    Raises:
        ChromiumError: there is no browser, the SQL is wrong, or time is up.
        TraceRefusedError: the UI cannot read the trace.
    """
    data = trace.read_bytes() if isinstance(trace, Path) else trace
    with (
        _served(data) as origin,
        Chromium(width=width, height=height, scale=scale, timeout_s=timeout_s) as page,
    ):
        link = f"{origin}/#!/?url={origin}/trace.pb&hideSidebar=true"
        page.call("Page.navigate", url=link)
        return _seen(page, expand=expand, visible=visible_ns, select=select)


def view_at(link: str, *, width: int = 1600, height: int = 900) -> View:
    """Opens an address that leads to the UI with a trace, and takes a picture."""
    with Chromium(width=width, height=height, timeout_s=120.0) as page:
        page.call("Page.navigate", url=link)
        while True:
            try:
                return _seen(page, expand=True, visible=None, select=None)
            except ChromiumError as error:  # The page led on meanwhile.
                if not re.search("navigated|destroyed", str(error)):
                    raise


def _seen(page: Chromium, **wanted: Any) -> View:
    shown = page.evaluate(f"({_SHOW})({json.dumps(wanted)})")
    if "refused" in shown:
        raise TraceRefusedError(shown["refused"])
    picture = page.call("Page.captureScreenshot", format="png")
    return View(
        png=base64.b64decode(picture["data"]),
        tracks=tuple(map(tuple, shown["tracks"])),
        import_errors=shown["import_errors"],
        dialogs=tuple(shown["dialogs"]),
    )


@contextmanager
def _served(trace: bytes) -> Iterator[str]:
    """Serves the UI and, as /trace.pb, the trace; yields `http://127.0.0.1:<port>`."""
    handler = functools.partial(_Handler, trace)
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a browser that was ended in the middle of a download."""


class _Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, trace: bytes, *request: Any) -> None:
        self._trace = trace
        super().__init__(*request, directory=str(web_dist().parent))

    def do_GET(self) -> None:
        if self.path != "/trace.pb":
            super().do_GET()
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(self._trace)))
        self.end_headers()
        self.wfile.write(self._trace)

    def log_message(self, *_args: Any) -> None:
        """Keeps the requests to itself."""
