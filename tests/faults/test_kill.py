from __future__ import annotations

from pathlib import Path

import pytest

from tools.soak.kill import Flushed, killed, lost


@pytest.mark.parametrize("seed", range(12))
def test_what_was_flushed_outlives_a_kill(tmp_path: Path, seed: int) -> None:
    """`kill -9` at any moment: all is there, and what was open is unfinished.

    Read by us and by the real trace processor; the long form is
    `python -m tools.soak kill`.
    """
    said = killed(tmp_path, seed)
    assert 0 < said.made
    assert [] == lost(tmp_path, said)


def test_a_loss_is_noticed(tmp_path: Path) -> None:
    """The check itself: a span that was never made is missed, open or closed."""
    said = killed(tmp_path, 0)
    never = said.made + 100_000
    faults = lost(tmp_path, Flushed(never + 1, frozenset({never})))
    assert ["closed", "open"] == [fault.split()[0] for fault in faults]
    assert [] == lost(tmp_path, said)
