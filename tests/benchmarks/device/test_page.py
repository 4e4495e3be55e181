from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.device import page
from benchmarks.device.command import BENCHMARKS, RESULTS
from benchmarks.device.findings import Findings
from benchmarks.render import DOCS

FOUND = Findings(
    benchmark="swap",
    figures={"dropped": 0, "p99_ratio": 1.25},
    rows=[{"peer": "ours", "p99_ms": 2.5}, {"peer": "theirs", "p99_ms": 25.0}],
    targets={"p99_ratio": 1.5},
    at_least={"dropped": 0},
    notes=["What a reader must know."],
)


def test_the_page_in_the_documents_is_the_rendering_of_the_committed_results() -> None:
    """Change a result, or a benchmark's docstring, and `python -m benchmarks render` must be run."""
    assert (DOCS / "resource-limits.md").read_text("utf-8") == page.page(page.read(RESULTS))


def test_figures_stand_beside_their_targets_rows_below_and_the_machine_at_the_end(tmp_path: Path) -> None:
    FOUND.save(tmp_path)
    shown = page.page(page.read(tmp_path))
    section = shown[shown.index("## Swap") : shown.index("## Step")]
    assert "| `p99_ratio` | 1.25 | <= 1.5 |" in section and "| `dropped` | 0 | >= 0 |" in section
    assert "| theirs | 25 |" in section and "What a reader must know." in section
    assert section.index("Measured 2") > section.index("theirs")


def test_what_was_not_measured_and_that_nothing_was_on_arm_is_said() -> None:
    shown = page.page({})
    assert "Nothing here was measured on ARM hardware" in shown
    assert all(f"Not measured yet: `python -m benchmarks {name}`." in shown for name in BENCHMARKS)


@pytest.mark.parametrize("content", ["{", "[]", '{"benchmark": "swap"}'])
def test_a_file_that_is_no_result_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "swap.json").write_text(content)
    with pytest.raises(page.PageError, match=r"swap\.json"):
        page.read(tmp_path)
