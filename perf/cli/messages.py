"""What the commands say of what went wrong."""

from __future__ import annotations


def message(error: Exception) -> str:
    """An error in words: those of the system without their number."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)
