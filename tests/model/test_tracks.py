"""Tracks in a tree."""

from __future__ import annotations

from perf._model.tracks import Track


def test_a_track_has_a_way_down_to_it() -> None:
    """Of names, and of names with what tells namesakes apart."""
    root = Track("Devices")
    device = Track("tpu0", root, key="0")
    lane = Track("lane", device, key="1")
    assert ("Devices", "tpu0", "lane") == lane.path
    assert ("Devices", "", "tpu0", "0", "lane", "1") == lane.keys
    assert (("Devices",), ("Devices", "")) == (root.path, root.keys)


def test_namesakes_differ_in_their_keys() -> None:
    """Though people see one name."""
    a, b = Track("worker", key="1"), Track("worker", key="2")
    assert a.path == b.path
    assert a.keys != b.keys
    assert a != b
