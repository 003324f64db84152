"""Console: a line for each call, in colour where there is a terminal."""

from __future__ import annotations

import logging
from typing import IO

from perf.loggers.filters import is_main_process
from perf.loggers.lines import LineBackend
from perf.loggers.records import make_message

__all__ = ["ConsoleBackend"]


class ConsoleBackend(LineBackend):
    """Prints metrics through rich.

    Args:
        format: of a line, as for `logging.Formatter`; by default rich's own columns for
            time and level are around the message.
        colored: None leaves it to rich, which looks whether there is a terminal.
        precision: digits after the point.
        file: where to; the standard error output by default.
    """

    def __init__(
        self,
        format: str = "",
        colored: bool | None = None,
        precision: int = 4,
        file: IO[str] | None = None,
    ) -> None:
        super().__init__(precision)
        self._handler: logging.Handler | None = None
        if is_main_process():
            from rich.console import Console
            from rich.logging import RichHandler

            console = Console(
                file=file,
                stderr=file is None,
                force_terminal=True if colored else None,
                no_color=colored is False,
                soft_wrap=True,
            )
            handler = RichHandler(
                console=console,
                show_path=False,
                show_time=not format,
                show_level=not format,
            )
            handler.setFormatter(logging.Formatter(format or "%(message)s"))
            if format:
                # Without rich's columns, which break lines to the terminal's width.
                handler.render = lambda message_renderable, **_: message_renderable
            self._handler = handler

    def notify(self, message: str, level: int) -> None:
        """Prints a line."""
        if self._handler is not None:
            record = make_message(message, level)
            self._handler.handle(record)

    def close(self) -> None:
        """Prints nothing any more."""
        self._handler = None
