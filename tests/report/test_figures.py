"""Figures and names as people read them."""

import pytest

from perf.report.figures import (
    counted,
    duration,
    percent,
    role_name,
    signed,
    signed_duration,
    signed_percent,
)


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (999.5, "1 µs"),
        (1500, "1.5 µs"),
        (999_500, "1 ms"),
        (1e6, "1 ms"),
        (999_500_000, "1 s"),
        (2.5e9, "2.5 s"),
        (599e9, "599 s"),
        (600e9, "10 min"),
        (3600e9, "60 min"),
        (-2.5e9, "−2.5 s"),
        (-600e9, "−10 min"),
        (-7, "−7 ns"),
    ],
)
def test_durations_are_for_people(ns, text):
    """Three digits and a unit; a true minus."""
    assert text == duration(ns)


def test_changes_have_a_sign():
    """None where nothing changed."""
    assert ["+1 ns", "−1 s", "0 ns"] == [signed_duration(n) for n in (1, -1e9, 0)]
    assert ["+5.0 %", "−5.0 %"] == [signed_percent(0.05), signed_percent(-0.05)]
    assert "0.0 %" == signed_percent(0)
    assert ["+1.5", "−1.5"] == [signed(1.5), signed(-1.5)]


def test_percents_are_for_people():
    """One digit below ten; a true minus."""
    assert ["5.0 %", "22 %", "−18 %"] == [percent(0.05), percent(0.22), percent(-0.18)]
    assert ["9.9 %", "10 %", "10 %"] == [percent(0.099), percent(0.1), percent(0.104)]
    assert ["9.9 %", "10 %"] == [percent(0.09949), percent(0.0996)]


def test_counts_are_for_people():
    """One is no plural."""
    assert ["0 steps", "1 step", "2 steps"] == [counted(n, "step") for n in range(3)]


def test_roles_have_names():
    """Also the one that is called otherwise in traces, and none."""
    names = ["the rollout", "the reference", "no role"]
    assert names == [role_name(role) for role in ("rollout", "refer", "")]
