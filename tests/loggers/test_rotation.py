"""Files that take turns."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from perf.loggers import ConfigError
from perf.loggers.rotation import RotatingFile, open_or_say


def say(file: RotatingFile, text: str) -> None:
    """Writes a line."""
    file.handle(logging.LogRecord("x", logging.INFO, "", 0, text, None, None))


def lines(folder: Path) -> list[str]:
    """All lines of all files, the oldest first."""
    files = sorted(folder.iterdir(), key=lambda path: path.suffix, reverse=True)
    return [line for path in files for line in path.read_text().splitlines()]


@pytest.mark.parametrize("most", [1, 2, 5])
def test_there_are_so_many_files_and_no_more(most: int, tmp_path: Path) -> None:
    """None is larger than the limit; the latest lines are kept."""
    file = RotatingFile(tmp_path / "logs" / "a.log", "1kB", most)
    for number in range(1000):
        say(file, f"line {number:04}")
    file.close()
    files = list((tmp_path / "logs").iterdir())
    assert most == len(files)
    assert all(path.stat().st_size <= 1024 for path in files)
    assert "line 0999" == (tmp_path / "logs" / "a.log").read_text().splitlines()[-1]


def test_shares_of_one_file_turn_it_together(tmp_path: Path) -> None:
    """Lines of two threads through two handlers are all there; the last one closes."""
    first, second = (RotatingFile(tmp_path / "a.log", "1kB", 100) for _ in range(2))

    def write(file: RotatingFile) -> None:
        for number in range(500):
            say(file, f"{number}")

    threads = [threading.Thread(target=write, args=[each]) for each in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first.close()
    say(first, "no more")
    say(second, "still")
    second.close()
    assert sorted([*map(str, [*range(500)] * 2), "still"]) == sorted(lines(tmp_path))
    assert all(path.stat().st_size <= 1024 for path in tmp_path.iterdir())


def test_lines_are_there_at_once_as_the_formatter_has_them(tmp_path: Path) -> None:
    """Each handler has a formatter of its own."""
    shout = logging.Formatter("%(message)s!")
    first = RotatingFile(tmp_path / "a.log", formatter=shout)
    second = RotatingFile(tmp_path / "a.log")
    say(first, "hello")
    say(second, "hello")
    assert "hello!\nhello\n" == (tmp_path / "a.log").read_text()
    first.close()
    second.close()


def test_a_wrong_limit_is_an_error(tmp_path: Path) -> None:
    """Even where a file that cannot be opened is none."""
    with pytest.raises(ConfigError, match="max_files: expected 1 or more"):
        RotatingFile(tmp_path / "a.log", max_files=0)
    with pytest.raises(ConfigError, match="max_file_size"):
        open_or_say(tmp_path / "a.log", "big", 1, logging.Formatter())


def test_a_file_that_cannot_be_opened_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And is None."""
    (tmp_path / "taken").touch()
    path = tmp_path / "taken" / "a.log"
    assert open_or_say(path, "1MB", 1, logging.Formatter()) is None
    assert "no log file" in caplog.text
    file = open_or_say(tmp_path / "a.log", "1MB", 1, logging.Formatter())
    assert file is not None
    file.close()
