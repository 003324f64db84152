"""How much of occupied time is busy: real profiles of CPU devices joined to traces."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf.__main__ import main
from perf._model.spans import ClockSnapshot
from perf._model.tracks import PROCESS_KEY
from perf._read.accounting import Accountant
from perf._read.busy import Busy, Profiled, is_occupied, profiled
from perf._read.device_profile import DeviceProfile, read_device_profiles
from perf._read.recording import Recording, read_recording
from perf.experimental.export import PerfMetricsExport
from perf.experimental.tracer import PerfTracer
from perf.report.analysis import analyse
from perf.report.page import as_page
from perf.report.plain import as_text, as_values
from perf.report.words import findings
from tests.report.runs import TrainingRun

MS = 1_000_000
IDLE_NS = 20 * MS
"""How long each rollout keeps its device waiting for the launch."""
APART_NS = MS
"""How far the wall clock and the tracer's may be off: they are read one by one."""
WALL_NS = 1_700_000_000 * 10**9
"""Some day."""


class Run(NamedTuple):
    """A run with the folder of its profile."""

    trace: Path
    profile: Path
    steps: int
    """That were profiled."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Of six steps three are profiled; one device works without a span."""
    folder = tmp_path_factory.mktemp("run")
    rollout, trainer, silent, *_ = jax.devices()
    tracer = PerfTracer(
        [rollout, trainer],
        export_fn=PerfMetricsExport(trace_dir=str(folder)).export_metrics,
    )
    work = jax.jit(lambda x: (x @ x).sum())
    arrays = [
        jax.device_put(jnp.ones((600, 600)), d) for d in (rollout, trainer, silent)
    ]
    jax.block_until_ready([work(array) for array in arrays])
    for step in range(6):
        if step == 2:
            jax.profiler.start_trace(str(folder / "profile"))
        with tracer.span("global_step", tags={"step": step}):
            with tracer.span("rollout", [rollout]) as span:
                until_ns = time.perf_counter_ns() + IDLE_NS
                while time.perf_counter_ns() < until_ns:
                    pass
                span.device_end(done := work(arrays[0]))
            done.block_until_ready()
            with tracer.span("actor_training", [trainer]) as span:
                span.device_end(done := work(arrays[1]))
            jax.block_until_ready([done, work(arrays[2])])
        if step == 4:
            jax.profiler.stop_trace()
        tracer.export()
    tracer.close()
    (trace,) = folder.glob("*.pb")
    return Run(trace, folder / "profile", 3)


def joined(recording: Recording, profiles: Sequence[DeviceProfile]) -> Profiled:
    """The two, joined."""
    schedule = recording.schedule()
    return profiled(recording, schedule, Accountant(schedule), profiles)


def test_work_lies_inside_the_spans_that_launched_it(run):
    """The clocks are joined: no work before its launch or after its end was seen."""
    recording = read_recording(run.trace)
    (profile,) = read_device_profiles(run.profile)
    first = recording.clocks[0]
    offset_ns = first.monotonic_ns - first.wall_ns
    for device, name in (("cpu0", "rollout"), ("cpu1", "actor_training")):
        lane = recording.schedule().devices[device]
        spans = [record[1:3] for record in lane.records if record[0] == name]
        works = [(b + offset_ns, e + offset_ns) for b, e in profile.busy[device]]
        assert works
        for begin, end in works:
            assert any(
                opened - APART_NS <= begin and end <= closed + APART_NS
                for opened, closed in spans
            )
        launched = {
            opened for opened, closed in spans for b, _ in works if opened <= b < closed
        }
        assert run.steps == len(launched)


def test_busy_leaves_out_what_a_device_waited_for_its_launch(run):
    """Each rollout holds its device for longer than it works."""
    found = joined(read_recording(run.trace), read_device_profiles(run.profile))
    rollout = found.devices["cpu0"]
    idle_ns = rollout.held["occupied/rollout"] - rollout.busy["occupied/rollout"]
    assert idle_ns >= run.steps * (IDLE_NS - APART_NS)
    assert 0 < rollout.busy["occupied/rollout"]
    assert {"cpu0", "cpu1"} == found.devices.keys()
    for busy in found.devices.values():
        assert found.covered_ns == sum(busy.held.values())


def test_a_device_without_spans_is_told(run):
    """One that is at work and has no timeline."""
    notes = joined(read_recording(run.trace), read_device_profiles(run.profile)).notes
    assert [
        "the device profile shows cpu2 at work, which the trace does not know"
    ] == list(notes)


