"""Waiting for JAX arrays and devices."""

from __future__ import annotations

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
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
    slow = jax.jit(lambda x: jax.lax.fori_loop(0, 50, lambda i, x: x @ x, x))
    gone = jnp.ones(3)
    gone.delete()
    other = slow(jnp.eye(200))
    (error,) = errors_of([gone, other])
    assert "deleted" in str(error)
    assert other.is_ready()
    assert [None] == errors_of([other])


class Told(Waited):
    """Keeps whether there was anything to wait for."""

    waited: bool

    def finish(self, error: Any, late_ns: int | None, waited: bool) -> None:
        """Called by the waiting thread."""
        self.waited = waited


def waited_for(tree: Any) -> bool:
    """Whether there was anything to wait for."""
    work = Told(owner := object(), tree, lambda error: None)
    assert WAITING.submit("test", work)
    WAITING.settle(owner)
    return work.waited


def test_arrays_of_numpy_are_nothing_to_wait_for() -> None:
    """Inference engines hand over such; beside them others still are."""
    array = np.ones(3)
    assert not waited_for([[array, array], {"a": array}, 3])
    assert waited_for([[array, jnp.ones(3)], array])
    assert waited_for(jax.random.key(0))


def test_waiting_does_not_load_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without it has launched nothing."""
    monkeypatch.delitem(sys.modules, "jax")
    assert not waited_for([np.ones(3)])
    assert "jax" not in sys.modules


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
