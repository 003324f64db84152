"""The command `rlperf`, also `python -m perf`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import perf
from perf.cli import check, demo, diff, export, query, report, view
from perf.cli.messages import message

_COMMANDS = (demo, report, diff, query, export, view, check)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code.

    0: done. 1: it failed, the message says how. 2: the arguments are wrong.
    3: `diff --fail-over` found the second trace slower. 130: interrupted.
    From `check`, 1 and 2 may be about a trace, too: unsound, or not to be read.
    """
    parser = argparse.ArgumentParser(
        prog="rlperf", description="The tracer that an RL run leaves on."
    )
    parser.add_argument("--version", action="version", version=perf.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for command in _COMMANDS:
        command.add_to(commands)
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:  # said by the command, whose usage helps; the parser would tell its own
        named = commands.choices[arguments.command]
        named.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        code = int(arguments.run(arguments))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever reads has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (perf.PerfError, ValueError, OSError) as error:
        print(f"rlperf: {message(error)}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
