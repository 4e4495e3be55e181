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
from cloud_teacher.layouts import Layout, categories, layout
from cloud_teacher.layouts import images as image_files
from cloud_teacher.progress import Report, silent
from transfer.durable import write_atomic
from transfer.preprocess import ImageError, decode_image, fit
from transfer.spec import InputSpec

FEWEST = 5
MAX_FILE_BYTES = 64 * 2**20
MAX_FILES = 2_000_000


class Photograph(NamedTuple):
    path: Path
    category: str
    test: bool


def folder(data_dir: Path, cache_dir: Path, *, size: int = 64, report: Report = silent) -> Dataset:
    """The photographs in `data_dir`, in any layout that `cloud_teacher.layouts` knows, cut to `size` x `size` pixels.

    Where no test photographs are set apart, a fifth of each category is, the same fifth on every run. What is not used
    is named in `skipped`, with the reason. Raises DatasetError.
    """
    place = layout(data_dir)
    photographs = find(place)
    spec = InputSpec(size, size, IMAGENET_MEAN, IMAGENET_STD)
    images, reasons = _decoded(data_dir, photographs, spec, cache_dir, report)
    good = [photograph for row, photograph in enumerate(photographs) if row not in reasons]
    unusable = tuple(f"{photographs[row].path}: {reason}" for row, reason in reasons.items())
    labels = sorted({photograph.category for photograph in photographs})
    _check_enough(data_dir, labels, good, len(unusable))
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
        skipped=(*place.remarks, *unusable),
    )


def find(place: Layout) -> list[Photograph]:
    """All photographs, the training ones first, in an order that does not depend on the file system."""
    found = _in_categories(place.train, False)
    if place.test is None:
        found = _split(found)
    else:
        tests = _in_categories(place.test, True)
        strangers = {photograph.category for photograph in found} ^ {photograph.category for photograph in tests}
        if strangers:
            only_one = ", ".join(sorted(strangers)[:10])
            raise DatasetError(f"{place.train} and {place.test} must have the same categories; only one has {only_one}")
        found += tests
    if len({photograph.category for photograph in found}) < 2:
        raise DatasetError(f"only one category ({found[0].category}) in {place.train}: there must be at least two")
    return sorted(found, key=lambda photograph: (photograph.test, photograph.category, photograph.path.name))


def _in_categories(root: Path, test: bool) -> list[Photograph]:
    found: list[Photograph] = []
    for category, folders in categories(root).items():
        found += [Photograph(path, category, test) for folder in folders for path in image_files(folder)]
        if len(found) > MAX_FILES:
            raise DatasetError(f"{root} has more than {MAX_FILES} photographs")
    return found


def _split(found: Sequence[Photograph]) -> list[Photograph]:
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
