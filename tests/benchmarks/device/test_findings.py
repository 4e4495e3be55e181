from __future__ import annotations

import json
from pathlib import Path

from benchmarks.device.findings import BOLD, Findings, aligned, machine, text

FOUND = Findings(
    benchmark="swap",
    figures={"dropped": 0, "p99_ratio": 1.234567, "by_stage": {"load": 0.123456}, "vs": 12.0, "unknown": None},
    rows=[{"peer": "ours", "ms": 1.234567}, {"peer": "theirs", "mib": 100}],
    targets={"dropped": 0, "p99_ratio": 1.5},
    at_least={"vs": 10},
    notes=["One note."],
)


def test_the_document_has_the_figures_at_its_top_and_rounds_only_floats() -> None:
    document = FOUND.document()
    assert list(document) == ["benchmark", *FOUND.figures, "machine", "rows"]
    assert document["p99_ratio"] == 1.2346 and document["by_stage"] == {"load": 0.12346}
    assert document["rows"] == [{"peer": "ours", "ms": 1.2346}, {"peer": "theirs", "mib": 100}]
    assert (document["dropped"], document["unknown"]) == (0, None)


def test_a_person_sees_rows_figures_beside_targets_notes_and_the_machine() -> None:
    shown = FOUND.shown(colour=False).splitlines()
    assert shown[:3] == ["peer      ms  mib", "ours    1.23    -", "theirs     -  100"]
    assert any(line.split() == ["p99_ratio", "1.23", "<=", "1.5"] for line in shown)
    assert any(line.split() == ["vs", "12", ">=", "10"] for line in shown)
    assert "One note." in shown and shown[-1].startswith("on ")
    assert BOLD not in FOUND.shown(colour=False) and BOLD in FOUND.shown(colour=True)


def test_what_is_written_names_targets_and_date_and_no_path(tmp_path: Path) -> None:
    path = FOUND.save(tmp_path / "new")
    written = json.loads(path.read_text("utf-8"))
    assert path.name == "swap.json" and written["targets"] == FOUND.targets and written["at_least"] == {"vs": 10}
    assert written["notes"] == ["One note."] and len(written["date"]) == 10
    assert str(tmp_path) not in path.read_text("utf-8")


def test_the_machine_is_named() -> None:
    assert set(machine()) == {"processor", "architecture", "cores", "system", "python"}


def test_numbers_are_short() -> None:
    assert [text(value) for value in (None, 1234, 1234.6, 0.0123456, "x", {"a": 1.0})] == [
        "-",
        "1,234",
        "1,235",
        "0.0123",
        "x",
        "a 1",
    ]


def test_columns_are_aligned() -> None:
    assert aligned([("name", "n"), ("a", "100")], colour=False) == "name    n\na     100"
