"""A device profile of what follows an unusual step, by the real profiler of JAX."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from perf.__main__ import main
from perf._read.device_profile import DeviceProfile, read_device_profiles
from perf.adapters import jax_profiles
from perf.experimental.export import (
    PerfMetricsExport,
    ProfileOnAnomaly,
    StepAnomaly,
)
from perf.experimental.tracer import PerfTracer
from tests.programs import printed_by

LONG_S = 3600.0
"""No test waits for it: `close()` ends the profile."""
MOMENT_S = 0.001
"""A test joins the thread that waits for it."""


def anomaly(seconds: float = 0.0) -> StepAnomaly:
    """Of a step of a length."""
    return StepAnomaly(seconds, 1.0, "rollout", 3.0, "the step took 4 s")


def joined(hook: ProfileOnAnomaly) -> None:
    """Waits for a profile to be over by itself."""
    hook._thread.join()


def work() -> None:
    """Has a device do something."""
    array = jnp.ones((200, 200))
    (array @ array).block_until_ready()


def taken(folder: Path) -> list[str]:
    """The folders of profiles, in order."""
    return sorted(path.name for path in folder.glob("*"))


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged."""
    return [record.getMessage() for record in caplog.records if record.name == "perf"]


def ours(folder: Path) -> DeviceProfile:
    """The one profile in a folder, which is of this process."""
    (profile,) = read_device_profiles(folder)
    assert os.getpid() == profile.process
    return profile


def test_a_slow_step_is_followed_by_a_profile_that_the_report_reads(tmp_path, capsys):
    """Real steps: the ninth is slow, those after it are profiled and are no others."""
    device = jax.devices()[0]
    profiles, unusual = tmp_path / "profiles", list[int]()
    train = jax.jit(lambda x: (x @ x).sum())
    array = jnp.ones((400, 400))
    train(array).block_until_ready()
    with ProfileOnAnomaly(profiles, seconds=LONG_S) as profile:

        def both(step: int, anomaly: StepAnomaly) -> None:
            unusual.append(step)
            profile(step, anomaly)

        export = PerfMetricsExport(trace_dir=str(tmp_path / "run"), on_anomaly=both)
        with PerfTracer([device], export_fn=export.export_metrics) as tracer:
            begin_s = time.perf_counter()
            for step in range(14):
                with tracer.span("global_step", tags={"step": step}):
                    with tracer.span("actor_training", [device]) as span:
                        span.async_end(loss := train(array))
                    loss.block_until_ready()
                    if step == 8:  # Longer than all before it, whatever they took.
                        until_s = time.perf_counter() * 11 - begin_s * 10
                        while time.perf_counter() < until_s:
                            pass
                tracer.export()
            profile.close()
    assert 8 == unusual[0]
    assert ["step_8"] == taken(profiles)
    assert ours(profiles).busy["cpu0"]
    report = ["report", str(tmp_path / "run"), "--device-profile", str(profiles)]
    assert 0 == main([*report, "--text"])
    assert "• By a device profile of " in capsys.readouterr().out
    assert 0 == main([*report, "--json"])
    values = json.loads(capsys.readouterr().out)["device_profile"]
    assert 0 < values["devices"]["busy_over_occupied"] <= 1


def test_the_log_says_where_it_lies_and_what_reads_it(tmp_path, caplog):
    """The command can be copied: a space in a path is quoted."""
    folder = tmp_path / "two words"
    hook = ProfileOnAnomaly(folder, seconds=MOMENT_S)
    hook(12, anomaly())
    joined(hook)
    assert [
        "step 12: the step took 4 s. A device profile of what followed: rlperf report "
        f"TRACE --device-profile '{folder}/step_12'"
    ] == said(caplog)
    ours(folder / "step_12")


def test_a_handler_that_raises_is_not_heard(tmp_path, monkeypatch):
    """The thread ends as it should."""
    heard = list[str]()

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())
            raise RuntimeError("handler")

    unhandled = list[object]()
    monkeypatch.setattr(threading, "excepthook", unhandled.append)
    monkeypatch.setattr(logging.getLogger("perf"), "handlers", [Broken()])
    hook = ProfileOnAnomaly(tmp_path, seconds=MOMENT_S)
    hook(12, anomaly())
    joined(hook)
    assert 1 == len(heard)
    assert [] == unhandled
    ours(tmp_path)


