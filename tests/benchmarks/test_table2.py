from __future__ import annotations

from pathlib import Path

from benchmarks import cells, table, table2
from tests.benchmarks import toy


def test_int8_is_the_same_student_in_a_smaller_file(tmp_path: Path) -> None:
    setting = toy.setting("table2", toy.teacher(tmp_path), tmp_path / "cache")
    done, _ = cells.measure(setting, table2.cells(setting), lambda line: None)
    assert not [one.error for one in done if one.error]
    exact, small = table.rows(table2.TABLE, done)
    assert (exact["method"], small["method"]) == ("default", "default-int8")
    assert small["bytes"] < 0.7 * exact["bytes"] and small["params"] == exact["params"]
    # Of the 80 test images, quantising moves few.
    assert abs(small["all"] - exact["all"]) <= 10
    # It was trained once: the second cell found the first one's checkpoint, and its seconds.
    assert small["seconds"] == exact["seconds"] > 0
