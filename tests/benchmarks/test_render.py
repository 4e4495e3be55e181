from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import render
from benchmarks.device import page as device

PAGE = render.DOCS / "results.md"
ROW = {
    "method": "default",
    "params": 272474,
    "macs": 40_550_000,
    "old": 92.25,
    "new": 91.0,
    "all": 92.125,
    "harmonic": 91.6,
    "spread": 0.25,
    "seconds": 17.5,
    "seeds": 3,
    "teacher": "T10",
}


def document(table: str = "table4", scale: str = "cpu", **changes: Any) -> dict[str, Any]:
    conditions = {"date": "2026-01-02", "processor": "a | b", "teacher": "0123456789abcdef", "plan": "Plan(...)"}
    return {"table": table, "scale": scale, "rows": [ROW], "conditions": conditions} | changes


def test_the_page_in_the_documents_is_the_rendering_of_the_committed_results() -> None:
    """Change a result, or this page's making, and `python -m benchmarks render` must be run."""
    assert PAGE.read_text(encoding="utf-8") == render.page(render.read(render.RESULTS))


def test_every_plot_that_the_committed_page_shows_is_there() -> None:
    shown = [line.split("(")[1].rstrip(")") for line in PAGE.read_text("utf-8").splitlines() if line.startswith("![")]
    assert [name for name in shown if not (render.DOCS / name).is_file()] == []


def test_a_table_stands_beside_the_papers_with_its_conditions() -> None:
    page = render.page({"table4-cpu": document()})
    ours = page[page.index("## Table 4") : page.index("## Table 5")]
    assert "| default | 0.272 M | 40.5 M | 92.25 | 91.00 | 92.12 ± 0.25 | 91.60 | 17.50 | 3 | T10 |" in ours
    assert "date 2026-01-02, teacher 0123456789ab, processor a | b" in ours
    assert "![Table 4: one new category](results/table4-cpu.svg)" in ours
    assert "| ResNet 2 | 64.12 | 92.30 | 78.21 | 66.90 |" in ours


def test_what_was_not_measured_is_said_to_be_missing() -> None:
    page = render.page({"table4-cpu": document()})
    missing = next(line for line in page.splitlines() if line.startswith("Not measured yet: table1"))
    assert "table4 at scale paper" in missing and "table4 at scale cpu" not in missing
    assert "Not measured yet: `python -m benchmarks table7 --scale cpu --data-dir DIR`." in page
    assert page.index("table4 --scale paper") > page.index("## Table 4")


def test_hours_are_told_in_whole_seconds() -> None:
    assert "| 9,549 |" in render.grid([ROW | {"seconds": 9548.7363}])


def test_columns_of_which_nothing_is_known_are_left_out_and_errors_are_shown() -> None:
    failed = {"method": "depgraph", "all": None, "error": "ModuleNotFoundError: no | such\nmodule"}
    grid = render.grid([ROW | {"old": None, "new": None, "harmonic": None}, failed])
    assert grid.splitlines()[0] == "| method | parameters | MACs | all % | seconds | seeds | teacher | error |"
    assert "no \\| such module" in grid


@pytest.mark.parametrize("content", ["{", "[]", '{"table": "table1"}'])
def test_a_file_that_is_no_result_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "odd.json").write_text(content)
    with pytest.raises(render.RenderError, match=r"odd\.json"):
        render.read(tmp_path)


def test_the_command_writes_page_and_plots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="the extra `bench` is not installed")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "table4-cpu.json").write_text(json.dumps(document()))
    assert render.main(["--results", str(tmp_path / "in"), "--out", str(tmp_path / "docs")]) == 0
    page = (tmp_path / "docs" / "results.md").read_text("utf-8")
    assert page == render.page(render.read(tmp_path / "in"))
    assert (tmp_path / "docs" / "resource-limits.md").read_text("utf-8") == device.page({})
    assert (tmp_path / "docs" / "results" / "table4-cpu.svg").read_bytes().startswith(b"<?xml")
    assert "table4-cpu.svg" in capsys.readouterr().out
