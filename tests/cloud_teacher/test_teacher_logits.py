from __future__ import annotations

from pathlib import Path

import numpy as np

from cloud_teacher.datasets import Dataset
from cloud_teacher.teacher_logits import TeacherLogits, picture
from cloud_teacher.zoo import Teacher

ROWS = np.array([3, 50, 121], np.int64)


def prepared(
    teacher: Teacher, dataset: Dataset, cache: Path | None, index: int, rows: np.ndarray = ROWS
) -> tuple[np.ndarray, list[int]]:
    told: list[int] = []
    taught = TeacherLogits(teacher, dataset, rows, cache)
    taught.prepare(index, lambda done, total: told.append(done))
    return taught.of(index), told


def test_they_are_the_teachers_logits_of_that_view(teacher: Teacher, dataset: Dataset) -> None:
    logits, _ = prepared(teacher, dataset, None, 2)
    seen = np.stack([picture(dataset, int(row), 2) for row in ROWS])
    assert not np.array_equal(seen, dataset.train_images[ROWS])
    assert np.allclose(logits, teacher.logits(seen), atol=1e-5)


def test_the_teacher_is_asked_once(teacher: Teacher, dataset: Dataset, tmp_path: Path) -> None:
    first, told = prepared(teacher, dataset, tmp_path, 1)
    assert told == [0, 3]
    again, told = prepared(teacher, dataset, tmp_path, 1)
    assert told == [3] and np.array_equal(first, again)


def test_another_view_or_other_rows_are_asked_anew(teacher: Teacher, dataset: Dataset, tmp_path: Path) -> None:
    prepared(teacher, dataset, tmp_path, 1)
    assert prepared(teacher, dataset, tmp_path, 2)[1] == [0, 3]
    assert prepared(teacher, dataset, tmp_path, 1, ROWS + 1)[1] == [0, 3]


def test_a_damaged_cache_is_made_again(teacher: Teacher, dataset: Dataset, tmp_path: Path) -> None:
    first, _ = prepared(teacher, dataset, tmp_path, 0)
    (path,) = tmp_path.iterdir()
    for damage in (b"", path.read_bytes()[:100], b"x" * 200):
        path.write_bytes(damage)
        again, told = prepared(teacher, dataset, tmp_path, 0)
        assert told == [0, 3] and np.array_equal(first, again)