def test_a_profile_begins_before_the_hook_returns(tmp_path):
    """The work of the next step is in it; calls of Python functions are not."""
    with ProfileOnAnomaly(tmp_path, seconds=LONG_S) as hook:
        hook(0, anomaly())
        work()
    assert ours(tmp_path).busy
    (file,) = tmp_path.rglob("*.xplane.pb")
    space = jax.profiler.ProfileData.from_file(str(file))
    names = {e.name for p in space.planes for li in p.lines for e in li.events}
    assert [] == [name for name in names if name.startswith("$")]


def test_one_at_a_time(tmp_path, caplog):
    """An anomaly while a profile is taken starts none, and is no fault."""
    with ProfileOnAnomaly(tmp_path, seconds=LONG_S) as hook:
        hook(3, anomaly())
        hook(4, anomaly())
    assert ["step_3"] == taken(tmp_path)
    assert 1 == len(said(caplog))


def test_at_most_so_many(tmp_path):
    """Three of a run, unless somebody says otherwise; each ends by itself."""
    for at_most, hook in (
        (3, ProfileOnAnomaly(tmp_path / "3", seconds=MOMENT_S)),
        (1, ProfileOnAnomaly(tmp_path / "1", seconds=MOMENT_S, at_most=1)),
        (0, ProfileOnAnomaly(tmp_path / "0", seconds=MOMENT_S, at_most=0)),
    ):
        for step in range(5):
            hook(step, anomaly())
            if step < at_most:
                joined(hook)
        expected = [f"step_{step}" for step in range(at_most)]
        assert expected == taken(tmp_path / str(at_most))


def test_a_step_that_was_profiled_starts_no_other_profile(tmp_path):
    """Not even if the profile was over before the step was; a later one does."""
    hook = ProfileOnAnomaly(tmp_path, seconds=MOMENT_S)
    hook(0, anomaly(seconds=LONG_S))
    joined(hook)
    hook(1, anomaly(seconds=LONG_S))
    hook(2, anomaly(seconds=0.0))
    joined(hook)
    assert ["step_0", "step_2"] == taken(tmp_path)


def test_somebody_elses_profile_goes_on(tmp_path, caplog):
    """Ours is not taken and does not count; one line for any number of them."""
    hook = ProfileOnAnomaly(tmp_path / "ours", seconds=MOMENT_S, at_most=1)
    jax.profiler.start_trace(tmp_path / "theirs")
    for step in range(2):
        hook(step, anomaly())
        joined(hook)
    jax.profiler.stop_trace()
    ours(tmp_path / "theirs")
    assert [] == taken(tmp_path / "ours")
    (line,) = said(caplog)
    assert line.startswith("the device profile after step 0 was not taken: RuntimeErr")
    hook(2, anomaly())
    joined(hook)
    assert ["step_2"] == taken(tmp_path / "ours")


def test_without_a_folder_no_profile_is_begun(tmp_path, caplog):
    """It is known before the start; another profile can be taken then."""
    (tmp_path / "file").touch()
    hook = ProfileOnAnomaly(tmp_path / "file", seconds=LONG_S)
    hook(7, anomaly())
    joined(hook)
    (line,) = said(caplog)
    assert line.startswith("the device profile after step 7 was not taken: ")
    with jax.profiler.trace(tmp_path / "theirs"):
        pass


def test_what_is_in_the_folder_already_stays(tmp_path):
    """A run that is resumed counts its steps anew."""
    for seconds in (MOMENT_S, MOMENT_S):
        (tmp_path / "step_0").mkdir(exist_ok=True)
        (tmp_path / "step_0" / "notes").touch()
        hook = ProfileOnAnomaly(tmp_path, seconds=seconds)
        hook(0, anomaly())
        joined(hook)
    assert (tmp_path / "step_0" / "notes").exists()
    assert read_device_profiles(tmp_path)


def test_without_a_profiler_there_is_a_line(tmp_path, caplog, monkeypatch):
    """A JAX without one, or none at all."""
    monkeypatch.setitem(sys.modules, "jax.profiler", None)
    hook = ProfileOnAnomaly(tmp_path)
    hook(7, anomaly())
    joined(hook)
    assert ["ModuleNotFoundError" in line for line in said(caplog)] == [True]


