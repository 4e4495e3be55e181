from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_teacher.datasets import Dataset, DatasetError, default_cache, digits, split
from transfer.preprocess import normalise


@pytest.fixture(scope="module")
def scans() -> Dataset:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    return digits()


def test_digits_are_1797_scans_of_which_a_quarter_of_each_is_for_testing(scans: Dataset) -> None:
    assert len(scans.train_images) + len(scans.test_images) == 1797
    assert scans.train_images.shape[1:] == (32, 32, 3) and scans.train_images.dtype == np.uint8
    share = np.bincount(scans.test_targets) / np.bincount(np.concatenate([scans.train_targets, scans.test_targets]))
    assert share.min() > 0.23 and share.max() <= 0.25
    assert not scans.flip


def test_digits_are_normalised_by_what_was_measured(scans: Dataset) -> None:
    pixels = np.concatenate([scans.train_images, scans.test_images]) / 255
    assert scans.input.mean[0] == pytest.approx(pixels.mean(), abs=1e-3)
    assert scans.input.std[0] == pytest.approx(pixels.std(), abs=1e-3)


def test_the_split_depends_on_the_seed_alone(scans: Dataset) -> None:
    again, other = digits(), digits(seed=1)
    assert again.fingerprint == scans.fingerprint != other.fingerprint
    assert np.array_equal(again.test_images, scans.test_images)


def test_only_gives_images_of_these_categories_and_no_others(dataset: Dataset) -> None:
    some = dataset.only(["red", "across"])
    assert some.labels == ("across", "red")
    for kept, before in ((some.train_images, dataset.train_images), (some.test_images, dataset.test_images)):
        assert len(kept) == len(before) // 2
    assert np.array_equal(some.train_images[some.train_targets == 1], dataset.train_images[dataset.train_targets == 2])


def test_an_unknown_category_is_named(dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match=r"no category zebra; it has across, down"):
        dataset.only(["red", "zebra"])


def test_fingerprints_tell_training_sets_apart(dataset: Dataset) -> None:
    assert dataset.only(["red", "across"]).fingerprint != dataset.only(["red", "down"]).fingerprint


def test_the_cache_is_where_the_user_wants_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "understudy"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "understudy"


# ------------------------------------------------------------------------------------------------------------- splits


def test_45k_and_5k_by_seed() -> None:
    targets = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 5000))
    train, validation = split(targets, 5000, seed=0)
    assert (len(train), len(validation)) == (45_000, 5000)
    assert np.bincount(targets[validation]).tolist() == [500] * 10
    assert np.array_equal(np.sort(np.concatenate([train, validation])), np.arange(50_000))
    again, other = split(targets, 5000, seed=0)[1], split(targets, 0.1, seed=1)[1]
    assert np.array_equal(validation, again) and len(other) == 5000
    assert 300 < len(np.intersect1d(validation, other)) < 700, "another seed is another draw"


def test_the_split_never_changes() -> None:
    """What was chosen on a split stays true only as long as the split is the same: these rows are for ever."""
    assert split(np.repeat(np.arange(2), 8), 4, seed=0)[1].tolist() == [1, 7, 11, 12]


@settings(deadline=None)
@given(st.lists(st.integers(2, 30), min_size=1, max_size=6), st.floats(0.05, 0.95), st.integers(0, 5))
def test_every_category_gives_its_share(sizes: list[int], share: float, seed: int) -> None:
    targets = np.repeat(np.arange(len(sizes)), sizes)
    try:
        train, validation = split(targets, share, seed)
    except DatasetError:
        assert any(not 1 <= size * share <= size - 1 for size in sizes)
        return
    assert len(validation) == round(share * len(targets)) and not set(train) & set(validation)
    held = np.bincount(targets[validation], minlength=len(sizes))
    exact = np.array(sizes) * len(validation) / len(targets)
    assert (np.abs(held - exact) < 1).all() and (held > 0).all() and (held < sizes).all()


@pytest.mark.parametrize("held", [0, -1, 16, 0.0, 1.0])
def test_there_must_be_something_on_both_sides(held: float) -> None:
    with pytest.raises(DatasetError, match="cannot hold out"):
        split(np.repeat(np.arange(2), 8), held, seed=0)
    with pytest.raises(DatasetError, match="category number 1 with none"):
        split(np.array([0] * 100 + [1]), 10, seed=0)


def test_validation_never_sees_a_test_image(dataset: Dataset) -> None:
    data = dataset.validated(0.25, seed=0)
    assert (len(data.train_images), len(data.test_images)) == (120, 40)

    def contents(images: np.ndarray) -> set[bytes]:
        return {image.tobytes() for image in images}

    assert contents(data.train_images) | contents(data.test_images) == contents(dataset.train_images)
    assert not contents(data.test_images) & contents(dataset.test_images)
    assert data.fingerprint not in (dataset.fingerprint, dataset.validated(0.25, seed=1).fingerprint)


def test_standardised_per_image_is_another_input(dataset: Dataset) -> None:
    alone = dataset.standardised(per_image=True)
    assert alone.input.per_image and alone.fingerprint != dataset.fingerprint
    pixels = normalise(alone.train_images[:3], alone.input)
    assert np.allclose(pixels.mean(axis=(1, 2, 3)), 0, atol=1e-5) and np.allclose(
        pixels.std(axis=(1, 2, 3)), 1, atol=1e-4
    )
    assert alone.standardised(per_image=False).fingerprint == dataset.fingerprint
