"""CIFAR-10 and CIFAR-100 from their official Python files; they are pickles, see `cloud_teacher.pickled_arrays`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cloud_teacher import download, pickled_arrays
from cloud_teacher.datasets import IMAGENET_MEAN, IMAGENET_STD, Dataset, DatasetError, Images, Targets
from cloud_teacher.progress import Report, silent
from transfer.spec import InputSpec

LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
INPUT = InputSpec(32, 32, IMAGENET_MEAN, IMAGENET_STD)
"""What the published CIFAR-10 weights expect; for CIFAR-100 as good as any."""
PIXELS = 3 * 32 * 32
MAX_FILE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Edition:
    """One of the two. `targets`: the key of the targets in its files. `names`: file and key of the categories' names;
    without, they are CIFAR-10's."""

    name: str
    title: str
    folder: str
    url: str
    md5: str
    train: tuple[str, ...]
    test: str
    targets: str
    classes: int
    names: tuple[str, str] | None = None

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train, self.test, *([self.names[0]] if self.names else []))

    def place(self, data_dir: Path) -> Path | None:
        """Where its files are: `data_dir` or the official folder in it; None if in neither."""
        for place in (data_dir, data_dir / self.folder):
            # A folder of photographs may have folders `train` and `test`: these are files.
            if all((place / name).is_file() for name in (self.train[0], self.test)):
                return place
        return None


CIFAR10 = Edition(
    name="cifar10",
    title="CIFAR-10",
    folder="cifar-10-batches-py",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    md5="c58f30108f718f92721af3b95e74349a",
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test="test_batch",
    targets="labels",
    classes=10,
)
CIFAR100 = Edition(
    name="cifar100",
    title="CIFAR-100",
    folder="cifar-100-python",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    md5="eb9058c3a382ffc7106e4002c42a8d85",
    train=("train",),
    test="test",
    targets="fine_labels",
    classes=100,
    names=("meta", "fine_label_names"),
)
EDITIONS = (CIFAR10, CIFAR100)


def cifar10(data_dir: Path | None, cache_dir: Path, *, report: Report = silent) -> Dataset:
    """CIFAR-10 from `data_dir` (the folder of the batches, or its parent), or fetched into `cache_dir` once."""
    return load(CIFAR10, data_dir, cache_dir, report=report)


def cifar100(data_dir: Path | None, cache_dir: Path, *, report: Report = silent) -> Dataset:
    """CIFAR-100, its hundred fine labels as categories; from `data_dir` as `cifar10`, or fetched."""
    return load(CIFAR100, data_dir, cache_dir, report=report)


def load(edition: Edition, data_dir: Path | None, cache_dir: Path, *, report: Report = silent) -> Dataset:
    """Raises DatasetError."""
    if data_dir is None:
        if edition.place(cache_dir) is None:
            fetch(edition, cache_dir, report=report)
        data_dir = cache_dir
    place = edition.place(data_dir)
    if place is None:
        raise DatasetError(
            f"{data_dir} has no {edition.title}: expected {edition.test} in it or in its folder {edition.folder}"
        )
    train = []
    for number, name in enumerate(edition.train, 1):
        train.append(read_batch(place / name, edition))
        report(f"read {edition.title}", number, len(edition.train))
    images, targets = (np.concatenate(parts) for parts in zip(*train, strict=True))
    test_images, test_targets = read_batch(place / edition.test, edition)
    labels = _names(place, edition)
    return Dataset(edition.name, labels, images, targets, test_images, test_targets, INPUT, flip=True)


def fetch(edition: Edition, cache_dir: Path, *, url: str = "", md5: str = "", report: Report = silent) -> None:
    """Download, check and unpack the official archive into its folder in `cache_dir`. Raises DatasetError."""
    folder = cache_dir / edition.folder
    url, md5 = url or edition.url, md5 or edition.md5
    download.fetch(url, md5, folder, edition.files, most_bytes=MAX_FILE_BYTES, report=report)


def read_batch(path: Path, edition: Edition = CIFAR10) -> tuple[Images, Targets]:
    """Images [n, 32, 32, 3] and targets [n] of one official file. Raises DatasetError."""
    content = pickled_arrays.load(path, f"{edition.title} batch", MAX_FILE_BYTES)
    data, targets = content.get(b"data"), content.get(edition.targets.encode())
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != PIXELS:
        raise DatasetError(f"{path}: `data` is not uint8 [n, {PIXELS}]: no {edition.title} batch")
    if not _are_targets(targets, len(data), edition.classes):
        raise DatasetError(
            f"{path}: `{edition.targets}` are not one number from 0 to {edition.classes - 1} "
            f"for each of {len(data)} images"
        )
    images = np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    return images, np.array(targets, np.int64)


def _are_targets(value: object, count: int, classes: int) -> bool:
    if not isinstance(value, list) or len(value) != count:
        return False
    return all(type(target) is int and 0 <= target < classes for target in value)


def _names(place: Path, edition: Edition) -> tuple[str, ...]:
    """The categories' names. Raises DatasetError."""
    if edition.names is None:
        return LABELS
    path, key = place / edition.names[0], edition.names[1]
    names = pickled_arrays.load(path, f"{edition.title} meta file", MAX_FILE_BYTES).get(key.encode())
    if not isinstance(names, list) or not all(isinstance(name, bytes) and name.isascii() for name in names):
        raise DatasetError(f"{path}: `{key}` is no list of names")
    labels = tuple(name.decode() for name in names)
    if len(labels) != edition.classes or len(set(labels)) != edition.classes:
        raise DatasetError(f"{path}: `{key}` are not {edition.classes} different names")
    return labels
