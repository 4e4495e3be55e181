from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import cells, compression, table, table3
from cloud_teacher.progress import silent
from tests.benchmarks import toy


def row(way: str, epochs: int, accuracy: float) -> dict[str, Any]:
    name = f"{way}-{epochs}ep"
    return {
        "method": name,
        "size": "s",
        "way": way,
        "epochs": epochs,
        "iterations": 10 * epochs,
        "all": accuracy,
    }


def test_the_ratio_is_that_of_the_shortest_schedules_that_are_good_enough() -> None:
    found = [
        row("default", 1, 70.0),
        row("default", 2, 90.0),
        row("default", 4, 95.0),
        row("independent", 10, 85.0),
        row("independent", 20, 89.95),
        row("independent", 40, 90.0),
        row("fitnet", 10, 60.0),
        row("fitnet", 20, 80.0),
    ]
    summary = {one["method"]: one for one in table3.convergence(found)}
    assert summary["independent"]["iterations"] == 200, "40 epochs are no better than 20, within the tolerance"
    assert summary["independent"]["speedup"] == 1
    assert (summary["default"]["iterations"], summary["default"]["speedup"]) == (20, 10)
    assert summary["fitnet"]["iterations"] is None and summary["fitnet"]["speedup"] is None
    assert summary["fitnet"]["all"] == 80.0


def test_without_the_independent_student_there_is_nothing_to_compare_with() -> None:
    assert table3.convergence([row("default", 1, 70.0)]) == []


def test_no_training_image_decides(tmp_path: Path) -> None:
    """The teacher has learned all of them: what it says of them flatters whoever listens."""
    setting = toy.setting("table3", toy.teacher(tmp_path), tmp_path)
    (cell,) = (one for one in table3.cells(setting) if one.method == "default-1ep")
    done, _ = cells.measure(setting, [cell], lambda line: None)
    (found,) = table.rows(table3.TABLE, done)
    data = setting.dataset
    recipe = table3._recipe(setting, compression.budgets(setting)[0], "default", 1, 0)
    net = compression.trained(setting, data, recipe, silent).net
    said = compression.predictions(net, setting, data)
    assert found["all"] == pytest.approx(100 * (said == data.test_targets).mean(), abs=0.01)


def test_every_way_is_measured_with_every_length(tmp_path: Path) -> None:
    setting = toy.setting("table3", toy.teacher(tmp_path), tmp_path / "cache")
    done, _ = cells.measure(setting, table3.cells(setting), lambda line: None)
    assert not [one.error for one in done if one.error]
    rows = {one["method"]: one for one in table.rows(table3.TABLE, done)}
    assert set(rows) == {
        name
        for way in ("default", "inherited-half", "independent-half", "fitnet-half")
        for name in (f"{way}-1ep", f"{way}-2ep", way)
    }
    assert rows["default-2ep"]["iterations"] == 20, "160 images: ten batches of 16"
    assert rows["independent-half"]["speedup"] == 1
