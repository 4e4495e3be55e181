from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.judge import harmonic, measured, percent, served, truth_in
from benchmarks.students import Student
from tests.benchmarks import toy
from transfer.blueprint import macs, parameters
from transfer.spec import resnet_cifar

PERCENT = st.floats(0, 100)


@settings(deadline=None)
@given(PERCENT, PERCENT)
def test_harmonic_lies_between_the_smaller_and_twice_it(a: float, b: float) -> None:
    found = harmonic(a, b)
    assert found is not None
    assert min(a, b) - 1e-9 <= found <= min(2 * min(a, b), max(a, b)) + 1e-9


def test_harmonic_of_nothing() -> None:
    assert harmonic(None, 3.0) is None and harmonic(0.0, 0.0) == 0.0 and harmonic(0.0, 100.0) == 0.0
    assert percent(np.zeros(0, bool)) is None


def test_every_image_counts_once() -> None:
    spec = resnet_cifar(8, 3)
    truth = np.array([0, 0, 0, 1, 1, 1, 2, 2])
    said = np.array([0, 0, 1, 1, 1, 1, 2, 0])
    found = measured(said, truth, [2], spec=spec, side=(32, 32), seconds=1.5)
    assert (found.old, found.new, found.all) == (pytest.approx(500 / 6), 50.0, 75.0)
    assert (found.params, found.macs, found.seconds) == (parameters(spec), macs(spec, 32, 32), 1.5)


def test_truth_follows_the_labels_of_the_learner() -> None:
    data = toy.data()
    assert (truth_in(data, data.labels) == data.test_targets).all()
    truth = truth_in(data, ("plain", "across"))
    assert set(truth[data.test_targets == 3]) == {0} and set(truth[data.test_targets == 0]) == {1}
    assert set(truth[(data.test_targets == 1) | (data.test_targets == 2)]) == {-1}


def test_the_served_model_is_right_about_what_it_knows(shipped: Student) -> None:
    data = toy.data().only(shipped.bundle.manifest.labels)
    said = served(shipped.bundle, data.test_images)
    assert said.dtype == np.int64 and set(said) <= {0, 1, 2}
    assert (said == data.test_targets).mean() > 0.5
