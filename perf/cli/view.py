"""`rlperf view`: shows a trace in Perfetto's user interface."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import webbrowser
from pathlib import Path
from typing import Any, Final

from perf._trace_server import LOOPBACK, PUBLIC_UI, TraceServer, ui_folder
from perf.cli.arguments import add_device_profile, add_limits, not_negative
from perf.cli.traces import reports_of

_REPORT: Final = "report.html"


def add_to(commands: Any) -> None:
    """Adds the command to the parser's subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "view",
        help="show a trace in Perfetto's user interface",
        description="Serves a trace on this machine, with Perfetto's user interface if "
        f"rlperf[view] is installed; else {PUBLIC_UI} shows it, and the trace stays on "
        "this machine, too. Works through ssh -L.",
    )
    parser.add_argument(
        "trace", metavar="TRACE", type=Path, help="a .pb file, or a folder with one"
    )
    parser.add_argument(
        "--port", type=_port, default=0, help="default: any that is free"
    )
    parser.add_argument(
        "--host",
        default=LOOPBACK,
        help="a name or address to serve at: others than %(default)s let other "
        "machines in (default: %(default)s)",
    )
    parser.add_argument(
        "--idle-s",
        type=not_negative,
        default=1800.0,
        metavar="S",
        help="ends when nothing was asked for so many seconds; 0: never "
        "(default: %(default)g)",
    )
    parser.add_argument(
        "--no-browser", action="store_true", help="only print the address"
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="show the page of `rlperf report`, with links from its steps into the "
        "trace",
    )
    add_limits(parser)
    add_device_profile(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serves until it is interrupted or idle; returns the exit code."""
    if arguments.device_profile and not arguments.report:
        raise ValueError("--device-profile is told on the page of --report: give both")
    from perf._read.recording import begun_trace, the_trace

    trace = begun_trace(the_trace(arguments.trace))
    ui = ui_folder()
    try:
        pages = {_REPORT: _report(trace, arguments)} if arguments.report else {}
        with TraceServer(
            trace,
            ui,
            host=arguments.host,
            port=arguments.port,
            pages=pages,
        ) as server:
            url = server.base_url + _REPORT if pages else server.url
            _tell(server, url, has_ui=ui is not None, host=arguments.host)
            if not arguments.no_browser and _has_display():
                webbrowser.open(url)
            server.wait(arguments.idle_s)
            print(f"Nothing was asked for {arguments.idle_s:g} s.")
    except KeyboardInterrupt:
        print()
    return 0


def _report(trace: Path, arguments: argparse.Namespace) -> bytes:
    from perf.report.page import as_page

    reports = reports_of([trace], arguments)
    return as_page(reports, linked=True).encode()


def _tell(server: TraceServer, url: str, *, has_ui: bool, host: str) -> None:
    lines = [f"Open {url}", "Ctrl-C ends."]
    if host == LOOPBACK:
        forward = f"{server.port}:{LOOPBACK}:{server.port}"
        lines.insert(1, f"On another machine: ssh -L {forward} {socket.gethostname()}")
    if not has_ui:
        lines.insert(0, f"Without rlperf[view], {PUBLIC_UI} shows the trace.")
    print("\n".join(lines), flush=True)


def _has_display() -> bool:
    """Whether a browser would open a window, and not take over the terminal."""
    if sys.platform != "linux":
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number < 1 << 16:
        raise argparse.ArgumentTypeError(f"{number}: expected 0 to 65535")
    return number
