"""What is wrong with a trace file is found, and nothing where all is well."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from perf._model.errors import TraceFormatError
from perf._model.tracks import SCHEMA_KEY, SCHEMA_VERSION
from perf._read import check as check_module
from perf._read.check import MEANINGS, Verdict, check_trace
from perf._write.compression import compressed
from perf._write.layout import V1Layout, V2Layout
from perf._write.stream import TraceStream
from perf._write.wire import blob
from tests.write.golden import step_of_v1, steps_of_v2
from tests.write.recorded import Op, Recorder, operations
from tests.write.traces import (
    FIRST,
    MAIN,
    PROCESS,
    RUN,
    SECOND,
    TPU,
    batch,
    file_of,
    packets,
    span,
    stream,
)
from tools.perfetto.trace_processor import TraceProcessor, TraceProcessorError


def checked(data: bytes, folder: Path) -> Verdict:
    """What is found in a file with these bytes."""
    path = folder / "trace.pb"
    path.write_bytes(data)
    return check_trace(path)


def kinds(verdict: Verdict) -> dict[str, int]:
    """The problems, counted."""
    return {problem.kind: problem.count for problem in verdict.problems}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(file_of(V1Layout()), id="v1"),
        pytest.param(file_of(V2Layout({"actor": ["tpu0"]})), id="v2"),
        pytest.param(step_of_v1(), id="v1, a step"),
        pytest.param(steps_of_v2(), id="v2, a step"),
        pytest.param(compressed(file_of()), id="packed"),
    ],
)
def test_what_was_written_whole_is_sound(data: bytes, tmp_path: Path) -> None:
    """Of both versions; Perfetto agrees."""
    assert {} == kinds(checked(data, tmp_path))
    with TraceProcessor(data) as tp:
        assert {} == tp.losses()


@settings(max_examples=60)
@given(operations())
def test_whatever_was_recorded_is_sound(
    tmp_path_factory: pytest.TempPathFactory, ops: list[Op]
) -> None:
    """However spans overlap, cross batches or stay open, if the file was closed."""
    recorder, file = Recorder(), TraceStream(V1Layout(), PROCESS, RUN, b"seed")
    parts = [file.encode(part) for part in recorder.run(ops)]
    if parts:
        data = b"".join([*parts, file.end()])
        verdict = checked(data, tmp_path_factory.getbasetemp())
        assert {} == kinds(verdict)
        assert file.slices == sum(track.slices for track in verdict.tracks)


def test_the_empty_text_is_a_name_like_any_other(tmp_path: Path) -> None:
    """Nobody's trace is unsound for it."""
    file = stream()
    data = file.encode(batch((MAIN, [span(1, 0, 1, name="")]))) + file.end()
    assert {} == kinds(checked(data, tmp_path))


def test_what_is_on_the_tracks_is_counted(tmp_path: Path) -> None:
    """By their names, without what the file says of itself."""
    verdict = checked(file_of(), tmp_path)
    assert {
        "Main": (4, 1, 0),
        "Main worker": (1, 0, 0),
        "loss": (0, 0, 1),
        "tokens": (0, 0, 1),
    } == {t.path[-1]: (t.slices, t.instants, t.samples) for t in verdict.tracks}
    assert ("train.py", "Post-Training Run", "Main") == verdict.tracks[0].path
    assert (True, 0) == (verdict.has_ended, verdict.open_slices)


def test_lanes_are_counted_together(tmp_path: Path) -> None:
    """They are tracks of one name."""
    overlapping = [span(1, 10, 30), span(2, 20, 40)]
    data = stream().encode(batch((TPU, overlapping), tangled=[TPU]))
    assert [2] == [track.slices for track in checked(data, tmp_path).tracks]


def test_open_slices_are_no_problem_if_the_writer_says_so(tmp_path: Path) -> None:
    """Of a full file the next one has the ends."""
    file = stream()
    data = file.encode(FIRST)
    assert {"unclosed_slices": 1} == kinds(checked(data, tmp_path))
    verdict = checked(data + file.end(), tmp_path)
    assert ({}, 1, True) == (kinds(verdict), verdict.open_slices, verdict.has_ended)


def test_a_file_without_an_end_may_be_sound(tmp_path: Path) -> None:
    """So are files of a run that goes on, as far as they go."""
    verdict = checked(file_of(ends=False), tmp_path)
    assert ({}, False) == (kinds(verdict), verdict.has_ended)


def test_what_the_writer_lost_is_told(tmp_path: Path) -> None:
    """In all, over the whole file."""
    file = stream()
    data = file.encode(FIRST) + file.lost(3) + file.encode(SECOND) + file.lost(4)
    assert {"lost_records": 7} == kinds(checked(data + file.end(), tmp_path))


def test_files_put_together_are_sound(tmp_path: Path) -> None:
    """If the later one was written later: else Perfetto, too, has no clock for it."""
    one, other = stream(seed=b"one"), stream(seed=b"other")
    data = one.encode(FIRST) + one.encode(SECOND) + one.end()
    later = other.encode(SECOND._replace(clocks=SECOND.clocks)) + other.end()
    assert {} == kinds(checked(data + later, tmp_path))
    assert {"clocks": 2} == kinds(checked(later + data, tmp_path))


