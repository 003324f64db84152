"""The errors that this package raises by name."""

from __future__ import annotations


class PerfError(Exception):
    """Anything that went wrong in reading or checking what a tracer recorded."""


class TraceFormatError(PerfError):
    """A file is no trace of ours, or one that this version cannot read."""