def test_without_a_thread_there_is_a_line(tmp_path, caplog, monkeypatch):
    """The system has no more of them; close has nothing to wait for."""

    def fail(_: object) -> None:
        raise RuntimeError("can't start new thread")

    hook = ProfileOnAnomaly(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        hook(7, anomaly())
    (line,) = said(caplog)
    assert line.startswith("the device profile after step 7 was not taken: RuntimeErr")
    hook.close()


def test_a_profiler_that_hangs_holds_nobody_up(tmp_path, caplog, monkeypatch):
    """Neither the training nor the end of the program; no real one hangs on demand."""
    go_on = threading.Event()
    monkeypatch.setattr(jax_profiles, "_BEGIN_S", MOMENT_S)
    monkeypatch.setattr(jax_profiles, "_WRITE_S", MOMENT_S)
    monkeypatch.setattr(jax.profiler, "start_trace", lambda *_, **__: go_on.wait())
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: None)
    hook = ProfileOnAnomaly(tmp_path, seconds=LONG_S)
    hook(0, anomaly())
    hook.close()
    (line,) = said(caplog)
    assert line.startswith("a device profile is not written yet: given up")
    go_on.set()
    joined(hook)


def test_after_close_there_is_none(tmp_path):
    """A second close is fine, and one without a profile."""
    hook = ProfileOnAnomaly(tmp_path / "profiles")
    hook.close()
    hook(0, anomaly())
    hook.close()
    assert not (tmp_path / "profiles").exists()


def test_processes_of_one_run_have_folders_of_their_own(tmp_path, monkeypatch):
    """JAX names the file by host and second."""
    monkeypatch.setenv("RANK", "3")
    hook = ProfileOnAnomaly(tmp_path, seconds=MOMENT_S)
    hook(0, anomaly())
    joined(hook)
    assert ["step_0_process_3"] == taken(tmp_path)


def test_the_folder_stays_the_same_if_the_program_goes_elsewhere(tmp_path, monkeypatch):
    """It was meant when the hook was made."""
    monkeypatch.chdir(tmp_path)
    hook = ProfileOnAnomaly("profiles", seconds=MOMENT_S)
    monkeypatch.chdir("/")
    hook(0, anomaly())
    joined(hook)
    ours(tmp_path / "profiles" / "step_0")


@pytest.mark.parametrize("seconds", [0, -1.0, math.nan, math.inf])
def test_a_profile_lasts_some_time(seconds):
    """Anything else is said at once."""
    with pytest.raises(ValueError, match=r"seconds=.*: expected more than 0"):
        ProfileOnAnomaly("profiles", seconds=seconds)


def test_as_many_as_can_be_counted():
    """Anything else is said at once."""
    with pytest.raises(ValueError, match=r"at_most=-1: expected 0 or more"):
        ProfileOnAnomaly("profiles", at_most=-1)


PROGRAM = """
import os, pathlib, shutil, jax, jax.numpy as jnp
from perf.experimental.export import ProfileOnAnomaly, StepAnomaly
hook = ProfileOnAnomaly("profiles", seconds=3600)
hook(0, StepAnomaly(0.0, 1.0, "rollout", 3.0, "slow"))
(jnp.ones((200, 200)) @ jnp.ones((200, 200))).block_until_ready()
"""


def test_a_profile_is_written_if_the_program_ends(tmp_path):
    """Without a close, before JAX takes its devices down."""
    printed_by("-c", PROGRAM, folder=tmp_path)
    (profile,) = read_device_profiles(tmp_path / "profiles" / "step_0")
    assert profile.busy


def test_a_forked_child_leaves_the_profile_alone(tmp_path):
    """It neither ends nor writes it, nor takes one itself; the parent's goes on."""
    child = """
child = os.fork()
if child == 0:
    hook.close()
    os._exit(len(list(pathlib.Path("profiles").rglob("*.pb"))))
assert 0 == os.waitpid(child, 0)[1]
assert hook._thread.is_alive()
hook.close()
print(os.getpid())
"""
    pid = printed_by("-c", PROGRAM + child, folder=tmp_path)
    (profile,) = read_device_profiles(tmp_path / "profiles")
    assert int(pid) == profile.process


def test_a_profile_that_cannot_be_written_is_lost(tmp_path):
    """The training goes on; a process of its own, since JAX takes no other then."""
    after = """
shutil.rmtree("profiles")
pathlib.Path("profiles").touch()
import logging
lines = []
handler = logging.Handler()
handler.emit = lambda record: lines.append(record.getMessage())
logging.getLogger("perf").addHandler(handler)
hook.close()
print(lines)
"""
    printed = printed_by("-c", PROGRAM + after, folder=tmp_path)
    assert printed.startswith("['the device profile after step 0 is lost: JaxRuntimeEr")
    assert 1 == printed.count("the device profile")
