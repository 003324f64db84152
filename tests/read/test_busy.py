"""How much of occupied time is busy: real profiles of CPU devices joined to traces."""

from __future__ import annotations

import dataclasses
import json
import time
from collections import Counter
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
from perf._model.tracks import DEVICES_KEY, PROCESS_KEY
from perf._read.accounting import Accountant
from perf._read.busy import Busy, Profiled, is_occupied, profiled
from perf._read.device_profile import DeviceProfile, read_device_profiles
from perf._read.recording import Recording, read_recording
from perf.experimental.export import PerfMetricsExport
from perf.experimental.tracer import PerfTracer
from perf.report.analysis import analyse
from perf.report.figures import duration, percent
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
    # The first is not seen whole if the profiler took its time to start.
    assert idle_ns >= (run.steps - 1) * (IDLE_NS - APART_NS)
    assert 0 < rollout.busy["occupied/rollout"]
    assert {"cpu0", "cpu1"} == found.devices.keys()
    for busy in found.devices.values():  # less if an end was seen late at an edge
        assert sum(busy.held.values()) <= found.covered_ns


def test_a_device_without_spans_is_told(run):
    """One that is at work and has no timeline."""
    found = joined(read_recording(run.trace), read_device_profiles(run.profile))
    (note,) = found.notes
    assert "shows work on devices without a timeline (cpu2)" in note


def test_the_commands_tell_it(run, capsys, tmp_path):
    """Words, a table, values and the page."""
    arguments = ["report", str(run.trace), "--device-profile", str(run.profile)]
    assert 0 == main([*arguments, "--text"])
    text = capsys.readouterr().out
    assert "• By a device profile of " in text
    assert "Busy part of these " in text
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


DEVICES = ["tpu0", "tpu1"]
RECORDING = simulated(**{DEVICES_KEY: {"tpu0": 0, "tpu1": 1}})
LENGTH_NS = RECORDING.end_ns - RECORDING.begin_ns


