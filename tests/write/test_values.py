from __future__ import annotations

import dataclasses
import enum
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from perf._write import values
from perf._write.interning import Strings
from perf._write.tags import TagRules
from perf._write.values import MAX_ITEMS, MAX_TEXT, Annotations
from tests.strategies import tags
from tests.write.traces import MAIN, batch, shown, span, written


def new_annotations(limit: int = 100) -> Annotations:
    """Annotations of a new file."""
    return Annotations(Strings(3, limit, 256), Strings(29, limit, 64))


def encoded(value: Any) -> Any:
    """The annotation of one value."""
    event = pb.TrackEvent.FromString(new_annotations().encode({"k": value}))
    (note,) = event.debug_annotations
    return note


def text_of(value: Any) -> str:
    """The annotation of a value that is written as text."""
    text: str = encoded(value).string_value
    return text


class Color(enum.IntEnum):
    """A number with a name."""

    RED = 7


class Mood(enum.StrEnum):
    """A text with a name."""

    GOOD = "good"


@pytest.mark.parametrize(
    ("field", "expected", "value"),
    [
        ("int_value", 3, 3),
        ("int_value", -(2**63), -(2**63)),
        ("int_value", 2**63 - 1, 2**63 - 1),
        ("uint_value", 2**63, 2**63),
        ("uint_value", 2**64 - 1, 2**64 - 1),
        ("string_value", str(2**64), 2**64),
        ("string_value", str(-(2**63) - 1), -(2**63) - 1),
        ("bool_value", True, True),
        ("bool_value", False, False),
        ("double_value", 0.5, 0.5),
        ("double_value", math.inf, math.inf),
        ("double_value", -math.inf, -math.inf),
        ("string_value", "NaN", math.nan),
        ("string_value", "text", "text"),
        ("string_value", "", ""),
        ("string_value", "None", None),
        ("string_value", "b'\\x00\\xff'", b"\x00\xff"),
        ("string_value", "b'ab'", bytearray(b"ab")),
        ("int_value", 7, Color.RED),
        ("string_value", "good", Mood.GOOD),
        ("int_value", 5, np.int32(5)),
        ("uint_value", 2**63, np.uint64(2**63)),
        ("bool_value", True, np.bool_(True)),
        ("double_value", 0.25, np.float32(0.25)),
        ("double_value", 0.25, np.float64(0.25)),
        ("string_value", "ab", np.str_("ab")),
        ("string_value", "ndarray float32[2,3]", np.zeros((2, 3), np.float32)),
        ("string_value", "ndarray int64[]", np.array(1)),
        ("string_value", "{}", {}),
        ("string_value", "[]", []),
        ("string_value", "()", ()),
        ("string_value", "set()", set()),
        ("string_value", "ValueError('no')", ValueError("no")),
    ],
)
def test_each_kind_of_value_has_its_field(
    field: str, expected: Any, value: Any
) -> None:
    """Numbers, truth values and texts keep their type; the rest is told in words."""
    note = encoded(value)
    assert field == note.WhichOneof("value")
    assert expected == getattr(note, field)


def test_dicts_and_lists_keep_their_structure() -> None:
    """Entries of dicts have names; all levels are there."""
    note = encoded({"a": [1, {"b": "x"}], "c": (True,)})
    a, c = note.dict_entries
    assert 1 == a.array_values[0].int_value
    assert "x" == a.array_values[1].dict_entries[0].string_value
    assert [True] == [entry.bool_value for entry in c.array_values]


def test_a_dataclass_is_shown_by_its_fields() -> None:
    """Its repr might ask arrays in it for their values."""

    @dataclasses.dataclass
    class State:
        step: int
        params: Any

    note = encoded(State(3, np.zeros(2)))
    assert [3, 0] == [entry.int_value for entry in note.dict_entries]
    assert "ndarray float64[2]" == note.dict_entries[1].string_value


def test_a_cycle_ends() -> None:
    """What lies too deep is named, not followed."""
    cycle: list[Any] = []
    cycle.append(cycle)
    note = encoded(cycle)
    while note.array_values:
        (note,) = note.array_values
    assert "… (list of 1)" == note.string_value


def test_what_is_too_much_is_counted() -> None:
    """A long list is cut and says how much is missing."""
    note = encoded(list(range(1000)))
    assert MAX_ITEMS + 1 == len(note.array_values)
    assert f"… {1000 - MAX_ITEMS} more" == note.array_values[-1].string_value
    assert f"{1000 - MAX_ITEMS} more" == (
        encoded({n: n for n in range(1000)}).dict_entries[-1].string_value
    )


def test_the_bound_holds_for_all_levels_together() -> None:
    """A wide tree is no way around it."""
    event = new_annotations().encode({"k": [list(range(100)) for _ in range(100)]})
    assert 100 * 100 > event.count(b"\x62")


def test_long_values_are_cut() -> None:
    """Texts, bytes and huge numbers; the length is said."""
    assert "x" * MAX_TEXT + "… (1000000 characters)" == text_of("x" * 10**6)
    assert text_of(b"x" * 10**6).endswith("'… (1000000 bytes)")
    assert text_of(10**20000).startswith("0x")
    assert text_of(10**20000).endswith(" characters)")


class Device:
    """Looks like an array on a device, and fails the test if it is asked for more."""

    shape = (8, 128)
    dtype = np.dtype("bfloat16") if hasattr(np, "bfloat16") else np.dtype("float16")

    def __getattr__(self, name: str) -> Any:
        pytest.fail(f"asked for {name}")

    def __repr__(self) -> str:
        pytest.fail("asked for its repr")


