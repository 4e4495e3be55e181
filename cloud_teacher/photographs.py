"""A folder of category folders of photographs as a data set: decoded and fitted once, then mapped from a cache file."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cloud_teacher.datasets import IMAGENET_MEAN, IMAGENET_STD, Dataset, DatasetError, Images
from cloud_teacher.progress import Report, silent
from transfer.durable import write_atomic
from transfer.preprocess import ImageError, decode_image, fit
from transfer.spec import InputSpec

SUFFIXES = (".jpg", ".jpeg", ".png")
TEST_NAMES = ("val", "valid", "validation", "test")
FEWEST = 5
MAX_FILE_BYTES = 64 * 2**20
MAX_FILES = 2_000_000


class Photograph(NamedTuple):
    path: Path
    category: str
    test: bool


def folder(data_dir: Path, cache_dir: Path, *, size: int = 64, report: Report = silent) -> Dataset:
    """The photographs below `data_dir`, cut to `size` x `size` pixels.

    Either `data_dir`/<category>/* with a fifth of each category taken as the test set, the same fifth on every run;
    or `data_dir`/train/<category>/* and `data_dir`/val|test/<category>/*. Files that are no images are skipped and
    named in `skipped`. Raises DatasetError.
    """
    photographs = find(data_dir)
    spec = InputSpec(size, size, IMAGENET_MEAN, IMAGENET_STD)
    images, reasons = _decoded(data_dir, photographs, spec, cache_dir, report)
    good = [photograph for row, photograph in enumerate(photographs) if row not in reasons]
    skipped = tuple(f"{photographs[row].path}: {reason}" for row, reason in reasons.items())
    labels = sorted({photograph.category for photograph in photographs})
    _check_enough(data_dir, labels, good, len(skipped))
    targets = np.array([labels.index(photograph.category) for photograph in good], np.int64)
    # `find` puts the training photographs first, so both parts are slices of the file, not copies in memory.
    cut = sum(not photograph.test for photograph in good)
    return Dataset(
        f"folder-{data_dir.resolve().name}",
        tuple(labels),
        images[:cut],
        targets[:cut],
        images[cut:],
        targets[cut:],
        spec,
        flip=True,
        skipped=skipped,
    )


def find(data_dir: Path) -> list[Photograph]:
    """All photographs, the training ones first, in an order that does not depend on the file system."""
    if not data_dir.is_dir():
        raise DatasetError(f"{data_dir} is no folder")
    train = data_dir / "train"
    tests = [data_dir / name for name in TEST_NAMES if (data_dir / name).is_dir()]
    if train.is_dir() and tests:
        found = [*_in_categories(train, False), *_in_categories(tests[0], True)]
        strangers = {p.category for p in found if p.test} ^ {p.category for p in found if not p.test}
        if strangers:
            raise DatasetError(f"{train} and {tests[0]} must have the same categories; only one has {_some(strangers)}")
    else:
        found = _split(_in_categories(data_dir, False), data_dir)
    categories = {photograph.category for photograph in found}
    if not categories:
        raise DatasetError(f"no categories found in {data_dir}: expected one folder of JPEG or PNG files per category")
    if len(categories) == 1:
        raise DatasetError(f"only one category ({_some(categories)}) in {data_dir}: there must be at least two")
    return sorted(found, key=lambda photograph: (photograph.test, photograph.category, photograph.path.name))


def _in_categories(root: Path, test: bool) -> list[Photograph]:
    found = []
    for category in sorted(root.iterdir()):
        if category.name.startswith(".") or not category.is_dir():
            continue
        for path in category.iterdir():
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file():
                found.append(Photograph(path, category.name, test))
        if len(found) > MAX_FILES:
            raise DatasetError(f"{root} has more than {MAX_FILES} photographs")
    return found


def _split(found: Sequence[Photograph], root: Path) -> list[Photograph]:
    """A fifth of each category becomes test, by the hash of the file's name: adding files moves few others."""
    by_category: dict[str, list[Photograph]] = {}
    for photograph in found:
        by_category.setdefault(photograph.category, []).append(photograph)
    split = []
    for members in by_category.values():
        members.sort(key=lambda photograph: hashlib.sha256(photograph.path.name.encode("utf-8", "replace")).digest())
        fifth = -(-len(members) // 5)
        split += [photograph._replace(test=index < fifth) for index, photograph in enumerate(members)]
    return split


def _check_enough(data_dir: Path, labels: Sequence[str], good: Sequence[Photograph], skipped: int) -> None:
    train = Counter(photograph.category for photograph in good if not photograph.test)
    test = Counter(photograph.category for photograph in good if photograph.test)
    few = [label for label in labels if train[label] + test[label] < FEWEST or not test[label] or not train[label]]
    if few:
        counts = ", ".join(f"{label} ({train[label]} train, {test[label]} test)" for label in few[:10])
        raise DatasetError(
            f"{data_dir}: too few usable images of {counts}; {skipped} files were unusable. "
            f"Every category needs at least {FEWEST}, some of them to train with and some to test with"
        )


def _decoded(
    root: Path, photographs: Sequence[Photograph], spec: InputSpec, cache_dir: Path, report: Report
) -> tuple[Images, dict[int, str]]:
    """The usable images in order, and for each unusable photograph why it is. Decoded once for this list of files."""
    digest = hashlib.sha256(repr((root.resolve(), spec)).encode("utf-8", "surrogateescape"))
    for photograph in photographs:
        stat = photograph.path.stat()
        digest.update(repr((photograph, stat.st_size, stat.st_mtime_ns)).encode("utf-8", "surrogateescape"))
    cache_dir.mkdir(parents=True, exist_ok=True)
    cache = cache_dir / f"images-{digest.hexdigest()[:24]}.npy"
    reasons_file = cache.with_suffix(".json")
    if not reasons_file.exists():  # written last: where it is, the images are whole
        reasons = _decode_all(photographs, spec, cache, report)
        write_atomic(reasons_file, json.dumps(reasons).encode())
    reasons = {int(row): str(reason) for row, reason in json.loads(reasons_file.read_bytes()).items()}
    images: Images = np.load(cache, mmap_mode="r")
    return images[: len(photographs) - len(reasons)], reasons


def _decode_all(photographs: Sequence[Photograph], spec: InputSpec, cache: Path, report: Report) -> dict[int, str]:
    shape = (len(photographs), spec.height, spec.width, 3)
    temporary = cache.with_suffix(".tmp.npy")
    images = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
    reasons: dict[int, str] = {}
    for row, photograph in enumerate(photographs):
        try:
            images[row - len(reasons)] = _read(photograph.path, spec)
        except (ImageError, OSError) as error:
            reasons[row] = str(error)
        report("read photographs", row + 1, len(photographs), f"{len(reasons)} unusable" if reasons else "")
    images.flush()
    del images
    temporary.rename(cache)
    return reasons


def _read(path: Path, spec: InputSpec) -> Images:
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ImageError("too_large", f"the file is larger than {MAX_FILE_BYTES} bytes")
    return fit(decode_image(data, near=(spec.height, spec.width)), spec)


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:10])
