"""The user's path in the docs is what the program says."""

from __future__ import annotations

import re
import runpy

from perf._model.spans import TimelineKind
from perf._read.recording import read_recording
from perf.report.analysis import analyse
from perf.report.tables import COLUMNS
from perf.report.words import findings
from tests.layers import ROOT


def test_the_words_in_the_docs_are_the_reports(tmp_path):
    """Each quoted sentence is one of the report on the example's trace."""
    example = runpy.run_path(str(ROOT / "examples" / "forty_seconds.py"))
    path = tmp_path / "forty_seconds.pb"
    example["main"](path)
    said = [f.text for f in findings(analyse(read_recording(path)))]
    text = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    quoted = re.findall(r"(?:^> .*\n)+", text, re.MULTILINE)
    sentences = [re.sub(r"\n?> ", " ", quote).strip() for quote in quoted]
    assert sentences
    for sentence in sentences:
        assert sentence in said


def test_every_table_is_in_the_docs_with_its_columns():
    """All but the three that every table has, and which are said before."""
    text = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    for table, columns in COLUMNS.items():
        (row,) = re.findall(rf"^\| `{table}` \|.*", text, re.MULTILINE)
        for column in columns.split(", ")[3:]:
            assert f"`{column.split()[0]}`" in row
    for kind in TimelineKind:
        assert f"`{kind.value}` (" in text
