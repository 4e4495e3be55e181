"""A student from a folder of pictures, no label anywhere: what it knows is by its teacher's word."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cloud_teacher.compress import Compressed
from cloud_teacher.datasets import Dataset, DatasetError
from cloud_teacher.distil import CompressionError, Recipe
from cloud_teacher.progress import silent
from cloud_teacher.train import Schedule
from cloud_teacher.without_labels import FEWEST, MADE_BY, compress_unlabelled, name_pictures
from cloud_teacher.zoo import Teacher
from transfer import bundle, tflite
from transfer.preprocess import normalise

SCHEDULE = Schedule(epochs=8, batch_size=16, learning_rate=0.05)


@pytest.fixture(scope="module")
def made(teacher: Teacher, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Compressed:
    """Knows three of four: the fourth is dormant."""
    recipe = Recipe(("red", "across", "down"), SCHEDULE, holdout_per_class=3)
    out = tmp_path_factory.mktemp("student") / "bundle"
    return compress_unlabelled(teacher, dataset.train_images, recipe, out_dir=out)


def test_the_bundle_says_whose_word_it_is_by(made: Compressed, teacher: Teacher) -> None:
    manifest = bundle.load(made.directory, trusted=None).manifest
    assert manifest.labels == ("across", "down", "red") and manifest.dormant == ("plain",)
    assert manifest.made_by == MADE_BY and "the teacher's word" in MADE_BY
    assert manifest.teacher == teacher.digest and manifest.net.classes == 4 and manifest.pairs


def test_it_knows_what_nobody_told_it(made: Compressed, dataset: Dataset) -> None:
    """All ten logits and the class statistics, by labels that were never used to make them."""
    loaded = bundle.load(made.directory, trusted=None)
    order = [(*loaded.manifest.labels, *loaded.manifest.dormant).index(label) for label in dataset.labels]
    logits, feature = tflite.run(loaded.read(bundle.MODEL), normalise(dataset.test_images, dataset.input))
    assert (logits[:, order].argmax(axis=1) == dataset.test_targets).mean() > 0.9
    known = dataset.test_targets < 3
    assert (loaded.statistics().posterior(feature).argmax(axis=1) == dataset.test_targets)[known].mean() > 0.8
    assert made.accuracy > 0.8


def test_what_is_held_out_is_of_known_categories_by_the_teachers_word(made: Compressed, teacher: Teacher) -> None:
    held = bundle.load(made.directory, trusted=None).holdout()
    assert held is not None and np.bincount(held[1]).tolist() == [3, 3, 3]
    said = [teacher.labels[index] for index in teacher.logits(held[0]).argmax(axis=1)]
    assert said == [made.manifest.labels[target] for target in held[1]]


def test_a_picture_has_one_use(teacher: Teacher, dataset: Dataset) -> None:
    """Set apart to compare by, or to make statistics of; what the teacher is not sure about is neither."""
    unsure = np.full((5, 16, 16, 3), 128, np.uint8)
    unsure[:, :, :, 0] = np.linspace(128, 160, 5)[:, None, None]
    pictures = np.concatenate([dataset.train_images, unsure])
    named = name_pictures(teacher, pictures, teacher.labels, 0, silent)
    assert not set(named.rows) & set(named.apart)
    assert np.array_equal(named.data.train_images, pictures[named.rows])
    assert np.array_equal(named.data.test_images, pictures[named.apart])
    logits = teacher.logits(pictures)
    probability = np.exp(logits - logits.max(axis=1, keepdims=True))
    sure = 1 / probability.sum(axis=1) >= 0.9
    assert set(named.rows) | set(named.apart) == set(np.flatnonzero(sure).tolist())


def test_a_category_that_hardly_any_picture_shows_is_named_with_what_to_do(teacher: Teacher, dataset: Dataset) -> None:
    few = dataset.only(("across", "down", "red")).train_images
    with pytest.raises(DatasetError, match=rf"fewer than {FEWEST} for each of: plain \(\d+\). Add pictures .*--known"):
        name_pictures(teacher, few, teacher.labels, 0, silent)
    assert name_pictures(teacher, few, ("across", "red"), 0, silent).data.labels == ("across", "red")


def test_mistakes_are_refused_before_any_training(teacher: Teacher, dataset: Dataset, tmp_path: Path) -> None:
    def refused(says: str, known: tuple[str, ...]) -> None:
        recipe = replace(Recipe(known, SCHEDULE), holdout_per_class=3)
        with pytest.raises(CompressionError, match=says):
            compress_unlabelled(teacher, dataset.train_images, recipe, out_dir=tmp_path / "out")

    refused("no category zebra; it has across", ("zebra", "red"))
    refused("at least two", ("red", "red"))
    (tmp_path / "out").mkdir()
    refused("exists already", ("red", "across"))
