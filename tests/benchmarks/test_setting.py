from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.setting import Setting, SettingError, drawn, first_of_each, subset
from cloud_teacher.zoo import Teacher
from tests.benchmarks import toy


def test_a_subset_holds_as_many_of_each(make_setting: Callable[..., Setting]) -> None:
    data = subset(toy.data(), 7, 3)
    assert np.bincount(data.train_targets).tolist() == [7] * 4 and np.bincount(data.test_targets).tolist() == [3] * 4
    whole = subset(toy.data(), None, None)
    assert (whole.train_images == toy.data().train_images).all()


def test_drawing_depends_on_the_salt_alone() -> None:
    rows = np.arange(100, 200)
    assert drawn(rows, 10, "a").tolist() == drawn(rows, 10, "a").tolist() != drawn(rows, 10, "b").tolist()
    assert set(drawn(rows, 500, "a")) == set(rows)
    chosen = first_of_each(np.array([1, 0, 1, 1]), 2, "x").tolist()
    assert len(chosen) == 3 and 1 in chosen and chosen == sorted(chosen)


def test_the_new_category_is_the_last_and_a_wrong_one_is_said_to_be(make_setting: Callable[..., Setting]) -> None:
    assert make_setting().new_category == make_setting(new="red").new_category == "plain"
    assert make_setting().known_without("red") == ("across", "down", "plain")
    with pytest.raises(SettingError, match="--new zebra: stripes has across, down"):
        _ = make_setting(new="zebra").new_category


def test_a_teacher_of_something_else_is_refused(knowing: Teacher, tmp_path: Path) -> None:
    assert knowing.bundle_dir is not None
    setting = Setting("table4", tmp_path, teacher_path=knowing.bundle_dir, quick=True, threads=1)
    with pytest.raises(SettingError, match="does not know eight, five, four"):
        setting.open()


def test_a_missing_teacher_is_trained_once(make_setting: Callable[..., Setting], knowing: Teacher) -> None:
    setting = make_setting()
    data = setting.dataset.only(("across", "red"))
    first = setting.trained_teacher(data, knowing.spec)
    again = setting.trained_teacher(data, knowing.spec)
    assert first.labels == ("across", "red") and first.digest == again.digest
    assert first.bundle_dir == again.bundle_dir


def test_only_names_methods_with_or_without_what_follows(make_setting: Callable[..., Setting]) -> None:
    setting = make_setting(only=("default",))
    assert setting.wants("default") and setting.wants("default cat") and not setting.wants("default-t9")
    assert make_setting().wants("anything")
