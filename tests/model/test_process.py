from __future__ import annotations

import socket
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from perf._model.process import local_devices, process_index
from perf.loggers.filters import process_rank
from tests.programs import printed_by


def test_a_process_of_jax_knows_its_number_before_there_are_devices() -> None:
    """To ask JAX itself would start them, from the thread that writes."""
    program = (
        "import sys, jax; from perf._model.process import process_index;"
        "from perf.loggers.filters import process_rank;"
        "jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]));"
        "print(process_index(), process_rank(),"
        "jax._src.xla_bridge.backends_are_initialized())"
    )
    # The other variable is of another kind of run.
    assert ["0 0 False\n", "1 1 False\n"] == printed_by_two(program, RANK="7")


def printed_by_two(program: str, **environment: str) -> list[str]:
    """What the two processes of a run print; it gets an address and its number."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with ThreadPoolExecutor(2) as pool:
        printed = pool.map(
            lambda n: printed_by("-c", program, address, n, folder=None, **environment),
            "01",
        )
        return list(printed)


def test_a_process_knows_its_devices_once_there_are_some() -> None:
    """By the run's ids, with their numbers in the process; nothing is looked for."""
    program = (
        "import sys, jax; from perf._model.process import local_devices as known;"
        "before = known();"
        "jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]));"
        "own = [f'cpu{device.id}' for device in jax.local_devices()];"
        "print(before, list(known()) == own, list(known().values()), *own)"
    )
    first, second = (
        line.split()
        for line in printed_by_two(
            program, XLA_FLAGS="--xla_force_host_platform_device_count=2"
        )
    )
    assert ["{}", "True", "[0,", "1]"] == first[:4] == second[:4]
    assert ["cpu0", "cpu1"] == first[4:]
    assert not {*first[4:]} & {*second[4:]}


@pytest.mark.parametrize("backends", [None, 7, {"cpu": object()}])
def test_a_jax_of_another_make_costs_a_trace_its_devices_alone(
    backends: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stand in private places."""
    bridge = types.SimpleNamespace(_backends=backends)
    monkeypatch.setitem(sys.modules, "jax._src.xla_bridge", bridge)
    assert {} == local_devices()
    monkeypatch.setitem(sys.modules, "jax._src.xla_bridge", types.SimpleNamespace())
    assert {} == local_devices()


def test_devices_without_a_number_of_their_own_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the order of the process; a stand-in, for a platform that is not here."""
    devices = [
        types.SimpleNamespace(platform="tpu", id=4 + n, local_hardware_id=None)
        for n in range(2)
    ]
    client = types.SimpleNamespace(local_devices=lambda: devices)
    bridge = types.SimpleNamespace(_backends={"tpu": client})
    monkeypatch.setitem(sys.modules, "jax._src.xla_bridge", bridge)
    assert {"tpu4": 0, "tpu5": 1} == local_devices()


def test_a_process_without_jax_knows_no_devices() -> None:
    """And does not load it to find out."""
    program = (
        "import sys; from perf._model.process import local_devices;"
        "print(local_devices(), 'jax' in sys.modules)"
    )
    assert "{} False\n" == printed_by("-c", program)


@pytest.mark.parametrize(
    ("rank", "number"), [("3", 3), ("0", 0), ("", None), ("first", None)]
)
def test_a_process_of_another_run_has_the_number_of_its_environment(
    rank: str, number: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If there is one."""
    monkeypatch.setenv("RANK", rank)
    assert number == process_index()
    assert (number or 0) == process_rank()