def test_a_file_that_was_begun_anew_is_sound_but_for_what_was_lost(
    tmp_path: Path,
) -> None:
    """The writer does so after a fault of its own: same tracks, names from 1 again."""
    one, again = stream(), stream()
    data = one.encode(FIRST) + again.encode(SECOND) + again.lost(1) + again.end()
    assert {"unclosed_slices": 1, "lost_records": 1} == kinds(checked(data, tmp_path))


Damage = Callable[[list[Any]], Any]
"""Changes the packets of a file."""


def event(packets_: list[Any], kind: int, number: int = 0) -> Any:
    """One of the packets with events of a type."""
    return [p for p in packets_ if p.track_event.type == kind][number]


def without(packets_: list[Any], gone: Any) -> None:
    """Takes a packet out."""
    del packets_[next(n for n, packet in enumerate(packets_) if packet is gone)]


def descriptor(packets_: list[Any], name: str) -> Any:
    """The packet that introduces a track."""
    return next(p for p in packets_ if p.track_descriptor.name == name)


BEGIN, END = pb.TrackEvent.TYPE_SLICE_BEGIN, pb.TrackEvent.TYPE_SLICE_END
INSTANT, COUNTER = pb.TrackEvent.TYPE_INSTANT, pb.TrackEvent.TYPE_COUNTER


def clocks_of(packets_: list[Any]) -> Any:
    """The first clock snapshot."""
    return packets_[0].clock_snapshot


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        pytest.param(
            lambda p: without(p, event(p, BEGIN)),
            {"unopened_slices": 1, "missing_slices": 1},
            id="a begin is gone",
        ),
        pytest.param(
            lambda p: without(p, event(p, END)),
            {"unclosed_slices": 1},
            id="an end is gone",
        ),
        pytest.param(
            lambda p: setattr(event(p, END).track_event, "name", "other"),
            {"misnested_slices": 1},
            id="an end of another slice",
        ),
        pytest.param(
            lambda p: setattr(event(p, BEGIN).track_event, "name_iid", 99),
            {"unknown_names": 1},
            id="a name that nobody introduced",
        ),
        pytest.param(
            lambda p: event(p, BEGIN).track_event.ClearField("name_iid"),
            {"unknown_names": 1},
            id="a slice without a name",
        ),
        pytest.param(
            lambda p: descriptor(p, "Main").track_descriptor.ClearField("name"),
            {"broken_packets": 1, "unknown_tracks": 11},
            id="a track without a name",
        ),
        pytest.param(
            lambda p: without(p, descriptor(p, "Main")),
            {"unknown_tracks": 11},
            id="a track that is gone",
        ),
        pytest.param(
            lambda p: without(p, descriptor(p, "Post-Training Run")),
            {"unknown_parents": 4},
            id="a parent that is gone",
        ),
        pytest.param(
            lambda p: setattr(
                descriptor(p, "Main").track_descriptor,
                "parent_uuid",
                descriptor(p, "Main").track_descriptor.uuid,
            ),
            {"unknown_parents": 1},
            id="a track above itself",
        ),
        pytest.param(
            lambda p: descriptor(p, "loss").track_descriptor.ClearField("counter"),
            {"misplaced_events": 1},
            id="a counter that is none",
        ),
        pytest.param(
            lambda p: descriptor(p, "Main").track_descriptor.counter.SetInParent(),
            {"misplaced_events": 11},
            id="slices on a counter",
        ),
        pytest.param(
            lambda p: clocks_of(p).clocks[3].ClearField("clock_id"),
            {"clocks": 20},
            id="a clock that is gone",
        ),
        pytest.param(
            lambda p: setattr(event(p, BEGIN), "timestamp", 2**64 - 10**6),
            {"clocks": 18},
            id="before all time",
        ),
        pytest.param(
            lambda p: setattr(event(p, BEGIN), "trusted_packet_sequence_id", 5),
            {"sequences": 1, "unopened_slices": 1, "missing_slices": 1},
            id="another sequence",
        ),
        pytest.param(
            lambda p: event(p, BEGIN).track_event.flow_ids.append(3),
            {"broken_packets": 1, "unopened_slices": 1, "missing_slices": 1},
            id="a field that is never written",
        ),
        pytest.param(
            lambda p: p.append(pb.TracePacket(for_testing={"str": "x"})),
            {"broken_packets": 1},
            id="a packet that is never written",
        ),
        pytest.param(
            lambda p: p.append(
                pb.TracePacket(
                    trusted_packet_sequence_id=p[0].trusted_packet_sequence_id
                )
            ),
            {"broken_packets": 1},
            id="a packet with nothing in it",
        ),
        pytest.param(
            lambda p: (
                event(p, BEGIN, 1)
                .track_event.debug_annotations[0]
                .dict_entries[0]
                .ClearField("name_iid")
            ),
            {"broken_packets": 1, "unopened_slices": 1, "missing_slices": 1},
            id="a tag without a name",
        ),
        pytest.param(
            lambda p: event(p, COUNTER).track_event.ClearField("double_counter_value"),
            {"broken_packets": 1},
            id="a sample without a value",
        ),
        pytest.param(
            lambda p: event(p, INSTANT, 1).ClearField("timestamp"),
            {"broken_packets": 1},
            id="an event without a time",
        ),
    ],
)
def test_damage_is_found(
    damage: Damage, expected: dict[str, int], tmp_path: Path
) -> None:
    """Each kind of it by its name, and how often."""
    found = packets(file_of())
    damage(found)
    verdict = checked(pb.Trace(packet=found).SerializeToString(), tmp_path)
    assert expected == kinds(verdict)
    assert expected.keys() <= MEANINGS.keys()


