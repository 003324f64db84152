"""Waiting for JAX arrays and devices."""

from __future__ import annotations

import sys
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from perf._record.waiting import Waited
from perf.adapters import jax_devices
from perf.adapters.jax_devices import WAITING


def errors_of(*trees: Any) -> list[BaseException | None]:
    """Why the waiting for each tree failed, in the order of ending."""
    found: list[BaseException | None] = []
    owner = object()
    for tree in trees:
        assert WAITING.submit("test", Waited(owner, tree, found.append))
    WAITING.settle(owner)
    return found


def test_any_tree_of_arrays_is_waited_for() -> None:
    """Arrays in lists, dicts and tuples; numbers and None are ready as they are."""
    array = jax.jit(lambda x: x + 1)(jnp.ones(3))
    trees: tuple[Any, ...] = (
        [array],
        {"a": (array, [array])},
        array,
        None,
        [],
        3.0,
        {"a": None},
    )
    assert [None] * len(trees) == errors_of(*trees)


def test_what_it_waited_for_is_ready() -> None:
    """The work is done, not only launched."""
    array = jax.jit(lambda x: jax.lax.fori_loop(0, 50, lambda i, x: x @ x, x))(
        jnp.eye(200)
    )
    assert [None] == errors_of([array])
    assert array.is_ready()


def test_an_array_that_is_gone_does_not_keep_the_others() -> None:
    """All of a tree are waited for, the error is told."""
    gone, other = jnp.ones(3), jnp.ones(3)
    gone.delete()
    first, second = errors_of([gone, other], [other])
    assert "deleted" in str(first)
    assert second is None


def test_idle_waits_for_every_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """By giving each of them a little work."""
    put: list[Any] = []
    device_put = jax.device_put

    def spy(value: Any, device: Any) -> Any:
        put.append(device)
        return device_put(value, device)

    monkeypatch.setattr(jax, "device_put", spy)
    WAITING.idle()
    assert jax.local_devices() == put


def test_idle_does_not_load_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without it has nothing to wait for."""
    monkeypatch.delitem(sys.modules, "jax")
    WAITING.idle()
    assert "jax" not in sys.modules


def test_all_tracers_share_one_service() -> None:
    """So that threads are bounded in the process."""
    assert WAITING is jax_devices.WAITING
