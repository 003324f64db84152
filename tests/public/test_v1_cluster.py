"""`perf.export`: export functions made from a cluster's configuration."""

from __future__ import annotations

import enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from perf.export import PerfMetricsExport
from perf.metrics import PerfMetricsOptions
from tests.public.drive import Roles, V1Run, play
from tests.public.expected import (
    ALL_APART,
    APART,
    BASE,
    ONE_MESH,
    ROLLOUT_APART,
    values,
)


class Role(enum.Enum):
    """The roles as a training framework names them."""

    ROLLOUT = "rollout"
    ACTOR = "actor"
    REFERENCE = "reference"
    CRITIC = "critic"


def cluster(roles: Roles, options: PerfMetricsOptions | None = None) -> Any:
    """A cluster configuration by shape alone."""
    known = {
        "rollout": Role.ROLLOUT,
        "actor": Role.ACTOR,
        "refer": Role.REFERENCE,
        "critic": Role.CRITIC,
    }
    return SimpleNamespace(
        role_to_mesh={
            known[role]: SimpleNamespace(devices=np.array(ids, dtype=object))
            for role, ids in roles.items()
        },
        training_config=SimpleNamespace(perf_metrics_options=options),
    )


NO_FILES = PerfMetricsOptions(enable_trace_writer=False)


@pytest.mark.row("P12")
def test_an_export_function_from_a_cluster_config() -> None:
    """The roles and their devices are read from the meshes (P12)."""
    roles = {"rollout": ["a0", "a1"], "actor": ["b0"], "refer": ["c0"]}
    export_fn = PerfMetricsExport.from_cluster_config(cluster(roles, NO_FILES))
    run = V1Run(["a0", "a1", "b0", "c0"], export_fn)
    play(run, roles)
    found = values(run.tracer.export())
    expected = {**BASE, **ROLLOUT_APART, **ALL_APART}
    assert expected == pytest.approx({name: found.get(name) for name in expected})


def test_the_other_name_of_from_cluster_config() -> None:
    """`create_metrics_export_fn` makes the same function (P12)."""
    export_fn = PerfMetricsExport.create_metrics_export_fn(cluster(APART, NO_FILES))
    run = V1Run(["a0", "b0", "c0"], export_fn)
    play(run, APART)
    assert pytest.approx(2.5) == values(run.tracer.export())["perf/rollout_idle_time"]


def test_a_mesh_of_many_dimensions() -> None:
    """A mesh's devices are an array of any shape (P12)."""
    config = cluster(ONE_MESH, NO_FILES)
    mesh = SimpleNamespace(devices=np.array([["a0", "a1"], ["a2", "a3"]]))
    config.role_to_mesh = dict.fromkeys(config.role_to_mesh, mesh)
    run = V1Run(mesh.devices, PerfMetricsExport.from_cluster_config(config))
    ids = [str(id_) for id_ in mesh.devices.flat]
    play(run, {"rollout": ids, "actor": ids, "refer": ids})
    found = values(run.tracer.export())
    assert BASE == pytest.approx({name: found.get(name) for name in BASE})


@pytest.mark.row("P8", "P18")
def test_the_trace_goes_where_the_options_say(tmp_path: Path) -> None:
    """`trace_dir` of the cluster's options is the folder of the trace (P17, P18)."""
    options = PerfMetricsOptions(trace_dir=str(tmp_path))
    export_fn = PerfMetricsExport.from_cluster_config(cluster(ONE_MESH, options))
    run = V1Run(["a0"], export_fn, watch=False)
    play(run, ONE_MESH)
    run.tracer.export()
    run.tracer.close()
    assert 1 == len(list(tmp_path.glob("perfetto_trace_*.pb")))


def test_no_trace_when_the_writer_is_off(tmp_path: Path) -> None:
    """`enable_trace_writer=False` writes no file and loses no metric (P8)."""
    options = PerfMetricsOptions(enable_trace_writer=False, trace_dir=str(tmp_path))
    export_fn = PerfMetricsExport.from_cluster_config(cluster(ONE_MESH, options))
    run = V1Run(["a0"], export_fn, watch=False)
    play(run, ONE_MESH)
    assert pytest.approx(1.5) == values(run.tracer.export())["perf/weight_sync_time"]
    run.tracer.close()
    assert [] == list(tmp_path.iterdir())
