"""The teacher's answers, joined into the order of the job; anything that does not fit together is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_world import NEW, OLD, STUDENT_WIDTHS, World, images

from agent.job import JobError
from agent.trainer import inputs
from agent.trainer.teacher import from_answers
from transfer.wire import BlockWanted

LIME = images(NEW, 12, seed=4)


@pytest.fixture(autouse=True)
def few_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture
def job(world: World, tmp_path: Path) -> Path:
    return world.job(tmp_path, LIME, tier="transfer")


def refused(job: Path, says: str) -> None:
    with pytest.raises(JobError, match=says):
        from_answers(inputs.read(job))


def test_without_answers_there_is_no_teacher(job: Path) -> None:
    assert from_answers(inputs.read(job)) is None


def test_one_answer_holds_all_that_the_loss_needs(world: World, job: Path) -> None:
    world.answer(job)
    taught = from_answers(inputs.read(job))
    assert taught is not None
    assert taught.labels == (*OLD, NEW) and taught.logits.shape == (12, 2, 4)
    assert {group: maps.shape for group, maps in taught.maps.items()} == {
        group: (12, 2, width, 2, 2) for group, width in enumerate(STUDENT_WIDTHS)
    }
    assert {group: rest.shape for group, rest in taught.residuals.items()} == {0: (12, 2), 1: (12, 2), 2: (12, 2)}
    assert (taught.logits[:, 0].argmax(axis=1) == 3).all()


def test_answers_in_any_order_are_joined_in_the_order_of_the_job(world: World, job: Path) -> None:
    path = world.answer(job)
    whole = from_answers(inputs.read(job))
    path.unlink()
    world.answer(job, slice(8, 12), "a")
    world.answer(job, slice(0, 5), "z")
    world.answer(job, slice(5, 8), "m")
    parts = from_answers(inputs.read(job))
    assert whole is not None and parts is not None
    np.testing.assert_array_equal(parts.logits, whole.logits)
    for group in range(3):
        np.testing.assert_allclose(parts.maps[group], whole.maps[group], atol=1e-5)
        np.testing.assert_allclose(parts.residuals[group], whole.residuals[group], rtol=1e-5)


def test_a_missing_sample_is_named(world: World, job: Path) -> None:
    world.answer(job, slice(0, 10))
    refused(job, f"lack 2 samples, the first {inputs.read(job).job.sample_ids[10]}")


def test_damage_names_the_file(world: World, job: Path) -> None:
    path = world.answer(job)
    path.write_bytes(path.read_bytes()[:200])
    refused(job, r"a\.safetensors")


def test_answers_that_do_not_belong_together_are_refused(world: World, job: Path) -> None:
    world.answer(job, slice(0, 6), "a")
    world.answer(job, slice(6, 12), "b", views=range(3))
    refused(job, "answers are to different questions")
    world.answer(job, slice(6, 12), "b", blocks=())
    refused(job, "answers are to different questions")


@pytest.mark.parametrize(
    "blocks",
    [(BlockWanted(group=0, block=0, channels=(0, 1)),), (BlockWanted(group=2, block=0, channels=tuple(range(12))),)],
)
def test_maps_of_other_channels_than_the_models_are_refused(
    world: World, job: Path, blocks: tuple[BlockWanted, ...]
) -> None:
    world.answer(job, blocks=blocks)
    refused(job, "are not of the model's channels")