def test_an_array_is_asked_for_its_shape_and_type_alone() -> None:
    """Anything else may wait for the device, or copy from it."""
    assert "Device float16[8,128]" == text_of(Device())
    assert "Device float16[8,128]" == encoded([Device()]).array_values[0].string_value


class Hostile:
    """Nothing works on it."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__


class BadMapping(Mapping[str, int]):
    """A mapping that cannot be looked into."""

    def __getitem__(self, key: str) -> int:
        raise RuntimeError

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError

    def __len__(self) -> int:
        return 3


@pytest.mark.parametrize("value", [Hostile(), BadMapping(), [Hostile()]])
def test_a_value_that_fails_is_named(value: Any) -> None:
    """Its class and its error stand for it; the other tags are not touched."""
    event = pb.TrackEvent.FromString(
        new_annotations().encode({"a": 1, "k": value, "z": 2})
    )
    notes = event.debug_annotations
    assert [1, 2] == [notes[0].int_value, notes[2].int_value]
    assert re.search(r"<(Hostile|BadMapping): RuntimeError>", str(notes[1]))


def test_keys_of_any_kind() -> None:
    """They are shown as text; a long one is cut."""
    keys = [1, None, b"b", (1, 2), "x" * 1000]
    rows = shown(written(batch((MAIN, [span(1, 1, 2, tags=dict.fromkeys(keys, 1))]))))
    assert [
        "1", "None", "b'b'", "(1, 2)", "x" * 256 + "… (1000 characters)",
    ] == list(rows[0].args)  # fmt: skip


def test_keys_that_perfetto_takes_for_one_are_told_apart() -> None:
    """It folds dots and brackets to `_`, and of equal keys shows the last alone."""
    tags = {"a.b": 1, "a_b": 2, "a[b": 3, 1: 4, "1": 5, "a_b (2)": 6}
    (row,) = shown(written(batch((MAIN, [span(1, 1, 2, tags=tags)]))))
    assert {
        "a_b": 1, "a_b (2)": 2, "a_b (3)": 3, "1": 4, "1 (2)": 5, "a_b (2) (2)": 6,
    } == row.args  # fmt: skip


def test_tags_that_are_no_mapping_are_shown_all_the_same() -> None:
    """Nothing is lost, whatever was recorded."""
    (row,) = shown(written(batch((MAIN, [span(1, 1, 2, tags=[3, 4])]))))
    assert {"tags[0]": 3, "tags[1]": 4} == row.args


def test_a_text_that_returns_is_interned() -> None:
    """The first time it is written out: most texts never return."""
    notes = new_annotations()
    found = [
        pb.TrackEvent.FromString(notes.encode({"k": "text"})).debug_annotations[0]
        for _ in range(3)
    ]
    assert "text" == found[0].string_value
    assert [1, 1] == [note.string_value_iid for note in found[1:]]


def test_texts_that_never_return_are_forgotten() -> None:
    """What is remembered of a run of any length is bounded."""
    notes = new_annotations(limit=10)
    for n in range(1000):
        notes.encode({"k": f"text {n}"})
    assert 10 >= len(notes._seen)


def test_changes_leave_out_what_was_written() -> None:
    """Only what is new or different goes with a slice's end."""
    notes = new_annotations()
    written_fields = notes.fields({"a": 1, "b": "x", "c": [1]})
    event = notes.changes({"a": 1, "b": "y", "c": [1], "d": None}, written_fields)
    found = pb.TrackEvent.FromString(event).debug_annotations
    assert ["y", "None"] == [note.string_value for note in found]


def leaves(value: Any, key: str = "") -> int:
    """How many annotations Perfetto makes of a value."""
    if TagRules().leaves_out(key, value):
        return 1
    if isinstance(value, dict) and value:
        # It takes keys for equal that are shown alike; the file has told them apart.
        return sum(leaves(inner, name) for name, inner in value.items())
    if isinstance(value, list) and value:
        return sum(map(leaves, value))
    return 1


@settings(max_examples=25)
@given(st.lists(tags(), min_size=1, max_size=30))
@example([{"": [{"": 0, "\0": 1}], "\0": "\0", "\\x00": "\ud800"}])
@example([{"Content": [None, None]}])
def test_no_tag_is_lost(many: list[dict[str, Any]]) -> None:
    """Any tags on any span are all there in Perfetto."""
    records = [span(n, 10 * n, 10 * n + 5, tags=t) for n, t in enumerate(many, start=1)]
    rows = shown(written(batch((MAIN, records))))
    assert [leaves(t) if t else 0 for t in many] == [len(r.args) for r in rows]
    for found, given_tags in zip(rows, many, strict=True):
        for key, value in given_tags.items():
            if type(value) in (bool, int) and re.fullmatch(r"\w+", key, re.ASCII):
                assert str(value) == str(found.args[key])


PLAIN = st.one_of(
    st.integers(-(2**70), 2**70), st.booleans(), st.floats(), st.none(), st.text("ab")
)


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "c.d"]), PLAIN), max_size=8))
def test_the_short_way_for_plain_tags_gives_the_same(
    many: list[dict[str, Any]],
) -> None:
    """What is compiled encodes as Python does, or leaves it to Python."""
    quick, slow = new_annotations(), new_annotations()
    for given_tags in many:
        with mock.patch.object(values, "plain_event", return_value=None):
            expected = slow.event(b"head", b"fields", given_tags)
        assert expected == quick.event(b"head", b"fields", given_tags)
