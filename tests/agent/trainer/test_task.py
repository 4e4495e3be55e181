"""Views are those that the teacher saw, and are told as what their sample is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from tiny_world import NEW, World, images, ready

from agent.trainer import teacher
from agent.trainer.inputs import UNLABELLED, Inputs
from agent.trainer.task import task_of
from transfer.preprocess import normalise
from transfer.views import view


def test_views_are_those_that_the_teacher_saw(prepared: Callable[..., Inputs]) -> None:
    read = prepared("transfer", asked=True, views=3)
    task = task_of(read, teacher.from_answers(read))
    assert len(task) == 54 and task.numbers.tolist() == [0, 1, 2] * 18
    assert set(task.rows.tolist()) == set(np.flatnonzero(read.train).tolist())
    batch = np.array([7, 3, 0])
    wanted = [
        view(read.images[row], read.job.sample_ids[row], int(number))
        for row, number in zip(task.rows[batch], task.numbers[batch], strict=True)
    ]
    np.testing.assert_array_equal(task.images(batch), wanted)
    np.testing.assert_array_equal(task.images(np.flatnonzero(task.numbers == 0)), read.images[read.train])


def test_without_a_teacher_there_are_as_many_views_as_the_job_says(prepared: Callable[..., Inputs]) -> None:
    assert len(task_of(prepared("sparse", views=4), None)) == 4 * 18


def test_a_network_takes_them_normalised_and_channels_first(prepared: Callable[..., Inputs]) -> None:
    read = prepared("sparse")
    task, batch = task_of(read, None), np.array([2, 5])
    wanted = normalise(task.images(batch), read.model.manifest.input)
    np.testing.assert_array_equal(task.tensor(batch).numpy(), wanted.transpose(0, 3, 1, 2))


def test_each_view_is_told_as_what_its_sample_is(world: World, tmp_path: Path) -> None:
    pictures = np.concatenate([images(NEW, 24, seed=4), images("teal", 12, seed=4)])
    read = ready(world.job(tmp_path, pictures, tier="sparse"), [3] * 24 + [UNLABELLED] * 12)
    task = task_of(read, None)
    np.testing.assert_array_equal(task.targets, np.where(task.rows < 24, 3, UNLABELLED))
    assert set(task.rows.tolist()) == {*np.flatnonzero(read.of(3)).tolist(), *range(24, 36)}  # none of those judges
