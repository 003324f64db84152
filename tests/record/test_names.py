"""Names of spans: few, short, text, whatever the user passes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf._model.log import OnceLog
from perf._model.spans import SPAN, RawRecord, Records, TimelineInfo, TimelineKind
from perf._record import names as names_module
from perf._record.names import MAX_LENGTH, OTHER, Names, as_text, shown

INFO = TimelineInfo("main", TimelineKind.HOST, "main")


def records(*given_names: Any) -> list[RawRecord]:
    """Records of these names."""
    return [(name, 1, 2, n, 0, SPAN, None, None) for n, name in enumerate(given_names)]


def checked(names: Names, *given_names: Any) -> list[Any]:
    """The names as they are kept."""
    parts = names.checked([(INFO, records(*given_names))])
    return [record[0] for _, some in parts for record in some]


@pytest.fixture
def names() -> Names:
    """No name is known yet."""
    return Names(OnceLog())


class Broken:
    """Says nothing, and cannot be hashed."""

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        raise RuntimeError


class BrokenHash(str):
    """Text that cannot be looked up."""

    def __hash__(self) -> int:
        raise RuntimeError


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("rollout", "rollout"),
        ("", ""),
        (b"rollout", "rollout"),
        (bytearray(b"rollout"), "rollout"),
        (b"\xff", "\\xff"),
        (3, "3"),
        (None, "None"),
        (("a", 1), "('a', 1)"),
        (["a"], "['a']"),
        ({"a": 1}, "{'a': 1}"),
        (Broken(), "<Broken>"),
        (BrokenHash("rollout"), "rollout"),
        ("x" * MAX_LENGTH, "x" * MAX_LENGTH),
        ("x" * 513, "x" * MAX_LENGTH + "… (513 characters)"),
    ],
)
def test_a_name_is_text(names: Names, name: Any, kept: str) -> None:
    """Beside proper ones, before and after it is known."""
    for _ in range(2):
        found = checked(names, "a", name, "b")
        assert ["a", kept, "b"] == found
        assert {str} == set(map(type, found))


def test_the_rest_of_a_record_stays(names: Names) -> None:
    """Only its name is looked at."""
    given_record: RawRecord = ([], 1, 2, 3, 4, SPAN, {"a": 1}, (5,))
    found = names.checked([(INFO, [given_record]), (INFO, [])])
    kept = ("[]", 1, 2, 3, 4, SPAN, {"a": 1}, (5,))
    assert [(INFO, [kept]), (INFO, [])] == found


def test_known_names_cost_nothing(names: Names) -> None:
    """The very same lists come back."""
    first = [(INFO, records("a")), (INFO, records("b"))]
    assert names.checked(first) is not first
    second = [(INFO, records("b", "a")), (INFO, records("a"))]
    assert second is names.checked(second)
    empty: Records = []
    assert empty is names.checked(empty)


def test_one_unknown_name_in_a_later_list_is_found(names: Names) -> None:
    """All lists of a batch are looked at."""
    checked(names, "a")
    found = names.checked([(INFO, records("a")), (INFO, records("a", b"b"))])
    assert ["a", "a", "b"] == [record[0] for _, some in found for record in some]


def test_names_are_counted(names: Names) -> None:
    """Each once; cut ones by what is left of them."""
    checked(names, "a", "b", "a", "x" * 1000, "x" * 1000)
    assert 3 == len(names)


def test_there_are_only_so_many(
    names: Names, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Further ones are one; those known stay; it is said once, with an example."""
    monkeypatch.setattr(names_module, "MAX_NAMES", 2)
    assert ["a", "b", OTHER, OTHER, "a"] == checked(names, "a", "b", "c", "d", "a")
    assert [OTHER, "b"] == checked(names, "c", "b")
    assert (2, 1) == (len(names), len(caplog.records))
    assert "more than 2 distinct span names, 'c' among them" in caplog.text


def test_a_value_in_a_log_line_is_short() -> None:
    """And said by its type, if it cannot say what it is."""

    class Silent:
        def __repr__(self) -> str:
            raise RuntimeError

    assert "'" + "x" * 199 == shown("x" * 1000)
    assert "<Silent>" == shown(Silent())


@given(st.lists(st.text() | st.binary() | st.integers() | st.none()))
def test_any_names_are_text(given_names: list[Any]) -> None:
    """Whatever they are, in the same order, and equal ones stay equal."""
    found = checked(Names(OnceLog()), *given_names)
    assert list(map(as_text, given_names)) == found
