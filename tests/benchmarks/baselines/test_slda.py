from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.baselines.old_images import features, plain_statistics
from benchmarks.baselines.slda import StreamingLda
from benchmarks.learner import judged, new_images
from benchmarks.setting import Setting
from benchmarks.students import Student
from tests.benchmarks import toy


def test_it_learns_without_forgetting(make_setting: Callable[..., Setting], shipped: Student) -> None:
    setting = make_setting()
    learner = StreamingLda(setting, shipped)
    learner.learn("plain", new_images(setting, "plain", 0))
    found = judged(learner, toy.data(), ("plain",))
    assert found.old is not None and found.new is not None
    assert found.new > 50 and found.old > 50


def test_streaming_comes_to_the_mean_and_near_the_covariance_of_all_at_once(
    make_setting: Callable[..., Setting], shipped: Student
) -> None:
    setting = make_setting()
    images = new_images(setting, "plain", 0)
    learner = StreamingLda(setting, shipped)
    learner.learn("plain", images)
    rows = features(shipped.bundle, images).astype(np.float64)
    assert learner._means[3] == pytest.approx(rows.mean(axis=0), rel=1e-6)
    known = plain_statistics(setting, shipped.bundle)
    count = int(known.counts.sum())
    scatter = np.average(known.covariances.astype(np.float64), axis=0, weights=known.counts) * count
    scatter += (rows - rows.mean(axis=0)).T @ (rows - rows.mean(axis=0))
    whole = scatter / (count + len(rows) - 1)
    assert np.linalg.norm(learner._covariance - whole) < 0.1 * np.linalg.norm(whole)
