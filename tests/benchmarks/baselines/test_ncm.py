from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.baselines.ncm import NearestMean
from benchmarks.learner import judged, new_images
from benchmarks.setting import Setting
from benchmarks.students import Student
from tests.benchmarks import toy


def test_it_learns_without_forgetting_and_its_means_lie_on_the_sphere(
    make_setting: Callable[..., Setting], shipped: Student
) -> None:
    setting = make_setting()
    learner = NearestMean(setting, shipped)
    before = judged(learner, toy.data(), ()).all
    learner.learn("plain", new_images(setting, "plain", 0))
    found = judged(learner, toy.data(), ("plain",))
    assert before is not None and found.old is not None and found.new is not None
    assert found.new > 50 and found.old > before - 30
    assert np.allclose(np.linalg.norm(learner._means, axis=1), 1, atol=1e-5)
    assert learner.labels[-1] == "plain" and learner.seconds > 0
