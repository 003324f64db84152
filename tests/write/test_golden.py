from __future__ import annotations

import pytest
from google.protobuf import text_format
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from tests.write.golden import FOLDER, GOLDEN
from tests.write.traces import shown


@pytest.mark.parametrize("name", GOLDEN)
def test_the_bytes_are_those_that_were_read(name: str) -> None:
    """What a file holds changes only on purpose: `python -m tests.write.golden`."""
    golden = (FOLDER / f"{name}.textproto").read_text(encoding="utf-8")
    assert text_format.Parse(golden, pb.Trace()) == pb.Trace.FromString(GOLDEN[name]())


@pytest.mark.parametrize("name", GOLDEN)
def test_perfetto_accepts_it(name: str) -> None:
    """A golden file is a good file."""
    assert shown(GOLDEN[name]())


def test_there_are_no_others() -> None:
    """A file that nothing is compared with says nothing."""
    assert sorted(GOLDEN) == sorted(path.stem for path in FOLDER.glob("*.textproto"))
