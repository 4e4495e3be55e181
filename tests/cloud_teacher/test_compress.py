from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_teacher.compress import Compressed, compress, divide, write_model
from cloud_teacher.datasets import Dataset, DatasetError
from cloud_teacher.distil import CompressionError, Recipe
from cloud_teacher.train import Schedule
from cloud_teacher.zoo import Teacher
from transfer import bundle, signing, tflite
from transfer.preprocess import normalise

KNOWN = ("across", "down", "red")
RECIPE = Recipe(KNOWN, Schedule(epochs=4, batch_size=16, learning_rate=0.05), holdout_per_class=5)


@pytest.fixture(scope="module")
def made(teacher: Teacher, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Compressed, str]:
    folder = tmp_path_factory.mktemp("student")
    key = signing.generate(folder / "key")
    student = compress(teacher, dataset, RECIPE, out_dir=folder / "bundle", key=key, cache_dir=folder / "cache")
    return student, signing.public_key_hex(key)


def test_the_bundle_is_signed_and_says_what_it_is(made: tuple[Compressed, str], teacher: Teacher) -> None:
    student, public = made
    loaded = bundle.load(student.directory, trusted=[public])
    manifest = loaded.manifest
    assert (manifest.kind, manifest.labels, manifest.teacher) == ("student", KNOWN, teacher.digest)
    assert manifest.dormant == ("plain",) and manifest.net.classes == 4
    assert not manifest.flip and loaded.digest == student.digest
    assert [(pair.group, pair.teacher_block) for pair in manifest.pairs] == [(0, 1), (1, 1), (2, 1)]
    for pair, blocks in zip(manifest.pairs, manifest.net.groups, strict=True):
        assert len(pair.channels) == blocks[-1].out


def test_the_student_knows_its_categories_and_finds_the_other_one_new(
    made: tuple[Compressed, str], dataset: Dataset
) -> None:
    student, _ = made
    assert student.accuracy >= 0.9
    loaded = bundle.load(student.directory, trusted=None)
    logits, feature = tflite.run(loaded.tflite_path.read_bytes(), normalise(dataset.test_images, dataset.input))
    known = dataset.test_targets < 3
    assert (logits.argmax(axis=1) == dataset.test_targets)[known].mean() >= 0.9
    statistics = loaded.statistics()
    limit = statistics.threshold(0.05)
    novel = statistics.novelty(feature) > limit
    assert novel[~known].mean() > novel[known].mean() + 0.5


def test_the_holdout_is_of_training_images_that_were_not_trained_on(
    made: tuple[Compressed, str], dataset: Dataset
) -> None:
    held = bundle.load(made[0].directory, trusted=None).holdout()
    assert held is not None
    images, targets = held
    assert np.bincount(targets).tolist() == [5, 5, 5]
    data = dataset.only(KNOWN)
    parts = divide(data.train_targets, 5)
    assert np.array_equal(images, data.train_images[parts.holdout])


@settings(deadline=None)
@given(st.lists(st.integers(5, 60), min_size=1, max_size=4), st.integers(0, 30))
def test_the_parts_are_disjoint_and_whole_and_each_has_every_category(sizes: list[int], held: int) -> None:
    targets = np.repeat(np.arange(len(sizes)), sizes)
    parts = divide(targets, held)
    rows = np.concatenate([parts.train, parts.calibration, parts.holdout])
    assert sorted(rows.tolist()) == list(range(len(targets)))
    for size, category in zip(sizes, range(len(sizes)), strict=True):
        assert (targets[parts.holdout] == category).sum() == min(held, size // 5)
        assert (targets[parts.calibration] == category).sum() >= 1
        assert (targets[parts.train] == category).sum() >= 2


def test_no_more_images_are_kept_from_training_than_calibration_needs() -> None:
    parts = divide(np.repeat([0, 1], [1000, 4000]), 0)
    assert np.bincount(np.repeat([0, 1], [1000, 4000])[parts.calibration]).tolist() == [100, 250]


def test_no_image_of_another_category_is_looked_at(teacher: Teacher, dataset: Dataset, tmp_path: Path) -> None:
    """The same student comes out when the images of the category it must not know are something else entirely."""
    poisoned = replace(dataset, train_images=dataset.train_images.copy(), test_images=dataset.test_images.copy())
    poisoned.train_images[dataset.train_targets == 3] = 255
    poisoned.test_images[dataset.test_targets == 3] = 255
    digests = {
        compress(teacher, data, RECIPE, out_dir=tmp_path / f"student-{index}").digest
        for index, data in enumerate((dataset, poisoned))
    }
    assert len(digests) == 1


def test_an_int8_model_is_smaller_and_its_statistics_are_its_own(
    teacher: Teacher, dataset: Dataset, tmp_path: Path, made: tuple[Compressed, str]
) -> None:
    student = compress(teacher, dataset, replace(RECIPE, quantise="dynamic_int8"), out_dir=tmp_path / "int8")
    small, large = (bundle.load(one.directory, trusted=None) for one in (student, made[0]))
    assert small.tflite_path.stat().st_size < large.tflite_path.stat().st_size
    assert not np.array_equal(small.statistics().means, large.statistics().means)


@pytest.mark.parametrize(("asked", "found"), [(None, 2), (0, 0), (1, 1), (4, 4)])
def test_the_feature_holds_an_earlier_maps_cells_and_the_student_says_the_same(
    teacher: Teacher, dataset: Dataset, made: tuple[Compressed, str], tmp_path: Path, asked: int | None, found: int
) -> None:
    cache = made[0].directory.parent / "cache"  # the training does not know of cells, and is there
    student = compress(teacher, dataset, replace(RECIPE, cells=asked), out_dir=tmp_path / "made", cache_dir=cache)
    net = student.manifest.net
    assert net.cells_a_side == found and student.accuracy == made[0].accuracy
    assert student.parameters == made[0].parameters
    loaded = bundle.load(student.directory, trusted=None)
    assert loaded.statistics().means.shape == (3, net.feature_width)


def test_cells_that_do_not_fit_are_refused(teacher: Teacher, dataset: Dataset, tmp_path: Path) -> None:
    recipe = replace(RECIPE, cells=3, schedule=replace(RECIPE.schedule, epochs=1))
    with pytest.raises(CompressionError, match="--cells 3: a map of"):
        compress(teacher, dataset, recipe, out_dir=tmp_path / "made")


def test_mistakes_are_refused_before_any_training(teacher: Teacher, dataset: Dataset, tmp_path: Path) -> None:
    def refused(says: str, data: Dataset = dataset, known: tuple[str, ...] = KNOWN) -> None:
        with pytest.raises((CompressionError, DatasetError), match=says):
            compress(teacher, data, replace(RECIPE, known=known), out_dir=tmp_path / "out")

    refused("no category zebra", known=("red", "zebra"))
    refused("at least two", known=("red",))
    refused("teacher does not know violet", replace(dataset, labels=("violet", *dataset.labels[1:])), ("violet", "red"))
    refused(r"teacher takes \(16, 16\)", replace(dataset, train_images=dataset.train_images[:, :8, :8]))
    (tmp_path / "out").mkdir()
    refused("exists already")


def test_a_model_that_does_not_compute_the_network_is_not_shipped(teacher: Teacher, dataset: Dataset) -> None:
    training = copy.deepcopy(teacher.net).train()  # by the statistics of each batch: nothing a model file can do
    with pytest.raises(tflite.MismatchError):
        write_model(training, teacher.input, dataset.train_images, "none")
