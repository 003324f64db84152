"""Ids of timelines, from anything that JAX users call devices."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from perf._model.ids import device_id, device_ids, is_thread_id, queue_id


def device(platform: Any = "tpu", number: Any = 0) -> Any:
    """What a JAX device tells of itself."""
    return SimpleNamespace(platform=platform, id=number)


def test_a_device_s_id_is_platform_and_number() -> None:
    """A text is an id already."""
    assert ("tpu0", "gpu17", "any") == (
        device_id(device()),
        device_id(device("gpu", 17)),
        device_id("any"),
    )


@pytest.mark.parametrize(
    "wrong", [None, 3, device(platform=None), device(number=None), b"tpu0"]
)
def test_what_is_no_device_is_named(wrong: Any) -> None:
    """With its type, and what was expected."""
    with pytest.raises(ValueError, match=r"unsupported device .* of type") as caught:
        device_id(wrong)
    assert type(wrong).__name__ in str(caught.value)


@pytest.mark.parametrize(
    ("devices", "ids"),
    [
        (None, []),
        ([], []),
        ("tpu0", ["tpu0"]),
        (device(), ["tpu0"]),
        ([device(), "b", None, [device("gpu", 1)]], ["tpu0", "b", "gpu1"]),
        ((d for d in "ba"), ["b", "a"]),
        ({"d10", "d9", "c11"}, ["c11", "d9", "d10"]),
        ({"b0", "b", "b1"}, ["b", "b0", "b1"]),
        (frozenset([device("tpu", 2).platform, "b"]), ["b", "tpu"]),
        (np.array([["b", "a"], ["c", None]], dtype=object), ["b", "a", "c"]),
        (np.array("a", dtype=object), ["a"]),
        (np.array(None), []),
        (SimpleNamespace(devices=np.array(["a"], dtype=object)), ["a"]),
        (SimpleNamespace(devices=lambda: {"b", "a"}), ["a", "b"]),
        (SimpleNamespace(devices=None), []),
    ],
)
def test_devices_in_any_form(devices: Any, ids: list[str]) -> None:
    """In the order given, those of a set by name and number; None is none."""
    assert ids == device_ids(devices)


@pytest.mark.parametrize("wrong", [3, b"ab", {"tpu0": 1}, ["a", [3]], np.arange(2)])
def test_what_holds_no_devices(wrong: Any) -> None:
    """Also deep inside."""
    with pytest.raises(ValueError, match="unsupported device"):
        device_ids(wrong)


def test_what_jax_has() -> None:
    """A device, a mesh, and an array that was computed say where they are."""
    devices = jax.devices()[:2]
    ids = [f"cpu{d.id}" for d in devices]
    assert ids == device_ids(devices) == device_ids(Mesh(np.array(devices), "x"))
    assert ids[1:] == device_ids(devices[1])
    assert ids[1:] == device_ids(jax.device_put(jnp.ones(2), devices[1]))


def test_the_queue_of_a_device() -> None:
    """Is a timeline of its own; and which ones are threads of v1."""
    assert "tpu0_queue" == queue_id("tpu0")
    assert [True, False] == [is_thread_id(i) for i in ("thread-3", "host-3")]
