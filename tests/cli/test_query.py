"""`rlperf query` and `rlperf export`: traces as tables."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import duckdb
import pytest

from perf.__main__ import main
from perf.report.tables import COLUMNS
from tests.report.runs import TrainingRun

STEPS = 4


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a simulated training."""
    return TrainingRun(STEPS).write(tmp_path_factory.mktemp("query") / "it's.pb")


def asked(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a query prints."""
    assert 0 == main(["query", *map(str, arguments)])
    return capsys.readouterr().out


def test_spans_are_rows(trace, capsys):
    """A span has its times, track, role, step and tags."""
    run = TrainingRun(STEPS)
    expected = sum(
        1 for info, some in run.records.items() for r in some if r[0] == "rollout"
    )
    sql = "SELECT count(*) AS n, sum(dur) AS ns FROM spans WHERE name = 'rollout'"
    (row,) = json.loads(asked(capsys, trace, sql, "--json"))
    total = sum(
        r[2] - r[1] for some in run.records.values() for r in some if r[0] == "rollout"
    )
    assert {"n": expected, "ns": total} == row
    sql = "SELECT DISTINCT step, tags->>'step' AS tag FROM spans WHERE name='rollout'"
    rows = json.loads(asked(capsys, trace, sql, "--json"))
    assert {(n, str(n)) for n in range(STEPS)} == {(r["step"], r["tag"]) for r in rows}


def test_every_table_has_rows(trace, capsys):
    """Steps, tracks and counters are there; instants where there are some."""
    for table, expected in (("steps", STEPS), ("tracks", 5), ("counters", STEPS)):
        sql = f"SELECT count(*) AS n FROM {table}"
        ((n,),) = [r.values() for r in json.loads(asked(capsys, trace, sql, "--json"))]
        assert expected == n
    assert "0" in asked(capsys, trace, "SELECT count(*) FROM instants")


def test_what_is_not_known_is_null(tmp_path, capsys):
    """A span outside all steps has none, one that is open has no length."""
    run = TrainingRun(1)
    main_info = next(info for info in run.records if info.is_main)
    late = run.end_ns + 1
    run.records[main_info].append(("late", late, late + 5, 999, 0, 0, None, None))
    trace = run.write(tmp_path / "a.pb")
    sql = "SELECT dur, step FROM spans WHERE name = 'late'"
    assert [{"dur": 5, "step": None}] == json.loads(asked(capsys, trace, sql, "--json"))


def test_rows_are_printed_for_people_and_machines(trace, capsys):
    """A table by default, CSV by option."""
    sql = "SELECT step, dur FROM steps ORDER BY step"
    text = asked(capsys, trace, sql)
    assert text.startswith("step")
    assert f"({STEPS} rows)" in text
    rows = list(csv.reader(io.StringIO(asked(capsys, trace, sql, "--csv"))))
    assert ["step", "dur"] == rows[0]
    assert STEPS + 1 == len(rows)


def test_wrong_sql_is_told(trace, capsys):
    """Exit code 1 and the engine's words."""
    assert 1 == main(["query", str(trace), "SELECT nope FROM spans"])
    assert "nope" in capsys.readouterr().err


def test_the_tables_are_named_where_one_is_unknown(trace, capsys):
    """Not one of the engine's own, which resembles it."""
    assert 1 == main(["query", str(trace), "SELECT * FROM sequences"])
    said = capsys.readouterr().err
    assert "sequences does not exist" in said
    assert "Tables: spans, steps, tracks, counters, instants" in said
    assert "Did you mean" not in said


def test_a_question_before_the_trace_is_told(trace, capsys):
    """The order is said, instead of a file that is missing."""
    assert 1 == main(["query", "SELECT 1", str(trace)])
    assert "expected a question in SQL, found a file" in capsys.readouterr().err


def test_a_missing_file_is_told_first(capsys, monkeypatch):
    """Without the engine, too."""
    monkeypatch.setitem(sys.modules, "duckdb", None)
    assert 1 == main(["query", "missing.pb", "SELECT 1"])
    assert "missing.pb: No such file" in capsys.readouterr().err


def test_several_traces_become_one_data_set(trace, tmp_path, capsys):
    """Parquet files of all tables, told apart by trace, host and process."""
    other = TrainingRun(2).write(tmp_path / "other.pb")
    folder = tmp_path / "out's"
    assert 0 == main(["export", str(trace), str(other), "--parquet", str(folder)])
    assert len(COLUMNS) == len(list(folder.glob("*.parquet")))
    assert "spans.parquet" in capsys.readouterr().out
    steps = duckdb.read_parquet(str(folder / "steps.parquet"))
    found = steps.aggregate("trace, host, count(*)")
    rows = {(row[0], row[1]): row[2] for row in found.fetchall()}
    assert {(str(trace), "h"): STEPS, (str(other), "h"): 2} == rows


def test_without_the_engine_the_extra_is_named(trace, capsys, monkeypatch):
    """The message says what to install."""
    from perf.cli.traces import database

    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ValueError, match=r"rlperf\[query\]"):
        database([trace])
