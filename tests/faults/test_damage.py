from __future__ import annotations

import random
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf._model.errors import TraceFormatError
from perf._read import load as load_module
from perf._read.load import load
from perf._write.wire import blob
from tests.write.traces import MAIN, batch, span, written
from tools.soak.fuzz import damaged, fault, originals

WHOLE = originals()


@given(seed=st.integers(min_value=0))
def test_a_damaged_file_is_an_error_or_a_part(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """Never another exception, a hang or much memory.

    The long form is `python -m tools.soak fuzz`.
    """
    path = tmp_path_factory.getbasetemp() / "damaged.pb"
    draw = random.Random(seed)
    path.write_bytes(damaged(draw.choice(WHOLE), draw))
    assert fault(path) is None


@given(data=st.binary())
def test_a_file_of_anything_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    """Whatever is no trace is refused as such."""
    path = tmp_path_factory.getbasetemp() / "anything.pb"
    path.write_bytes(data)
    with pytest.raises(TraceFormatError, match=r"anything\.pb"):
        load(path)


@pytest.mark.parametrize("whole", WHOLE, ids=["plain", "compressed", "both"])
def test_the_originals_are_whole(tmp_path: Path, whole: bytes) -> None:
    """What the damage is done to can be read."""
    path = tmp_path / "whole.pb"
    path.write_bytes(whole)
    trace = load(path)
    assert not trace.is_cut
    assert {"stuck", "outer", "inner", "next", "elsewhere"} == {
        piece.name for piece in trace.slices
    }


def test_a_text_that_is_none_is_shown_with_marks(tmp_path: Path) -> None:
    """One flipped bit of a text must not cost the file."""
    path = tmp_path / "trace.pb"
    spans = [span(n, n * 10, n * 10 + 5, tags={"why": "reason"}) for n in (1, 2, 3)]
    data = written(batch((MAIN, spans)))
    assert data.count(b"reason") == 2  # told once in full, then in the table
    path.write_bytes(data.replace(b"reason", b"rea\xffon"))
    assert {r"rea\xffon"} == {str(piece.tags["why"]) for piece in load(path).slices}


def test_packets_packed_again_and_again_are_not_unpacked(tmp_path: Path) -> None:
    """Nobody writes them; a thousand levels would take the interpreter down."""
    path = tmp_path / "trace.pb"
    data = b""
    for _ in range(2_000):
        data = blob(1, blob(50, zlib.compress(data)))
    path.write_bytes(data)
    with pytest.raises(TraceFormatError, match="packed twice"):
        load(path)


def test_a_file_that_would_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its packets together are bounded, too: by the size of the file."""
    monkeypatch.setattr(load_module, "MAX_PACKET", 100_000)
    path = tmp_path / "trace.pb"
    empty = blob(1, b"\x50\x01")  # a packet that says nothing
    path.write_bytes(blob(1, blob(50, zlib.compress(empty * 20_000))) * 50)
    with pytest.raises(TraceFormatError, match="compressed packets of more than"):
        load(path)
