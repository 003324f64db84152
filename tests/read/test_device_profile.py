"""What jax.profiler wrote of the devices.

Planes of a GPU and a TPU are put down by hand in the layout of the real ones and read
by JAX's own reader: no such device is here. Real profiles of CPU devices are joined to
traces in test_busy.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import pytest

from perf.__main__ import main
from perf._model.errors import TraceFormatError
from perf._read.device_profile import DeviceProfile, read_device_profiles
from tests.report.runs import TrainingRun

WALL_NS = 1_700_000_000 * 10**9
"""Some day."""


def planes(*texts: str) -> bytes:
    """A profile of these planes, and of one that tells when it began."""
    began = (
        'planes { name: "Task Environment" '
        'stat_metadata { key: 1 value { id: 1 name: "profile_start_time" } } '
        f"stats {{ metadata_id: 1 uint64_value: {WALL_NS} }} }}"
    )
    reader: Any = jax.profiler.ProfileData
    return bytes(reader.text_proto_to_serialized_xspace(" ".join([began, *texts])))


def line(name: str, *stretches: tuple[int, int]) -> str:
    """A line of a plane; nanoseconds."""
    events = " ".join(
        f"events {{ metadata_id: 1 offset_ps: {begin * 1000} "
        f"duration_ps: {(end - begin) * 1000} }}"
        for begin, end in stretches
    )
    return f'lines {{ name: "{name}" {events} }}'


def plane(name: str, *lines: str) -> str:
    """A plane of lines."""
    return (
        f'planes {{ name: "{name}" '
        f'event_metadata {{ key: 1 value {{ id: 1 name: "op" }} }} {" ".join(lines)} }}'
    )


def read_bytes(folder: Path, data: bytes) -> DeviceProfile:
    """What is read of a file of these bytes."""
    file = folder / "host.xplane.pb"
    file.write_bytes(data)
    (found,) = read_device_profiles(file)
    return found


def since_start(found: DeviceProfile) -> dict[str, list[tuple[int, int]]]:
    """Its work, from the beginning of the profile on."""
    return {
        device: [(begin - WALL_NS, end - WALL_NS) for begin, end in some]
        for device, some in found.busy.items()
    }


def test_a_gpu_is_at_work_when_one_of_its_streams_is(tmp_path):
    """Lines that tell the same once more are not counted, nor are other planes."""
    found = read_bytes(
        tmp_path,
        planes(
            plane(
                "/device:GPU:1",
                line("Stream #7(Compute)", (100, 200), (300, 400)),
                line("Stream #8(MemcpyH2D)", (150, 250)),
                line("XLA Modules", (60, 1000)),
                line("Steps", (60, 1000)),
            ),
            plane("/device:GPU:0"),
            plane("/device:CUSTOM:Megascale Trace", line("Stream #1", (60, 65))),
            plane("/host:CPU", line("python", (50, 2000))),
        ),
    )
    assert {"gpu0": [], "gpu1": [(100, 250), (300, 400)]} == since_start(found)
    assert (50, 2000) == (found.begin_ns - WALL_NS, found.end_ns - WALL_NS)
    assert found.process is None


def test_a_tpu_is_at_work_when_its_operations_run(tmp_path):
    """Operations count, not the modules or steps around them; modules where alone."""
    found = read_bytes(
        tmp_path,
        planes(
            plane(
                "/device:TPU:0",
                line("Steps", (0, 1000)),
                line("XLA Modules", (0, 900)),
                line("XLA Ops", (100, 300), (150, 200), (500, 600)),
            ),
            plane(
                "/device:TPU:2", line("XLA Modules", (10, 20)), line("Steps", (0, 9))
            ),
        ),
    )
    assert {"tpu0": [(100, 300), (500, 600)], "tpu2": [(10, 20)]} == since_start(found)


def cpu_plane() -> str:
    """Of a host whose threads do a device's work; only one event is such work."""
    stats = {"hlo_op": 'str_value: "dot"', "device_ordinal": "int64_value: 3"}
    metadata = " ".join(
        f'stat_metadata {{ key: {n} value {{ id: {n} name: "{name}" }} }}'
        for n, name in enumerate(stats, 1)
    )
    known = [
        f"stats {{ metadata_id: {n} {v} }}" for n, v in enumerate(stats.values(), 1)
    ]
    events = " ".join(
        f"events {{ metadata_id: {number} offset_ps: {begin * 1000} "
        f"duration_ps: 10000 {said} }}"
        for number, begin, said in (
            (1, 100, " ".join(known)),
            (1, 200, known[0]),
            (1, 300, known[1]),
            (2, 400, " ".join(known)),
        )
    )
    return (
        f'planes {{ name: "/host:CPU" {metadata} '
        'event_metadata { key: 1 value { id: 1 name: "dot" } } '
        'event_metadata { key: 2 value { id: 2 name: "$train.py:1 step" } } '
        f'lines {{ name: "tf_XLAPjRtCpuClient/1" {events} }} }}'
    )


def test_a_cpu_device_is_at_work_when_a_thread_does_its_operations(tmp_path):
    """Not while Python runs, and not in what belongs to no device."""
    found = read_bytes(tmp_path, planes(cpu_plane()))
    assert {"cpu3": [(100, 110)]} == since_start(found)


