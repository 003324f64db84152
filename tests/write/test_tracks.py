from __future__ import annotations

from perf._model.tracks import Track


def test_a_path_leads_from_the_root_to_the_track() -> None:
    """Names only."""
    assert ("a", "b", "c") == Track("c", Track("b", Track("a"))).path


def test_keys_tell_namesakes_apart() -> None:
    """Also where a name could be taken for a key."""
    top = Track("top")
    assert Track("a", top, key="1").keys != Track("a", top, key="2").keys
    assert Track("a", top, key="b").keys != Track("b", Track("a", top)).keys
    assert Track("a", top, rank=3).keys == Track("a", top).keys
