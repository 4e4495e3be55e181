from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.baselines.start import grown, of_student, of_teacher, outputs
from benchmarks.learner import new_images
from benchmarks.setting import Setting
from benchmarks.students import Student
from transfer.networks import weights_of


@pytest.mark.parametrize("row", ["mean feature", "chance"])
def test_growing_adds_a_row_and_changes_nothing_else(
    make_setting: Callable[..., Setting], shipped: Student, row: str
) -> None:
    start, images = of_student(shipped), new_images(make_setting(), "plain", 0)
    net = grown(start, images, row, 0)
    before, after = weights_of(start.net), weights_of(net)
    assert after["linear.weight"].shape == (4, before["linear.weight"].shape[1])
    for name, array in before.items():
        # Of the last layer, the rows of the labels: dormant ones know too much for a baseline.
        kept = len(start.labels) if name.startswith("linear") else len(array)
        assert np.array_equal(array[:kept], after[name][:kept])
    fresh = after["linear.weight"][3]
    mean = outputs(start.net, images, start.input)[1].numpy().mean(axis=0)[: len(fresh)]
    cosine = float(fresh @ mean / np.linalg.norm(fresh) / np.linalg.norm(mean))
    assert (cosine > 0.999) == (row == "mean feature")


def test_the_teacher_can_be_begun_with_too(shipped_t9: Student) -> None:
    start = of_teacher(shipped_t9)
    assert start.labels == ("across", "down", "red") and start.net is not shipped_t9.teacher.net
    assert start.net.spec == shipped_t9.teacher.spec
