from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cloud_teacher.datasets import Dataset, DatasetError, default_cache, digits


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
