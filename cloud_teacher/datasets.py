"""The data a teacher is trained with: images of labelled categories, in the size a network takes. No torch.

digits     the 1,797 scanned digits that come with scikit-learn: nothing to fetch, seconds to train
cifar10    the official CIFAR-10 files (cloud_teacher.cifar); cifar100 likewise
folder     any folder of category folders of photographs (cloud_teacher.photographs)

Whatever is chosen (a threshold, a rate, an epoch) is chosen on `validated`, never on the test images.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image

from transfer.spec import InputSpec

Images = npt.NDArray[np.uint8]
Targets = npt.NDArray[np.int64]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Measured over all 1,797 scans after enlarging; the three channels are equal.
DIGITS_MEAN, DIGITS_STD = 0.3092, 0.3488
DIGITS_SIDE = 32


class DatasetError(ValueError):
    """The data cannot be used; the message says what is wrong, where, and what to do."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images uint8 [n, h, w, 3] of the size of `input`, and targets int64 [n], indices into `labels`.

    `flip`: a mirrored image is still of the same category (a mirrored digit is not). `skipped`: files that were no
    usable images, each with the reason.
    """

    name: str
    labels: tuple[str, ...]
    train_images: Images
    train_targets: Targets
    test_images: Images
    test_targets: Targets
    input: InputSpec
    flip: bool
    skipped: tuple[str, ...] = ()

    def only(self, labels: Sequence[str]) -> Dataset:
        """The images of these categories and no others, in the order of this data set's labels."""
        unknown = sorted(set(labels) - set(self.labels))
        if unknown:
            raise DatasetError(f"{self.name} has no category {', '.join(unknown)}; it has {', '.join(self.labels)}")
        kept = [index for index, label in enumerate(self.labels) if label in set(labels)]
        position = np.full(len(self.labels), -1)
        position[kept] = np.arange(len(kept))
        train, test = np.isin(self.train_targets, kept), np.isin(self.test_targets, kept)
        return replace(
            self,
            labels=tuple(self.labels[index] for index in kept),
            train_images=self.train_images[train],
            train_targets=position[self.train_targets[train]],
            test_images=self.test_images[test],
            test_targets=position[self.test_targets[test]],
        )

    def validated(self, held: int | float, seed: int) -> Dataset:
        """With a part of the training images for test images (see `split`), and without the test images: what is
        measured on this data set may be used to choose by."""
        train, validation = split(self.train_targets, held, seed)
        return replace(
            self,
            train_images=self.train_images[train],
            train_targets=self.train_targets[train],
            test_images=self.train_images[validation],
            test_targets=self.train_targets[validation],
        )

    def standardised(self, *, per_image: bool) -> Dataset:
        """For a network that takes each image at its own mean and deviation (the paper, section 5), or at those of the
        whole data set."""
        return replace(self, input=msgspec.structs.replace(self.input, per_image=per_image))

    @property
    def fingerprint(self) -> str:
        """Tells this training set from any other: what is cached about its images is named after it."""
        digest = hashlib.sha256(repr((self.name, self.labels, self.input, self.train_images.shape)).encode())
        digest.update(self.train_targets.tobytes())
        digest.update(np.ascontiguousarray(self.train_images[:: max(1, len(self.train_images) // 256)]).tobytes())
        return digest.hexdigest()[:16]


def split(targets: Targets, held: int | float, seed: int) -> tuple[Targets, Targets]:
    """Rows to train with and rows to validate with, ascending: `held` images (int) or this share of them (float), of
    every category its share, each chosen by the hash of its row and the seed: no random generator's stream can change
    the split. Raises DatasetError where a category would have none on either side.
    """
    total = round(held * len(targets)) if isinstance(held, float) else held
    if not 0 < total < len(targets):
        raise DatasetError(f"cannot hold out {held} of {len(targets)} images: give a number of images or a share")
    categories, sizes = np.unique(targets, return_counts=True)
    counts = _shares(sizes, total)
    bare = categories[(counts == 0) | (counts == sizes)]
    if len(bare):
        raise DatasetError(
            f"holding out {total} of {len(targets)} images leaves category number {bare[0]} with none to train with "
            "or none to validate with"
        )
    validation = np.zeros(len(targets), bool)
    for category, count in zip(categories, counts, strict=True):
        rows = np.flatnonzero(targets == category).tolist()
        rows.sort(key=lambda row: hashlib.sha256(f"split:{seed}:{row}".encode()).digest())
        validation[rows[:count]] = True
    return np.flatnonzero(~validation), np.flatnonzero(validation)


def _shares(sizes: npt.NDArray[np.int64], total: int) -> npt.NDArray[np.int64]:
    """`total` divided in proportion to `sizes`, the rest going to the largest remainders."""
    counts, remainders = np.divmod(sizes * total, sizes.sum())
    # Stable, so equal remainders are served in order.
    counts[np.argsort(-remainders, kind="stable")[: total - counts.sum()]] += 1
    shares: npt.NDArray[np.int64] = counts
    return shares


def default_cache() -> Path:
    """The user's cache directory for all that can be made again."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "understudy"


def digits(seed: int = 0) -> Dataset:
    """The 8x8 scans of scikit-learn, enlarged smoothly to 32x32 RGB; a quarter of every category is the test set."""
    from sklearn.datasets import load_digits

    scans = load_digits()
    # The scans count ink from 0 to 16.
    small = np.rint(np.asarray(scans.images) * (255 / 16)).astype(np.uint8)
    size = (DIGITS_SIDE, DIGITS_SIDE)
    grey = np.stack([np.asarray(Image.fromarray(scan).resize(size, Image.Resampling.BICUBIC)) for scan in small])
    images = np.repeat(grey[..., None], 3, axis=3)
    targets = np.asarray(scans.target).astype(np.int64)
    test = _quarter(targets, seed)
    return Dataset(
        name="digits",
        labels=("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
        train_images=images[~test],
        train_targets=targets[~test],
        test_images=images[test],
        test_targets=targets[test],
        input=InputSpec(DIGITS_SIDE, DIGITS_SIDE, (DIGITS_MEAN,) * 3, (DIGITS_STD,) * 3),
        flip=False,
    )


def _quarter(targets: Targets, seed: int) -> npt.NDArray[np.bool_]:
    """A mask of a quarter of every category, chosen by hash: no random generator's stream can change it."""
    chosen = np.zeros(len(targets), bool)
    for target in np.unique(targets):
        members = np.flatnonzero(targets == target).tolist()
        members.sort(key=lambda index: hashlib.sha256(f"{seed}:{index}".encode()).digest())
        chosen[members[: len(members) // 4]] = True
    return chosen
