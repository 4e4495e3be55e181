"""A teacher that came to the device answers exactly as the one in the cloud would."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from tiny_world import NEW, World, images

from agent.job import JobError
from agent.trainer import home_teacher, inputs, teacher
from transfer import bundle
from transfer.bundle import BundleError, Pair
from transfer.spec import InputSpec


@pytest.fixture(autouse=True)
def few_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture
def job(world: World, tmp_path: Path) -> Path:
    job = world.job(tmp_path, images(NEW, 40, seed=4), tier="transfer")
    (job / "teacher").symlink_to(world.teacher)
    return job


def silent(done: int, total: int) -> None:
    pass


def test_at_home_and_in_the_cloud_the_answers_are_the_same(world: World, job: Path) -> None:
    home = teacher.at_home(inputs.read(job), silent)
    for number, rows in enumerate((slice(0, 32), slice(32, 40))):
        world.answer(job, rows, str(number))
    cloud = teacher.from_answers(inputs.read(job))
    assert home is not None and cloud is not None and home.labels == cloud.labels
    np.testing.assert_array_equal(home.logits, cloud.logits)
    for group in cloud.maps:
        np.testing.assert_array_equal(home.maps[group], cloud.maps[group])
        np.testing.assert_array_equal(home.residuals[group], cloud.residuals[group])


def test_it_reports_how_far_it_is(job: Path) -> None:
    told: list[tuple[int, int]] = []
    answers = home_teacher.ask(inputs.read(job), job / "teacher", lambda done, total: told.append((done, total)))
    assert told == [(0, 40), (32, 40), (40, 40)] and [len(a.sample_ids) for a in answers] == [32, 8]


def test_without_a_teacher_there_is_none(job: Path) -> None:
    (job / "teacher").unlink()
    assert teacher.at_home(inputs.read(job), silent) is None


def test_a_teacher_that_was_changed_is_refused(world: World, job: Path) -> None:
    (job / "teacher").unlink()
    shutil.copytree(world.teacher, job / "teacher")
    (job / "teacher" / bundle.WEIGHTS).write_bytes(b"other")
    with pytest.raises(BundleError):
        home_teacher.ask(inputs.read(job), job / "teacher", silent)


def test_a_teacher_of_another_size_is_refused(world: World, job: Path, tmp_path: Path) -> None:
    found = bundle.load(world.teacher, trusted=None)
    wide = InputSpec(32, 32, (0.5,) * 3, (0.25,) * 3)
    manifest = msgspec.structs.replace(found.manifest, input=wide, files={})
    bundle.save(tmp_path / "wide", manifest, {bundle.WEIGHTS: found.read(bundle.WEIGHTS)}, None)
    with pytest.raises(JobError, match="images of another size"):
        home_teacher.ask(inputs.read(job), tmp_path / "wide", silent)


def test_a_model_paired_with_a_block_that_there_is_not_is_refused(world: World, job: Path, tmp_path: Path) -> None:
    model = world.altered(tmp_path / "model", pairs=(Pair(0, 5, (0, 1, 2, 3)),))
    shutil.rmtree(job / "model")
    shutil.copytree(model, job / "model")
    with pytest.raises(JobError, match="the teacher has no block 5 in group 0"):
        home_teacher.ask(inputs.read(job), job / "teacher", silent)
