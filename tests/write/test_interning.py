from __future__ import annotations

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from perf._write.interning import Strings


def test_a_text_gets_one_number() -> None:
    """Numbers start at 1; the table is given out once."""
    strings = Strings(2, limit=10, longest=20)
    assert [1, 2, 1] == [strings.iid("a"), strings.iid("b"), strings.iid("a")]
    new = pb.InternedData.FromString(strings.take_new())
    assert [(1, "a"), (2, "b")] == [(e.iid, e.name) for e in new.event_names]
    assert b"" == strings.take_new()


def test_a_full_table_refuses_new_texts_only() -> None:
    """What it holds stays."""
    strings = Strings(2, limit=2, longest=20)
    assert [1, 2, 0, 1] == [strings.iid(text) for text in "abca"]


def test_long_texts_are_not_kept() -> None:
    """They are written out each time: the table's memory is bounded."""
    strings = Strings(2, limit=10, longest=3)
    assert 0 == strings.iid("abcd")
    assert b"" == strings.take_new()


def test_get_takes_nothing_in() -> None:
    """Asking for a text that is not there leaves the table as it is."""
    strings = Strings(2, limit=10, longest=3)
    assert 0 == strings.get("a")
    assert b"" == strings.take_new()
