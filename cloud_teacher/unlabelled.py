"""Any folder of pictures as material without labels: several random parts of each, in the size a network takes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from cloud_teacher.datasets import DatasetError, Images
from cloud_teacher.layouts import SUFFIXES
from cloud_teacher.progress import Report, silent
from transfer.preprocess import ImageError, decode_image, fit
from transfer.spec import InputSpec

MAX_FILE_BYTES = 64 * 2**20
MAX_FILES = 200_000
SMALLEST_PART = 0.35
"""Of the shorter side: parts of parts of things are of little use to anybody."""


def unlabelled(directory: Path, spec: InputSpec, *, parts: int = 8, report: Report = silent) -> Images:
    """uint8 [n, h, w, 3]: every image file anywhere below `directory`, whole and as `parts` - 1 square parts of it.

    Which parts follows from the file's bytes. Files that are no images are left out. Raises DatasetError where there is
    none.
    """
    if not directory.is_dir():
        raise DatasetError(
            f"{directory} is no folder: give one that holds image files ({', '.join(SUFFIXES)}), at any depth"
        )
    paths = sorted(path for path in directory.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if len(paths) > MAX_FILES:
        raise DatasetError(f"{directory} has more than {MAX_FILES} pictures")
    found: list[Images] = []
    unusable = 0
    for number, path in enumerate(paths, 1):
        try:
            found += _parts(_read(path), spec, parts)
        except (ImageError, OSError):
            unusable += 1
        report("read pictures", number, len(paths), f"{unusable} unusable" if unusable else "")
    if not found:
        raise DatasetError(f"{directory} has no usable image file ({unusable} were unusable)")
    return np.stack(found)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ImageError("too_large", f"the file is larger than {MAX_FILE_BYTES} bytes")
    return data


def _parts(data: bytes, spec: InputSpec, parts: int) -> list[Images]:
    image = decode_image(data, near=(4 * spec.height, 4 * spec.width))
    height, width = image.shape[:2]
    random = np.random.default_rng(list(hashlib.sha256(data).digest()))
    found = [fit(image, spec)]
    for _ in range(parts - 1):
        side = max(1, round(min(height, width) * random.uniform(SMALLEST_PART, 1)))
        top, left = random.integers(0, height - side + 1), random.integers(0, width - side + 1)
        found.append(fit(image[top : top + side, left : left + side], spec))
    return found
