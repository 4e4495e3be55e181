from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from cloud_teacher.datasets import Dataset
from cloud_teacher.distil import Recipe, choose
from cloud_teacher.train import Schedule
from cloud_teacher.unseen import Lesson, balanced_bias, distance, driven, follow
from cloud_teacher.zoo import Teacher
from transfer.networks import Network, Outputs, weights_of
from transfer.plan import Plan
from transfer.questions import to_tensor

SHOWN = ("across", "down")
LESSON = Lesson(Schedule(epochs=6, batch_size=16, learning_rate=0.05))


class Cut(Exception):
    """The power fails."""


@pytest.fixture(scope="module")
def chosen(teacher: Teacher, dataset: Dataset) -> Plan:
    return choose(teacher, dataset.only(SHOWN).train_images, Recipe(SHOWN, LESSON.schedule))


@pytest.fixture(scope="module")
def pictures(dataset: Dataset) -> np.ndarray:
    return dataset.only(SHOWN).train_images


def outputs(teacher: Teacher, dataset: Dataset) -> Outputs:
    with torch.no_grad():
        return teacher.net(to_tensor(dataset.test_images[:8], teacher.input))


def whole(teacher: Teacher) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(range(blocks[-1].out)) for blocks in teacher.spec.groups)


@pytest.mark.parametrize("kind", ["paper", "squares"])
@pytest.mark.parametrize("pairing", ["last", "per_batch"])
def test_there_is_no_distance_to_oneself(teacher: Teacher, dataset: Dataset, kind: str, pairing: str) -> None:
    lesson = replace(LESSON, distance=kind, pairing=pairing)
    same = outputs(teacher, dataset)
    assert float(distance(same, same, whole(teacher), lesson)) < 2e-3


def test_the_papers_distance_counts_the_channels_that_the_student_lacks(teacher: Teacher, dataset: Dataset) -> None:
    """A map without half of the channels is as far away as what is missing of it."""
    same = outputs(teacher, dataset)
    half = tuple(channels[::2] for channels in whole(teacher))
    thin = Outputs(
        same.logits,
        same.feature,
        [[block[:, list(kept)] for block in blocks] for blocks, kept in zip(same.blocks, half, strict=True)],
    )
    expected = torch.zeros(())
    for blocks, kept in zip(same.blocks, half, strict=True):
        padded = torch.zeros_like(blocks[-1])
        padded[:, list(kept)] = blocks[-1][:, list(kept)]
        units = [m / m.square().sum(dim=(1, 2, 3), keepdim=True).sqrt() for m in (padded, blocks[-1])]
        expected = expected + (units[0] - units[1]).square().sum(dim=(1, 2, 3)).sqrt().mean()
    assert float(distance(thin, same, half, LESSON)) == pytest.approx(float(expected), rel=1e-3)


def test_a_driven_view_holds_more_of_the_category_for_its_net_and_looks_nearly_the_same(
    teacher: Teacher, dataset: Dataset
) -> None:
    views = to_tensor(dataset.test_images[:32], teacher.input)
    wanted = torch.randint(0, 4, (32,), generator=torch.Generator().manual_seed(0))
    moved = driven(teacher.net, views, wanted)
    with torch.no_grad():
        before = functional.cross_entropy(teacher.net(views).logits, wanted, reduction="none")
        after = functional.cross_entropy(teacher.net(moved).logits, wanted)
    assert after < before.mean()
    lengths = (moved - views).square().mean(dim=(1, 2, 3)).sqrt()
    # A view that shows nothing but the category has no slope to go along.
    doubtful = before > 0.01
    assert doubtful.sum() > 16 and lengths[doubtful].numpy() == pytest.approx(0.03, rel=0.05)
    assert lengths.max() < 0.0315
    assert all(weight.grad is None for weight in teacher.net.parameters())


def test_the_bias_undoes_a_lean() -> None:
    theirs = 4 * torch.randn(4000, 5, generator=torch.Generator().manual_seed(0))
    lean = torch.tensor([2.0, -1.0, 0.5, 0.0, -1.5])
    assert torch.allclose(balanced_bias(theirs + lean, theirs), -lean, atol=0.02)


def test_a_category_that_the_teacher_never_names_leaves_the_bias_finite() -> None:
    theirs = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    theirs[:, 3] = -60
    assert torch.isfinite(balanced_bias(theirs, theirs)).all()


def test_it_learns_categories_that_it_is_never_shown(
    teacher: Teacher, dataset: Dataset, chosen: Plan, pictures: np.ndarray
) -> None:
    """From pictures of two categories, without their labels: the two others are recognised, too."""
    student = follow(teacher, pictures, chosen, replace(LESSON, schedule=replace(LESSON.schedule, epochs=12)))
    never = np.flatnonzero(np.isin(dataset.test_targets, [dataset.labels.index(n) for n in ("red", "plain")]))
    with torch.no_grad():
        said = student(to_tensor(dataset.test_images[never], teacher.input)).logits.argmax(dim=1).numpy()
    truth = [teacher.labels.index(dataset.labels[target]) for target in dataset.test_targets[never]]
    assert (said == np.array(truth)).mean() > 0.8


def test_a_cut_training_goes_on_and_ends_the_same(
    teacher: Teacher, chosen: Plan, pictures: np.ndarray, tmp_path: Path
) -> None:
    lesson = replace(LESSON, schedule=replace(LESSON.schedule, epochs=3))

    def cut(epochs: int, net: Network) -> None:
        if epochs == 2:
            raise Cut

    with pytest.raises(Cut):
        follow(teacher, pictures, chosen, lesson, cache_dir=tmp_path, after_epoch=cut)
    resumed: list[int] = []
    student = follow(
        teacher, pictures, chosen, lesson, cache_dir=tmp_path, after_epoch=lambda epochs, net: resumed.append(epochs)
    )
    straight = follow(teacher, pictures, chosen, lesson)
    assert resumed == [3]
    for name, weight in weights_of(straight).items():
        assert np.allclose(weights_of(student)[name], weight, atol=1e-5), name


def test_balanced_or_not_the_training_is_shared(
    teacher: Teacher, chosen: Plan, pictures: np.ndarray, tmp_path: Path
) -> None:
    lesson = replace(LESSON, schedule=replace(LESSON.schedule, epochs=1))
    trained: list[int] = []
    plain, balanced = (
        follow(
            teacher,
            pictures,
            chosen,
            replace(lesson, balance=balance),
            cache_dir=tmp_path,
            after_epoch=lambda epochs, net: trained.append(epochs),
        )
        for balance in (False, True)
    )
    assert trained == [1]
    assert np.array_equal(weights_of(plain)["linear.weight"], weights_of(balanced)["linear.weight"])
    assert not np.allclose(weights_of(plain)["linear.bias"], weights_of(balanced)["linear.bias"])
