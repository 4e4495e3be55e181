from __future__ import annotations

import hashlib
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_teacher.cifar import CIFAR10, CIFAR100, cifar10, cifar100, fetch, read_batch
from cloud_teacher.datasets import DatasetError

NAMES, FOLDER = CIFAR10.files, CIFAR10.folder
FINE = [b"fine_%d" % index for index in range(100)]


def batch(seed: int, n: int = 4) -> dict[bytes, object]:
    data = np.random.default_rng(seed).integers(0, 256, (n, 3072), np.uint8)
    return {
        b"batch_label": b"x",
        b"labels": [index % 10 for index in range(n)],
        b"data": data,
        b"filenames": [b"f"] * n,
    }


def write_all(folder: Path) -> None:
    folder.mkdir()
    for seed, name in enumerate(NAMES):
        (folder / name).write_bytes(pickle.dumps(batch(seed), protocol=3))


def write_hundred(folder: Path, names: object = FINE) -> None:
    """CIFAR-100's three files: its targets have another key, and it has the coarse ones too."""
    folder.mkdir()
    for seed, name in enumerate(("train", "test")):
        content = batch(seed)
        content[b"fine_labels"], content[b"coarse_labels"] = [99, 0, 41, 7], [1, 2, 3, 4]
        del content[b"labels"]
        (folder / name).write_bytes(pickle.dumps(content, protocol=3))
    meta = {b"fine_label_names": names, b"coarse_label_names": [b"c"] * 20}
    (folder / "meta").write_bytes(pickle.dumps(meta, protocol=3))


@pytest.mark.parametrize("inside", [True, False])
def test_cifar100_has_its_fine_labels_for_categories(tmp_path: Path, inside: bool) -> None:
    write_hundred(tmp_path / CIFAR100.folder)
    data = cifar100(tmp_path / CIFAR100.folder if inside else tmp_path, tmp_path / "cache")
    assert data.name == "cifar100" and data.labels[41] == "fine_41" and len(data.labels) == 100
    assert data.train_targets.tolist() == data.test_targets.tolist() == [99, 0, 41, 7]
    rows = np.asarray(batch(1)[b"data"]).reshape(4, 3, 32, 32)
    assert np.array_equal(data.test_images[3, :, :, 2], rows[3, 2])


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (None, "no list of names"),
        (FINE[:99], "not 100 different names"),
        ([*FINE[:99], FINE[0]], "not 100 different names"),
        ([*FINE[:99], 3], "no list of names"),
        ([*FINE[:99], b"\xff"], "no list of names"),
    ],
)
def test_names_that_are_no_names_are_refused(tmp_path: Path, names: object, says: str) -> None:
    write_hundred(tmp_path / CIFAR100.folder, names)
    with pytest.raises(DatasetError, match=says):
        cifar100(tmp_path, tmp_path / "cache")


def test_a_file_of_the_other_edition_is_refused(tmp_path: Path) -> None:
    write_hundred(tmp_path / CIFAR100.folder)
    write_all(tmp_path / FOLDER)
    with pytest.raises(DatasetError, match="`labels` are not one number from 0 to 9 "):
        read_batch(tmp_path / CIFAR100.folder / "test", CIFAR10)
    with pytest.raises(DatasetError, match="`fine_labels` are not one number from 0 to 99"):
        read_batch(tmp_path / FOLDER / "test_batch", CIFAR100)


@pytest.mark.parametrize("inside", [True, False])
def test_the_folder_or_its_parent_is_read(tmp_path: Path, inside: bool) -> None:
    write_all(tmp_path / FOLDER)
    data = cifar10(tmp_path / FOLDER if inside else tmp_path, tmp_path / "cache")
    assert data.train_images.shape == (20, 32, 32, 3) and data.test_images.shape == (4, 32, 32, 3)
    rows = np.asarray(batch(0)[b"data"]).reshape(4, 3, 32, 32)
    assert np.array_equal(data.train_images[2, :, :, 1], rows[2, 1])
    assert data.train_targets.tolist() == [0, 1, 2, 3] * 5


def test_a_folder_without_cifar10_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="has no CIFAR-10"):
        cifar10(tmp_path, tmp_path / "cache")


class Evil:
    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call, self.arguments


def test_a_pickle_that_calls_something_is_refused_without_calling_it(tmp_path: Path) -> None:
    target, path = tmp_path / "made-by-the-pickle", tmp_path / "data_batch_1"
    for evil in (Evil(os.mkdir, str(target)), Evil(eval, f"__import__('os').mkdir({str(target)!r})")):
        path.write_bytes(pickle.dumps({b"data": evil, b"labels": []}, protocol=3))
        with pytest.raises(DatasetError, match=r"arrays only, but asks for"):
            read_batch(path)
        assert not target.exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({b"data": np.zeros((4, 3072), np.float32)}, "not uint8"),
        ({b"data": np.zeros((4, 100), np.uint8)}, "not uint8"),
        ({b"data": b"bytes"}, "not uint8"),
        ({b"labels": [1, 2, 3]}, "one number from 0 to 9"),
        ({b"labels": [1, 2, 3, 10]}, "one number from 0 to 9"),
        ({b"labels": [1, 2, 3, "4"]}, "one number from 0 to 9"),
    ],
)
def test_a_batch_of_other_content_is_refused(tmp_path: Path, change: dict[bytes, object], says: str) -> None:
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps(batch(0) | change, protocol=3))
    with pytest.raises(DatasetError, match=says):
        read_batch(path)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_batch_is_an_error_of_ours_or_still_a_batch(tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(pickle.dumps(batch(0, 1), protocol=3))
    at = data.draw(st.sampled_from([*range(150), *range(len(whole) - 100, len(whole))]))
    whole[at] = data.draw(st.integers(0, 255))
    path = tmp_path / "batch"
    path.write_bytes(whole[: data.draw(st.sampled_from([len(whole), at + 1]))])
    try:
        images, targets = read_batch(path)
    except DatasetError:
        return
    assert images.shape == (1, 32, 32, 3) and targets.shape == (1,)


def test_an_archive_is_fetched_once_and_read(tmp_path: Path) -> None:
    """From a file: URL, which urllib opens like any other."""
    archive = tmp_path / "archive.tar.gz"
    write_all(tmp_path / FOLDER)
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / FOLDER, FOLDER)
    cache = tmp_path / "cache"
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    fetch(CIFAR10, cache, url=archive.as_uri(), md5=md5)
    archive.unlink()
    assert cifar10(None, cache).train_images.shape == (20, 32, 32, 3)
