from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import cells, table, table7
from cloud_teacher.zoo import Teacher
from tests.benchmarks import toy


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    return toy.teacher(tmp_path_factory.mktemp("teacher"))


def test_only_the_teachers_students_name_what_they_never_saw(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table7, "QUICK", replace(table7.QUICK, epochs=8, batch_size=16))
    setting = toy.setting("table7", teacher, tmp_path)
    done, _ = cells.measure(setting, table7.cells(setting), lambda line: None)
    assert not [one.error for one in done if one.error]
    rows = {row["method"]: row for row in table.rows(table7.TABLE, done)}
    assert "proxy-half" not in rows, "without --proxy there is nothing to measure"
    assert rows["independent-half"]["new"] < 10 and rows["fitnet-half"]["new"] < 10
    assert rows["default"]["new"] > 40 and rows["default"]["eight_way"] >= rows["default"]["new"]
    assert (rows["default"]["inherits"], rows["inherited-half"]["inherits"]) == ("no", "yes")
    assert rows["default"]["labels"] == "none" and rows["fitnet-half"]["labels"] == "of the two"
    assert rows["unbalanced-half"]["seconds"] == rows["default"]["seconds"], "the same training"


def test_a_folder_of_pictures_adds_variety_and_no_time(teacher: Teacher, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for number in range(5):
        pixels = random.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{number}.png")
    setting = toy.setting("table7", teacher, tmp_path / "cache", proxy=tmp_path / "pictures", only=("proxy-half",))
    asked: list[tuple[str, int]] = []

    def report(stage: str, done: int, total: int, detail: str = "") -> None:
        asked.append((stage, total))

    object.__setattr__(setting, "report", report)
    done, _ = cells.measure(setting, table7.cells(setting), lambda line: None)
    row = table.rows(table7.TABLE, done)[0]
    assert row["method"] == "proxy-half" and "error" not in row
    assert ("read pictures", 5) in asked
    # 80 images and 40 parts of pictures, once (1.3 passes would be as many views as 2 of the 80): 3 batches of 32.
    assert ("train student", 3) in asked
