"""The mutation checker changes one thing at a time, and only what runs."""

from __future__ import annotations

import pytest

from tools import mutants


def changes(source: str) -> list[str]:
    """Each mutant of one line of code as its line."""
    return [mutant.source for mutant in mutants.mutants(source)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param("x = a + b", ["x = a - b"], id="operator"),
        pytest.param("x -= y", ["x += y"], id="assigning operator"),
        pytest.param("x = a < b", ["x = a <= b"], id="boundary"),
        pytest.param(
            "x = a < b == c in d",
            ["x = a <= b == c in d", "x = a < b != c in d", "x = a < b == c not in d"],
            id="chain",
        ),
        pytest.param("x = a and b", ["x = a or b"], id="and, or"),
        pytest.param("x = not a", ["x = a"], id="not"),
        pytest.param("x = 3", ["x = 4"], id="integer"),
        pytest.param("x = 0.5", ["x = 1.5"], id="float"),
        pytest.param("x = -1", ["x = 1", "x = -2"], id="sign"),
        pytest.param("x = True", ["x = False"], id="truth value"),
        pytest.param("x = a if b else c", ["x = a if not b else c"], id="condition"),
        pytest.param("x = a if b == c else d", ["x = a if b != c else d"], id="once"),
        pytest.param("x = a if not b else c", ["x = a if b else c"], id="once, not"),
        pytest.param("while True:\n    f()", ["while False:\n    f()"], id="endless"),
        pytest.param(
            "x = {a for a in b if a if c}",
            ["x = {a for a in b if not a if c}", "x = {a for a in b if a if not c}"],
            id="comprehension",
        ),
        pytest.param("x = 'text'", [], id="text"),
        pytest.param("x: Literal[3] = y", [], id="annotation"),
        pytest.param("if TYPE_CHECKING:\n    x = 3", [], id="for type checkers"),
    ],
)
def test_one_thing_is_changed_at_a_time(source: str, expected: list[str]) -> None:
    """Every operator, number, truth value and condition is changed, one by one."""
    assert expected == changes(source)


def test_a_returned_value_becomes_none() -> None:
    """What a function returns is replaced; where it is None already, nothing is."""
    assert ["def f():\n    return None"] == changes("def f():\n    return x")
    assert [] == changes("def f():\n    return None")


def test_an_excuse_covers_its_lines() -> None:
    """A comment with a reason excuses the changes of the code on its line."""
    source = "x = 1\ny = (2 +\n 3)  # mutate: ok any sum will do\n"
    found = [(mutant.line, mutant.excuse) for mutant in mutants.mutants(source)]
    ok = "any sum will do"
    assert [(1, None), (2, ok), (2, None), (3, ok)] == found


def test_an_excuse_needs_a_reason() -> None:
    """A bare excuse is refused with its line."""
    with pytest.raises(
        mutants.NoVerdictError, match="line 1: an excuse needs a reason"
    ):
        list(mutants.mutants("x = 1  # mutate: ok\n"))


def test_the_difference_is_the_changed_line() -> None:
    """What is shown of a change is the line before and after, and no other."""
    [mutant] = mutants.mutants("f()\n\nx = 3  # three\n\ng()\n")
    assert "    -x = 3\n    +x = 4" == mutant.diff