def test_a_file_without_its_beginning_is_none(tmp_path: Path) -> None:
    """Nobody knows which version wrote it."""
    found = pb.Trace(packet=packets(file_of())[1:]).SerializeToString()
    with pytest.raises(TraceFormatError, match="without saying which version"):
        checked(found, tmp_path)


def test_a_cut_end_is_found(tmp_path: Path) -> None:
    """With what it left open."""
    found = kinds(checked(file_of()[:-1], tmp_path))
    assert {"cut_end": 1} == found
    found = kinds(checked(stream().encode(FIRST)[:-1], tmp_path))
    assert {"cut_end": 1, "unclosed_slices": 1} == found


def test_bytes_that_are_no_packets_are_found(tmp_path: Path) -> None:
    """What comes before them is checked all the same."""
    verdict = checked(file_of() + b"\x00garbage", tmp_path)
    assert {"foreign_bytes": 1} == kinds(verdict)
    assert (
        f"found the byte 0x00 where a packet should begin, at offset {len(file_of())}"
        in verdict.problems[0].first
    )
    assert 4 == len(verdict.tracks)


def test_packed_packets_that_are_damaged_are_found(tmp_path: Path) -> None:
    """The others are read on; nothing is unpacked twice."""
    begin, rest = packets_apart(file_of())
    for packed in (b"nonsense", zlib.compress(rest[:-1]), zlib.compress(rest)[:-9]):
        found = kinds(checked(begin + blob(1, blob(50, packed)), tmp_path))
        assert 1 == found["broken_packets"]
    twice = blob(1, blob(50, zlib.compress(blob(1, blob(50, zlib.compress(rest))))))
    assert {"broken_packets": 1} == kinds(checked(begin + twice, tmp_path))


def packets_apart(data: bytes) -> tuple[bytes, bytes]:
    """The packets up to the one that tells of the run, and those after it."""
    found = packets(data)
    number = found.index(event(found, INSTANT)) + 1
    begin, rest = pb.Trace(packet=found[:number]), pb.Trace(packet=found[number:])
    return begin.SerializeToString(), rest.SerializeToString()


def test_what_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it is small while it is packed; the message says what to do."""
    data = compressed(file_of())
    monkeypatch.setattr(check_module, "MAX_BYTES", len(data) + 100)
    with pytest.raises(TraceFormatError, match="write smaller files"):
        checked(data, tmp_path)
    with pytest.raises(TraceFormatError, match="are not checked"):
        checked(data + data, tmp_path)


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, "x", None])
def test_other_versions_cannot_be_checked(version: object, tmp_path: Path) -> None:
    """They say so, as when they are loaded."""
    file = TraceStream(V1Layout(), PROCESS, {SCHEMA_KEY: version})
    with pytest.raises(TraceFormatError, match=f"schema version {version}"):
        checked(file.encode(FIRST), tmp_path)


@settings(max_examples=150)
@given(st.integers(0, 10**6), st.integers(0, 7))
@example(511, 4)  # A key in a tag's value.
@example(364, 1)  # The length of a track's name.
def test_what_perfetto_complains_of_is_unsound(
    tmp_path_factory: pytest.TempPathFactory, at: int, bit: int
) -> None:
    """Whichever bit is flipped: what is called sound loses nothing in Perfetto."""
    data = bytearray(file_of())
    data[at % len(data)] ^= 1 << bit
    with contextlib.suppress(TraceFormatError):
        if checked(bytes(data), tmp_path_factory.getbasetemp()).is_sound:
            with TraceProcessor(bytes(data)) as tp:
                assert {} == tp.losses()


@settings(max_examples=100)
@given(st.randoms(use_true_random=False))
def test_packets_that_are_gone_doubled_or_swapped_are_found(
    tmp_path_factory: pytest.TempPathFactory, random: Any
) -> None:
    """If Perfetto complains, or shows other slices than the whole file has."""
    found = packets(file_of())
    at, to = random.randrange(len(found)), random.randrange(len(found))
    change = random.choice(["gone", "doubled", "swapped"])
    if change == "gone":
        del found[at]
    elif change == "doubled":
        found.insert(at, found[at])
    else:
        found[at], found[to] = found[to], found[at]
    data = pb.Trace(packet=found).SerializeToString()
    with contextlib.suppress(TraceFormatError, TraceProcessorError):
        if checked(data, tmp_path_factory.getbasetemp()).is_sound:
            with TraceProcessor(data) as tp:
                assert {} == tp.losses()
