"""`rlperf check`: its words, its JSON and its exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from perf.__main__ import main
from perf._model.tracks import SCHEMA_KEY
from perf._read.check import MEANINGS
from perf._write.layout import V1Layout
from perf._write.stream import TraceStream
from perf.cli import check
from tests.write.traces import FIRST, MAIN, PROCESS, batch, file_of, span, stream

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """A trace without a fault."""
    path = tmp_path / "sound.pb"
    path.write_bytes(file_of())
    return path


@pytest.fixture
def unsound(tmp_path: Path) -> Path:
    """A trace that was cut, and lost something before."""
    path = tmp_path / "unsound.pb"
    file = stream()
    path.write_bytes((file.encode(FIRST) + file.lost(1234) + file.end())[:-1])
    return path


def test_a_sound_trace(sound: Path, capsys: Captured) -> None:
    """Its tracks are listed with what is on them."""
    assert 0 == main(["check", str(sound)])
    shown = capsys.readouterr().out
    assert f"{sound}: sound (" in shown
    assert "5 slices)" in shown
    assert "4 slices, 1 instant  Post-Training Run > Main\n" in shown
    assert "1 sample  Post-Training Run > Counters > loss\n" in shown
    assert "not closed" not in shown


def test_an_unsound_trace(unsound: Path, capsys: Captured) -> None:
    """Each reason is told with its number and meaning, and where it was found first."""
    assert 1 == main(["check", str(unsound)])
    shown = capsys.readouterr().out
    assert f"{unsound}: UNSOUND (" in shown
    assert "cut_end 1: the file ends inside a packet; first: ends inside" in shown
    assert "lost_records 1,234: spans, instants and samples that the writer" in shown
    assert "unclosed_slices 1: slices that never ended" in shown
    assert "first: 'span 8' on train.py > Post-Training Run > Main" in shown
    assert "not closed by its writer: the run goes on, or was killed" in shown


def test_what_the_writer_left_open_is_told(tmp_path: Path, capsys: Captured) -> None:
    """It is no fault."""
    path, file = tmp_path / "full.pb", stream()
    path.write_bytes(file.encode(FIRST) + file.end())
    assert 0 == main(["check", str(path)])
    assert "1 slices were open when the file was closed" in capsys.readouterr().out


def test_json_holds_all(sound: Path, unsound: Path, capsys: Captured) -> None:
    """One array on stdout, a verdict a trace, those that cannot be read too."""
    missing = sound.with_name("missing.pb")
    paths = [str(path) for path in (sound, unsound, missing)]
    assert 2 == main(["check", "--json", *paths])
    captured = capsys.readouterr()
    good, bad, none = json.loads(captured.out)
    assert "" == captured.err
    assert paths == [good["path"], bad["path"], none["path"]]
    assert [True, False, None] == [each["sound"] for each in (good, bad, none)]
    assert "No such file" in none["error"]
    assert (True, 0, []) == (good["has_ended"], good["open_slices"], good["problems"])
    assert ["cut_end", "unclosed_slices", "lost_records"] == [
        problem["kind"] for problem in bad["problems"]
    ]
    assert {"kind", "count", "first", "meaning"} == bad["problems"][0].keys()
    main_track = {
        "path": ["train.py", "Post-Training Run", "Main"],
        "slices": 4,
        "instants": 1,
        "samples": 0,
    }
    assert main_track in good["tracks"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"traceEvents": []}', "JSON, a trace of Chrome's"),
        (b"", "an empty file"),
        (b"\x1f\x8b\x08", "a gzip file: unpack it first"),
        (b"\x89PNG", "the byte 0x89 where a packet should begin, at offset 0"),
        (file_of()[:50], "ends before it says which version wrote it"),
        (
            TraceStream(V1Layout(), PROCESS, {SCHEMA_KEY: 99}).encode(FIRST),
            "schema version 99",
        ),
    ],
)
def test_what_is_no_trace_is_named(
    content: bytes, said: str, sound: Path, capsys: Captured
) -> None:
    """On stderr, and the others are checked; the status tells of it."""
    other = sound.with_name("other.pb")
    other.write_bytes(content)
    assert 2 == main(["check", str(other), str(sound)])
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.startswith(f"rlperf: {other}: ")
    assert f"{sound}: sound" in captured.out


def test_a_folder_stands_for_its_traces(
    sound: Path, unsound: Path, capsys: Captured
) -> None:
    """All of them, those of v1 beside those of v2 too."""
    sound.rename(sound.with_name("perfetto_trace_v2_1.pb"))
    sound.with_name("metrics.jsonl").touch()
    assert 1 == main(["check", str(sound.parent)])
    shown = [line for line in capsys.readouterr().out.split("\n") if "slices)" in line]
    assert [f"{sound.parent}/perfetto_trace_v2_1.pb: sound", f"{unsound}: UNSOUND"] == [
        line.partition(" (")[0] for line in shown
    ]


def test_an_empty_folder_and_a_missing_file_are_named(
    tmp_path: Path, capsys: Captured
) -> None:
    """Nothing to check is no sound trace."""
    assert 2 == main(["check", str(tmp_path), "/nowhere/trace.pb"])
    shown = capsys.readouterr().err
    assert f"rlperf: {tmp_path}: expected a trace file, found a folder" in shown
    assert "/nowhere/trace.pb: No such file" in shown


def test_many_tracks_are_not_all_listed(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their number is."""
    monkeypatch.setattr(check, "_TRACKS_SHOWN", 1)
    path = tmp_path / "trace.pb"
    path.write_bytes(file_of())
    assert 0 == main(["check", str(path)])
    assert "… and 3 more tracks; --json has them all" in capsys.readouterr().out


@settings(max_examples=200)
@given(st.binary(max_size=200), st.integers(0, 400))
@example(b"\x0a", 400)
def test_whatever_a_file_holds_there_is_a_verdict(
    tmp_path_factory: pytest.TempPathFactory, garbage: bytes, keep: int
) -> None:
    """Never an error of Python's: bytes of any kind, after a good beginning or not."""
    path = tmp_path_factory.getbasetemp() / "trace.pb"
    data = stream().encode(batch((MAIN, [span(1, 1, 2)])))
    path.write_bytes(data[:keep] + garbage)
    assert main(["check", str(path)]) in (0, 1, 2)


def test_the_exit_status_is_documented(capsys: Captured) -> None:
    """In the command's help."""
    with pytest.raises(SystemExit):
        main(["check", "--help"])
    shown = capsys.readouterr().out
    for line in ("0  every trace is sound", "1  at least one is not", "2  at least"):
        assert line in shown


def test_the_kinds_of_problems_are_documented() -> None:
    """With the meanings that the command tells."""
    page = Path(__file__).parents[2] / "docs" / "reference" / "traces.md"
    table = page.read_text(encoding="utf-8")
    rows = [f"| `{kind}` | {meaning} |\n" for kind, meaning in MEANINGS.items()]
    assert "".join(rows) in table
