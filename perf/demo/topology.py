"""Which role lives on which devices.

Three roles can share devices in five ways. The devices are virtual: XLA runs each as a
separate device with memory of its own, on the cores of one CPU.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from perf.metrics import PerfMetricsOptions

T = TypeVar("T")

DEVICES_PER_MESH = 2
"""Each mesh splits its batches over this many devices."""


class Role(enum.Enum):
    """The parts of the training that could run on machines of their own."""

    ROLLOUT = "rollout"
    ACTOR = "actor"
    REFERENCE = "reference"


class Topology(enum.StrEnum):
    """The five ways in which three roles can share devices."""

    COLOCATED = "colocated"
    ROLLOUT_APART = "rollout-apart"
    REFERENCE_APART = "reference-apart"
    ACTOR_APART = "actor-apart"
    ALL_APART = "all-apart"


_MESH_OF_ROLE: Mapping[Topology, Mapping[Role, int]] = {
    topology: dict(zip(Role, meshes, strict=True))
    for topology, meshes in {
        Topology.COLOCATED: (0, 0, 0),
        Topology.ROLLOUT_APART: (0, 1, 1),
        Topology.REFERENCE_APART: (0, 0, 1),
        Topology.ACTOR_APART: (0, 1, 0),
        Topology.ALL_APART: (0, 1, 2),
    }.items()
}
"""Mesh numbers of rollout, actor and reference."""


@dataclasses.dataclass(frozen=True, slots=True)
class TrainingConfig:
    """The part of a cluster's configuration that carries the tracing options."""

    perf_metrics_options: PerfMetricsOptions | None = None
    """What to measure and where to write it; None for the defaults."""


@dataclasses.dataclass(frozen=True, slots=True)
class ClusterConfig:
    """A cluster as RL frameworks describe one."""

    role_to_mesh: Mapping[Role, Mesh]
    training_config: TrainingConfig


def device_count(topology: Topology) -> int:
    """Returns how many devices `topology` needs."""
    return DEVICES_PER_MESH * len(set(_MESH_OF_ROLE[topology].values()))


def provide_devices(topology: Topology) -> None:
    """Sets this process up with enough virtual CPU devices for `topology`.

    JAX counts its devices once, when it is first used: call this before.

    Raises:
        RuntimeError: JAX is running already, with too few CPU devices.
    """
    needed = device_count(topology)
    try:
        jax.config.update("jax_num_cpu_devices", needed)
        # Without this an accelerator would be claimed and left idle.
        jax.config.update("jax_platforms", "cpu")
    except RuntimeError:
        # Running already. What counts is whether its devices suffice.
        _cpu_devices(topology)


def make_cluster_config(
    topology: Topology, perf_metrics_options: PerfMetricsOptions | None = None
) -> ClusterConfig:
    """Lays the roles out on this process's CPU devices.

    Args:
        topology: Who shares devices with whom.
        perf_metrics_options: Handed through to `training_config`.

    Raises:
        RuntimeError: there are too few CPU devices; see `provide_devices`.
    """
    devices = np.array(_cpu_devices(topology)).reshape(-1, DEVICES_PER_MESH)
    meshes = [Mesh(row, ("data",)) for row in devices]
    return ClusterConfig(
        role_to_mesh={r: meshes[i] for r, i in _MESH_OF_ROLE[topology].items()},
        training_config=TrainingConfig(perf_metrics_options),
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole: how parameters lie on a mesh."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """Each device holds its share of the rows: how batches lie on a mesh."""
    return NamedSharding(mesh, PartitionSpec("data"))


def copy_to(mesh: Mesh, tree: T) -> T:
    """Copies arrays so that each device of `mesh` holds them all.

    A real copy even if they are there already: who holds one shares it with nobody.
    """
    copied: T = jax.device_put(tree, replicated(mesh), may_alias=False)
    return copied


def _cpu_devices(topology: Topology) -> list[jax.Device]:
    needed, found = device_count(topology), jax.devices("cpu")
    if len(found) < needed:
        raise RuntimeError(
            f"topology '{topology}' needs {needed} CPU devices, JAX runs with"
            f" {len(found)}: call provide_devices before the first use of JAX, or start"
            f" with XLA_FLAGS=--xla_force_host_platform_device_count={needed}"
        )
    return found[:needed]
