from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.baselines.old_images import features, plain_statistics, trained_on
from benchmarks.setting import Setting
from benchmarks.students import Student
from cloud_teacher.compress import divide
from tests.benchmarks import toy


def test_only_images_that_the_student_was_trained_on_come_in_its_labels_order(
    make_setting: Callable[..., Setting], shipped: Student
) -> None:
    known = ("red", "across")
    images, targets = trained_on(make_setting(), known, 3, "x")
    assert targets.tolist() == [1, 1, 1, 0, 0, 0]
    data = toy.data().only(known)
    parts = divide(data.train_targets, make_setting().plan.holdout_per_class)
    trained = {data.train_images[row].tobytes() for row in parts.train}
    assert all(image.tobytes() in trained for image in images)


def test_statistics_are_of_features_as_they_are_and_found_again(
    make_setting: Callable[..., Setting], shipped: Student
) -> None:
    setting = make_setting()
    first, again = (plain_statistics(setting, shipped.bundle) for _ in range(2))
    assert first.labels == shipped.bundle.manifest.labels and first.power == 1.0
    assert np.array_equal(first.means, again.means)
    images, targets = trained_on(setting, first.labels, 1000, "statistics")
    mean = features(shipped.bundle, images)[targets == 1].mean(axis=0)
    assert np.allclose(first.means[1], mean, rtol=1e-4, atol=1e-5)
