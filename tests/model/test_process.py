from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from perf._model.process import process_index
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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with ThreadPoolExecutor(2) as pool:
        # The other variable is of another kind of run.
        printed = pool.map(
            lambda number: printed_by("-c", program, address, number, RANK="7"), "01"
        )
        assert ["0 0 False\n", "1 1 False\n"] == list(printed)


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
