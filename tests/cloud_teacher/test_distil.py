from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cloud_teacher.datasets import Dataset
from cloud_teacher.distil import (
    FEATURES_WEIGHT,
    SHALLOW_FEATURES_WEIGHT,
    CompressionError,
    Recipe,
    choose,
    distil,
    features_weight,
    mixes,
    narrowed,
)
from cloud_teacher.progress import silent
from cloud_teacher.teacher_outputs import TeacherOutputs
from cloud_teacher.train import Schedule
from cloud_teacher.zoo import Teacher
from transfer.blueprint import macs, parameters
from transfer.pruning import shrunk_spec
from transfer.questions import to_tensor

KNOWN = ("across", "down", "red")
SCHEDULE = Schedule(epochs=4, batch_size=16, learning_rate=0.05)


def test_the_student_keeps_the_last_blocks_at_full_width(teacher: Teacher, dataset: Dataset) -> None:
    chosen = choose(teacher, dataset.train_images, Recipe(KNOWN, SCHEDULE))
    assert chosen.blocks == ((1,), (1,), (1,))
    assert [len(out) for out in chosen.out] == [8, 12, 16]


def test_widths_by_threshold_or_by_parameters(teacher: Teacher, dataset: Dataset) -> None:
    full = parameters(shrunk_spec(teacher.spec, choose(teacher, dataset.train_images, Recipe(KNOWN, SCHEDULE))))
    pruned = choose(teacher, dataset.train_images, Recipe(KNOWN, SCHEDULE, threshold=0.5))
    assert parameters(shrunk_spec(teacher.spec, pruned)) < full
    small = choose(teacher, dataset.train_images, Recipe(KNOWN, SCHEDULE, most_parameters=full // 2))
    assert parameters(shrunk_spec(teacher.spec, small)) <= full // 2


def test_channels_by_gradient_fill_a_limit_on_the_whole_network(teacher: Teacher, dataset: Dataset) -> None:
    by_size = Recipe(KNOWN, SCHEDULE, depth=2, most_parameters=6_000, score="gradient")
    small = shrunk_spec(teacher.spec, choose(teacher, dataset.train_images, by_size))
    assert 5_500 < parameters(small) <= 6_000
    assert len({block.mid / block.out for blocks in small.groups for block in blocks}) > 1  # not all by the same share
    by_macs = replace(by_size, most_parameters=None, most_macs=500_000)
    assert 450_000 < macs(shrunk_spec(teacher.spec, choose(teacher, dataset.train_images, by_macs)), 16, 16) <= 500_000


def test_a_threshold_gives_the_gradient_its_size(teacher: Teacher, dataset: Dataset) -> None:
    paper = Recipe(KNOWN, SCHEDULE, depth=2, threshold=0.5)
    by_zeros = choose(teacher, dataset.train_images, paper)
    by_gradient = choose(teacher, dataset.train_images, replace(paper, score="gradient"))
    most = parameters(shrunk_spec(teacher.spec, by_zeros))
    assert 0.9 * most < parameters(shrunk_spec(teacher.spec, by_gradient)) <= most and by_gradient != by_zeros


def test_a_size_is_asked_for_in_one_way(teacher: Teacher, dataset: Dataset) -> None:
    with pytest.raises(CompressionError, match="in one way"):
        choose(teacher, dataset.train_images, Recipe(KNOWN, SCHEDULE, threshold=0.9, most_macs=1_000_000))


def test_a_student_learns_what_its_teacher_says_of_a_category_it_is_never_shown(
    teacher: Teacher, dataset: Dataset, tmp_path: Path
) -> None:
    """It looks at images of three categories only, yet its fourth logit follows the teacher's."""
    recipe = Recipe(KNOWN, SCHEDULE)
    data = dataset.only(KNOWN)
    rows = np.arange(len(data.train_images))
    student = distil(teacher, data, rows, choose(teacher, data.train_images, recipe), recipe, tmp_path, silent)
    with torch.no_grad():
        mine = student(to_tensor(data.test_images, teacher.input)).logits.numpy()
    theirs = teacher.logits(data.test_images)
    unseen = teacher.labels.index("plain")
    assert np.corrcoef(mine[:, unseen], theirs[:, unseen])[0, 1] > 0.8
    assert (mine.argmax(axis=1) == theirs.argmax(axis=1)).mean() > 0.9


def test_narrowing_keeps_the_rows_of_the_known_categories(teacher: Teacher, dataset: Dataset) -> None:
    images = to_tensor(dataset.test_images[:5], teacher.input)
    with torch.no_grad():
        narrow, wide = narrowed(teacher.net, [2, 0])(images).logits, teacher.net(images).logits
    assert torch.allclose(narrow, wide[:, [2, 0]], atol=1e-4)


def test_every_image_of_a_batch_of_judges_counts(teacher: Teacher, dataset: Dataset) -> None:
    """The judges come from all over the images: the order of categories must not decide."""
    shuffled = dataset.train_images[np.random.default_rng(0).permutation(len(dataset.train_images))]
    recipe = Recipe(KNOWN, SCHEDULE, threshold=0.7)
    ordered = shrunk_spec(teacher.spec, choose(teacher, dataset.train_images, recipe))
    mixed = shrunk_spec(teacher.spec, choose(teacher, shuffled, recipe))
    assert parameters(ordered) == pytest.approx(parameters(mixed), rel=0.15)


def test_a_student_much_shallower_than_its_teacher_need_not_have_its_feature() -> None:
    resnet56, wrn28 = [[16] * 9, [32] * 9, [64] * 9], [[160] * 4] * 3
    assert [features_weight(resnet56, depth) for depth in (1, 2)] == [SHALLOW_FEATURES_WEIGHT] * 2
    assert features_weight(resnet56, 3) == features_weight(wrn28, 1) == FEATURES_WEIGHT
    assert features_weight(resnet56, (2, 3, 1)) == FEATURES_WEIGHT


def test_what_the_feature_counts_decides_the_training_and_its_name(
    teacher: Teacher, dataset: Dataset, tmp_path: Path
) -> None:
    """A checkpoint of another weight must not be gone on with; the usual weight does not change older names."""
    recipe = replace(Recipe(KNOWN, SCHEDULE), schedule=replace(SCHEDULE, epochs=1))
    other = replace(recipe, features_weight=0.0)
    assert "features_weight" not in repr(recipe) and "features_weight=0.0" in repr(other) and "known=" in repr(recipe)
    data = dataset.only(KNOWN)
    rows, chosen = np.arange(len(data.train_images)), choose(teacher, data.train_images, recipe)
    with_it, without = (distil(teacher, data, rows, chosen, each, tmp_path, silent) for each in (recipe, other))
    assert any(not torch.equal(a, b) for a, b in zip(with_it.parameters(), without.parameters(), strict=True))


def test_mixed_views_teach_something_else_and_have_no_label(
    teacher: Teacher, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(Recipe(KNOWN, SCHEDULE), schedule=replace(SCHEDULE, epochs=2))
    data = dataset.only(KNOWN)
    rows, chosen = np.arange(len(data.train_images)), choose(teacher, data.train_images, recipe)

    def taught(each: Recipe) -> list[torch.Tensor]:
        return [part.detach() for part in distil(teacher, data, rows, chosen, each, tmp_path, silent).parameters()]

    def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
        return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

    mixed, unmixed = taught(recipe), taught(replace(recipe, mixed=False))
    assert not same(mixed, unmixed)
    # The first view is the image itself, and the only one with a label: without labels the first epoch differs.
    wrong = replace(data, train_targets=(data.train_targets + 1) % len(KNOWN))
    one = replace(recipe, schedule=replace(SCHEDULE, epochs=1))
    monkeypatch.setattr("cloud_teacher.distil.LABELS_WEIGHT", 10.0)
    first = (
        distil(teacher, data, rows, chosen, one, None, silent),
        distil(teacher, wrong, rows, chosen, one, None, silent),
    )
    assert not same(*([*net.parameters()] for net in first))
    monkeypatch.setattr(TeacherOutputs, "mixes", lambda self, index: True)
    second = (
        distil(teacher, data, rows, chosen, one, None, silent),
        distil(teacher, wrong, rows, chosen, one, None, silent),
    )
    assert same(*([*net.parameters()] for net in second))


def test_mixtures_are_asked_about_where_the_teacher_knows_more_than_it_shows() -> None:
    recipe = Recipe(KNOWN, SCHEDULE)
    assert mixes(recipe, (*KNOWN, "plain")) and not mixes(recipe, KNOWN) and not mixes(recipe, KNOWN[::-1])
    for field in ({"mixed": False}, {"taught": "known"}, {"taught": "labels"}):
        assert not mixes(replace(recipe, **field), (*KNOWN, "plain"))
    assert "mixed" not in repr(recipe) and "mixed=False" in repr(replace(recipe, mixed=False))


def test_labels_alone_know_no_mixtures(teacher: Teacher, dataset: Dataset, tmp_path: Path) -> None:
    recipe = replace(Recipe(KNOWN, SCHEDULE, taught="labels"), schedule=replace(SCHEDULE, epochs=1))
    data = dataset.only(KNOWN)
    rows, chosen = np.arange(len(data.train_images)), choose(teacher, data.train_images, recipe)
    for each in (recipe, replace(recipe, mixed=False)):
        distil(teacher, data, rows, chosen, each, tmp_path, silent)
    assert len(list(tmp_path.glob("checkpoint-*"))) == 1