def test_the_commands_tell_it(run, capsys, tmp_path):
    """Words, a table, values and the page."""
    arguments = ["report", str(run.trace), "--device-profile", str(run.profile)]
    assert 0 == main([*arguments, "--text"])
    text = capsys.readouterr().out
    assert "• By a device profile of " in text
    assert "Busy, by a device profile of " in text
    assert 0 == main([*arguments, "--json"])
    told = json.loads(capsys.readouterr().out)["device_profile"]
    assert 0 < told["devices"]["busy_over_occupied"] < 1
    page = tmp_path / "report.html"
    assert 0 == main([*arguments, "-o", str(page)])
    assert "<th class='n'>busy</th>" in page.read_text()


def test_without_a_profile_nothing_is_called_busy(run):
    """Occupied is an upper bound, and no more is said."""
    report = analyse(read_recording(run.trace))
    assert as_values(report)["device_profile"] is None
    assert "busy" not in as_text(report).lower()
    assert "<th class='n'>busy</th>" not in as_page([report])


def simulated(**run_info: Any) -> Recording:
    """A training on two devices, whose wall clock is a day ahead."""
    recording = TrainingRun(3).recording()
    names = {"a": "tpu0", "b": "tpu1", "a_queue": "tpu0_queue", "b_queue": "tpu1_queue"}
    timelines = [
        (info._replace(id=names.get(info.id, info.id)), records)
        for info, records in recording.timelines
    ]
    at = recording.begin_ns
    clocks = [ClockSnapshot(at, at + WALL_NS, at)]
    return dataclasses.replace(
        recording, clocks=clocks, run=run_info, timelines=timelines
    )


RECORDING = simulated()
DEVICES = ["tpu0", "tpu1"]
LENGTH_NS = RECORDING.end_ns - RECORDING.begin_ns


def profile_of(
    *busy: Sequence[tuple[int, int]],
    begin: int = 0,
    end: int = LENGTH_NS,
    process: int | None = None,
    first: int = 0,
    platform: str = "tpu",
) -> DeviceProfile:
    """Of devices from `first` on; times from the recording's first span on."""
    origin = RECORDING.begin_ns + WALL_NS
    return DeviceProfile(
        "p.xplane.pb",
        process,
        origin + begin,
        origin + end,
        {
            f"{platform}{first + number}": [(origin + b, origin + e) for b, e in some]
            for number, some in enumerate(busy)
        },
    )


@st.composite
def stretches(draw: st.DrawFn) -> list[tuple[int, int]]:
    """In order and apart."""
    cuts = draw(
        st.lists(st.integers(-(10**9), LENGTH_NS + 10**9), unique=True, max_size=20)
    )
    cuts.sort()
    return list(zip(cuts[::2], cuts[1::2], strict=False))


@given(stretches(), stretches(), st.integers(0, LENGTH_NS), st.integers(1, LENGTH_NS))
def test_every_moment_of_the_profile_is_in_one_bucket_and_busy_or_not(
    first, second, begin, length
):
    """Buckets tile the stretch that both cover; so does the work in it."""
    found = joined(
        RECORDING, [profile_of(first, second, begin=begin, end=begin + length)]
    )
    end = min(begin + length, LENGTH_NS)
    if begin >= end:
        assert not found.devices
        return
    assert end - begin == found.covered_ns
    for device, work in zip(DEVICES, (first, second), strict=True):
        busy = found.devices[device]
        assert end - begin == sum(busy.held.values())
        inside = sum(max(0, min(e, end) - max(b, begin)) for b, e in work)
        assert inside == sum(busy.busy.values())
        assert all(0 <= busy.busy[b] <= ns for b, ns in busy.held.items())


def test_busy_over_occupied_is_of_the_time_that_spans_hold():
    """All of it is 1, none 0; what is done while none holds is told apart."""
    everything = joined(RECORDING, [profile_of([(0, LENGTH_NS)], [(0, LENGTH_NS)])]).all
    assert 1.0 == everything.over_occupied
    idle_ns = sum(n for b, n in everything.held.items() if not is_occupied(b))
    assert idle_ns > 0
    assert idle_ns / (2 * LENGTH_NS) == everything.untraced
    nothing = joined(RECORDING, [profile_of([], [])]).all
    assert (0.0, 0.0) == (nothing.over_occupied, nothing.untraced)
    for bucket, ns in nothing.held.items():
        assert ns > 0
        assert (0.0, 1.0) == (nothing.share(bucket), everything.share(bucket))
    assert nothing.share("occupied/nothing") is None
    assert (None, 0.0) == (Busy().over_occupied, Busy().untraced)


