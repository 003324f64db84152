"""Rotating files: lines for people, in files of a bounded size and number."""

from __future__ import annotations

import logging
import os

from perf.loggers.filters import is_main_process
from perf.loggers.lines import LineBackend
from perf.loggers.records import make_message
from perf.loggers.rotation import RotatingFile

__all__ = ["FilesBackend"]


class FilesBackend(LineBackend):
    """Writes a line for each call into files that take turns.

    Args:
        path: of the current file; older ones have a number at the end. `{time}`
            and the like are filled in.
        max_file_size: of one, "100MB".
        max_files: how many there are, the current one included.
        precision: digits after the point.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] = "metrics.log",
        max_file_size: int | str = "100MB",
        max_files: int = 10,
        precision: int = 4,
    ) -> None:
        super().__init__(precision)
        self._file: RotatingFile | None = None
        if is_main_process():
            formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
            self._file = RotatingFile(path, max_file_size, max_files, formatter)
            self.path = self._file.path

    def notify(self, message: str, level: int) -> None:
        """Writes a line with its level."""
        if self._file is not None:
            self._file.handle(make_message(message, level))

    def close(self) -> None:
        """The last to close closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
