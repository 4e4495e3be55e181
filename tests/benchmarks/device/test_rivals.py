"""The rivals really learn, each in its way, and say how long all of their epochs take."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from benchmarks.baselines.choice import Choice
from benchmarks.baselines.start import of_student, of_teacher
from benchmarks.device import rivals
from benchmarks.device.rivals import Task, fine_tuned, refitted, rilod_of
from benchmarks.learner import new_images
from benchmarks.setting import Setting
from benchmarks.students import Student
from tests.benchmarks import toy
from transfer.networks import weights_of


@pytest.fixture(autouse=True)
def few_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture
def task(make_setting: Callable[..., Setting], shipped: Student) -> Task:
    data = toy.data()
    kept = np.flatnonzero(data.train_targets < 3)[::4]
    images = new_images(make_setting(), "plain", 0)
    return Task(of_student(shipped), images, data.train_images[kept], data.train_targets[kept])


def right(predict: rivals.Predict) -> float:
    """On test images of all four kinds, of which `plain` is the last."""
    data = toy.data()
    return float((predict(data.test_images) == data.test_targets).mean())


def test_everything_is_the_new_images_and_the_stored_ones(task: Task) -> None:
    images, targets = task.everything
    assert len(images) == 16 + len(task.stored) and (targets[:16] == 3).all()
    assert np.array_equal(targets[16:], task.stored_targets)


def test_fine_tuning_learns_the_new_beside_the_old(task: Task) -> None:
    before = weights_of(task.start.net)
    learned = fine_tuned(task, rate=0.05, epochs=6)
    assert right(learned.predict) > 0.4  # of four kinds
    assert learned.epochs == 6 and learned.seconds > 0
    assert all(np.array_equal(array, before[name]) for name, array in weights_of(task.start.net).items())


def test_seconds_are_those_of_all_epochs(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([10.0, 13.0])
    monkeypatch.setattr(rivals.time, "perf_counter", lambda: next(ticks))
    assert fine_tuned(task, rate=0.05, epochs=2).seconds == 3.0 * rivals.EPOCHS / 2


def test_rilod_learns_from_the_new_images_alone(task: Task, shipped: Student) -> None:
    learned = rilod_of(task, shipped, Choice(rate=1e-2, weight=1.0), epochs=4)
    said = learned.predict(task.images)
    assert (said == 3).mean() > 0.9 and learned.epochs == 4


def test_refitting_leaves_the_network_as_it_was(task: Task) -> None:
    before = weights_of(task.start.net)
    learned = refitted(task)
    assert right(learned.predict) > 0.4 and learned.epochs == rivals.EPOCHS
    assert all(np.array_equal(array, before[name]) for name, array in weights_of(task.start.net).items())


def test_views_are_different_pictures_of_the_same_images(task: Task) -> None:
    first, second = (rivals._views(task.images, number, True) for number in (0, 1))
    assert np.array_equal(first, task.images) and first.shape == second.shape and not np.array_equal(first, second)


def test_a_larger_network_is_as_welcome(task: Task, shipped: Student) -> None:
    start = of_teacher(shipped)
    wider = Task(start, task.images, task.stored, task.stored_targets)
    learned = rilod_of(wider, shipped, Choice(rate=1e-3), epochs=1)
    assert set(learned.predict(task.images).tolist()) <= set(range(len(start.labels) + 1))