@pytest.mark.parametrize(
    ("bucket", "is_held"),
    [
        ("occupied/rollout", True),
        ("sync", True),
        ("host/rollout", False),
        ("compile", False),
        ("unaccounted", False),
    ],
)
def test_a_device_is_occupied_while_spans_hold_it(bucket, is_held):
    """A weight sync holds it, too."""
    assert is_held == is_occupied(bucket)


def test_half_of_the_time_is_a_half():
    """Of every bucket in which the device worked for half of it."""
    cuts = range(0, LENGTH_NS, MS)
    work = [(cut, cut + MS // 2) for cut in cuts]
    busy = joined(RECORDING, [profile_of(work, work)]).all
    assert busy.over_occupied == pytest.approx(0.5, abs=0.02)
    stage = busy.held.most_common(1)[0][0]
    assert busy.share(stage) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("length", "is_told"), [(99, False), (100, True)])
def test_a_device_without_spans_is_told_if_it_works_for_long(length, is_told):
    """From a hundredth of the profile on."""
    some, end = [(5_000, 5_000 + length)], 10_000
    found = joined(RECORDING, [profile_of([], [], some, end=end)])
    assert is_told == bool(found.notes)


def test_a_device_that_the_profile_does_not_know_was_not_at_work():
    """On a CPU only devices that work are in it."""
    found = joined(RECORDING, [profile_of([(0, LENGTH_NS)])])
    assert DEVICES == sorted(found.devices)
    assert 0 == sum(found.devices[DEVICES[1]].busy.values())


def test_profiles_of_several_times_add_up():
    """Each covers its own part."""
    half = LENGTH_NS // 2
    both = [profile_of([], [], end=half), profile_of([], [], begin=half)]
    found, whole = joined(RECORDING, both), joined(RECORDING, [profile_of([], [])])
    assert whole.covered_ns == found.covered_ns
    for device in DEVICES:
        occupied = [
            sum(ns for b, ns in p.devices[device].held.items() if is_occupied(b))
            for p in (found, whole)
        ]
        assert occupied[0] == occupied[1]


@pytest.mark.parametrize("hour_ns", [-3600 * 10**9, 3600 * 10**9])
def test_the_nearest_reading_of_the_clocks_counts(hour_ns):
    """The wall clock was set by an hour in the course of the run."""
    at = RECORDING.begin_ns
    clocks = [
        ClockSnapshot(at, at + WALL_NS + hour_ns, at),
        ClockSnapshot(at + LENGTH_NS, at + LENGTH_NS + WALL_NS, at),
    ]
    recording = dataclasses.replace(RECORDING, clocks=clocks)
    found = joined(recording, [profile_of([(0, LENGTH_NS)], [])])
    assert LENGTH_NS == found.covered_ns


@pytest.mark.parametrize(
    ("recording", "profile", "reason"),
    [
        (
            simulated(pid=7),
            profile_of([], process=8),
            "of process 8, the trace of",
        ),
        (RECORDING, profile_of([], begin=LENGTH_NS, end=2 * LENGTH_NS), "has no span"),
        (dataclasses.replace(RECORDING, clocks=()), profile_of([]), "wall clock"),
        (
            RECORDING,
            profile_of([], platform="quantum"),
            "it knows quantum0, the trace tpu0, tpu1",
        ),
        (RECORDING, profile_of(), "it knows no device"),
        (simulated(**{PROCESS_KEY: 1}), profile_of([]), "one of several processes"),
    ],
)
def test_a_profile_that_does_not_fit_is_left_out_with_a_reason(
    recording, profile, reason
):
    """The report says so; nothing is called busy."""
    found = joined(recording, [profile])
    (note,) = found.notes
    assert "p.xplane.pb is left out" in note
    assert reason in note
    assert not found.devices
    said = [f.text for f in findings(analyse(recording, device_profiles=[profile]))]
    assert f"Note: {note}." in said


def test_of_one_of_several_processes_devices_are_known_by_their_order():
    """Numbers are the run's in the trace, and the process's in the profile."""
    recording = simulated(**{PROCESS_KEY: 1})
    profile = profile_of([(0, LENGTH_NS)], [], first=40)
    found = joined(recording, [profile])
    assert LENGTH_NS == sum(found.devices[DEVICES[0]].busy.values())
    assert 0 == sum(found.devices[DEVICES[1]].busy.values())
    assert not found.notes


def test_the_sentence_names_stages_and_what_no_span_tells():
    """With what share each was busy."""
    profile = profile_of([(0, LENGTH_NS)], [(0, LENGTH_NS)])
    report = analyse(RECORDING, device_profiles=[profile])
    (text,) = [f.text for f in findings(report) if "device profile" in f.text]
    assert "devices are busy 100 % of the time that spans hold them (" in text
    assert "rollout 100 %" in text
    assert " of the time that none does." in text
