from __future__ import annotations

import threading
from pathlib import Path

import pytest

from perf._model.spans import OPEN
from perf._record import collector as collector_module
from perf.experimental import tracer as v2
from perf.experimental.export import PerfMetricsExport
from tests.faults.child import names, run, traces
from tests.record.recording import held_elsewhere


def test_a_forked_child_that_only_records_is_written(tmp_path: Path) -> None:
    """The timer writes it, as it does in the parent; nobody exports or flushes."""
    said, logged = run(
        """
        perf = traced()
        spans(perf, "of the parent")
        perf.flush()
        child = os.fork()
        if child == 0:
            spans(perf, "of the child")
            wait_for_files(2)  # the timer's doing: only its thread can make one
            os._exit(0)
        show(os.waitpid(child, 0)[1])
        """,
        tmp_path,
    )
    assert (["0"], []) == (said, logged)
    assert sorted([["of the parent"], ["of the child"]]) == sorted(
        names(trace) for trace in traces(tmp_path)
    )


@pytest.mark.parametrize(
    "records",
    [
        pytest.param("threading.Thread(target=spans, args=(perf, 'x')).start()"),
        pytest.param("perf.record('x', 1.0, 2.0, track='server')"),
        pytest.param("perf.instant('x')"),
        pytest.param("perf.counter('x', 1)"),
    ],
)
def test_whatever_a_child_records_first_is_written(
    tmp_path: Path, records: str
) -> None:
    """On whichever thread or track."""
    run(
        f"""
        perf = traced()
        child = os.fork()
        if child == 0:
            {records}
            wait_for_files(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        """,
        tmp_path,
    )
    assert 1 == len(traces(tmp_path))


def test_a_child_that_records_nothing_starts_no_thread(tmp_path: Path) -> None:
    """Most children become another program at once."""
    said, _ = run(
        """
        perf = traced()
        spans(perf, "x")
        perf.flush()
        child = os.fork()
        if child == 0:
            show(threading.active_count())
            os._exit(0)
        os.waitpid(child, 0)
        """,
        tmp_path,
    )
    assert ["1"] == said


def test_the_writers_thread_imports_nothing(tmp_path: Path) -> None:
    """A child that is forked meanwhile would wait for that import for ever."""
    said, _ = run(
        """
        perf = traced()
        before = set(sys.modules)
        with perf.span("x", tags={"loss": float("nan"), "parts": [1, {}, object()]}):
            perf.counter("tokens", 1.5)
        perf.flush()
        show(set(sys.modules) - before)
        """,
        tmp_path,
    )
    assert ["set()"] == said


def test_a_fork_among_recording_threads_neither_hangs_nor_doubles(
    tmp_path: Path,
) -> None:
    """Whatever the threads were at: collecting, writing, opening a span."""
    said, logged = run(
        """
        perf = traced()
        stopping = threading.Event()

        def record():
            while not stopping.is_set():
                spans(perf, "of the parent", 100)
                perf.export()

        threads = [threading.Thread(target=record, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(10):
            child = os.fork()
            if child == 0:
                signal.alarm(60)
                spans(perf, f"of child {number}", 3)
                perf.export()
                assert perf.flush()
                stats = perf.stats()
                show(stats.recorded, stats.written, stats.dropped)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        stopping.set()
        for thread in threads:
            thread.join()
        perf.close()
        """,
        tmp_path,
    )
    assert ["3 3 0"] * 10 == said
    assert [] == logged
    found = [set(names(trace)) for trace in traces(tmp_path)]
    assert {"of the parent"} in found
    assert all({f"of child {number}"} in found for number in range(10))
    assert 11 == len(found)


def test_a_spawned_child_writes_a_file_of_its_own(tmp_path: Path) -> None:
    """It is given the configuration, and makes its own tracer."""
    (tmp_path / "spawned.py").write_text(
        "def work(export):\n"
        "    from perf.experimental.tracer import PerfTracer\n"
        "    with PerfTracer(export_fn=export.export_metrics) as tracer:\n"
        "        with tracer.span('of the child'):\n"
        "            pass\n"
    )
    run(
        """
        import multiprocessing
        sys.path.insert(0, os.getcwd())
        import spawned
        export = PerfMetricsExport(trace_dir=os.getcwd())
        perf = PerfTracer(export_fn=export.export_metrics)
        spans(perf, "of the parent")
        context = multiprocessing.get_context("spawn")
        child = context.Process(target=spawned.work, args=(export,))
        child.start()
        child.join()
        assert child.exitcode == 0
        perf.close()
        """,
        tmp_path,
    )
    assert [["of the child"], ["of the parent"]] == sorted(
        names(trace) for trace in traces(tmp_path)
    )