def profile_of(
    *busy: Sequence[tuple[int, int]],
    begin: int = 0,
    end: int = LENGTH_NS,
    process: int | None = None,
    host: str = "",
    platform: str = "tpu",
) -> DeviceProfile:
    """Of devices 0, 1 and so on; times from the recording's first span on."""
    origin = RECORDING.begin_ns + WALL_NS
    return DeviceProfile(
        "p.xplane.pb",
        host,
        process,
        origin + begin,
        origin + end,
        {
            f"{platform}{number}": [(origin + b, origin + e) for b, e in some]
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
        cut = seen_whole(device, work, begin, end)
        assert cut[1] - cut[0] == sum(busy.held.values())
        inside = sum(max(0, min(e, cut[1]) - max(b, cut[0])) for b, e in work)
        assert inside == sum(busy.busy.values())
        assert all(0 <= busy.busy[b] <= ns for b, ns in busy.held.items())


def seen_whole(
    device: str, work: list[tuple[int, int]], begin: int, end: int
) -> tuple[int, int]:
    """The stretch without what was under way when a profiler started or stopped."""
    origin = RECORDING.begin_ns
    (records,) = [some for info, some in RECORDING.timelines if info.id == device]
    spans = [(r[1] - origin, r[2] - origin) for r in records]
    known_from = [e for b, e in spans if b < begin < e]
    known_to = [b for b, e in spans if b < end < e]
    first = [b for b, _ in work if begin <= b]
    last = [e for _, e in work if e <= end]
    since = min([*first, max(known_from)]) if known_from else begin
    until = max([*last, min(known_to)]) if known_to else end
    return min(since, end), max(min(since, end), until)


def test_what_was_under_way_at_an_edge_is_not_called_idle():
    """A profiler does not tell of work that began before it, or ended after it."""
    (rollout,) = [some for info, some in RECORDING.timelines if info.id == DEVICES[1]]
    span = max(rollout, key=lambda record: record[2] - record[1])
    first, last = (time_ns - RECORDING.begin_ns for time_ns in span[1:3])
    third = (last - first) // 3
    work = [(first + third, last - third)]
    profile = profile_of([], work, begin=first + 2, end=last - 2)
    busy = joined(RECORDING, [profile]).devices[DEVICES[1]]
    assert 1.0 == busy.over_occupied
    assert last - first - 2 * third == sum(busy.held.values())
    ((begin, end),) = work
    tight = joined(RECORDING, [profile_of([], work, begin=begin, end=end)])
    assert end - begin == sum(tight.devices[DEVICES[1]].held.values())
    whole = joined(RECORDING, [profile_of([], work, begin=first, end=last)])
    assert last - first == sum(whole.devices[DEVICES[1]].held.values())


def test_busy_over_occupied_is_of_the_time_that_spans_hold():
    """All of it is 1, none 0; what is done while none holds is told apart."""
    everything = joined(RECORDING, [profile_of([(0, LENGTH_NS)], [(0, LENGTH_NS)])]).all
    assert 1.0 == everything.over_occupied
    idle_ns = sum(n for b, n in everything.held.items() if not is_occupied(b))
    assert idle_ns > 0
    assert 1.0 == everything.untraced
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


@pytest.mark.parametrize(("length", "is_told"), [(99, False), (102, True)])
def test_a_device_without_spans_is_told_if_it_works_for_long(length, is_told):
    """From a hundredth of the profile on."""
    part = LENGTH_NS // 10_000
    found = joined(RECORDING, [profile_of([], [], [(0, length * part)])])
    assert is_told == bool(found.notes)


def test_a_device_that_the_profile_does_not_know_was_not_at_work():
    """On a CPU only devices that work are in it."""
    found = joined(RECORDING, [profile_of([(0, LENGTH_NS)])])
    assert DEVICES == sorted(found.devices)
    assert 0 == sum(found.devices[DEVICES[1]].busy.values())


def test_profiles_of_several_times_add_up():
    """Each covers its own part."""
    half = LENGTH_NS // 2
    work = [(at, at + MS) for at in range(0, LENGTH_NS - MS, MS)]
    both = [profile_of(work, end=half), profile_of(work, begin=half)]
    found = joined(RECORDING, both)
    for order in (both, both[::-1]):
        assert LENGTH_NS == joined(RECORDING, order).covered_ns
    apart = [joined(RECORDING, [profile]).all for profile in both]
    assert found.all.held == apart[0].held + apart[1].held
    assert found.all.busy == apart[0].busy + apart[1].busy


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
        (simulated(pid=7), profile_of([], process=8), "process 8, the trace of 7"),
        (simulated(host="a"), profile_of([], host="b"), "of host b, the trace of a"),
        (RECORDING, profile_of([], begin=LENGTH_NS, end=2 * LENGTH_NS), "has no span"),
        (dataclasses.replace(RECORDING, clocks=()), profile_of([]), "wall clock"),
        (
            RECORDING,
            profile_of([], platform="quantum"),
            "it knows quantum0, the trace tpu0, tpu1",
        ),
        (RECORDING, profile_of(), "it knows no device"),
        (simulated(**{PROCESS_KEY: 1}), profile_of([]), "before JAX had looked"),
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
    report = analyse(recording, device_profiles=[profile])
    assert f"Note: {note}." in [f.text for f in findings(report)]
    assert [note] == as_values(report)["notes"]
    for count in (1, 2):
        (more,) = joined(recording, [profile] * (count + 1)).notes
        assert f"{note} (likewise {count} more)" == more


def test_of_several_profiles_those_that_fit_are_enough():
    """Each process of a run writes one: that others do not fit is as it should be."""
    profiles = [profile_of([], process=n) for n in range(3)]
    recording = simulated(pid=1)
    assert not joined(recording, profiles).notes
    assert LENGTH_NS == joined(recording, profiles).covered_ns


def test_a_profile_that_cannot_be_read_is_told_beside_one_that_fits():
    """For that is not as it should be."""
    bad = dataclasses.replace(profile_of(), error="found other bytes")
    found = joined(RECORDING, [bad, profile_of([]), bad])
    assert [
        f"the device profile {bad.path} is left out: found other bytes (likewise 1 "
        "more)"
    ] == list(found.notes)
    assert LENGTH_NS == found.covered_ns


def test_a_profile_that_is_there_twice_counts_once():
    """A copy, or one of another process where JAX does not say whose it is."""
    profile = profile_of([(0, LENGTH_NS)])
    assert LENGTH_NS == joined(RECORDING, [profile, profile]).covered_ns


def test_a_host_or_process_that_nobody_names_fits():
    """Of a file that was asked for itself the host is not looked at."""
    recording = simulated(pid=7, host="a")
    for profile in (profile_of([]), profile_of([], process=7, host="a")):
        assert joined(recording, [profile]).devices


def test_of_one_of_several_processes_devices_are_known_by_their_numbers_in_it():
    """Numbers are the run's in the trace, and the process's in the profile."""
    recording = simulated(
        **{PROCESS_KEY: 1, DEVICES_KEY: {"tpu1": 0, "tpu2": 1, "cpu0": 0}}
    )
    found = joined(recording, [profile_of([(0, LENGTH_NS)], [(0, LENGTH_NS)])])
    assert ["tpu1"] == list(found.devices)
    assert LENGTH_NS == sum(found.devices["tpu1"].busy.values())
    (note,) = found.notes
    assert "(tpu2)" in note


def test_older_traces_are_joined_by_numbers():
    """Devices that only one of the two knows are left out."""
    found = joined(simulated(), [profile_of([(0, LENGTH_NS)])])
    assert ["tpu0"] == list(found.devices)


def test_a_profile_of_a_time_without_spans_on_devices_says_so():
    """There is nothing to be a part of."""
    first = (
        min(
            r[1]
            for info, some in RECORDING.timelines
            for r in some
            if info.id in DEVICES
        )
        - RECORDING.begin_ns
    )
    assert first > 0
    found = joined(RECORDING, [profile_of([], end=first)])
    assert ["no span holds a device where the device profile has seen it"] == list(
        found.notes
    )
    assert found.all.over_occupied is None


def test_a_sentence_names_few_stages():
    """Those that hold devices longest; the table has all."""
    held = Counter({f"occupied/stage {n}": n * MS for n in range(1, 7)})
    found = Profiled(MS, {"tpu0": Busy(held, Counter())}, ())
    report = dataclasses.replace(analyse(RECORDING), profiled=found)
    (text,) = [f.text for f in findings(report) if f.text.startswith("By a device")]
    named = ", ".join(f"stage {n} 0.0 %" for n in (6, 5, 4, 3))
    assert f"hold them ({named})." in text


def test_all_forms_of_the_report_hold_the_same_numbers():
    """Sentence, table, values and page."""
    (rollout,) = [some for info, some in RECORDING.timelines if info.id == DEVICES[1]]
    half = [
        (b, (b + e) // 2)
        for b, e in sorted(
            (r[1] - RECORDING.begin_ns, r[2] - RECORDING.begin_ns) for r in rollout
        )
    ]
    report = analyse(RECORDING, device_profiles=[profile_of([(0, LENGTH_NS)], half)])
    busy = report.profiled.all
    stages = sorted({f"occupied/{r[0]}" for r in rollout})
    (first, *_) = [stage for stage in stages if stage in busy.held]
    name = first.removeprefix("occupied/")
    assert busy.share(first) == pytest.approx(0.5, abs=0.01)
    (text,) = [f.text for f in findings(report) if f.text.startswith("By a device")]
    assert f"{name} {percent(busy.busy[first] / busy.held[first])}" in text
    assert f"busy {percent(busy.over_occupied or 0)} of the time" in text
    assert f"and {percent(busy.untraced)} of the time that none does" in text
    rows = as_text(report).partition("Busy part of")[2].splitlines()
    (row,) = [row for row in rows if row.startswith(f"  {first} ")]
    assert duration(busy.held[first]) in row
    assert percent(busy.busy[first] / busy.held[first]) in row
    values = as_values(report)["device_profile"]
    assert LENGTH_NS / 1e9 == values["seconds"]
    assert busy.over_occupied == values["devices"]["busy_over_occupied"]
    assert busy.untraced == values["devices"]["untraced_frac"]
    assert busy.busy[first] / 1e9 == values["devices"]["busy_s"][first]
    assert busy.held[first] / 1e9 == values["devices"]["seconds"][first]
    assert set(DEVICES) == values["by_device"].keys()
    page = as_page([report])
    _, _, after = page.partition(f"</i>{first}</td>")
    assert f">{percent(busy.busy[first] / busy.held[first])}</td>" in after[:400]