def test_beside_a_gpu_the_host_is_no_device(tmp_path):
    """Its operations there are a helper's."""
    found = read_bytes(tmp_path, planes(cpu_plane(), plane("/device:GPU:0")))
    assert {"gpu0": []} == since_start(found)


def test_a_profile_without_any_device_is_empty(tmp_path):
    """And begins when it says."""
    found = read_bytes(tmp_path, planes())
    assert not found.busy
    assert (WALL_NS, WALL_NS) == (found.begin_ns, found.end_ns)


def test_what_the_host_tells_after_the_end_is_not_part_of_it(tmp_path):
    """Devices are not seen any more by then."""
    ended = (
        'planes { name: "Task Environment" '
        'stat_metadata { key: 1 value { id: 1 name: "profile_start_time" } } '
        'stat_metadata { key: 2 value { id: 2 name: "profile_stop_time" } } '
        f"stats {{ metadata_id: 1 uint64_value: {WALL_NS} }} "
        f"stats {{ metadata_id: 2 uint64_value: {WALL_NS + 500} }} }} "
    )
    reader: Any = jax.profiler.ProfileData
    host = plane("/host:CPU", line("python", (50, 2000)))
    data = bytes(reader.text_proto_to_serialized_xspace(ended + host))
    found = read_bytes(tmp_path, data)
    assert (50, 500) == (found.begin_ns - WALL_NS, found.end_ns - WALL_NS)


def test_whose_it_is_stands_in_the_name_of_a_file_in_a_folder(tmp_path):
    """Of one that is asked for by its own name it does not matter."""
    assert "" == read_bytes(tmp_path, planes()).host
    assert ["host"] == [found.host for found in read_device_profiles(tmp_path)]


def test_newer_versions_say_whose_it_is(tmp_path):
    """By the process's id."""
    about = (
        'planes { name: "/host:metadata" '
        'stat_metadata { key: 1 value { id: 1 name: "process_id" } } '
        "stats { metadata_id: 1 int64_value: 77 } }"
    )
    assert 77 == read_bytes(tmp_path, planes(about)).process


def test_files_of_several_profiles_are_all_read(tmp_path):
    """A folder holds one for each time that the profiler ran."""
    for name in ("a", "b"):
        folder = tmp_path / "plugins" / "profile" / name
        folder.mkdir(parents=True)
        (folder / "host.xplane.pb").write_bytes(planes(plane("/device:GPU:0")))
    assert ["a", "b"] == [
        Path(p.path).parent.name for p in read_device_profiles(tmp_path)
    ]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"\xff\x00garbage" * 9, "other bytes"),
        (b"", "does not say when it began"),
        (b"\n\x04\x12\x02ab", "does not say when it began"),
    ],
)
def test_another_file_is_refused_in_words(tmp_path, data, found):
    """What was expected, and what was found."""
    with pytest.raises(TraceFormatError, match=f"expected a device profile.*{found}"):
        read_bytes(tmp_path, data)


def test_a_folder_without_profiles_is_refused_in_words(tmp_path, capsys):
    """By the reader and by the command, whose exit code says so."""
    with pytest.raises(TraceFormatError, match=r"without any \.xplane\.pb file"):
        read_device_profiles(tmp_path)
    trace = TrainingRun(3).write(tmp_path / "trace.pb")
    assert 1 == main(["report", str(trace), "--device-profile", str(tmp_path)])
    assert "expected a device profile of jax.profiler" in capsys.readouterr().err


def test_one_file_that_cannot_be_read_does_not_stop_the_others(tmp_path):
    """It is there with the reason; if none can be read, that is an error."""
    good = planes(cpu_plane())
    for name, data in (("a", b""), ("b", good), ("c", b"garbage")):
        (tmp_path / f"{name}.xplane.pb").write_bytes(data)
    found = read_device_profiles(tmp_path)
    assert ["a", "b", "c"] == [profile.host for profile in found]
    assert [True, False, True] == [not profile.busy for profile in found]
    reasons = [profile.error for profile in found]
    assert "" == reasons[1]
    assert reasons[0].startswith("expected a device profile")
    assert "found other bytes" in reasons[2]
    (tmp_path / "b.xplane.pb").write_bytes(b"")
    with pytest.raises(TraceFormatError, match=r"a\.xplane\.pb: expected a device"):
        read_device_profiles(tmp_path)


def test_a_profile_that_fits_no_trace_is_an_exit_code(tmp_path, capsys):
    """The report is made; whoever asked for the profile hears that it is not in it."""
    trace = TrainingRun(3).write(tmp_path / "trace.pb")
    profile = tmp_path / "host.xplane.pb"
    profile.write_bytes(planes(cpu_plane()))
    arguments = ["report", str(trace), "--text", "--device-profile", str(profile)]
    assert 1 == main(arguments)
    out, err = capsys.readouterr()
    assert f"the device profile {profile} is left out" in out
    assert f"rlperf: {profile}: no device profile there tells" in err


def test_a_jax_that_cannot_read_them_is_named(tmp_path, monkeypatch):
    """Old versions have no reader."""
    data = planes()
    monkeypatch.setattr(jax.profiler, "ProfileData", None)
    with pytest.raises(TraceFormatError, match=r"JAX 0\.7\.2 or newer"):
        read_bytes(tmp_path, data)
