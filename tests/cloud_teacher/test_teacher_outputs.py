from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from cloud_teacher.datasets import Dataset
from cloud_teacher.teacher_outputs import Said, TeacherOutputs, picture
from cloud_teacher.zoo import Teacher
from transfer.questions import to_tensor

ROWS = np.array([3, 50, 121], np.int64)


def prepared(
    teacher: Teacher, dataset: Dataset, cache: Path | None, views: int = 2
) -> tuple[TeacherOutputs, list[tuple[int, int]]]:
    told: list[tuple[int, int]] = []
    outputs = TeacherOutputs(teacher, dataset, cache)
    outputs.prepare(views, lambda done, total: told.append((done, total)))
    return outputs, told


def same(a: Said, b: Said) -> bool:
    return torch.equal(a.logits, b.logits) and torch.equal(a.features, b.features)


def test_they_are_the_teachers_outputs_on_that_view(teacher: Teacher, dataset: Dataset) -> None:
    said = prepared(teacher, dataset, None)[0].of(1, ROWS)
    seen = np.stack([picture(image, 1, flip=dataset.flip) for image in dataset.train_images[ROWS]])
    assert not np.array_equal(seen, dataset.train_images[ROWS])
    with torch.no_grad():
        expected = teacher.net(to_tensor(seen, teacher.input))
    # bfloat16 keeps 8 bits.
    assert torch.allclose(said.logits, expected.logits, atol=0.03 * float(expected.logits.abs().max()))
    assert torch.allclose(said.features, expected.feature, atol=0.03 * float(expected.feature.abs().max()))


def test_progress_counts_all_images_of_all_views(teacher: Teacher, dataset: Dataset) -> None:
    told = prepared(teacher, dataset, None)[1]
    assert told == sorted(told) and told[-1] == (2 * len(dataset.train_images),) * 2


def test_the_teacher_is_asked_once_whichever_categories_a_student_knows(
    teacher: Teacher, dataset: Dataset, tmp_path: Path
) -> None:
    whole = prepared(teacher, dataset, tmp_path)[0]
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    few = dataset.only(dataset.labels[1:3])
    part = prepared(teacher, few, tmp_path)[0]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files
    rows = np.flatnonzero(np.isin(dataset.train_targets, (1, 2)))
    assert same(part.of(1, np.arange(len(rows))), whole.of(1, rows))


def test_a_damaged_cache_is_made_again(teacher: Teacher, dataset: Dataset, tmp_path: Path) -> None:
    first = prepared(teacher, dataset, tmp_path, views=1)[0].of(0, ROWS)
    path = sorted(tmp_path.iterdir())[0]
    for damage in (b"", path.read_bytes()[:100], b"x" * 200):
        path.write_bytes(damage)
        assert same(prepared(teacher, dataset, tmp_path, views=1)[0].of(0, ROWS), first)


def test_a_picture_is_named_by_its_content(dataset: Dataset) -> None:
    image = dataset.train_images[5]
    assert np.array_equal(picture(image.copy(), 3, flip=True), picture(image, 3, flip=True))
    assert np.array_equal(picture(image, 0, flip=True), image)
