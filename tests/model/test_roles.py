"""Which roles share devices."""

from __future__ import annotations

import enum
from typing import Any

import pytest

from perf._model.roles import ACTOR, CRITIC, REFERENCE, ROLLOUT, Roles


class Role(enum.Enum):
    """As frameworks have it."""

    ROLLOUT = "rollout"
    ACTOR = "actor"
    REFERENCE = "reference"


def roles(rollout: Any, actor: Any, refer: Any) -> Roles:
    """Three roles on devices of these names, a letter each."""
    return Roles.of(
        {ROLLOUT: list(rollout), ACTOR: list(actor), REFERENCE: list(refer)}
    )


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        pytest.param(("ab", "ba", "ab"), (False, False, False), id="together"),
        pytest.param(("a", "b", "b"), (True, True, False), id="rollout apart"),
        pytest.param(("a", "a", "b"), (False, False, False), id="reference apart"),
        pytest.param(("a", "b", "a"), (True, False, False), id="actor apart"),
        pytest.param(("a", "b", "c"), (True, False, True), id="all apart"),
        pytest.param(("ab", "bc", "ca"), (True, False, True), id="overlapping"),
        pytest.param(("ab", "cd", "dc"), (True, True, False), id="in other order"),
    ],
)
def test_the_ways_of_sharing(
    devices: tuple[str, str, str], expected: tuple[bool, bool, bool]
) -> None:
    """Rollout apart, trainer apart, all apart; device sets are compared as sets."""
    found = roles(*devices)
    assert expected == (found.rollout_apart, found.trainer_apart, found.all_apart)


def test_roles_are_named_in_many_ways() -> None:
    """By text or a member of an enum, in capitals; the reference by two spellings."""
    expected = {ROLLOUT: ("a",), ACTOR: ("b",), REFERENCE: ("c",)}
    members = {Role.ROLLOUT: "a", Role.ACTOR: ["b"], Role.REFERENCE: {"c"}}
    assert expected == Roles.of(members).devices
    assert expected == Roles.of({"rollout": "a", "actor": "b", "refer": "c"}).devices
    spelled = {"Rollout": "a", "ACTOR": "b", "Reference": "c"}
    assert expected == Roles.of(spelled).devices


def test_further_roles_are_kept() -> None:
    """A critic, a reward model, and what else there is."""
    found = Roles.of({"rollout": "a", "actor": "b", "critic": "c", "judge": ["d", "e"]})
    assert (("c",), ("d", "e")) == (found.devices[CRITIC], found.devices["judge"])


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"rollout": "a"}, r"\['actor'\]"),
        ({"actor": "a", "refer": "b"}, r"\['rollout'\]"),
        ({}, r"\['rollout', 'actor'\]"),
    ],
)
def test_missing_roles_are_named(given: dict[str, str], missing: str) -> None:
    """With those that were found; unless none is required."""
    with pytest.raises(ValueError, match=rf"roles {missing} have no devices") as caught:
        Roles.of(given)
    assert f"found {sorted(given)}" in str(caught.value)
    assert set(given) == set(Roles.of(given, required=False).devices)


def test_what_is_no_device_is_an_error() -> None:
    """It is wrong configuration."""
    with pytest.raises(ValueError, match="unsupported device 3"):
        Roles.of({"rollout": [3], "actor": "a"})


def test_the_first_device_stands_for_a_role() -> None:
    """None where it has none."""
    found = Roles.of({"rollout": ["b", "a"], "actor": None})
    assert ("b", None, None) == tuple(map(found.first, (ROLLOUT, ACTOR, REFERENCE)))


def test_roles_without_devices_share_them() -> None:
    """Nothing tells them apart."""
    found = Roles.of({"rollout": None, "actor": None})
    assert found.share(ROLLOUT, ACTOR)
    assert found.share(REFERENCE, CRITIC)
    assert not found.rollout_apart
