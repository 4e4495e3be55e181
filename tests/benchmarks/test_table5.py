from __future__ import annotations

from pathlib import Path

from benchmarks import table4, table5
from benchmarks.recipes import PHOTOGRAPHS, QUICK
from benchmarks.setting import Setting
from tests.benchmarks import toy


def test_it_is_table_4_with_recipes_of_its_own(tmp_path: Path) -> None:
    teacher = toy.teacher(tmp_path)
    methods = [cell.method for cell in table5.cells(toy.setting("table5", teacher, tmp_path / "cache"))]
    assert methods == [cell.method for cell in table4.cells(toy.setting("table4", teacher, tmp_path / "cache"))]
    assert table5.TABLE.title != table4.TABLE.title
    assert Setting("table5", tmp_path).plan == PHOTOGRAPHS
    assert Setting("table5", tmp_path, quick=True).plan == QUICK
