"""Records ordered by place, time and id."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perf._model.spans import SPAN, RawRecord
from perf._read.schedule import Lane, role_of
from tests.model.test_roles import Role

LAST = 12


def record(name: str, begin: int, end: int, span_id: int) -> RawRecord:
    """A host record."""
    return (name, begin, end, span_id, 0, SPAN, None, None)


@st.composite
def lanes(draw: st.DrawFn) -> list[RawRecord]:
    """Records of one thread, anyhow."""
    found = []
    for span_id in range(draw(st.integers(0, 7))):
        begin, end = sorted(draw(st.tuples(*[st.integers(0, LAST)] * 2)))
        found.append(record(f"s{span_id}", begin, end, span_id))
    return found


@given(lanes(), st.tuples(*[st.integers(0, LAST)] * 2).map(sorted))
def test_between_finds_what_is_open(records, window):
    """Exactly the records that are open somewhere in the stretch."""
    begin, end = window
    expected = {r[0] for r in records if r[1] < end and r[2] > begin}
    assert expected == {r[0] for r in Lane(records).between(begin, end)}


@given(lanes())
def test_innermost_is_what_began_last(records):
    """At each moment the last begun of the open records; gaps are left out."""
    leaves = list(Lane(records).innermost(0, LAST))
    for moment in range(LAST):
        around = [r for r in records if r[1] <= moment < r[2]]
        # Of those that begin together the shorter one is inside.
        inner = max(around, key=lambda r: (r[1], -r[2], r[3]), default=None)
        found = [leaf[2] for leaf in leaves if leaf[0] <= moment < leaf[1]]
        assert ([inner] if inner else []) == found


@given(lanes(), st.integers(0, LAST))
def test_neighbours_of_a_moment(records, moment):
    """The next record begins then or later, the last one before it."""
    lane = Lane(records)
    following, before = lane.next_from(moment), lane.last_before(moment)
    later = [r[1] for r in records if r[1] >= moment]
    earlier = [r[1] for r in records if r[1] < moment]
    assert (min(later) if later else None) == (following and following[1])
    assert (max(earlier) if earlier else None) == (before and before[1])


def test_the_role_is_tagged_or_known_by_name():
    """Tags say the role in either spelling; well-known names have one."""
    for role in ("refer", "reference", Role.REFERENCE):
        assert "refer" == role_of(("x", 0, 1, 1, 0, SPAN, {"role": role}, None))
    assert "actor" == role_of(record("peft_train", 0, 1, 1))
    assert "reward" == role_of(record("reward", 0, 1, 1))
