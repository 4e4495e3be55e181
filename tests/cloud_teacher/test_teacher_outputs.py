from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cloud_teacher.datasets import Dataset
from cloud_teacher.teacher_outputs import Said, TeacherOutputs
from cloud_teacher.train import Rows
from cloud_teacher.zoo import Teacher
from transfer.questions import to_tensor

ROWS = np.array([3, 50, 121], np.int64)


def prepared(
    teacher: Teacher, dataset: Dataset, cache: Path | None, views: int = 2, mixing: Rows | None = None
) -> tuple[TeacherOutputs, list[tuple[int, int]]]:
    told: list[tuple[int, int]] = []
    outputs = TeacherOutputs(teacher, dataset, cache, mixing)
    outputs.prepare(views, lambda done, total: told.append((done, total)))
    return outputs, told


def same(a: Said, b: Said) -> bool:
    return torch.equal(a.logits, b.logits) and torch.equal(a.features, b.features)


@pytest.mark.parametrize("mixes", [False, True])
def test_they_are_the_teachers_outputs_on_that_view(teacher: Teacher, dataset: Dataset, mixes: bool) -> None:
    mixing = np.arange(0, len(dataset.train_images), 2) if mixes else None
    rows = ROWS - ROWS % 2
    outputs = prepared(teacher, dataset, None, mixing=mixing)[0]
    said, seen = outputs.of(1, rows), outputs.pictures(1, rows)
    assert outputs.mixes(1) is mixes and not outputs.mixes(0)
    assert not np.array_equal(seen, dataset.train_images[rows])
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


def test_a_view_is_named_by_its_image_s_content(teacher: Teacher, dataset: Dataset) -> None:
    whole, part = (
        TeacherOutputs(teacher, dataset, None),
        TeacherOutputs(teacher, dataset.only(dataset.labels[1:3]), None),
    )
    rows = np.flatnonzero(np.isin(dataset.train_targets, (1, 2)))
    assert np.array_equal(whole.pictures(3, rows[:9]), part.pictures(3, np.arange(9)))
    assert np.array_equal(whole.pictures(0, ROWS), dataset.train_images[ROWS])


def test_only_rows_that_are_to_be_mixed_are_in_any_mixed_view(teacher: Teacher, dataset: Dataset) -> None:
    mixing = np.flatnonzero(dataset.train_targets < 2)
    data = replace(dataset, train_images=np.full_like(dataset.train_images, 255))
    data.train_images[mixing] = np.arange(len(mixing), dtype=np.uint8)[:, None, None, None] // 2
    outputs = prepared(teacher, data, None, mixing=mixing)[0]
    assert outputs.pictures(1, mixing).max() < 128 <= data.train_images.max()
    assert outputs.of(1, np.flatnonzero(dataset.train_targets == 2)).logits.abs().max() == 0


def test_mixed_views_are_cached_for_themselves(teacher: Teacher, dataset: Dataset, tmp_path: Path) -> None:
    mixing = np.arange(len(dataset.train_images))
    plain = prepared(teacher, dataset, tmp_path)[0]
    mixed = prepared(teacher, dataset, tmp_path, mixing=mixing)[0]
    assert same(mixed.of(0, ROWS), plain.of(0, ROWS)) and not same(mixed.of(1, ROWS), plain.of(1, ROWS))
    count = len(list(tmp_path.iterdir()))
    assert same(prepared(teacher, dataset, tmp_path, mixing=mixing)[0].of(1, ROWS), mixed.of(1, ROWS))
    assert len(list(tmp_path.iterdir())) == count
