"""Reading on behind damage, with both readers."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf.__main__ import main
from perf._model.errors import TraceFormatError
from perf._model.spans import DEVICE, OPEN, RawRecord
from perf._read import damage
from perf._read.check import check_trace
from perf._read.events import read_events
from perf._read.load import LoadedTrace, load
from perf._read.packets import UNREADABLE
from perf._read.recording import read_recording
from perf._write.compression import compressed
from perf._write.layout import V2Layout
from perf.report.analysis import analyse
from tests.write.traces import MAIN, TPU, WORKER, batch, span, stream

S = 10**9
STEPS = 12
EVERY_NS = 31 * S
"""So each batch begins with a reading of the clocks."""


def parts(*, with_steps: bool = True, step_name: str = "global_step") -> list[bytes]:
    """What is written for each step: it ends with its batch, and so does its work."""
    file = stream(V2Layout({"actor": ["tpu0"]}))
    made = []
    for number in range(STEPS):
        begin, first = (number + 1) * EVERY_NS, 10 * number
        end = begin + 30 * S
        tags = {"step": number}
        inner = span(first + 2, begin + S, end - S, name="train", tags=tags)
        outer = span(first + 1, begin, end, name=step_name, tags=tags)
        work = span(first + 2, begin + S, end - S, name="train", kind=DEVICE, tags=tags)
        main: list[RawRecord] = [inner, outer] if with_steps else [inner]
        on_worker = span(first + 3, begin + S, begin + 2 * S, name="load")
        records = batch((MAIN, main), (WORKER, [on_worker]), (TPU, [work]), at_ns=end)
        made.append(file.encode(records))
    return [*made[:-1], made[-1] + file.end()]


PARTS = parts()


def flipped(data: bytes, at: int, count: int = 4) -> bytes:
    """The same with some bytes changed."""
    changed = bytes(255 - byte for byte in data[at : at + count])
    return data[:at] + changed + data[at + count :]


def begin_of(number: int, some: list[bytes] = PARTS) -> int:
    """Where a part begins in the file."""
    return len(b"".join(some[:number]))


def written(folder: Path, data: bytes) -> Path:
    """A file with these bytes."""
    path = folder / "trace.pb"
    path.write_bytes(data)
    return path


def steps_of(trace: LoadedTrace) -> list[tuple[int, int, int]]:
    """Number, begin and end of the steps that have one."""
    return [
        (piece.tags["step"], piece.begin_ns, piece.end_ns)
        for piece in trace.slices
        if piece.name == "global_step" and piece.end_ns != OPEN
    ]


WHOLE = [(n, (n + 1) * EVERY_NS, (n + 1) * EVERY_NS + 30 * S) for n in range(STEPS)]


@pytest.mark.parametrize("place", ["first", "length", "middle", "last"])
def test_damage_costs_what_lies_up_to_the_next_clocks(tmp_path, place):
    """All else is there, at its times and with its tags; where it was is told."""
    data, begin, end = b"".join(PARTS), begin_of(5), begin_of(6)
    at = {
        "first": begin,
        "length": begin + 1,
        "middle": (begin + end) // 2,
        "last": end - 4,
    }[place]
    trace = load(written(tmp_path, flipped(data, at)))
    (unread,) = trace.unread
    assert begin <= unread.offset <= at
    assert end == unread.offset + unread.size_bytes
    found = steps_of(trace)
    assert [step for step in WHOLE if step[0] != 5] == [s for s in found if s[0] != 5]
    assert (False, 1, True) == (trace.is_cut, len(trace.runs), trace.has_ended)


@given(st.integers(0, 10**6), st.integers(1, 40), st.booleans())
def test_both_readers_find_the_same(tmp_path_factory, at, count, packed):
    """Wherever it is: slices that have ended, unread bytes, and that they are all."""
    some = [compressed(part) for part in PARTS] if packed else PARTS
    data = b"".join(some)
    at = len(some[0]) + at % (len(data) - len(some[0]))
    path = written(tmp_path_factory.getbasetemp(), flipped(data, at, count))
    full, fast = load(path), read_events(path)
    assert list(full.unread) == fast.unread
    assert (full.is_cut, full.unplaced) == (fast.is_cut, fast.unplaced)
    last = full.unread and not full.is_cut
    assert sorted(
        (piece.name, piece.begin_ns, piece.end_ns)
        for piece in full.slices
        if piece.end_ns != OPEN
    ) == sorted(
        (name, begin_ns, end_ns)
        for slices in fast.slices.values()
        for name, begin_ns, end_ns, *_ in slices
        if end_ns != OPEN
    )
    assert not last or full.slices


def test_packed_packets_are_left_out_as_a_whole(tmp_path):
    """Of those that cannot be unpacked, nothing is believed."""
    some = [compressed(part) for part in PARTS]
    begin, end = begin_of(5, some), begin_of(6, some)
    path = written(tmp_path, flipped(b"".join(some), (begin + end) // 2))
    trace = load(path)
    assert [(begin, end - begin)] == [(u.offset, u.size_bytes) for u in trace.unread]
    assert [step for step in WHOLE if step[0] != 5] == steps_of(trace)
    assert list(trace.unread) == read_events(path).unread


def test_what_is_open_at_damage_has_no_end(tmp_path):
    """Nobody knows whether an end behind it is its own; in a report it is no span."""
    file = stream()
    some = [
        file.encode(batch(opened=[(MAIN, [span(1, 10)])], at_ns=20)),
        file.encode(batch((MAIN, [span(2, 30 * S, 31 * S)]), at_ns=31 * S)),
        file.encode(batch((MAIN, [span(1, 10, 70 * S)]), at_ns=71 * S)),
        file.encode(batch((MAIN, [span(3, 80 * S, 81 * S)]), at_ns=120 * S)),
    ]
    data = b"".join(some)
    assert {("span 1", 70 * S), ("span 2", 31 * S), ("span 3", 81 * S)} == {
        (piece.name, piece.end_ns) for piece in load(written(tmp_path, data)).slices
    }
    path = written(tmp_path, flipped(data, begin_of(1, some), 2))
    assert {("span 1", OPEN), ("span 3", 81 * S)} == {
        (piece.name, piece.end_ns) for piece in load(path).slices
    }
    fast = read_events(path)
    assert ["span 3"] == [slice_[0] for some in fast.slices.values() for slice_ in some]


def test_the_track_is_told_again_behind_a_reading_of_the_clocks(tmp_path):
    """A run with one thread has events of one track only."""
    file = stream()
    some = [
        file.encode(batch((MAIN, [span(n, n * EVERY_NS, n * EVERY_NS + S)]), at_ns=at))
        for n in (1, 2, 3)
        for at in [n * EVERY_NS + S]
    ]
    trace = load(written(tmp_path, flipped(b"".join(some), begin_of(1, some))))
    assert ["span 1", "span 3"] == [piece.name for piece in trace.slices]


def test_names_and_tracks_that_are_lost_are_told(tmp_path):
    """Of a slice whose name is lost the time is known; of a lost track nothing is."""
    file = stream()
    some = [
        file.encode(batch((MAIN, [span(1, 1, 2)]), at_ns=3)),
        file.encode(batch((WORKER, [span(2, S, 2 * S, name="new")]), at_ns=EVERY_NS)),
        file.encode(
            batch(
                (MAIN, [span(3, 40 * S, 41 * S, name="new")]),
                (WORKER, [span(4, 40 * S, 41 * S, name="late")]),
                at_ns=2 * EVERY_NS,
            )
        ),
    ]
    path = written(tmp_path, flipped(b"".join(some), begin_of(1, some)))
    trace = load(path)
    assert [("span 1", 1), (UNREADABLE, 40 * S)] == [
        (piece.name, piece.begin_ns) for piece in trace.slices
    ]
    assert (2, 2) == (trace.unplaced, read_events(path).unplaced)
    said = "events on tracks that the file does not introduce, left out: 2"
    assert said in read_recording(path).limits


def test_a_report_says_what_was_not_read_and_leaves_it_out(tmp_path, capsys):
    """Also the steps beside it, of which something may be missing."""
    whole = analyse(read_recording(written(tmp_path, b"".join(PARTS))))
    begin, end = begin_of(5), begin_of(6)
    path = written(tmp_path, flipped(b"".join(PARTS), begin, 2))
    report = analyse(read_recording(path))
    assert [0, 1, 2, 3, 7, 8, 9, 10, 11] == [s.step.number for s in report.steps]
    assert (
        f"the file is damaged, and in part not read: {end - begin} bytes at offset "
        f"{begin}",
        "steps beside what was not read, left out: 2",
    ) == report.notes[:2]
    assert whole.account.share("occupied") == report.account.share("occupied")
    assert whole.outside_ns * 7 == report.outside_ns * 11
    assert 0 == main(["report", str(path), "--text"])
    assert "the file is damaged" in capsys.readouterr().out
    assert 0 == main(["query", str(path), "SELECT 1"])
    assert "the file is damaged" in capsys.readouterr().err
    assert 0 == main(["diff", str(path), str(path)])
    assert "Note on A: the file is damaged" in capsys.readouterr().out


def test_without_steps_what_was_read_is_told_part_by_part(tmp_path):
    """A stretch of time of which nothing is known is no part of one."""
    some = parts(with_steps=False)
    data = b"".join(some).replace(b"step", b"stop")
    path = written(tmp_path, flipped(data, begin_of(5, some), 2))
    recording = read_recording(path)
    assert 2 == len(recording.steps)
    first, second = recording.steps
    assert (WHOLE[4][2], WHOLE[6][2]) == (first.end_ns, second.begin_ns)
    assert "for each part that was read" in recording.limits[-1]


def test_a_cut_is_damage_up_to_the_end(tmp_path):
    """And a length that leads beyond the end is none, if the file goes on."""
    data = b"".join(PARTS)
    trace = load(written(tmp_path, data[:-1]))
    (unread,) = trace.unread
    assert trace.is_cut
    assert len(data) - 1 == unread.offset + unread.size_bytes
    at = begin_of(5)
    assert data[at] == 0x0A
    longer = data[: at + 1] + b"\xff\xff\x7f" + data[at + 1 :]
    trace = load(written(tmp_path, longer))
    assert not trace.is_cut
    assert [step for step in WHOLE if step[0] != 5] == steps_of(trace)


def test_what_is_damaged_for_good_ends_there(tmp_path):
    """Without another reading of the clocks, all that follows is lost, and said so."""
    data = b"".join(PARTS)
    at = begin_of(STEPS - 1)
    path = written(tmp_path, flipped(data, at, 2))
    trace = load(path)
    assert (True, False) == (trace.is_cut, trace.has_ended)
    assert [(at, len(data) - at)] == [(u.offset, u.size_bytes) for u in trace.unread]
    assert WHOLE[:-1] == steps_of(trace)
    recording = read_recording(path)
    assert list(range(STEPS - 2)) == [step.number for step in recording.steps]
    assert f"not read: {len(data) - at} bytes at offset {at}" in recording.limits[0]


def test_damage_before_the_file_tells_of_its_run_is_an_error(tmp_path):
    """Nobody knows whether it is a trace, then."""
    path = written(tmp_path, flipped(b"".join(PARTS), 0))
    for read in (load, read_events):
        with pytest.raises(TraceFormatError, match="the byte 0xf5 where a packet"):
            read(path)


def test_check_stays_strict(tmp_path, capsys):
    """It looks no further than to the damage."""
    path = written(tmp_path, flipped(b"".join(PARTS), begin_of(5), 1))
    assert "foreign_bytes" in [problem.kind for problem in check_trace(path).problems]
    assert 1 == main(["check", str(path)])


def test_damage_everywhere_ends_the_reading(tmp_path, monkeypatch):
    """A file is searched so many times, and no more."""
    monkeypatch.setattr(damage, "_MOST", 3)
    data = b"".join(PARTS)
    for number in (2, 4, 6, 8):
        data = flipped(data, begin_of(number), 1)
    path = written(tmp_path, data)
    trace = load(path)
    assert [begin_of(2), begin_of(4), begin_of(6)] == [u.offset for u in trace.unread]
    assert trace.is_cut
    assert list(trace.unread) == read_events(path).unread


def test_a_start_is_found_wherever_a_chunk_ends(tmp_path, monkeypatch):
    """Also if it lies in two of them."""
    data = b"".join(PARTS)
    found = set()
    for size in range(13, 40):
        monkeypatch.setattr(damage, "_CHUNK", size)
        trace = load(written(tmp_path, flipped(data, begin_of(5), 1)))
        found.add(trace.unread)
    assert 1 == len(found)


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"\x0a\x7f\x50\xff\x7f\x32\x7f\x10\x03", id="plain"),
        pytest.param(b"\x0a\xff\xff\x7f\x92\x03\xff\xff\x7f\x78\x9c", id="packed"),
    ],
)
def test_a_start_with_long_numbers_is_found_wherever_a_chunk_ends(monkeypatch, start):
    """The longest of each kind."""
    for size in range(1, 80):
        monkeypatch.setattr(damage, "_CHUNK", size)
        file = io.BytesIO(bytes(50) + start + bytes(50))
        assert 50 == damage._next_start(file, 0)


def test_a_search_holds_little_of_a_file(monkeypatch):
    """Damage may be followed by gigabytes in which nothing is found."""
    sizes = []

    class Nowhere:
        def search(self, data: bytes) -> None:
            sizes.append(len(data))

    monkeypatch.setattr(damage, "_START", Nowhere())
    monkeypatch.setattr(damage, "_CHUNK", 100)
    assert damage._next_start(io.BytesIO(bytes(10_000)), 0) is None
    assert max(sizes) < 2 * 100


def test_bytes_that_somebody_put_in_cost_themselves(tmp_path):
    """Be it one: what follows at once is read."""
    begin = begin_of(5)
    data = b"".join(PARTS)
    trace = load(written(tmp_path, data[:begin] + b"\xff" + data[begin:]))
    assert [(begin, 1)] == [(u.offset, u.size_bytes) for u in trace.unread]
    assert WHOLE == steps_of(trace)


def test_many_places_are_named_in_part():
    """The first of them, and how much the others are."""
    unread = [damage.Unread(100 * n, n) for n in range(1, 6)]
    assert [
        "the file is damaged, and in part not read: 1 bytes at offset 100, 2 bytes at "
        "offset 200, 3 bytes at offset 300, 9 bytes at 2 more places"
    ] == damage.said(unread, is_cut=False)
    assert [
        "the file is damaged, and in part not read: 1 bytes at offset 100, 2 bytes at "
        "offset 200",
        "the file ends inside a packet, or its end is damaged and not read: 3 bytes at "
        "offset 300",
    ] == damage.said(unread[:3], is_cut=True)
