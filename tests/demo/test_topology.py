"""Who shares devices with whom, and what happens where there are too few."""

from __future__ import annotations

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perf.demo.topology import (
    DEVICES_PER_MESH,
    Role,
    Topology,
    copy_to,
    make_cluster_config,
    split,
)
from perf.metrics import PerfMetricsOptions

ROLLOUT, ACTOR, REFERENCE = Role.ROLLOUT, Role.ACTOR, Role.REFERENCE

SHARING = [
    pytest.param(Topology.COLOCATED, [{ROLLOUT, ACTOR, REFERENCE}], id="colocated"),
    pytest.param(
        Topology.ROLLOUT_APART, [{ROLLOUT}, {ACTOR, REFERENCE}], id="rollout-apart"
    ),
    pytest.param(
        Topology.REFERENCE_APART, [{REFERENCE}, {ROLLOUT, ACTOR}], id="reference-apart"
    ),
    pytest.param(
        Topology.ACTOR_APART, [{ACTOR}, {ROLLOUT, REFERENCE}], id="actor-apart"
    ),
    pytest.param(Topology.ALL_APART, [{ROLLOUT}, {ACTOR}, {REFERENCE}], id="all-apart"),
]


@pytest.mark.parametrize(("topology", "sharing"), SHARING)
def test_roles_share_devices_as_the_topology_says(
    topology: Topology, sharing: list[set[Role]]
) -> None:
    """Roles of one set have the same devices, roles of two sets none in common."""
    meshes = make_cluster_config(topology).role_to_mesh
    devices = [{frozenset(meshes[role].devices.flat) for role in s} for s in sharing]
    assert [1] * len(sharing) == [len(of_set) for of_set in devices]
    union = frozenset().union(*(next(iter(of_set)) for of_set in devices))
    assert DEVICES_PER_MESH * len(sharing) == len(union)


def test_options_reach_the_training_config() -> None:
    """They stand where RL frameworks keep them."""
    options = PerfMetricsOptions(enable_trace_writer=False)
    cluster = make_cluster_config(Topology.COLOCATED, options)
    assert options is cluster.training_config.perf_metrics_options


def test_a_batch_is_split_over_the_devices_of_a_mesh() -> None:
    """Each of the two devices holds half of the rows."""
    mesh = make_cluster_config(Topology.COLOCATED).role_to_mesh[ACTOR]
    batch = jax.device_put(np.arange(8).reshape(4, 2), split(mesh))
    shares = {shard.device: shard.data.tolist() for shard in batch.addressable_shards}
    first, second = mesh.devices.flat
    assert {first: [[0, 1], [2, 3]], second: [[4, 5], [6, 7]]} == shares


@pytest.mark.parametrize(
    ("source", "target"),
    [
        pytest.param(ACTOR, ROLLOUT, id="to other devices"),
        pytest.param(ACTOR, REFERENCE, id="to the same devices"),
    ],
)
def test_a_copy_has_memory_of_its_own(source: Role, target: Role) -> None:
    """A copy lies whole on each device of its mesh and shares no buffer."""
    meshes = make_cluster_config(Topology.ROLLOUT_APART).role_to_mesh
    original = copy_to(meshes[source], jnp.arange(100.0))
    copied = copy_to(meshes[target], original)
    assert set(meshes[target].devices.flat) == copied.sharding.device_set
    assert np.array_equal(np.arange(100.0), copied)

    def buffers(array: jax.Array) -> set[int]:
        return {s.data.unsafe_buffer_pointer() for s in array.addressable_shards}

    assert buffers(original).isdisjoint(buffers(copied))


def run_python(code: str) -> str:
    """Runs code in a process whose JAX has not been used yet; returns its output."""
    environment = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", "from perf.demo.topology import *\n" + code]
    return subprocess.run(
        command, env=environment, text=True, capture_output=True, check=True
    ).stdout


def test_devices_are_provided_before_jax_runs() -> None:
    """A fresh process gets the six devices that three meshes need, and no more."""
    code = """
provide_devices(Topology.ALL_APART)
print(len(make_cluster_config(Topology.ALL_APART).role_to_mesh), len(jax.devices()))
"""
    assert "3 6\n" == run_python(code)


def test_too_few_devices_are_an_error_that_says_what_to_do() -> None:
    """JAX counts its devices once: afterwards both ways in explain what was missed."""
    code = """
jax.devices()
for refuse in provide_devices, make_cluster_config:
    try:
        refuse(Topology.ROLLOUT_APART)
    except RuntimeError as error:
        print(error)
"""
    error = (
        "topology 'rollout-apart' needs 4 CPU devices, JAX runs with 1: call"
        " provide_devices before the first use of JAX, or start with"
        " XLA_FLAGS=--xla_force_host_platform_device_count=4\n"
    )
    assert error * 2 == run_python(code)
