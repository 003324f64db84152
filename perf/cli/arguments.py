"""Arguments that several commands take."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def add_traces(parser: argparse.ArgumentParser) -> None:
    """Adds `traces`: one or more paths of files or folders."""
    parser.add_argument(
        "traces",
        nargs="+",
        metavar="TRACE",
        type=Path,
        help="files, or folders of them",
    )


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Adds what a trace does not tell."""
    parser.add_argument(
        "--queue-capacity",
        type=at_least(1),
        metavar="N",
        help="rollouts made ahead of training; for what-ifs of asynchronous runs",
    )
    parser.add_argument(
        "--staleness-limit",
        type=at_least(0),
        metavar="N",
        help="steps that a rollout's policy may be old; likewise",
    )
    parser.add_argument(
        "--error-bound-us",
        type=not_negative,
        default=0.0,
        metavar="US",
        help="how late an end may have been seen: shorter pieces are unaccounted",
    )


def add_device_profile(parser: argparse.ArgumentParser) -> None:
    """Adds where to read when devices were at work."""
    parser.add_argument(
        "--device-profile",
        metavar="PATH",
        type=Path,
        help="what jax.profiler.start_trace(PATH) wrote in the course of the run: the "
        "report says how much of their occupied time the devices were busy",
    )


def at_least(least: int) -> Callable[[str], int]:
    """Takes whole numbers that are not smaller."""

    def number(text: str) -> int:
        found = int(text)
        if found < least:
            raise argparse.ArgumentTypeError(f"{text}: expected at least {least}")
        return found

    return number


def not_negative(text: str) -> float:
    """Takes finite numbers from 0 on."""
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: expected 0 or more")
    return number
