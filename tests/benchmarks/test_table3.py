from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import cells, table, table3
from tests.benchmarks import toy


def row(way: str, epochs: int, validation: float) -> dict[str, Any]:
    name = f"{way}-{epochs}ep"
    return {
        "method": name,
        "size": "s",
        "way": way,
        "epochs": epochs,
        "iterations": 10 * epochs,
        "validation": validation,
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
    assert summary["fitnet"]["validation"] == 80.0


def test_without_the_independent_student_there_is_nothing_to_compare_with() -> None:
    assert table3.convergence([row("default", 1, 70.0)]) == []


def test_the_validation_images_are_no_training_images_and_no_test_images(tmp_path: Path) -> None:
    data = toy.setting("table3", toy.teacher(tmp_path), tmp_path).dataset
    held = data.validated(table3.HELD, 0)
    train = {image.tobytes() for image in held.train_images}
    assert len(held.test_images) == 16 and not train & {image.tobytes() for image in held.test_images}
    assert len(held.train_images) + len(held.test_images) == len(data.train_images)


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
    # 144 images are left to train on: nine batches of 16.
    assert rows["default-2ep"]["iterations"] == 18
    assert rows["independent-half"]["speedup"] == 1