def test_two_processes_of_one_second_share_no_file(tmp_path: Path) -> None:
    """Eight that start together leave eight whole files."""
    run(
        """
        import subprocess
        program = (
            "import sys\\n"
            "from perf.experimental.export import PerfMetricsExport\\n"
            "from perf.experimental.tracer import PerfTracer\\n"
            "sys.stdin.read()\\n"  # until all are there
            "export = PerfMetricsExport(trace_dir='.')\\n"
            "with PerfTracer(export_fn=export.export_metrics) as tracer:\\n"
            "    tracer.instant(sys.argv[1])\\n"
        )
        children = [
            subprocess.Popen(
                [sys.executable, "-c", program, str(n)], stdin=subprocess.PIPE
            )
            for n in range(8)
        ]
        for child in children:
            child.stdin.close()
        assert all(child.wait() == 0 for child in children)
        """,
        tmp_path,
    )
    assert [[str(number)] for number in range(8)] == sorted(
        [moment.name for moment in trace.instants] for trace in traces(tmp_path)
    )


# Signals


def test_a_users_handler_flushes_what_there_is(tmp_path: Path) -> None:
    """SIGTERM in the midst of recording: all up to then, and what was open."""
    said, logged = run(
        """
        perf = traced()

        def handler(number, frame):
            show(perf.flush(deadline_s=30))
            os._exit(3)

        signal.signal(signal.SIGTERM, handler)
        perf.span("stuck").__enter__()
        spans(perf, "before", 1000)
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
        while True:
            with perf.span("work", ["tpu0"]):
                pass
        """,
        tmp_path,
        expect=3,
    )
    assert (["True"], []) == (said, logged)
    (trace,) = traces(tmp_path)
    assert 1000 == names(trace).count("before")
    assert (
        {"stuck"}
        <= {p.name for p in trace.slices if p.end_ns == OPEN}
        <= {
            "stuck",
            "work",
        }
    )


def test_no_handler_of_ours_is_installed(tmp_path: Path) -> None:
    """Signals are the program's own affair."""
    said, _ = run(
        """
        numbers = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
        before = {number: signal.getsignal(number) for number in numbers}
        perf = traced()
        spans(perf, "x")
        perf.export()
        perf.close()
        show(before == {number: signal.getsignal(number) for number in numbers})
        """,
        tmp_path,
    )
    assert ["True"] == said


@pytest.mark.parametrize("held", ["devices", "collector"])
def test_a_handler_may_call_anything(held: str) -> None:
    """It interrupts its thread anywhere, also where that holds a lock of ours."""
    tracer = v2.PerfTracer()
    locks = {"devices": tracer._devices.lock, "collector": tracer._collector._lock}
    done = threading.Event()

    def interrupted() -> None:
        with locks[held]:  # as if the handler ran right here
            with tracer.span("in the handler", ["tpu0"]):
                pass
            tracer.stats()
            tracer.export()
        done.set()

    threading.Thread(target=interrupted, daemon=True).start()
    assert done.wait(30)
    assert 2 == tracer.stats().recorded


@pytest.mark.parametrize("held", ["devices", "collector"])
def test_a_handler_may_flush(
    tmp_path: Path, held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its thread holds a lock, the writer's own thread cannot get at all."""
    monkeypatch.setattr(collector_module, "PATIENCE_S", 0.01)
    export = PerfMetricsExport(trace_dir=str(tmp_path))
    tracer = v2.PerfTracer(export_fn=export.export_metrics)
    locks = {"devices": tracer._devices.lock, "collector": tracer._collector._lock}
    with tracer.span("work", ["tpu0"]):
        pass
    with locks[held]:
        assert tracer.flush()
    assert 2 == tracer.stats().written
    tracer.close()


def test_a_flush_that_cannot_get_at_all_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else is busy for longer than a drain waits; a later flush has it."""
    monkeypatch.setattr(collector_module, "PATIENCE_S", 0.01)
    export = PerfMetricsExport(trace_dir=str(tmp_path))
    tracer = v2.PerfTracer(export_fn=export.export_metrics)
    with tracer.span("work"):
        pass
    with held_elsewhere(tracer._collector):
        assert not tracer.flush()
    assert tracer.flush()
    assert ["work"] == names(*traces(tmp_path))
    tracer.close()


# The interpreter's end


def test_an_exit_in_the_midst_of_everything(tmp_path: Path) -> None:
    """Open spans, device work and recording daemons: it ends well, all is there."""
    said, logged = run(
        """
        import jax, jax.numpy as jnp
        perf = traced()
        slow = jax.jit(lambda x: jax.lax.fori_loop(0, 200, lambda i, x: x @ x, x))
        x = slow(jnp.ones((300, 300))).block_until_ready()

        def record():
            while True:
                spans(perf, "of a daemon")
                time.sleep(0.001)

        threading.Thread(target=record, daemon=True).start()
        perf.span("stuck").__enter__()
        for _ in range(4):
            with perf.span("rollout", ["tpu0"]) as span:
                span.async_end(slow(x))
        show(perf.stats().pending > 0)
        sys.exit(5)
        """,
        tmp_path,
        expect=5,
    )
    assert (["True"], []) == (said, logged)
    (trace,) = traces(tmp_path)
    on_device = [p for p in trace.slices if p.track.name == "tpu0"]
    assert ["rollout"] * 4 == [piece.name for piece in on_device]
    assert all(piece.end_ns != OPEN for piece in on_device)
    assert ["stuck"] == [p.name for p in trace.slices if p.end_ns == OPEN]
